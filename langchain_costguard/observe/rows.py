"""Counts by scope, bounded in number: what is old is folded into coarser rows, and the sums stay."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import islice
from operator import add
from typing import Any, Generic, TypeVar

from langchain_costguard.observe.forks import held_over_forks

MAX_TRACES = 1_000
"""Rows a guard keeps trace by trace; beyond it the oldest are folded into rows without a trace."""
MAX_ROWS = 10_000
"""Rows without a trace it keeps; beyond it the oldest are folded into rows without session and task, and those of them
that still are too many into rows without user and feature, and so on."""
_FOLDED = 100
_COARSER = (("session", "task"), ("user", "feature"), ("agent", "step"), ("name",))

K = TypeVar("K", bound=Any)


class Rows(Generic[K]):
    """The rows of one guard, counted under one lock and bounded in number.

    A key is a named tuple with the dimensions of a scope; a row is a list of counts: a call makes or changes one, so it
    is kept light.
    """

    def __init__(self) -> None:
        self._lock = held_over_forks(threading.Lock())
        self._recent: dict[K, list[int]] = {}
        self._older: dict[K, list[int]] = {}

    def count(self, key: K, changes: Sequence[int]) -> None:
        """Add ``changes`` to the key's row."""
        with self._lock:
            row = self._recent.get(key)
            if row is not None:
                self._recent[key] = list(map(add, row, changes))
                return
            self._recent[key] = list(changes)
            if len(self._recent) > MAX_TRACES:
                self._fold()

    def items(self) -> list[tuple[K, list[int]]]:
        """The rows as they stand; a key may come twice."""
        with self._lock:
            return [*self._older.items(), *self._recent.items()]

    def _fold(self) -> None:
        older = self._older
        for key in list(islice(self._recent, _FOLDED)):
            _join(older, key._replace(trace=""), self._recent.pop(key))
        if len(older) > MAX_ROWS:
            for key in list(islice(older, _FOLDED)):
                _join(older, _coarser(key), older.pop(key))


def _coarser(key: K) -> K:
    for names in _COARSER:
        known = [name for name in names if getattr(key, name, "")]
        if known:
            coarser: K = key._replace(**dict.fromkeys(known, ""))
            return coarser
    return key


def _join(rows: dict[K, list[int]], key: K, counts: list[int]) -> None:
    before = rows.get(key)
    rows[key] = counts if before is None else list(map(add, before, counts))
