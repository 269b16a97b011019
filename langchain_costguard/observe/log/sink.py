"""The sink that keeps a spend log: rows are written behind the calls, on a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

from langchain_costguard.events.metered import Event
from langchain_costguard.observe.background import Writer
from langchain_costguard.observe.log import Log, open_log
from langchain_costguard.observe.log.entry import COUNTS, MODEL, NAMES, NOTE, SILENT, Entry, entry_of
from langchain_costguard.observe.log.sql import LogError
from langchain_costguard.vocabulary.urls import place_of, without_password

log = logging.getLogger("langchain_costguard")
CAPACITY = 50_000
"""Events that may wait to be written; those beyond are lost, counted, and said."""
GATHER = 0.25
"""Seconds of events that are written together: what a process that is killed loses, at the most."""
BATCH = 2_000

Looked = Callable[[UUID], Mapping[str, Any]]


class SpendLog:
    """A sink that writes what it is told to a log: ``CostGuard(log="spend.db")`` makes one.

    A guard's calls never wait for it. What cannot be written for long is lost beyond 50,000 events: ``lost`` counts
    them, the program's log says so, and a row of the log itself, too.

    Args:
        place: A path, ``sqlite:PATH``, ``redis://…`` or ``postgresql://…``.
        capacity: Events that may wait to be written.

    Raises:
        ValueError: names the place that is no log.
    """

    def __init__(self, place: str | Path, *, capacity: int = CAPACITY) -> None:
        self.place = str(place)
        self._log: Log | None = None
        kind = place_of(self.place)
        self.shared = kind is None or kind[0] != "memory"
        """Whether other processes may write to it, too."""
        try:
            # A server may come up after this process; a file is there or is not.
            if kind is None or kind[0] in ("sqlite", "memory"):
                self._log = open_log(place)
            elif kind[0] == "postgres":
                import_module("langchain_costguard.vocabulary.driver")  # that it is missing is said now
        except (LogError, ImportError) as error:
            raise ValueError(f"log: {without_password(self.place)!r} cannot be used: {error}") from error
        self._recorded = self._failed = 0
        self.looked: Looked | None = None
        """What else is known of a call, by its run: of an ``Attribution`` that the same guard has."""
        self._writer: Writer[Event] = Writer(
            self._deliver, name="spend-log", capacity=capacity, batch=BATCH, gather=GATHER
        )

    @classmethod
    def of(cls, log: str | Path | SpendLog, looked: Looked | None = None) -> SpendLog:
        """The log itself, or that of a place; ``looked`` is what else is known of a guard's calls."""
        found = log if isinstance(log, SpendLog) else cls(log)
        found.looked = looked or found.looked
        return found

    def __call__(self, event: Event) -> None:
        """Note an event; it is written soon."""
        if type(event) in SILENT:
            return
        self._writer.put(event)

    @property
    def log(self) -> Log:
        """The log itself, to ask."""
        if self._log is None:
            self._log = open_log(self.place)
        return self._log

    @property
    def lost(self) -> int:
        """Events that were not written, for too many were waiting."""
        return self._writer.dropped

    def flush(self, timeout: float = 5.0) -> bool:
        """Write what is waiting; whether all of it was, within ``timeout`` seconds."""
        return self._writer.flush(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Write what is waiting, and take no more."""
        done = self._writer.close(timeout)
        if self._log is not None:
            self._log.close()
        return done

    def _deliver(self, events: list[Event]) -> None:
        entries = [self._looked(entry) for event in events if (entry := _entry(event)) is not None]
        lost = self.lost
        if lost > self._recorded and entries:
            entries.append(_lost(entries[-1], lost - self._recorded))
        try:
            if entries:
                self.log.write(entries)
        except LogError as error:
            if not self._failed:
                self._failed = 1
                log.warning("the spend log is not written for now: %s (said once)", error)
            raise
        self._failed = 0
        self._recorded = lost

    def _looked(self, entry: Entry) -> Entry:
        if self.looked is None or entry.kind != MODEL or entry.run is None:
            return entry
        return entry._replace(extra={**entry.extra, **self.looked(entry.run)})


def _entry(event: Event) -> Entry | None:
    """The row of an event; one that cannot be read keeps no other from being written."""
    try:
        return entry_of(event)
    except Exception as error:
        log.debug("the spend log leaves %r out: %r", event, error)
        return None


def _lost(last: Entry, number: int) -> Entry:
    names = tuple("RowsLost" if name == "status" else "" for name in NAMES)
    nothing: dict[str, Any] = {"rows": number}
    return Entry(last.at, NOTE, None, None, "", names, (0,) * len(COUNTS), 0, None, nothing)
