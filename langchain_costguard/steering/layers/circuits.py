"""The circuits of tools or models by name: of this process, or of all that share a store."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from math import ceil
from typing import Any, Literal

from langchain_costguard.metering.stores.base import Store
from langchain_costguard.steering.layers.circuit_book import Book
from langchain_costguard.steering.policies.breaker import Breaker, Change, Circuit, Pass, admit, closed, opened, record

log = logging.getLogger("langchain_costguard")

_KEPT = 1024
"""Circuits kept at the most, for a model may make names of tools up; the oldest closed one goes first."""
_LOOK_EVERY = 1.0
"""Seconds for which a circuit the store said was well is taken to be so; as long, a store that failed is left alone."""


def unavailable(name: str, seconds: float) -> str:
    """What an agent is told in place of a result; ``seconds`` are those left."""
    return (
        "The service is temporarily unavailable, try an alternative approach. "
        f"{name!r} is not called for another {max(1, ceil(seconds))} s."
    )


class Circuits:
    """Says whether a call may be made, and learns from how it ended. Safe among threads; fit for event loops.

    For each call: ``leave = admit(name)``; where ``leave.seconds`` is 0 the call may be made, and its outcome is then
    told by ``record(name, leave, outcome)``, or ``abandon(name, leave)`` where nobody knows how it ended.

    With ``breaker.shared`` the state is in ``store``. Each question waits for it once, as a call's reservation does:

    - a call of a circuit that is well: one read a second, of each process and name, and none in between;
    - a failure: one settlement, and a read before each call until one succeeds; a success after failures: one
      settlement (two where several come at once);
    - opening and closing: a reservation and a settlement more, by one worker; for those who come second, a
      reservation and a read or two;
    - a probe: one reservation, and while another worker has it, one a second.

    Failures in a row are then those of all workers. After the last of them, a worker may still make one more call: the
    one it has begun, or one within a second of having heard that all was well.

    A store that fails is left alone for a second at a time; meanwhile this process goes on from what it knows.
    """

    def __init__(
        self, breaker: Breaker, *, store: Store | None, clock: Callable[[], float], prefix: Literal["tool", "model"]
    ) -> None:
        if breaker.shared and store is None:
            raise ValueError("shared: True needs a store to share the circuits in")
        self.breaker = breaker
        self._clock = clock
        self._book = Book(store, prefix) if breaker.shared and store is not None else None
        self._entries: dict[str, _Entry] = {}
        self._down_until = 0.0
        # Reentrant: the garbage collector may end an abandoned call while this thread is in here.
        self._lock = threading.RLock()

    def admit(self, name: str) -> Pass:
        """Leave for one call, or how many seconds there is none."""
        now = self._clock()
        if self._book is not None:
            return self._admit_shared(self._book, name, now)
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                return Pass()
            entry.circuit, leave = admit(entry.circuit, self.breaker, now)
            return leave

    def record(self, name: str, leave: Pass, outcome: Any) -> Change:
        """Learn how a call ended, from its exception or its reply; says what that changed, to one caller only."""
        try:
            worked = self.breaker.worked(outcome)
        except Exception as error:  # a user's predicate: no reply is lost to it
            log.warning("Breaker.is_failure failed: %s", error, exc_info=error)
            worked = None
        return self._end(name, leave, worked)

    def abandon(self, name: str, leave: Pass) -> None:
        """Nobody knows how the call ended, or it was not made: were it a probe, another may be made at once."""
        self._end(name, leave, None)

    def _end(self, name: str, leave: Pass, worked: bool | None) -> Change:
        if leave.seconds > 0:
            return ""
        now = self._clock()
        if self._book is not None and leave.generation >= 0 and now >= self._down_until:
            try:
                return self._end_shared(self._book, name, leave, worked, now)
            except Exception as error:
                self._fail(error, now)
        with self._lock:
            if worked is not False and name not in self._entries:
                return ""
            entry = self._entry(name)
            entry.circuit, change = record(entry.circuit, self.breaker, leave, worked, now)
            if change:
                entry.generation = -1  # decided here alone: what the store says comes first again when it is back
            return change

    # Shared

    def _admit_shared(self, book: Book, name: str, now: float) -> Pass:
        entry = self._entry(name)
        if self._may_ask(entry, now):
            try:
                if entry.generation < 0 or entry.circuit.until is None:
                    self._look(book, name, entry, now)
                if entry.circuit.until is not None and now >= entry.circuit.until:
                    return self._ask_for_probe(book, name, entry, now)
            except Exception as error:
                self._fail(error, now)
            finally:
                entry.asking = False
        return self._as_known(entry, now)

    def _may_ask(self, entry: _Entry, now: float) -> bool:
        """Whether this caller is to ask the store; the others go by what is known, and nobody waits for anybody."""
        with self._lock:
            until = entry.circuit.until
            if entry.asking or now < self._down_until or now < entry.look_at or (until is not None and now < until):
                return False
            entry.asking = True
            return True

    def _as_known(self, entry: _Entry, now: float) -> Pass:
        with self._lock:
            circuit, down = entry.circuit, now < self._down_until
            if not down and circuit.until is not None and now >= circuit.until:  # the probe is the store's to give
                return Pass(seconds=max(_LOOK_EVERY, circuit.probe_until - now), number=circuit.number)
            entry.circuit, leave = admit(circuit, self.breaker, now)
            return leave if down else leave._replace(generation=entry.generation)

    def _look(self, book: Book, name: str, entry: _Entry, now: float) -> None:
        generation, failures, since = book.look(name, max(0, entry.generation), now)
        with self._lock:
            if generation != entry.generation:
                entry.generation = generation
                ends = since + self.breaker.open_seconds
                entry.circuit = opened(entry.circuit, ends) if generation % 2 else closed(entry.circuit)
            if entry.circuit.until is None:
                entry.circuit = entry.circuit._replace(failures=max(0, failures))
                entry.look_at = now + (0.0 if failures else _LOOK_EVERY)

    def _ask_for_probe(self, book: Book, name: str, entry: _Entry, now: float) -> Pass:
        until = ceil(now + self.breaker.open_seconds)
        asked = book.probe(name, entry.generation, until, now)
        if asked == "moved":
            self._look(book, name, entry, now)
            return self._as_known(entry, now)
        with self._lock:
            circuit = entry.circuit
            if asked == "taken":
                ends = circuit.probe_until if circuit.probe_until > now else now + self.breaker.open_seconds
                entry.circuit, entry.look_at = circuit._replace(probe_until=ends), now + _LOOK_EVERY
                return Pass(seconds=ends - now, number=circuit.number)
            entry.circuit = circuit._replace(probe_until=float(until), number=circuit.number + 1)
            return Pass(0.0, entry.circuit.number, float(until), entry.generation)

    def _end_shared(self, book: Book, name: str, leave: Pass, worked: bool | None, now: float) -> Change:
        entry = self._entry(name)
        with self._lock:
            generation, circuit = entry.generation, entry.circuit
        if (leave.generation, leave.number) != (generation, circuit.number):
            return ""
        if leave.probe:
            if worked is not None:
                return self._move(book, name, entry, 1 if worked else 2, now)
            book.give_back(name, generation, int(leave.probe_until), now)
            with self._lock:
                entry.circuit, entry.look_at = entry.circuit._replace(probe_until=0.0), now
        elif worked is False:
            total = book.failed(name, generation, now)
            with self._lock:  # a store that is down may keep the failure for later, and know of no other
                failures = max(total, entry.circuit.failures + 1)
                entry.circuit, entry.look_at = entry.circuit._replace(failures=failures), now
            if failures >= self.breaker.failures:
                return self._move(book, name, entry, 1, now)
        elif worked and circuit.failures:
            book.forgive(name, generation, circuit.failures, now)
            with self._lock:
                entry.circuit = entry.circuit._replace(failures=0)
        return ""

    def _move(self, book: Book, name: str, entry: _Entry, steps: int, now: float) -> Change:
        generation = entry.generation
        since = book.move(name, generation, steps, now)
        if since is None:
            self._look(book, name, entry, now)
        with self._lock:
            if since is None and entry.generation == generation and entry.circuit.until is None:
                # Another worker is about to open it. Were that one to die, the next failure would do so.
                entry.circuit, entry.generation = opened(entry.circuit, now + _LOOK_EVERY), -1
            if since is None or entry.generation != generation:
                return ""
            entry.generation, entry.look_at = generation + steps, now
            if entry.generation % 2:
                entry.circuit = opened(entry.circuit, since + self.breaker.open_seconds)
                return "opened"
            entry.circuit = closed(entry.circuit)
            return "closed"

    def _fail(self, error: Exception, now: float) -> None:
        self._down_until = now + _LOOK_EVERY
        log.debug("the store of circuits failed: %r", error)

    def _entry(self, name: str) -> _Entry:
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                if len(self._entries) >= _KEPT:
                    shut = (key for key, old in self._entries.items() if old.circuit.until is None)
                    del self._entries[next(shut, next(iter(self._entries)))]
                entry = self._entries[name] = _Entry()
            return entry


class _Entry:
    """What this process knows of one circuit; ``generation`` is -1 where it does not know the store's."""

    __slots__ = ("asking", "circuit", "generation", "look_at")

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.generation = -1
        self.look_at = 0.0
        self.asking = False
