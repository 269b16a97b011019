"""Balances in this process: a dictionary and a lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from threading import RLock
from typing import Any

from langchain_costguard.metering.stores import account as rules
from langchain_costguard.metering.stores import bound as quick
from langchain_costguard.metering.stores.account import Account
from langchain_costguard.metering.stores.base import Balance, Claim, Grant, Refusal
from langchain_costguard.metering.stores.bound import Bound
from langchain_costguard.metering.stores.repeats import reserve_together, settle_together

_UNKNOWN = Balance(0, 0)


class MemoryStore:
    """A store for one process: ``MemoryStore()``. It keeps nothing when the process ends.

    Accounts idle beyond their ttl are dropped as new ones come: each new account pays for looking at two old ones,
    so the dictionary never holds more than about twice the accounts still in use.
    """

    shared = False

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._round: deque[Account] = deque()
        self._flags: dict[str, str] = {}
        self._generation = 0
        # Reentrant: the garbage collector may close an abandoned stream, which settles, while this thread is in here.
        self._lock = RLock()

    def reserve(self, claims: Sequence[Claim], *, units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        """Hold every claim's amount until ``until``, or none."""
        return self._reserve(claims, units, until, now)

    def settle(
        self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], *, until: int, now: float
    ) -> list[int]:
        """Replace what was held by what was really spent; returns each account's new total."""
        return self._settle(claims, held, actual, until, now)

    def read(self, accounts: Sequence[str], *, now: float) -> list[Balance]:
        """The balances of these accounts; an unknown one is all zeros."""
        with self._lock:
            found = [self._accounts.get(name) for name in accounts]
            return [_UNKNOWN if account is None else account.balance(now) for account in found]

    def scan(self, *, now: float) -> Iterable[tuple[str, Balance]]:
        """Every account there is."""
        with self._lock:
            return [(name, account.balance(now)) for name, account in self._accounts.items()]

    def bind(self, accounts: Sequence[tuple[Any, int, str, int, bool]]) -> Bound | None:
        """The states of accounts given as (the caller's own, measure, name, cap, clock); None until all are known."""
        with self._lock:
            amounts: list[tuple[Account, int, int]] = []
            clocks: list[tuple[Account, int]] = []
            named = []
            for own, measure, name, cap, clock in accounts:
                state = self._accounts.get(name)
                if state is None:
                    return None
                if clock:
                    clocks.append((state, cap))
                else:
                    amounts.append((state, measure, cap))
                    named.append(own)
            for state in [*(state for state, _, _ in amounts), *(state for state, _ in clocks)]:
                state.bound = True
            return Bound(named, amounts, clocks, self._generation)

    def reserve_bound(
        self,
        bound: Bound,
        fixed: Sequence[int],
        per_unit: Sequence[int],
        units: tuple[int, int],
        until: int,
        now: float,
    ) -> tuple[int, float] | None:
        """As ``bound.hold``."""
        with self._lock:
            if bound.generation != self._generation:
                return None
            return quick.hold(bound, fixed, per_unit, units, until, now)

    def settle_bound(
        self,
        bound: Bound,
        fixed: Sequence[int],
        per_unit: Sequence[int],
        n: int,
        actual: Sequence[int],
        until: int,
        now: float,
    ) -> list[int] | None:
        """As ``bound.settle``."""
        with self._lock:
            if bound.generation != self._generation:
                return None
            return quick.settle(bound, fixed, per_unit, n, actual, until, now)

    def forget(self, accounts: Iterable[str]) -> None:
        """Drop accounts that will not be used again, before their ttl."""
        with self._lock:
            for name in accounts:
                account = self._accounts.pop(name, None)
                if account is not None:  # its turn in the round drops the rest of it
                    self._generation += account.bound
                    account.claim, account.touched = None, 0.0
                    account.buckets.clear()

    def flags(self) -> Mapping[str, str]:
        """The flags set on this store: name to text."""
        with self._lock:
            return dict(self._flags)

    def flag(self, name: str, text: str | None) -> None:
        """Set a flag, or with None remove it."""
        with self._lock:
            if text is None:
                self._flags.pop(name, None)
            else:
                self._flags[name] = text

    def _reserve(self, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        with self._lock:
            accounts, new = self._find(claims)
            if len(set(accounts)) < len(accounts):
                return reserve_together(self._reserve, claims, units, until, now)
            granted = rules.fit(accounts, claims, units, now)
            if isinstance(granted, Refusal):
                return granted
            grant = rules.hold(accounts, claims, granted, until, now)
            if new:
                self._keep(new, now)
            return grant

    def _settle(
        self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], until: int, now: float
    ) -> list[int]:
        with self._lock:
            accounts, new = self._find(claims)
            if len(set(accounts)) < len(accounts):
                return settle_together(self._settle, claims, held, actual, until, now)
            totals = rules.settle(accounts, claims, held, actual, until, now)
            if new:
                self._keep(new, now)
            return totals

    def _find(self, claims: Sequence[Claim]) -> tuple[list[Account], list[Account]]:
        """The accounts of the claims, and those of them that are new and not yet kept."""
        try:
            accounts = self._accounts
            return [accounts[claim[0]] for claim in claims], []
        except KeyError:
            new = {name: Account(name) for claim in claims if (name := claim.account) not in accounts}
            return [accounts.get(claim.account) or new[claim.account] for claim in claims], list(new.values())

    def _keep(self, new: list[Account], now: float) -> None:
        for account in new:
            if account.claim is None:  # a clock in a settlement
                continue
            for _ in range(min(2, len(self._round))):
                oldest = self._round.popleft()
                if oldest.idle <= now:
                    if self._accounts.get(oldest.name) is oldest:
                        del self._accounts[oldest.name]
                        self._generation += oldest.bound
                else:
                    self._round.append(oldest)
            self._accounts[account.name] = account
            self._round.append(account)
