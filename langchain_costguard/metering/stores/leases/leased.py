"""A shared store of which each process takes a slice in one trip, and spends it at the speed of memory.

A lease is a hold like any other in the shared store, lasting a little longer than the calls that are held on it: what
nobody returns comes back as it expires. Calls are held and settled on ``Local`` balances; what they spent is told to
the shared store with the next slice, or within half a second, and what is idle for a second is returned.

A process that is killed takes along what it spent and had not told, as it does the calls that were under way.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from weakref import WeakSet

from langchain_costguard.metering.aside import decided, may_wait
from langchain_costguard.metering.stores.base import Balance, Claim, Grant, Refusal, Reservation, Settlement
from langchain_costguard.metering.stores.failover import FailoverStore
from langchain_costguard.metering.stores.leases.book import Book, Told
from langchain_costguard.metering.stores.leases.local import Local
from langchain_costguard.metering.stores.leases.sizes import Size, slices
from langchain_costguard.metering.stores.repeats import repeated
from langchain_costguard.observe.background import EXIT_SECONDS, Writer

TELL_AFTER = 0.5
"""Seconds after which the shared store is told of what was spent, if nothing told it before."""
SAYING = 0.2
AT_ONCE = 200
"""Accounts in one settlement."""


class LeasedStore:
    """Leases of what is ``below``.

    Args:
        below: The shared store, watched for outages.
        size: How large a slice is.
        measures: What the accounts that may be leased end with; others are asked for one by one.
        hold_seconds: How long a call's hold lasts.
    """

    shared = True

    def __init__(self, below: FailoverStore, size: Size, *, measures: Sequence[str], hold_seconds: float) -> None:
        self.primary = below.primary
        self.memory = Local()
        self.heard: Callable[[Sequence[tuple[str, int, int]], float], None] | None = None
        """Called with (account, what was told as spent, the new total) of each account, and now."""
        self._below = below
        self._size = size
        self._measures = frozenset(measures)
        self.book = Book(self.memory, hold_seconds)
        self._turn = threading.Lock()
        self._waiting = 0
        self._moment = time.time(), time.monotonic()
        self._writer: Writer[None] = Writer(
            self._bring, name="leases", capacity=3, batch=2, gather=TELL_AFTER, lost=lambda _: None
        )
        below.forgot = self.give_back
        _all.add(self)

    def reserve(self, claims: Sequence[Claim], *, units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        """Hold here what fits here; else take a slice, or ask for the call alone."""
        self._moment = now, time.monotonic()
        if not self._leasable(claims):
            may_wait()
            return self._below.reserve(claims, units=units, until=until, now=now)
        grant = self.memory.here(claims, units[1], until, now)
        if grant is not None:
            decided()
            return grant
        may_wait()
        answer: Grant | Refusal | None
        self._queue(1)
        try:
            with self._turn:
                answer = self.memory.here(claims, units[1], until, now)
                if answer is None:
                    answer = self._with_slices(claims, units, until, now, others=self._waiting - 1)
        finally:
            self._queue(-1)
        return self._alone(claims, units, until, now) if answer is None else answer

    def settle(
        self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], *, until: int, now: float
    ) -> list[int]:
        """Settle here what is held here, and there what is not; grants and corrections there."""
        self._moment = now, time.monotonic()
        there = self._elsewhere(claims, held, actual, until)
        if there:
            may_wait()
        totals = [0] * len(claims)
        here = [i for i, claim in enumerate(claims) if i not in there and not claim.clock]
        if here:
            mine = [claims[i] for i in here]
            amounts = [actual[i] for i in here]
            self.memory.settle(mine, [held[i] for i in here], amounts, until=until, now=now)
            for i, total in zip(here, self.totals([claim.account for claim in mine]), strict=True):
                totals[i] = total
        if there:
            mine = [claims[i] for i in there]
            amounts = [actual[i] for i in there]
            for i, release in there.items():
                if release < held[i]:
                    self.memory.settle([claims[i]], [held[i] - release], [0], until=until, now=now)
            found = self._below.settle(mine, list(there.values()), amounts, until=until, now=now)
            self._hear(mine, amounts, found, now)
            for i, total in zip(there, found, strict=True):
                totals[i] = total
        return totals

    def settles_here(self, accounts: Sequence[str], held: Sequence[int], until: int) -> bool:
        """Whether what is held on these accounts until then is held here, all of it."""
        return all(
            name in self.book.leases and amount <= max(0, self.memory.held(name, until))
            for name, amount in zip(accounts, held, strict=True)
        )

    def read(self, accounts: Sequence[str], *, now: float) -> list[Balance]:
        """The balances, with what was spent here and is not told; of a lease, what calls of this process hold."""
        may_wait()
        return [
            self.book.seen(name, balance, now)
            for name, balance in zip(accounts, self._below.read(accounts, now=now), strict=True)
        ]

    def scan(self, *, now: float) -> Iterable[tuple[str, Balance]]:
        """The shared store's accounts: leases are held there."""
        return self._below.scan(now=now)

    def flags(self) -> Mapping[str, str]:
        """The shared store's flags."""
        return self._below.flags()

    def flag(self, name: str, text: str | None) -> None:
        """Set a flag there."""
        self._below.flag(name, text)

    def totals(self, accounts: Sequence[str]) -> list[int]:
        """What these accounts have spent, as far as is known here."""
        now = self._now()
        return [self.book.spent(name, now) for name in accounts]

    def hurry(self) -> None:
        """Tell now what was spent: a line may be crossed."""
        self._writer.wake(None)

    def tell(self) -> None:
        """Tell what was spent, and return what is idle."""
        now = self._now()
        self._send(self.book.due(now), now)

    def give_back(self, accounts: Iterable[str] | None = None) -> None:
        """Return what is not in use, of these accounts or of all: here at once, and there soon."""
        for name in list(self.book.leases) if accounts is None else accounts:
            lease = self.book.leases.get(name)
            if lease is not None:
                lease.over = True
        self.hurry()

    def close(self, timeout: float = EXIT_SECONDS) -> bool:
        """Return every lease, and deliver what waits, ``timeout`` seconds at most; whether all of it was."""
        until = time.monotonic() + timeout
        self._return_all()
        return self._below.close(max(0.0, until - time.monotonic()))

    # Taking

    def _queue(self, more: int) -> None:
        with self.memory.lock:
            self._waiting += more

    def _leasable(self, claims: Sequence[Claim]) -> bool:
        known = self.book.leases
        return all(
            claim[0] in known or (claim[0].rpartition("|")[2] in self._measures and ":" not in claim[0].split("|")[0])
            for claim in claims
        ) and not repeated(claims)

    def _with_slices(
        self, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float, *, others: int
    ) -> Grant | Refusal | None:
        """The call's own hold, with a slice of each account on top; None where it is to be asked for alone."""
        left = [self.book.left(claim, now) for claim in claims]
        more = slices(self._size, claims, units[1], left, others=others)
        if more is None:
            return None
        second = self.book.second(until)
        told = [self.book.moved(claim, second, now) for claim in claims if not claim.clock]
        moved = iter(told)
        more = [extra if claim.clock else extra + next(moved)[1] for claim, extra in zip(claims, more, strict=True)]
        asked = [claim._replace(fixed=claim.fixed + extra) for claim, extra in zip(claims, more, strict=True)]
        answer = self._turned([row for row, _ in told if row is not None], Reservation(asked, units, second), now)
        if isinstance(answer, Refusal):
            self.book.refused(claims, answer, now)
            return None
        amounts = [0 if c.clock else c.fixed + c.per_unit * answer.units for c in asked]
        if answer.units < units[1]:  # the slices are in the way of what the budgets would afford
            self._below.settle(asked, amounts, [0] * len(asked), until=second, now=now)
            return None
        with self.memory.lock:
            for claim, amount in zip(claims, amounts, strict=True):
                if not claim.clock:
                    self.book.leases[claim.account].taken += amount
            self.memory.lend(claims, amounts, self.book.ends(second), answer.started)
            grant = self.memory.hold(claims, answer.units, until, now)
        if not len(self._writer):
            self._writer.wake(None)
        return grant

    def _alone(self, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        """Ask for one call; before it is refused, return what this process has of its accounts."""
        answer = self._below.reserve(claims, units=units, until=until, now=now)
        if (isinstance(answer, Refusal) or answer.units < units[1]) and (
            rows := self.book.room_of([claim.account for claim in claims], now)
        ):
            if isinstance(answer, Grant):
                amounts = [0 if c.clock else c.fixed + c.per_unit * answer.units for c in claims]
                self._below.settle(claims, amounts, [0] * len(claims), until=until, now=now)
            answer = self._turned(rows, Reservation(claims, units, until), now)
        if isinstance(answer, Refusal):
            self.book.refused(claims, answer, now)
        return answer

    # Telling

    def _turned(self, rows: Sequence[Told], reservation: Reservation, now: float) -> Grant | Refusal:
        """Tell of this, then reserve."""
        claims, units, until = reservation
        if len({row.until for row in rows}) != 1:
            self._send(rows, now)
            return self._below.reserve(claims, units=units, until=until, now=now)
        told, amounts = [row.claim for row in rows], [row.actual for row in rows]
        settlement = Settlement(told, [row.held for row in rows], amounts, rows[0].until)
        totals, answer = self._below.turn(settlement, reservation, now=now)
        self._hear(told, amounts, totals, now)
        return answer

    def _send(self, rows: Sequence[Told], now: float) -> None:
        for until in {row.until for row in rows}:
            of_it = [row for row in rows if row.until == until]
            for start in range(0, len(of_it), AT_ONCE):
                part = of_it[start : start + AT_ONCE]
                claims, amounts = [row.claim for row in part], [row.actual for row in part]
                totals = self._below.settle(claims, [row.held for row in part], amounts, until=until, now=now)
                self._hear(claims, amounts, totals, now)

    def _hear(self, claims: Sequence[Claim], amounts: Sequence[int], totals: Sequence[int], now: float) -> None:
        """Note what all have spent, and say who moved it."""
        rows = []
        for claim, amount, total in zip(claims, amounts, totals, strict=True):
            if claim.clock:
                if amount:
                    self.memory.shift(claim.account, amount)
                continue
            self.book.heard(claim, amount, total)
            rows.append((claim.account, amount, total))
        if self.heard is not None:
            self.heard(rows, now)

    def _elsewhere(
        self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], until: int
    ) -> dict[int, int]:
        """Which claims are settled in the shared store, and what is released there."""
        there = {}
        for i, (claim, hold, amount) in enumerate(zip(claims, held, actual, strict=True)):
            if claim.clock:
                if amount:
                    there[i] = 0
            elif claim.account not in self.book.leases or (not hold and amount < 0):
                there[i] = hold
            elif (mine := max(0, self.memory.held(claim.account, until))) < hold:
                there[i] = hold - mine
        return there

    def _return_all(self) -> None:
        now = self._now()
        self._send(self.book.room_of(list(self.book.leases), now), now)

    def _bring(self, _: Sequence[None]) -> None:
        """Tell what was spent, and return what is idle: all of it when the process ends."""
        if self._writer.seconds_left < math.inf:
            self._return_all()
            self._below.close(max(0.0, self._writer.seconds_left - SAYING))  # which says what could not be delivered
            return
        self.tell()
        if self.book.leases:
            self._writer.wake(None)

    def _now(self) -> float:
        then, measured = self._moment
        return then + time.monotonic() - measured

    def abandon(self) -> None:
        """Forget what is leased, without a word: it is somebody else's (a forked child's parent's), or comes back by
        itself."""
        self.book.abandon()
        self._turn, self._waiting = threading.Lock(), 0


_all: WeakSet[LeasedStore] = WeakSet()


def _afresh_in_child() -> None:
    for store in list(_all):
        store.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_afresh_in_child)
