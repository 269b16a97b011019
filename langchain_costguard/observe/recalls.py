"""Answers that came from our caches, the latest one by one: how like the questions were, and what spoke for each."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from langchain_costguard.events.steered import Recalled, WouldRecall
from langchain_costguard.observe.forks import held_over_forks
from langchain_costguard.observe.tables import Tabular, chosen
from langchain_costguard.vocabulary.money import show_all, usd
from langchain_costguard.vocabulary.scope import Scope

KEPT = 1_000
"""The latest answers from caches that a guard remembers."""
SHOWN = 20
"""Of them, those in a table: the last ones."""
SHADOW = "shadow"


class Recall(NamedTuple):
    """An answer from a cache, at ``at`` (epoch seconds). ``saved`` is in nano-USD; there is no prompt text.

    ``kind`` is ``exact``, ``semantic``, or ``shadow``: what a semantic cache in shadow mode would have answered, and
    did not. An exact answer has no ``score``.
    """

    at: float
    scope: Scope
    kind: str
    why: str
    score: float | None
    reasons: tuple[str, ...]
    saved: int


class RecentRecalls:
    """The latest answers from the caches of one guard."""

    def __init__(self) -> None:
        self._lock = held_over_forks(threading.Lock())
        self._events: deque[Recalled | WouldRecall] = deque(maxlen=KEPT)

    def note(self, event: Recalled | WouldRecall) -> None:
        """Remember an answer, in the place of the oldest where there are enough."""
        with self._lock:
            self._events.append(event)

    def recalls(self) -> Recalls:
        """A copy of them as they stand."""
        with self._lock:
            events = list(self._events)
        return Recalls(map(_recall, events))


def _recall(event: Recalled | WouldRecall) -> Recall:
    kind = event.kind if isinstance(event, Recalled) else SHADOW
    # The scope is that of the caller: which model would have been asked, it does not say.
    scope = event.scope._replace(model=event.name)
    return Recall(event.at, scope, kind, event.why, event.score, event.reasons, event.saved)


class Recalls(Tabular):
    """The latest answers from caches, at one moment, the oldest first; false where there are none.

    ``str()`` is a table of the last 20, and Jupyter shows it as one. How many there were in all, and what they saved,
    is in a report's ``actions``.

    Attributes:
        rows: a ``Recall`` each.
    """

    MONEY = ("saved_usd",)
    NOTHING = "Nothing came from a cache."

    def __init__(self, rows: Iterable[Recall]) -> None:
        self.rows = list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def saved(self) -> int:
        """Nano-USD that the answers had cost when they were made, all together."""
        return sum(row.saved for row in self.rows)

    def by(self, *dimensions: str) -> RecallCounts:
        """How many there were of each kind, by these dimensions of their scopes; what saved most first.

        Raises:
            ValueError: names a dimension there is not.
        """
        columns = chosen(dimensions, Scope._fields)
        grouped: dict[tuple[str, ...], list[Recall]] = {}
        for row in self.rows:
            grouped.setdefault((*(row.scope[column] for column in columns), row.kind), []).append(row)
        counts = [
            RecallCount(key, len(rows), sum(row.saved for row in rows), _mean(rows)) for key, rows in grouped.items()
        ]
        return RecallCounts(sorted(counts, key=lambda row: (-row.saved, -row.times, row.key)), dimensions)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary a row: ``at``, the dimensions, ``kind``, ``why``, ``score``, ``reasons``, ``saved_usd``."""
        return [
            {"at": row.at, **row.scope._asdict(), "kind": row.kind, "why": row.why, "score": row.score}
            | {"reasons": list(row.reasons), "saved_usd": usd(row.saved)}
            for row in self.rows
        ]

    def _cells(self) -> tuple[list[str], list[list[str]], int]:
        shown = self.rows[-SHOWN:]
        known = [name for name in ("user", "agent", "feature", "model") if any(getattr(r.scope, name) for r in shown)]
        money = show_all([row.saved for row in shown])
        body = [
            [
                datetime.fromtimestamp(row.at, UTC).strftime("%Y-%m-%d %H:%M:%S"),
                *(getattr(row.scope, name) or "-" for name in known),
                row.kind,
                "; ".join((row.why, *row.reasons)),
                _score(row.score),
                text if row.saved else "-",
            ]
            for row, text in zip(shown, money, strict=True)
        ]
        names = ["at (UTC)", *known, "kind", "why"]
        return [*names, "score", "saved"], body, len(names)


class RecallCount(NamedTuple):
    """Answers of one ``key``: the dimensions asked for, and the kind. ``saved`` is in nano-USD."""

    key: tuple[str, ...]
    times: int
    saved: int
    score: float | None
    """The mean of those that have one."""


class RecallCounts(Tabular):
    """The latest answers from caches, counted. ``str()`` is a table; Jupyter shows it as one.

    Attributes:
        rows: a ``RecallCount`` each.
        dimensions: what the rows are told apart by, besides the kind.
    """

    MONEY = ("saved_usd",)
    NOTHING = Recalls.NOTHING

    def __init__(self, rows: Iterable[RecallCount], dimensions: Sequence[str]) -> None:
        self.rows = list(rows)
        self.dimensions = tuple(dimensions)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary a row: the dimensions, ``kind``, ``times``, mean ``score``, ``saved_usd`` (a Decimal)."""
        names = (*self.dimensions, "kind")
        return [
            dict(zip(names, row.key, strict=True))
            | {"times": row.times, "score": row.score, "saved_usd": usd(row.saved)}
            for row in self.rows
        ]

    def _cells(self) -> tuple[list[str], list[list[str]], int]:
        money = show_all([row.saved for row in self.rows])
        body = [
            [*(part or "-" for part in row.key), f"{row.times:,}", _score(row.score), text if row.saved else "-"]
            for row, text in zip(self.rows, money, strict=True)
        ]
        names = [*self.dimensions, "kind"]
        return [*names, "times", "mean score", "saved"], body, len(names)


def _mean(rows: Sequence[Recall]) -> float | None:
    scores = [row.score for row in rows if row.score is not None]
    return sum(scores) / len(scores) if scores else None


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"
