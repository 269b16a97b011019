"""What was spent, by any name and time, out of a spend log: the report that outlives its process."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from langchain_costguard.observe.actions import Actions
from langchain_costguard.observe.log import Log, asking, open_log
from langchain_costguard.observe.log.asking import Wanted
from langchain_costguard.observe.log.entry import KINDS, MODEL, NAMES, REFUSED, TOOL, Entry
from langchain_costguard.observe.log.schema import SLOT, TALLY
from langchain_costguard.observe.log.sink import SpendLog
from langchain_costguard.observe.log.sql import LogError
from langchain_costguard.observe.report import Report, Tally
from langchain_costguard.vocabulary.calendar import WINDOWS, moment, window_at, zone
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.urls import told, without_password

if TYPE_CHECKING:
    from langchain_costguard.observe.attribution import Forecast, Handoffs, Tree, Why
    from langchain_costguard.observe.attribution.basis import Kept

Moment = datetime | float | str
"""A ``datetime``, epoch seconds, a date as text (``"2026-11-01"``), or how long ago (``"7d"``)."""
DIMENSIONS = (*Scope._fields, "provider", "answered", "tool", "status", "source")
"""What a log can be asked by, besides ``hour``, ``day``, ``week`` and ``month``."""
_COLUMNS = {"tool": "name"}


class Trace(NamedTuple):
    """What one run of an agent or chain cost (nano-USD), and its calls and tool calls in time's order."""

    id: str
    spent: int
    calls: int
    rows: tuple[Entry, ...]


