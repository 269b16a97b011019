"""The rules of an account, pure: what fits, what is held, what is settled. No clock, no I/O.

`MemoryStore` and `SQLiteStore` call these functions; ``lua/*.lua`` says the same to Redis. One contract suite and one
model test hold the three together.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from langchain_costguard.metering.stores.base import Balance, Claim, Grant, Refusal

_new: Any = tuple.__new__
"""A named tuple's own constructor takes three times as long."""


class Account:
    """What is spent, and what is held until when: ``buckets`` maps the second of expiry to the amount.

    ``held`` is what the buckets add up to, and nothing in them expires before ``earliest``, so an account on which
    nothing has expired is never walked. A clock keeps its start in ``spent``. ``claim`` is the last claim granted or
    settled, at ``touched``; until there is one, the account is not known to the store.
    """

    __slots__ = ("bound", "buckets", "claim", "earliest", "held", "name", "spent", "touched")

    def __init__(self, name: str) -> None:
        self.name = name
        self.spent = 0
        self.held = 0
        self.claim: Claim | None = None
        self.touched = 0.0
        self.buckets: dict[float, int] = {}
        self.earliest: float = inf
        self.bound = False

    def expire(self, now: float) -> None:
        """Drop the buckets that expired by ``now``; a bucket lives while its second is later."""
        if self.earliest <= now:
            self.buckets = {second: amount for second, amount in self.buckets.items() if second > now}
            self.held = sum(self.buckets.values())
            self.earliest = min(self.buckets, default=inf)

    def balance(self, now: float) -> Balance:
        """The account as it stands at ``now``."""
        held = self.held
        if self.earliest <= now:  # a look changes nothing: it may be at a time that others have not reached
            held = sum(amount for second, amount in self.buckets.items() if second > now)
        found: Balance = _new(Balance, (self.spent, held, self.claim.cap if self.claim else 0))
        return found

    @property
    def idle(self) -> float:
        """When the account may be forgotten: its ttl has passed, and its last hold has expired."""
        ttl = self.claim.ttl if self.claim else 0
        return max(self.touched + ttl, max(self.buckets, default=0))


def fit(accounts: Sequence[Account], claims: Sequence[Claim], units: tuple[int, int], now: float) -> int | Refusal:
    """How many units all the claims can grant, or why none; changes nothing but what expired."""
    least, granted = units
    refused: Refusal | None = None
    for index, (account, (_, most, fixed, per_unit, clock, _, reserve)) in enumerate(
        zip(accounts, claims, strict=True)
    ):
        if account.earliest <= now:
            account.expire(now)
        if clock:
            elapsed = int(now * 1000) - account.spent
            if account.claim and elapsed >= most and (refused is None or refused.by_holds):
                refused = Refusal(index, 0, elapsed, 0, False)
            continue
        cap = most - reserve
        room = cap - account.spent - account.held - fixed
        if per_unit:
            if per_unit * granted <= room:
                continue
            if per_unit * least <= room:
                granted = room // per_unit
                continue
        elif room >= 0 or not fixed:  # who asks for nothing gets it, also of an account that is overrun
            continue
        needed = fixed + per_unit * least
        by_holds = account.spent + needed <= cap
        # A refusal that waiting cannot cure says more than one that it might.
        if refused is None or (refused.by_holds and not by_holds):
            refused = Refusal(index, needed, account.spent, account.held, by_holds)
    return granted if refused is None else refused


def hold(accounts: Sequence[Account], claims: Sequence[Claim], units: int, until: int, now: float) -> Grant:
    """Hold what ``fit`` said fits, and start the clocks that have not started."""
    started: list[int] = []
    for account, claim in zip(accounts, claims, strict=True):
        _, _, fixed, per_unit, clock, _, _ = claim
        if clock:
            if account.claim is None:
                account.spent = int(now * 1000)
            started.append(account.spent)
        else:
            amount = fixed + per_unit * units
            if amount:
                buckets = account.buckets
                buckets[until] = buckets.get(until, 0) + amount
                account.held += amount
                if until < account.earliest:
                    account.earliest = until
        account.claim = claim
        account.touched = now
    return Grant(units, tuple(started))


def settle(
    accounts: Sequence[Account],
    claims: Sequence[Claim],
    held: Sequence[int],
    actual: Sequence[int],
    until: int,
    now: float,
) -> list[int]:
    """Replace each hold by what was really spent; returns the accounts' new totals."""
    totals: list[int] = []
    live = until > now
    for account, claim, release, amount in zip(accounts, claims, held, actual, strict=True):
        if claim[4]:  # a clock
            if amount and account.claim is not None:
                account.claim, account.touched = claim, now
                account.spent -= amount
            totals.append(0)
            continue
        if live and release:
            buckets = account.buckets
            bucket = buckets.get(until, 0)
            if bucket > release:
                buckets[until] = bucket - release
                account.held -= release
            elif bucket:
                del buckets[until]
                account.held -= bucket
        account.claim = claim
        account.touched = now
        account.spent = total = account.spent + amount
        totals.append(total)
    return totals
