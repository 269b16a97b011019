"""A store that may fail, made safe to lean on: a short wait, a stated policy, and every settlement counted once."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple
from uuid import uuid4

from langchain_costguard.metering.stores.base import MAX_AMOUNT, Balance, Claim, Grant, Refusal, Store, StoreError
from langchain_costguard.metering.stores.memory import MemoryStore

FailurePolicy = Literal["refuse", "local"]

RECEIPTS = "receipts|"
"""What the accounts begin with in which a store keeps how many settlements it has carried out."""
_RECEIPT_TTL = 3600
_RETRY_AFTER = 1.0
"""Seconds a failed store is left alone, so that an outage costs one time-out a second and not one a call."""


class FailoverStore:
    """Passes to ``primary`` while it answers.

    While it does not: ``refuse`` raises ``StoreError`` from ``reserve``; ``local`` counts in this process, from what
    was last seen of the primary, so each process then has the whole of what was left to itself. Settlements wait
    either way, and reach the primary when it is back, before anything is reserved there again.

    A settlement that timed out may have been carried out all the same. So that it is not sent a second time, each one
    counts up a receipt in its own atomic step: an account of this process, one for each settlement under way at once.
    """

    def __init__(self, primary: Store, policy: FailurePolicy, failed: Callable[[str], None]) -> None:
        self.primary = primary
        self.shared = primary.shared
        self._failed = failed
        self._down_until = 0.0
        self._down = False
        self._why = "the store of balances does not answer"
        self._outbox = _Outbox(primary)
        self._mirror = _Mirror() if policy == "local" else None

    def reserve(self, claims: Sequence[Claim], *, units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        """As the primary does, or by the policy."""
        mirror = self._mirror
        if now >= self._down_until:
            try:
                self._catch_up(now)
                answer = self.primary.reserve(claims, units=units, until=until, now=now)
            except StoreError as error:
                self._fail(error, now)
            else:
                if mirror is not None and isinstance(answer, Grant):
                    mirror.held(claims, answer, until, now)
                return answer
        if mirror is None:
            raise StoreError(self._why)
        return mirror.reserve(claims, units, until, now)

    def settle(
        self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], *, until: int, now: float
    ) -> list[int]:
        """As the primary does; while it does not answer, kept for later and counted here."""
        mirror, sent = self._mirror, False
        there = held if mirror is None else mirror.split(claims, held, until)
        if now >= self._down_until:
            try:
                self._catch_up(now)
                sent = True
                totals = self._outbox.send(claims, there, actual, until, now)
            except StoreError as error:
                self._fail(error, now)
            else:
                if mirror is not None:
                    mirror.settle(claims, held, actual, until, now, totals)
                return totals
        if not sent:
            self._outbox.keep(claims, there, actual, until)
        return list(actual) if mirror is None else mirror.settle(claims, held, actual, until, now)

    def read(self, accounts: Sequence[str], *, now: float) -> list[Balance]:
        """The primary's balances; the local ones while it does not answer."""
        if now >= self._down_until:
            try:
                self._catch_up(now)
                return self.primary.read(accounts, now=now)
            except StoreError as error:
                self._fail(error, now)
        if self._mirror is None:
            raise StoreError(self._why)
        return self._mirror.store.read(accounts, now=now)

    def scan(self, *, now: float) -> Iterable[tuple[str, Balance]]:
        """The primary's accounts."""
        return ((name, balance) for name, balance in self.primary.scan(now=now) if not name.startswith(RECEIPTS))

    def flags(self) -> Mapping[str, str]:
        """The primary's flags."""
        return self.primary.flags()

    def flag(self, name: str, text: str | None) -> None:
        """Set a flag on the primary."""
        self.primary.flag(name, text)

    def _catch_up(self, now: float) -> None:
        """Before anything is asked of the primary: is it back, and does it know all that happened?"""
        if self._down:
            self._down_until = now + _RETRY_AFTER  # one caller looks; the others do without it until then
            self.primary.flags()  # a question that changes nothing, for it may be carried out unheard
        if self._outbox:
            self._outbox.flush(now)
        if self._down:
            self._down, self._down_until = False, 0.0

    def _fail(self, error: StoreError, now: float) -> None:
        self._down, self._down_until = True, now + _RETRY_AFTER
        self._why = str(error)
        self._failed(self._why)


class _Entry(NamedTuple):
    """A settlement; its accounts do not repeat."""

    claims: Sequence[Claim]
    held: Sequence[int]
    actual: Sequence[int]
    until: int


class _Receipt:
    """An account that counts the settlements sent with it, one at a time."""

    __slots__ = ("claim", "count")

    def __init__(self, owner: str, number: int) -> None:
        self.claim = Claim(f"{RECEIPTS}{owner}|{number}", MAX_AMOUNT, 0, 0, False, _RECEIPT_TTL)
        self.count = 0


