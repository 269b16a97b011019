"""Where the prompts of remembered answers are looked up by their embeddings: what every index does."""

from __future__ import annotations

import logging
import math
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from langchain_costguard.caching.entry import Entry, Stock, Wanted

log = logging.getLogger("langchain_costguard")


class Neighbour(NamedTuple):
    """A remembered answer whose prompt is near, and how near: the cosine, from -1 to 1."""

    id: str
    score: float
    entry: Entry


class VectorIndex(Protocol):
    """Answers by the embeddings of their prompts.

    Answers of one setting (``Question.setting``) may stand in for each other; those of others are never seen, and may
    have the same ids. ``now`` is in epoch seconds. Any verb may raise ``CacheError``.
    """

    def add(self, id: str, setting: str, vector: Sequence[float], entry: Entry, *, now: float) -> None:
        """Remember an answer; an earlier one of this id and setting is replaced.

        Raises:
            ValueError: the vector is of another size than the setting's others, or has no direction.
        """

    def search(self, setting: str, vector: Sequence[float], k: int, *, now: float) -> list[Neighbour]:
        """The nearest answers of this setting that have not expired, at most ``k``, the nearest first.

        Raises:
            ValueError: the vector is of another size than the setting's, or has no direction.
        """

    def forget(self, wanted: Wanted) -> int:
        """Forget these answers; returns how many."""

    def stock(self, *, now: float) -> Iterable[Stock]:
        """What is held, by feature and model."""


def unit(vector: Sequence[float]) -> array[float]:
    """The vector at length 1, in single precision.

    Raises:
        ValueError: it is empty, zero, or not of finite numbers.
    """
    try:
        length = math.hypot(*vector)
    except TypeError:
        raise ValueError(f"vector: {type(vector).__name__} is no list of numbers") from None
    if not 0 < length < math.inf:
        what = "0" if length == 0 else "infinite or not a number"
        raise ValueError(f"vector: it has no direction, for its length is {what} ({len(vector)} numbers)")
    return array("f", [x / length for x in vector])


def wrong_size(given: int, known: int) -> ValueError:
    """What to raise for a vector of another size than those it is to be compared with."""
    return ValueError(
        f"vector: {given} numbers, but the answers remembered in this setting have {known}; an index is for one model "
        "of embeddings: forget what it holds, or take another index"
    )


def stocked(held: Iterable[tuple[Entry, int]]) -> list[Stock]:
    """Answers with the bytes of their vectors, summed by feature and model; with those of their JSON, as exact caches
    count them."""
    sums: dict[tuple[str, str], list[int]] = {}
    for entry, size in held:
        row = sums.setdefault((entry.feature, entry.model), [0, 0, 0])
        row[0] += 1
        row[1] += size + len(entry.to_json().encode("utf-8", "surrogatepass"))
        row[2] += entry.cost
    return [Stock(feature, model, *sums[feature, model]) for feature, model in sorted(sums)]


def entry_in(text: Any) -> Entry | None:
    """The entry that was kept as a text; nothing where it is none, which is said once: it is passed over, and replaced
    when its question is asked again."""
    if not isinstance(text, (str, bytes)):
        return None
    try:
        return Entry.from_json(text)
    except ValueError as error:
        if not _said:
            _said.append(str(error))
            log.warning("a semantic cache: an entry cannot be read, and is passed over (%s; said once)", error)
        return None


_said: list[str] = []
