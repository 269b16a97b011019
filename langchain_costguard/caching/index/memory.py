"""Neighbours in this process' memory. Needs numpy, which is loaded when the first answer is added."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Container, Iterable, Sequence
from importlib.util import find_spec
from itertools import islice
from threading import RLock

from langchain_costguard.caching.base import checked_most
from langchain_costguard.caching.entry import Entry, Stock, Wanted
from langchain_costguard.caching.index.base import Neighbour, stocked, unit
from langchain_costguard.caching.index.rows import Rows
from langchain_costguard.observe.forks import held_over_forks

Place = tuple[str, str]
"""Setting and id."""

FEW = 1_000
"""Answers that are looked through in a millisecond or two, of which a thread would take as much from the others."""
SWEEP = 2
"""Of the answers added first, so many are looked at when one is added, and dropped where they have expired."""


class MemoryIndex:
    """The nearest answers, in memory: ``MemoryIndex()``.

    A lookup compares all answers of its setting. From 10,000 on, it compares the signs of their components first, then
    the best few hundred exactly, which finds the nearest in more than 999 of 1,000 lookups, and loses none that is near
    enough to be a hit (see ``signs``). Threads take turns. An answer
    takes 4.1 bytes a component, and what its texts take.

    Args:
        max_entries: Answers remembered at most; then those added first make room.

    Raises:
        ValueError: names the field and the value.
        ImportError: numpy is not installed.
    """

    def __init__(self, *, max_entries: int = 100_000) -> None:
        self.max_entries = checked_most(max_entries)
        if find_spec("numpy") is None:
            raise ImportError("MemoryIndex needs numpy: pip install numpy")
        self._lock = held_over_forks(RLock())
        self._rows: dict[str, Rows] = {}
        self._order: OrderedDict[Place, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<MemoryIndex: {len(self)} answers>"

    def __len__(self) -> int:
        return len(self._order)

    @property
    def quick(self) -> bool:
        """Whether a lookup is over soon: not with many answers, nor with the first, which loads numpy."""
        return 0 < len(self._order) <= FEW

    def add(self, id: str, setting: str, vector: Sequence[float], entry: Entry, *, now: float) -> None:
        """Remember an answer; an earlier one of this id and setting is replaced.

        Raises:
            ValueError: the vector is of another size than the setting's others, or has no direction.
        """
        direction = unit(vector)
        with self._lock:
            self.place(id, setting, direction, entry)
            oldest = list(islice(self._order, SWEEP))
            self._drop(place for place in oldest if self._rows[place[0]].entry(place[1]).expires <= now)

    def search(self, setting: str, vector: Sequence[float], k: int, *, now: float) -> list[Neighbour]:
        """The nearest answers of this setting that have not expired, at most ``k``, the nearest first.

        Raises:
            ValueError: the vector is of another size than the setting's, or has no direction.
        """
        with self._lock:
            rows = self._rows.get(setting)
            if rows is None:
                unit(vector)
                return []
            if gone := rows.expired(now):
                self._drop((setting, id) for id in gone)
            return rows.nearest(vector, k) if rows else []

    def forget(self, wanted: Wanted) -> int:
        """Forget these answers; returns how many."""
        with self._lock:
            held = ((setting, *row) for setting, rows in self._rows.items() for row in rows)
            gone = [(setting, id) for setting, id, entry in held if wanted.fits(entry)]
            self._drop(gone)
        return len(gone)

    def stock(self, *, now: float) -> Iterable[Stock]:
        """What is held, by feature and model; the bytes are those of the vectors and the entries."""
        with self._lock:
            held = [(entry, 4 * rows.size) for rows in self._rows.values() for _, entry in rows]
        return stocked((entry, size) for entry, size in held if entry.expires > now)

    def place(self, id: str, setting: str, direction: array[float], entry: Entry) -> None:
        """Put an answer where it belongs; the direction is a vector of length 1."""
        with self._lock:
            rows = self._rows.get(setting) or Rows(len(direction))
            rows.put(id, direction, entry)
            self._rows[setting] = rows
            self._order[setting, id] = None
            self._order.move_to_end((setting, id))
            if len(self._order) > self.max_entries:
                self._drop([next(iter(self._order))])

    def keep_only(self, places: Container[Place]) -> None:
        """Forget all but those in these places."""
        with self._lock:
            self._drop([place for place in self._order if place not in places])

    def _drop(self, places: Iterable[Place]) -> None:
        for setting, id in places:
            del self._order[setting, id]
            rows = self._rows[setting]
            rows.drop(id)
            if not rows:
                del self._rows[setting]