class Spend:
    """What a spend log says was spent: ``Spend("spend.db").where(feature="search").by("day", "model")``.

    Each ``where``, ``between`` and ``before`` gives another ``Spend``, of fewer rows or another time. What is asked is
    as it stands then: a log that is being written to has more each time.

    Args:
        log: A path, ``sqlite:PATH``, ``redis://…`` or ``postgresql://…``; or a guard's log itself.
        since: From when on. A ``datetime``, epoch seconds, a date (``"2026-11-01"``), or how long ago (``"7d"``).
        until: Before when. Default: now.
        tz: The time zone of hours, days, weeks and months, an IANA name; of dates without one, too.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(
        self,
        log: str | Path | SpendLog,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        tz: str = "UTC",
    ) -> None:
        zone(tz)
        self.tz = tz
        try:
            self._log: Log = log.log if isinstance(log, SpendLog) else open_log(log, create=False)
        except LogError as error:
            raise ValueError(f"log: {without_password(str(log))!r} cannot be read: {told(error, str(log))}") from error
        self._sink = log if isinstance(log, SpendLog) else None
        self.wanted = self._within(Wanted(), since, until)

    # Which rows

    def where(self, **names: str | Collection[str]) -> Spend:
        """Of these rows those of which every name is the one given, or one of those given.

        Args:
            names: ``user``, ``session``, ``agent``, ``step``, ``feature``, ``task``, ``trace``, ``model``,
                ``provider``, ``answered``, ``tool``, ``status``, ``source``. ``""`` is a name that is not known.

        Raises:
            ValueError: names what cannot be asked for.
        """
        chosen = dict(self.wanted.names)
        for name, value in names.items():
            _known(name, "where")
            members = frozenset([value] if isinstance(value, str) or not isinstance(value, Collection) else value)
            if not all(isinstance(member, str) for member in members):
                raise ValueError(f"where: {name}={value!r} must be a text, or a collection of texts")
            column = _COLUMNS.get(name, name)
            chosen[column] = members & chosen[column] if column in chosen else members
        return self._with(replace(self.wanted, names=chosen))

    def between(self, since: Moment | None = None, until: Moment | None = None) -> Spend:
        """The same of another time."""
        return self._with(self._within(self.wanted, since, until))

    def before(self) -> Spend:
        """The same of the period before this one, as long as it is.

        Raises:
            ValueError: this one has no beginning.
        """
        since, until = self.wanted.since, self.wanted.until
        if since is None:
            raise ValueError("before: this has no beginning; say since= or between()")
        length = (time.time() if until is None else until) - since
        return self._with(replace(self.wanted, since=since - length, until=since))

    # What is asked

    def by(self, *dimensions: str) -> Report:
        """Who spent what, a row for each combination: by ``hour``, ``day``, ``week`` or ``month`` and by any name.

        Rows come in time's order where the first is one of time, else the dearest first.

        Raises:
            ValueError: names a dimension there is not.
            LogError: the log does not answer.
        """
        for name in dimensions:
            if name not in WINDOWS:
                _known(name, "by")
        names = [name for name in dimensions if name not in WINDOWS]
        unit = self._unit([name for name in dimensions if name in WINDOWS])
        self._flush()
        sums = self._log.ask(asking.sums, self.wanted, [_COLUMNS.get(name, name) for name in names], unit)
        tallies: dict[tuple[str, ...], Sequence[int]] = {}
        actions: list[tuple[tuple[str, ...], int, int]] = []
        label = _Labels(self.tz)
        for found in sums:
            named = dict(zip(names, found.names, strict=True))
            key = tuple(label(name, found.slot) if name in WINDOWS else named[name] for name in dimensions)
            counts = found.counts
            if found.action[0]:
                actions.append(((*key, *found.action), counts[len(TALLY) + 1], counts[len(TALLY) + 2]))
            else:
                before = tallies.get(key)
                tallies[key] = counts if before is None else tuple(map(add, before, counts))
        first = dimensions[:1] and dimensions[0] in WINDOWS
        rows = [(key, Tally(*counts[: len(TALLY)])) for key, counts in tallies.items()]
        rows.sort(key=lambda row: (row[0][0] if first else "", -row[1].spent, row[0]))
        return Report(rows, dimensions, Actions(actions, dimensions).by(*dimensions), kept=self._kept)

    def report(self) -> Report:
        """Who spent what by every name, as ``guard.report()``, but for the trace."""
        return self.by(*(name for name in Scope._fields if name != "trace"))

    @property
    def total(self) -> Tally:
        """All rows together."""
        return self.by().total

    def hits(self) -> int:
        """Answers that LangChain's cache gave."""
        self._flush()
        sums = self._log.ask(asking.sums, self.wanted, ())
        return sum(found.counts[len(TALLY)] for found in sums)

    def rows(self, *kinds: str, limit: int | None = None) -> list[Entry]:
        """Single rows in time's order; with a ``limit`` the last ones. ``kinds`` are of ``KINDS``; default: all."""
        self._flush()
        wanted = replace(self.wanted, kinds=tuple(KINDS.index(kind) for kind in kinds))
        return self._log.ask(asking.entries, wanted, limit=limit, last=limit is not None)

    def calls(self, number: int = 10) -> list[Entry]:
        """The dearest calls and tool calls, the dearest first."""
        self._flush()
        return self._log.ask(asking.entries, replace(self.wanted, kinds=(MODEL, TOOL)), dearest=True, limit=number)

    def traces(self, number: int = 10) -> list[Trace]:
        """The dearest traces, the dearest first."""
        self._flush()
        found = self._log.ask(asking.traces, self.wanted, number)
        if not found:
            return []
        wanted = Wanted(names={"trace": frozenset(trace for trace, _, _ in found)})
        rows: dict[str, list[Entry]] = {}
        for row in self._log.ask(asking.entries, replace(wanted, kinds=(MODEL, TOOL, REFUSED))):
            rows.setdefault(row.trace, []).append(row)
        return [Trace(trace, spent, calls, tuple(rows.get(trace, ()))) for trace, spent, calls in found]

    def refusals(self) -> list[tuple[str, str, int]]:
        """What refused how often: the error, the budget (where it was one), and the number; the most frequent first."""
        counted: dict[tuple[str, str], int] = {}
        for row in self.rows("refused"):
            key = row.names[NAMES.index("status")], str(row.extra.get("budget", ""))
            counted[key] = counted.get(key, 0) + 1
        return [(*key, number) for key, number in sorted(counted.items(), key=lambda item: (-item[1], item[0]))]

    def quarters(self, *dimensions: str) -> list[tuple[float, tuple[str, ...], int]]:
        """What was spent in each quarter of an hour: when it began (epoch seconds), by whom, nano-USD; in time's order.

        Raises:
            ValueError: there is no such dimension.
        """
        for name in dimensions:
            _known(name, "quarters")
        self._flush()
        spent = TALLY.index("spent")
        sums = self._log.ask(asking.sums, self.wanted, [_COLUMNS.get(name, name) for name in dimensions], 1)
        found = [(float((one.slot or 0) * SLOT), tuple(one.names), one.counts[spent]) for one in sums]
        return sorted(row for row in found if row[2])

    def first_tokens(self, number: int = 20_000) -> list[tuple[str, int]]:
        """Of the last streamed calls, the model and the milliseconds until something came."""
        self._flush()
        return self._log.ask(asking.first_tokens, self.wanted, number)

    def standings(self) -> list[asking.Standing]:
        """The accounts of budgets as they stood when a call settled on them last."""
        self._flush()
        return self._log.ask(asking.standings)

    def course(self, dimension: str) -> list[tuple[str, str, int, int]]:
        """Each call and tool call in time's order: a name, the session, what was held and what was charged (nano-USD).

        Raises:
            ValueError: there is no such dimension.
        """
        _known(dimension, "course")
        self._flush()
        return self._log.ask(asking.course, self.wanted, _COLUMNS.get(dimension, dimension))

    @property
    def period(self) -> tuple[float, float] | None:
        """From when until when there are rows (epoch seconds), of what was asked for; None where there are none."""
        self._flush()
        found = self._log.ask(asking.period)
        if found is None:
            return None
        since, until = self.wanted.since, self.wanted.until
        return found[0] if since is None else since, found[1] if until is None else until

    @property
    def end(self) -> float:
        """Until when it is asked (epoch seconds): now, where nothing else was said."""
        return time.time() if self.wanted.until is None else self.wanted.until

    def tree(self, *levels: str) -> Tree:
        """Feature → session → agent → step → model, or other levels; see ``Report.tree``."""
        return self.report().tree(*levels)

    def why(self, **where: str) -> Why:
        """The parts of a bill: ``Spend("spend.db").why(session="s1")``; see ``Report.why``."""
        return self.report().why(**where)

    def handoffs(self, **where: str) -> Handoffs:
        """What agents handed to one another; of guards that had ``sinks=[Attribution()]`` besides the log."""
        return self.report().handoffs(**where)

    def forecast(self) -> Forecast:
        """When a budget ends at this rate, and what the month will have cost; see ``Report.forecast``."""
        return self.report().forecast()

    # Within

    def _kept(self) -> Kept:
        from langchain_costguard.observe.attribution.logged import Logged

        return Logged(self)

    def _unit(self, windows: Sequence[str]) -> int | None:
        """How many slots may be added up before it is asked in which window they are."""
        if not windows:
            return None
        if self.tz != "UTC":
            return 1
        return 4 if "hour" in windows else 96

    def _within(self, wanted: Wanted, since: Moment | None, until: Moment | None) -> Wanted:
        now = time.time()
        begin = None if since is None else moment(since, "since", now=now, tz=self.tz)
        end = None if until is None else moment(until, "until", now=now, tz=self.tz)
        if begin is not None and end is not None and end < begin:
            raise ValueError(f"until: {until!r} is before since: {since!r}")
        return replace(wanted, since=begin, until=end)

    def _with(self, wanted: Wanted) -> Spend:
        other = object.__new__(Spend)
        other.tz, other._log, other._sink, other.wanted = self.tz, self._log, self._sink, wanted
        return other

    def _flush(self) -> None:
        if self._sink is not None:
            self._sink.flush()


class _Labels:
    """What hour, day, week or month a slot is in; each is worked out once."""

    def __init__(self, tz: str) -> None:
        self._tz = tz
        self._known: dict[tuple[str, int], str] = {}

    def __call__(self, window: str, slot: int | None) -> str:
        key = window, slot or 0
        if key not in self._known:
            self._known[key] = window_at(window, self._tz, key[1] * SLOT)[0]  # type: ignore[arg-type]
        return self._known[key]


def _known(name: str, what: str) -> None:
    if name not in DIMENSIONS:
        raise ValueError(f"{what}: {name!r} is not one of {', '.join((*DIMENSIONS, *WINDOWS))}")
