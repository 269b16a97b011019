"""Balances in this process: a dictionary and a lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from threading import RLock
from typing import Any

from langchain_costguard.metering.stores import account as rules
from langchain_costguard.metering.stores.account import Account
from langchain_costguard.metering.stores.base import Balance, Claim, Grant, Refusal
from langchain_costguard.metering.stores.page import ROOMY, SHARED, Brief, Page, give_brief, take_brief
from langchain_costguard.metering.stores.repeats import reserve_together, settle_together
from langchain_costguard.observe.forks import held_over_forks

_UNKNOWN = Balance(0, 0)


class MemoryStore:
    """A store for one process: ``MemoryStore()``. It keeps nothing when the process ends.

    Accounts idle beyond their ttl are dropped as new ones come: each new account pays for looking at two old ones,
    so the dictionary never holds more than about twice the accounts still in use.
    """

    shared = False
    roomy = ROOMY

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._round: deque[Account] = deque()
        self._flags: dict[str, str] = {}
        self._generation = 0
        self.page: Page | None = None
        """The accounts that were asked for last, together: what they have is on their page, and not posted yet."""
        # Reentrant: the garbage collector may close an abandoned stream, which settles, while this thread is in here.
        self.lock = held_over_forks(RLock())

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._accounts)} account{'' if len(self._accounts) == 1 else 's'})"

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
        with self.lock:
            self._post()
            found = [self._accounts.get(name) for name in accounts]
            return [_UNKNOWN if account is None else account.balance(now) for account in found]

    def scan(self, *, now: float) -> Iterable[tuple[str, Balance]]:
        """Every account there is."""
        with self.lock:
            self._post()
            return [(name, account.balance(now)) for name, account in self._accounts.items()]

    def bind(self, accounts: Sequence[tuple[Any, int, str, int, bool]]) -> Page | None:
        """A page for accounts given as (the caller's own, measure, name, cap, clock); None until all are known."""
        with self.lock:
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
            return Page(named, amounts, clocks, self._generation, self.roomy)

    def turn_to(self, page: Page) -> bool:
        """Open a page, if all its accounts are still there. Call it under the lock, before the page's own verbs."""
        if page.generation != self._generation:
            return False
        if page is not self.page:
            self._post()
            page.open()
            self.page = page
        return True

    def take_coarsely(self, page: Page, amounts: Sequence[int], until: int, now: float) -> bool:
        """Hold amounts that may be far too high, if there is room for many times as much."""
        with self.lock:
            return (page is self.page or self.turn_to(page)) and page.take(amounts, until, now, coarse=True)

    def take(
        self,
        page: Page,
        fixed: Sequence[int],
        per_unit: Sequence[int],
        units: tuple[int, int],
        until: int,
        now: float,
        brief: Sequence[Any] = (),
        *,
        coarse: bool = False,
    ) -> tuple[int, float, Brief] | None:
        """Hold ``fixed + per_unit * n`` on a page; returns n, when the first clock runs out, and the states of the
        ``brief`` accounts, which last no longer than a trace. None where the long way has to decide, or where the
        amounts are ``coarse`` and there is not room for many times as much."""
        with self.lock:
            if not self.turn_to(page):
                return None
            states = self._brief(brief, now)
            n = page.affords(fixed, per_unit, units) if states is not None else None
            if states is None or n is None:
                return None
            for (state, measure), account in zip(states, brief, strict=True):
                left, rate = account.cap - account.reserve - state.spent - state.held, per_unit[measure]
                left -= fixed[measure] * (ROOMY if coarse and measure in SHARED else 1)
                if rate * n > left:
                    n = left // rate if rate else -1
            if n < units[0]:
                return None
            amounts = [a + b * n for a, b in zip(fixed, per_unit, strict=True)] if n else fixed
            if not page.take(amounts, until, now, coarse=coarse):
                return None
            take_brief(states, amounts, until, now)
            self._begin(states, brief, now)
            return n, page.ends, states

    def give(
        self,
        page: Page,
        held: Sequence[int],
        actual: Sequence[int],
        until: int,
        now: float,
        brief: Brief = (),
    ) -> list[int] | None:
        """Replace what ``take`` held by what was really spent; returns the new totals, None where the long way has to
        do it."""
        with self.lock:
            if not self.turn_to(page):
                return None
            page.give(held, actual, until, now)
            give_brief(brief, held, actual, until, now)
            return [*page.totals(), *(state.spent for state, _ in brief)]

    def forget(self, accounts: Iterable[str]) -> None:
        """Drop accounts that will not be used again, before their ttl."""
        with self.lock:
            for name in accounts:
                account = self._accounts.pop(name, None)
                if account is not None:  # its turn in the round drops the rest of it
                    if account.bound:
                        self._post()
                    self._generation += account.bound
                    account.claim, account.touched = None, 0.0
                    account.buckets.clear()

    def flags(self) -> Mapping[str, str]:
        """The flags set on this store: name to text."""
        with self.lock:
            return dict(self._flags)

    def flag(self, name: str, text: str | None) -> None:
        """Set a flag, or with None remove it."""
        with self.lock:
            if text is None:
                self._flags.pop(name, None)
            else:
                self._flags[name] = text

    def _reserve(self, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        with self.lock:
            self._post()
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
        with self.lock:
            self._post()
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

    def _keep(self, new: Sequence[Account], now: float) -> None:
        for account in new:
            if account.claim is None:  # a clock in a settlement
                continue
            for _ in range(min(2, len(self._round))):
                oldest = self._round.popleft()
                if oldest.bound and oldest.idle <= now:  # its page may know of later calls
                    self._post()
                if oldest.idle <= now:
                    if self._accounts.get(oldest.name) is oldest:
                        del self._accounts[oldest.name]
                        self._generation += oldest.bound
                else:
                    self._round.append(oldest)
            self._accounts[account.name] = account
            self._round.append(account)

    def _post(self) -> None:
        """Close the page that is open: the accounts are as they are."""
        if self.page is not None:
            self.page.post()
            self.page = None

    def _brief(self, accounts: Sequence[Any], now: float) -> Brief | None:
        """The states of accounts that may be new; None where something on one has expired, or one is on a page."""
        found = []
        for account in accounts:
            state = self._accounts.get(account.name) or Account(account.name)
            if state.earliest <= now or state.bound:
                return None
            found.append((state, account.measure))
        return found

    def _begin(self, states: Brief, accounts: Sequence[Any], now: float) -> None:
        """Keep those of the states that are new."""
        new = []
        for (state, _), account in zip(states, accounts, strict=True):
            if state.claim is None:
                state.claim = Claim(account.name, account.cap, 0, ttl=account.ttl, reserve=account.reserve)
                new.append(state)
        if new:
            self._keep(new, now)
