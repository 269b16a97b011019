"""The leases of one process: what it has of each account, and what is to be told of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from langchain_costguard.metering.stores.base import Balance, Claim, Refusal
from langchain_costguard.metering.stores.leases.local import Local

IDLE_AFTER = 1.0
"""Seconds without a call after which a lease is returned."""
FORGET_AFTER = 60.0


class Lease:
    """What this process has of one account: ``taken``, until the second ``until``; for new calls until ``ends``."""

    __slots__ = ("claim", "ends", "full", "known", "left", "over", "taken", "until")

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.until, self.ends, self.taken = 0, 0.0, 0
        self.known = 0
        """What all have spent, as last heard."""
        self.left, self.full = 0, -math.inf
        """What there was when a slice was refused, and when that was."""
        self.over = False


class Told(NamedTuple):
    """One account's part of what is told: so much of the lease is released, so much was spent."""

    until: int
    claim: Claim
    held: int
    actual: int


class Book:
    """The leases, by account; the balances of what is leased are in ``memory``.

    ``hold_seconds`` is how long a call's hold lasts.
    """

    def __init__(self, memory: Local, hold_seconds: float) -> None:
        self.leases: dict[str, Lease] = {}
        self._memory = memory
        self._span = hold_seconds
        grain = max(1, int(hold_seconds // 10))  # the ledger's own
        self._grid = grain * max(1, round(hold_seconds / 4 / grain))

    def second(self, until: int) -> int:
        """Until when a lease lasts on which a hold until then is made."""
        return (until // self._grid + 1) * self._grid

    def ends(self, second: int) -> float:
        """Until when calls, whose holds must not outlive it, may be held on a lease until this second; no whole number,
        as the ends of their own holds are."""
        return second - self._span - 1 / 3

    def left(self, claim: Claim, now: float) -> int:
        """What the account has, as far as is known."""
        lease = self.leases.get(claim.account)
        left = claim.cap - claim.reserve
        if lease is not None:
            left -= lease.known
            if now < lease.full + IDLE_AFTER:
                left = min(left, lease.left)
        return left

    def refused(self, claims: Sequence[Claim], refusal: Refusal, now: float) -> None:
        """Note what there was when a reservation was refused."""
        claim = claims[refusal.index]
        lease = self.leases.get(claim.account)
        if lease is not None and not claim.clock:
            lease.known, lease.full = refusal.spent, now
            lease.left = claim.cap - claim.reserve - refusal.spent - refusal.held

    def heard(self, claim: Claim, amount: int, total: int) -> None:
        """All have spent this, of which so much was just told."""
        lease = self.leases.get(claim.account)
        if lease is not None:
            # A store that does not answer says no more than what it was told.
            lease.known = max(total, lease.known + amount) if total == amount else total
            lease.full = -math.inf if amount < 0 else lease.full

    def moved(self, claim: Claim, second: int, now: float) -> tuple[Told | None, int]:
        """Make an account's lease one until this second: what to tell of it before, and what calls hold of it."""
        with self._memory.lock:
            lease = self.leases.get(claim.account)
            if lease is None:
                lease = self.leases[claim.account] = Lease(claim)
            lease.over = False
            if lease.until == second:
                row, held = self.taken_back(lease, now, keep=True), 0
            else:
                row = self.taken_back(lease, now, keep=False)
                held = max(0, self._memory.standing(claim.account, lease.ends, now).held)
                # What calls hold stays held there until it expires, and is held anew.
                self._memory.told(claim.account, 0, lease.taken, lease.ends)
                lease.until, lease.ends, lease.taken = second, self.ends(second), 0
            lease.claim = claim
            return row, held

    def taken_back(self, lease: Lease, now: float, *, keep: bool) -> Told | None:
        """What is to be told of a lease; unless it is to be kept, all that is not in use is returned."""
        name = lease.claim.account
        with self._memory.lock:
            spent, held, _ = self._memory.standing(name, lease.ends, now)
            if lease.until <= now:  # it has come back by itself
                lease.taken = 0
            free = 0 if keep else lease.taken - spent - held
            given = max(0, min(lease.taken, max(spent, 0) + max(free, 0)))
            if not spent and not given:
                return None
            self._memory.told(name, spent, given, lease.ends)
            lease.taken -= given
            return Told(lease.until, lease.claim, given, spent)

    def room_of(self, names: Iterable[str], now: float) -> list[Told]:
        """What is to be told, and returned, of these accounts."""
        leases = [lease for name in names if (lease := self.leases.get(name)) is not None]
        return [row for lease in leases if (row := self.taken_back(lease, now, keep=False)) is not None]

    def due(self, now: float) -> list[Told]:
        """What is to be told by now; what is idle is returned."""
        rows = []
        for name, lease in list(self.leases.items()):
            with self._memory.lock:
                spent, held, touched = self._memory.standing(name, lease.ends, now)
                row = self.taken_back(lease, now, keep=not lease.over and now - touched < IDLE_AFTER)
                if row is not None:
                    rows.append(row)
                elif now - touched >= FORGET_AFTER and not (spent or held or lease.taken):
                    self._memory.forget([name])
                    del self.leases[name]
        return rows

    def spent(self, name: str, now: float) -> int:
        """What an account has spent, as far as is known here."""
        lease = self.leases.get(name)
        return 0 if lease is None else lease.known + self._memory.standing(name, lease.ends, now).spent

    def seen(self, name: str, balance: Balance, now: float) -> Balance:
        """A balance as this process sees it."""
        lease = self.leases.get(name)
        if lease is None:
            return balance
        spent, held, _ = self._memory.standing(name, lease.ends, now)
        leased = lease.taken if lease.until > now else 0
        return Balance(balance.spent + spent, max(0, balance.held - leased) + held, balance.cap)

    def abandon(self) -> None:
        """Forget what is leased, without a word."""
        self._memory.afresh()
        for lease in self.leases.values():
            lease.until, lease.taken = 0, 0
