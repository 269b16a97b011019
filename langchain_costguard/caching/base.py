"""What a cache of exact answers does, wherever it keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from langchain_costguard.caching.entry import Entry, Stock

if TYPE_CHECKING:
    from langchain_costguard.caching.entry import Wanted
    from langchain_costguard.caching.rules import Rules


class CacheError(Exception):
    """The cache did not answer, or not in time. Steering goes on as if there were none, and says so once."""


class Answers(Protocol):
    """Answers by key (64 hex digits). ``now`` and ``until`` are epoch seconds. Any verb may raise ``CacheError``."""

    rules: Rules

    def get(self, key: str, *, now: float) -> Entry | None:
        """The answer, if there is one and it has not expired; the one asked for last is forgotten last."""

    def put(self, key: str, entry: Entry, *, now: float) -> None:
        """Remember an answer; an earlier one under this key is replaced."""

    def claim(self, key: str, holder: str, *, until: float, now: float) -> bool:
        """Take it upon oneself to get the answer, until then at the longest; false while another has."""

    def release(self, key: str, holder: str) -> None:
        """Let others have a try; does nothing where the claim is not (or no more) the holder's."""

    def forget(self, wanted: Wanted) -> int:
        """Forget these answers; returns how many."""

    def stock(self, *, now: float) -> Iterable[Stock]:
        """What is held, by feature and model."""


def checked_most(value: Any) -> int:
    """The most entries, if that is a whole number above zero.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"max_entries: {value!r} must be a whole number above 0")
    return value


def counted(entries: Iterable[Entry]) -> list[Stock]:
    """The entries by feature and model; the bytes are those of their JSON."""
    found: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        sums = found.setdefault((entry.feature, entry.model), [0, 0, 0])
        sums[0] += 1
        sums[1] += len(entry.to_json().encode("utf-8", "surrogatepass"))
        sums[2] += entry.cost
    return [Stock(feature, model, *sums) for (feature, model), sums in sorted(found.items())]
