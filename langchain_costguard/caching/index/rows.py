"""The answers of one setting: a matrix that grows, and who is in which row of it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from langchain_costguard.caching.entry import Entry
from langchain_costguard.caching.index.base import Neighbour, unit, wrong_size
from langchain_costguard.caching.index.signs import Signs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_TINY, _HUGE = 1e-12, 1e12
"""Lengths between which single precision squares nothing away."""
_FEW = 24
MANY = 10_000
"""Rows from which on their signs are looked at first; fewer are compared outright."""


class Rows:
    """Unit vectors of one size with their answers, without gaps: the last row fills the place of one that goes."""

    def __init__(self, size: int) -> None:
        import numpy as np

        self.size = size
        self._ids: list[str] = []
        self._entries: list[Entry] = []
        self._places: dict[str, int] = {}
        self._matrix: Floats = np.empty((1, size), np.float32)
        self._expires = np.empty(1, np.float64)
        self._soonest = float("inf")
        self._signs: Signs | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        return zip(self._ids, self._entries, strict=True)

    def entry(self, id: str) -> Entry:
        """The answer of this id, which must be there."""
        return self._entries[self._places[id]]

    def put(self, id: str, vector: array[float], entry: Entry) -> None:
        """Add a row, or replace it.

        Raises:
            ValueError: the vector is of another size.
        """
        self._check(vector)
        place = self._places.setdefault(id, len(self._ids))
        if place == len(self._ids):
            self._make_room()
            self._ids.append(id)
            self._entries.append(entry)
        self._entries[place] = entry
        self._matrix[place] = _numbers(vector)
        self._expires[place] = entry.expires
        self._soonest = min(self._soonest, entry.expires)
        if self._signs is not None:
            self._signs.redo(place, self._matrix[place])

    def drop(self, id: str) -> None:
        """Take a row out, which must be there."""
        place, last = self._places.pop(id), len(self._ids) - 1
        if place < last:
            self._ids[place], self._entries[place] = self._ids[last], self._entries[last]
            self._matrix[place], self._expires[place] = self._matrix[last], self._expires[last]
            self._places[self._ids[place]] = place
            if self._signs is not None:
                self._signs.redo(place, self._matrix[place])
        del self._ids[last], self._entries[last]
        if self._signs is not None:
            self._signs.cut(last)

    def expired(self, now: float) -> list[str]:
        """The ids of what has expired, to be dropped."""
        if now < self._soonest:
            return []
        expires = self._expires[: len(self)]
        gone = [self._ids[place] for place in (expires <= now).nonzero()[0].tolist()]
        self._soonest = float(expires[expires > now].min(initial=float("inf")))
        return gone

    def nearest(self, vector: Sequence[float], k: int) -> list[Neighbour]:
        """The ``k`` nearest, the nearest first.

        Raises:
            ValueError: the vector is of another size, or has no direction.
        """
        asked, length = self._asked(vector)
        count = len(self._ids)
        matrix = self._matrix[:count]
        if count < MANY:
            self._signs = None
            return self._best(matrix @ asked, None, k, length)
        if self._signs is None:
            self._signs = Signs(matrix)
        self._signs.extend(matrix)
        near = self._signs.near(asked)
        return self._best(matrix[near] @ asked, near, k, length)

    def _asked(self, vector: Sequence[float]) -> tuple[Floats, float]:
        """The numbers of a vector and its length: to divide few scores is cheaper than to divide all its numbers.

        Raises:
            ValueError: it is of another size, zero, or not of finite numbers.
        """
        try:
            asked = _numbers(array("f", vector))
            length = math.sqrt(asked.dot(asked))
        except (TypeError, OverflowError):
            length = 0.0
        if not _TINY < length < _HUGE:
            asked, length = _numbers(unit(vector)), 1.0
        if asked.shape[0] != self.size:
            raise wrong_size(len(asked), self.size)
        return asked, length

    def _best(self, scores: Floats, places: Any, k: int, length: float) -> list[Neighbour]:
        if k > _FEW:
            k = min(k, len(scores))
            order = sorted(scores.argpartition(len(scores) - k)[-k:].tolist(), key=lambda n: (-scores[n], n))
            scored = [(place, float(scores[place])) for place in order]
        else:
            scored = _highest(scores, k)
        ids, entries, found = self._ids, self._entries, []
        for place, score in scored:
            row = place if places is None else int(places[place])
            cosine = score / length
            found.append(Neighbour(ids[row], 1.0 if cosine > 1.0 else max(-1.0, cosine), entries[row]))
        return found

    def _check(self, vector: Sequence[float] | Floats) -> None:
        if len(vector) != self.size:
            raise wrong_size(len(vector), self.size)

    def _make_room(self) -> None:
        import numpy as np

        count = len(self._ids)
        if count < len(self._matrix):
            return
        room = count + max(1, count // 2)
        matrix, expires = np.empty((room, self.size), np.float32), np.empty(room, np.float64)
        matrix[:count], expires[:count] = self._matrix[:count], self._expires[:count]
        self._matrix, self._expires = matrix, expires


def _highest(scores: Floats, k: int) -> list[tuple[int, float]]:
    """The places of the ``k`` highest scores, and those. The scores are spoilt: to look for the highest again and again
    is quicker than to sort, for a few."""
    found = []
    for _ in range(min(k, len(scores))):
        place = int(scores.argmax())
        found.append((place, scores.item(place)))
        scores[place] = -math.inf
    return found


def _numbers(vector: array[float]) -> Floats:
    import numpy as np

    return np.frombuffer(vector, np.float32)
