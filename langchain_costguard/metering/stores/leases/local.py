"""What a process has leased, as balances of its own: a store in memory, by whose rules it is spent.

An account here has a cap of nothing and, while it is leased, a hold below zero: the lease. What of that is neither held
by calls nor spent can be had, and when the lease ends it expires as any hold does. What is ``spent`` here is what the
shared store has not been told yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from langchain_costguard.metering.stores import account as rules
from langchain_costguard.metering.stores.account import Account
from langchain_costguard.metering.stores.base import Claim, Grant
from langchain_costguard.metering.stores.memory import MemoryStore


class Standing(NamedTuple):
    """Of one account: what was spent and is not told, what calls hold, and when it was last used."""

    spent: int
    held: int
    touched: float


class Local(MemoryStore):
    """Leased balances."""

    roomy = 1

    def here(self, claims: Sequence[Claim], units: int, until: int, now: float) -> Grant | None:
        """Hold a call of so many units, no fewer; None, with nothing changed, where it does not fit here."""
        with self.lock:
            if any(claim[0] not in self._accounts for claim in claims):
                return None
            answer = self._reserve(_free_of_caps(claims), (units, units), until, now)
            return answer if isinstance(answer, Grant) else None

    def lend(self, claims: Sequence[Claim], amounts: Sequence[int], ends: float, started: Sequence[int]) -> None:
        """Lease so much more of each account; ``started`` says when each clock did."""
        with self.lock:
            self._post()
            clocks = iter(started)
            accounts, new = self._find(claims)
            for account, claim, amount in zip(accounts, _free_of_caps(claims), amounts, strict=True):
                account.claim = claim
                if claim.clock:
                    account.spent = next(clocks)
                else:
                    _change(account, ends, -amount)
            if new:
                self._keep(new, 0.0)

    def hold(self, claims: Sequence[Claim], units: int, until: int, now: float) -> Grant:
        """Hold what the shared store has granted."""
        with self.lock:
            self._post()
            return rules.hold(self._find(claims)[0], _free_of_caps(claims), units, until, now)

    def standing(self, name: str, ends: float, now: float) -> Standing:
        """One account, whose lease ends then."""
        with self.lock:
            self._post()
            account = self._accounts.get(name)
            if account is None:
                return Standing(0, 0, 0.0)
            held = sum(amount for second, amount in account.buckets.items() if now < second != ends)
            return Standing(account.spent, held, account.touched)

    def told(self, name: str, spent: int, given: int, ends: float) -> None:
        """The shared store is told of what was spent, and so much of the lease goes back to it."""
        with self.lock:
            self._post()
            account = self._accounts.get(name)
            if account is not None:
                account.spent -= spent
                if ends in account.buckets:
                    _change(account, ends, given)

    def held(self, name: str, until: int) -> int:
        """What calls hold of an account until then."""
        with self.lock:
            self._post()
            account = self._accounts.get(name)
            return 0 if account is None else account.buckets.get(until, 0)

    def shift(self, name: str, milliseconds: int) -> None:
        """A clock was moved."""
        with self.lock:
            self._post()
            if name in self._accounts:
                self._accounts[name].spent -= milliseconds

    def afresh(self) -> None:
        """In a forked child: what was leased and not told is the parent's. Calls under way there are settled here if
        they end here."""
        self._post()
        for account in self._accounts.values():
            if account.claim is not None and not account.claim.clock:
                account.spent = 0
                account.buckets = {second: amount for second, amount in account.buckets.items() if amount > 0}
                account.held = sum(account.buckets.values())


def _free_of_caps(claims: Sequence[Claim]) -> list[Claim]:
    return [claim if claim.clock else claim._replace(cap=0, reserve=0) for claim in claims]


def _change(account: Account, ends: float, amount: int) -> None:
    account.buckets[ends] = account.buckets.get(ends, 0) + amount
    account.held += amount
    account.earliest = min(account.earliest, ends)
