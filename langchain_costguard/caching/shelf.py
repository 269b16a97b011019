"""What the caches' shelves need, wherever they stand: bounds that are checked, entries that are counted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_costguard.caching.entry import Entry, Stock


def checked_most(value: Any) -> int:
    """The most entries, if that is a whole number above zero.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"max_entries: {value!r} must be a whole number above 0")
    return value


def checked_timeout(value: Any) -> float:
    """The timeout, if it is a positive number of seconds.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e7:
        raise ValueError(f"timeout: {value!r} must be a number of seconds above 0")
    return float(value)


def counted(entries: Iterable[Entry]) -> list[Stock]:
    """The entries by feature and model; the bytes are those of their JSON."""
    found: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        sums = found.setdefault((entry.feature, entry.model), [0, 0, 0])
        sums[0] += 1
        sums[1] += len(entry.to_json().encode("utf-8", "surrogatepass"))
        sums[2] += entry.cost
    return [Stock(feature, model, *sums) for (feature, model), sums in sorted(found.items())]