class _Outbox:
    """Settlements on their way to the primary: each is carried out once, however often it has to be asked for."""

    def __init__(self, primary: Store) -> None:
        self._primary = primary
        self._mine()

    def _mine(self) -> None:
        # Reentrant: the garbage collector may close an abandoned stream, which settles, while this thread is in here.
        self._flushing, self._keeping = threading.RLock(), threading.RLock()
        self._pid = os.getpid()
        self._busy = 0
        self._owner = uuid4().hex[:12]
        self._made = 0
        self._free: deque[_Receipt] = deque()
        # By when its holds expire, then by account: what was held, and what was really spent.
        self._kept: dict[int, dict[str, tuple[Claim, int, int]]] = {}
        self._doubtful: deque[tuple[_Entry, _Receipt]] = deque()

    def __bool__(self) -> bool:
        return bool(self._kept or self._doubtful or self._busy)

    def keep(self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], until: int) -> None:
        """Keep a settlement for later; what goes to one account is added up, so that an outage takes little memory."""
        with self._keeping:
            self._check_fork()
            rows = self._kept.setdefault(until, {})
            for claim, release, amount in zip(claims, held, actual, strict=True):
                _, before, spent = rows.get(claim.account, (claim, 0, 0))
                rows[claim.account] = (claim, before + release, spent + amount)

    def send(
        self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], until: int, now: float
    ) -> list[int]:
        """Have the primary settle; where it does not answer, find out later whether it did."""
        self._check_fork()
        try:
            receipt = self._free.pop()
        except IndexError:
            self._made += 1
            receipt = _Receipt(self._owner, self._made)
        try:
            totals = self._primary.settle([*claims, receipt.claim], [*held, 0], [*actual, 1], until=until, now=now)
        except BaseException as error:
            if isinstance(error, StoreError) or not isinstance(error, Exception):
                self._doubtful.append((_Entry(claims, list(held), list(actual), until), receipt))
            raise
        receipt.count = totals.pop()
        self._free.append(receipt)
        return totals

    def flush(self, now: float) -> None:
        """Bring the primary up to date."""
        self._check_fork()
        with self._flushing:
            self._busy += 1
            try:
                self._resolve(now)
                while self._kept:
                    with self._keeping:
                        until, rows = self._kept.popitem()
                    claims, held, actual = zip(*rows.values(), strict=True)
                    self.send(claims, held, actual, until, now)
            finally:
                self._busy -= 1

    def _resolve(self, now: float) -> None:
        while self._doubtful:
            entry, receipt = doubt = self._doubtful.popleft()
            try:
                spent = self._primary.read([receipt.claim.account], now=now)[0].spent
            except BaseException:
                self._doubtful.appendleft(doubt)
                raise
            if spent in (0, receipt.count):
                self.keep(*entry)
            receipt.count = spent
            self._free.append(receipt)

    def _check_fork(self) -> None:
        """After a fork, what was on its way is the parent's to bring."""
        if self._pid != os.getpid():
            self._mine()


class _Mirror:
    """What this process knows of the primary: the totals last seen, and its own holds. It goes on from there alone."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self._lock = threading.RLock()
        # What of the holds is in this store alone. Holds of one account that expire in one second are alike, so it
        # does not matter whose is released where, as long as nothing is released in the primary that is not there.
        self._only_here: dict[tuple[str, int], int] = {}

    def held(self, claims: Sequence[Claim], grant: Grant, until: int, now: float) -> None:
        """The primary has granted this."""
        units = (grant.units, grant.units)
        with self._lock:
            if grant.started:
                clocks = [claim for claim in claims if claim.clock]
                for claim, started in zip(clocks, grant.started, strict=True):
                    self.store.reserve([claim], units=units, until=until, now=started / 1000)
                claims = [claim for claim in claims if not claim.clock]
            if isinstance(self.store.reserve(claims, units=units, until=until, now=now), Refusal):
                # More seems to be spent than the primary knows of now: its word counts.
                wide = [claim._replace(cap=MAX_AMOUNT) for claim in claims]
                self.store.reserve(wide, units=units, until=until, now=now)

    def reserve(self, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        """Grant by what is known here."""
        with self._lock:
            answer = self.store.reserve(claims, units=units, until=until, now=now)
            if isinstance(answer, Grant):
                for claim in claims:
                    amount = claim.fixed + claim.per_unit * answer.units
                    if amount and not claim.clock:
                        key = claim.account, until
                        self._only_here[key] = self._only_here.get(key, 0) + amount
                self._forget(now)
            return answer

    def split(self, claims: Sequence[Claim], held: Sequence[int], until: int) -> Sequence[int]:
        """What of these holds is to be released in the primary: that which is not in this store alone."""
        if not self._only_here:
            return held
        there = []
        with self._lock:
            for claim, amount in zip(claims, held, strict=True):
                key = claim.account, until
                here = min(amount, self._only_here.get(key, 0))
                if here:
                    self._only_here[key] -= here
                    if not self._only_here[key]:
                        del self._only_here[key]
                there.append(amount - here)
        return there

    def settle(
        self,
        claims: Sequence[Claim],
        held: Sequence[int],
        actual: Sequence[int],
        until: int,
        now: float,
        totals: Sequence[int] | None = None,
    ) -> list[int]:
        """The new totals as known here; where the primary says ``totals``, what others spent there counts, too."""
        with self._lock:
            if totals is not None:
                known = self.store.read([claim.account for claim in claims], now=now)
                seen = zip(actual, totals, known, strict=True)
                actual = [max(amount, total - balance.spent) for amount, total, balance in seen]
            return self.store.settle(claims, held, actual, until=until, now=now)

    def _forget(self, now: float) -> None:
        if len(self._only_here) > 1000:
            self._only_here = {key: amount for key, amount in self._only_here.items() if key[1] > now}
