"""Budgets times a store: which accounts a call counts into, reserved in one step and settled in one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import add
from typing import Any

from langchain_costguard.metering.budgets.accounts import (
    FOREVER,
    GRANTED,
    INPUT,
    OUTPUT,
    SECONDS,
    TOOL_CALLS,
    USD,
    Account,
    Naming,
    Plan,
    new_tuple,
    refuse_shared_accounts,
)
from langchain_costguard.metering.budgets.budget import MEASURES, Budget
from langchain_costguard.metering.budgets.headroom import Watch
from langchain_costguard.metering.stores.base import MAX_AMOUNT, Claim, Refusal, Store, StoreError
from langchain_costguard.metering.stores.memory import MemoryStore
from langchain_costguard.vocabulary.scope import Scope

__all__ = ["INPUT", "NONE", "OUTPUT", "SECONDS", "USD", "Account", "Amounts", "Denial", "Hold", "Ledger"]

Amounts = Sequence[int]
"""One integer per measure, in the order of ``MEASURES``."""
NONE: Amounts = (0,) * len(MEASURES)

_KEPT_TRACES = 4096


@dataclass(slots=True)
class Hold:
    """What was reserved for one call: ``fixed + per_unit * units`` on each of ``accounts``."""

    accounts: list[Account]
    fixed: Amounts
    per_unit: Amounts
    units: int
    until: int
    deadline: float = FOREVER
    """Epoch seconds at which the tightest ``seconds`` budget runs out."""
    room: int = MAX_AMOUNT
    """Units that budgets of this call alone would bear on top."""
    tight: Account | None = None
    """The account of the one that leaves least room."""
    bound: Any = None
    """The states by which a store in this process knows the accounts."""

    @property
    def limits(self) -> bool:
        """Whether any budget limits the call's output or time."""
        return bool(self.accounts) or self.deadline < FOREVER or self.room < MAX_AMOUNT


@dataclass(slots=True)
class Denial:
    """Why a call was refused: the account, and what it would have taken."""

    account: Account
    refusal: Refusal


class Ledger:
    """Budgets times a store. Holds no balance of its own: those are the store's."""

    def __init__(self, budgets: Sequence[Budget], store: Store, *, hold_seconds: float) -> None:
        refuse_shared_accounts(budgets)
        self.budgets = tuple(budgets)
        self.store = store
        self.hold_seconds = hold_seconds
        self.counts_steps = any(budget.steps is not None for budget in self.budgets)
        self._naming = Naming(self.budgets)
        self.by_trace = bool(self._naming.fleeting)
        self.keeps_back = any(budget.reserve is not None for budget in self.budgets)
        self._memory = store if isinstance(store, MemoryStore) else None
        self._grain = max(1, int(hold_seconds // 10))
        self._of_trace: dict[str, list[str]] = {}

    @property
    def plans(self) -> Sequence[Plan]:
        """The budgets, each ready to name its accounts."""
        return self._naming.plans

    def watch(self, scope: Scope, now: float) -> Watch:
        """What to read for the headroom of the scope: its accounts that outlive a call and a step."""
        known = self._naming.lasting(scope, now)
        if self.by_trace and scope.trace:
            plans = [plan for plan in self._naming.fleeting if "step" not in plan.budget.dimensions()]
            return Watch(known.accounts + [a for plan in plans for a in self._fleeting(plan, scope, "", now)])
        if known.watch is None:
            known.watch = Watch(known.accounts)
        watch: Watch = known.watch
        return watch

    def accounts(self, scope: Scope, step_id: str, now: float, *, alone: bool = False) -> list[Account]:
        """Every account of the store that the scope counts into at ``now``."""
        lasting = self._naming.lasting(scope, now).accounts
        if alone or not self.by_trace:
            return lasting
        accounts = lasting.copy()
        for plan in self._naming.fleeting:
            accounts += self._fleeting(plan, scope, step_id, now)
        return accounts

    def reserve(
        self,
        scope: Scope,
        step_id: str,
        fixed: Amounts,
        per_unit: Amounts = NONE,
        *,
        units: tuple[int, int] = (0, 0),
        alone: bool = False,
        last: bool = False,
        now: float,
    ) -> Hold | Denial:
        """Hold ``fixed + per_unit * units`` on every account that counts the call, or on none.

        ``alone`` says that the call is a trace of its own, so that budgets per step and trace are budgets of this call;
        ``last`` that it may have what the budgets keep back.
        """
        deadline, room, tight = FOREVER, MAX_AMOUNT, None
        private = self._naming.private if alone else self._naming.per_call
        if private:
            answer = _within_call(private, scope, fixed, per_unit, units, now, last=last)
            if isinstance(answer, Denial):
                return answer
            units, deadline, room, tight = answer
        until = (int(now + self.hold_seconds) // self._grain + 1) * self._grain
        if self._memory is not None and (alone or not self.by_trace) and not fixed[TOOL_CALLS] and not last:
            known = self._naming.lasting(scope, now)
            bound = known.bound
            if bound is not None:
                quick = self._memory.reserve_bound(bound, fixed, per_unit, units, until, now)
                if quick is not None:
                    deadline = quick[1] if quick[1] < deadline else deadline
                    return Hold(bound.accounts, fixed, per_unit, quick[0], until, deadline, room, tight, bound)
            known.bound = self._memory.bind(
                [(a, a[0], a[1], a[2] - a[6], a[0] == SECONDS) for a in known.accounts if a[0] != TOOL_CALLS]
            )
        hold = Hold([], fixed, per_unit, units[1], until, deadline, room, tight)
        accounts = self.accounts(scope, step_id, now, alone=alone)
        if last:
            accounts = [account._replace(reserve=0) if account.reserve else account for account in accounts]
        return self._reserve(hold, accounts, units, now)

    def extend(self, hold: Hold, more: int, now: float) -> Denial | None:
        """Hold ``more`` units on top; the denial, with nothing changed, where they do not fit."""
        if more > hold.room and hold.tight is not None:
            measure, cap = hold.tight.measure, hold.tight.cap - hold.tight.reserve
            rate = hold.per_unit[measure]
            spent = hold.fixed[measure] + rate * hold.units
            return Denial(hold.tight, Refusal(0, rate * more, min(spent, cap), 0, by_holds=False))
        accounts = [account for account in hold.accounts if hold.per_unit[account.measure]]
        claims = [Claim(a.name, a.cap, hold.per_unit[a.measure] * more, ttl=a.ttl, reserve=a.reserve) for a in accounts]
        if claims:
            granted = self.store.reserve(claims, units=(0, 0), until=hold.until, now=now)
            if isinstance(granted, Refusal):
                return Denial(accounts[granted.index], granted)
        hold.units += more
        hold.room -= more
        return None

    def shortest(self, scope: Scope, step_id: str, now: float, *, alone: bool) -> Account:
        """Of the budgets that limit the scope's time, the shortest; nameless where it keeps no account."""
        plans = [plan for plan in self._naming.plans if plan.budget.seconds is not None and plan.applies(scope)]
        plan = min(plans, key=lambda plan: plan.budget.caps()["seconds"])
        account = next(a for a in plan.accounts(scope, step_id, now)[1] if a.measure == SECONDS)
        private = self._naming.private if alone else self._naming.per_call
        return account._replace(name="") if plan in private else account

    def settle(self, hold: Hold, actual: Amounts, now: float) -> list[int]:
        """Replace the hold by what was really used; returns the new total of each of ``hold.accounts``."""
        fixed, per_unit, n = hold.fixed, hold.per_unit, hold.units
        totals: list[int] | None = None
        if hold.bound is not None and self._memory is not None:
            totals = self._memory.settle_bound(hold.bound, fixed, per_unit, n, actual, hold.until, now)
        if totals is None and hold.accounts:
            held = [0 if a[0] == SECONDS else fixed[a[0]] + per_unit[a[0]] * n for a in hold.accounts]
            amounts = [actual[account[0]] for account in hold.accounts]
            claims = _claims(hold.accounts, fixed, per_unit)
            totals = self.store.settle(claims, held, amounts, until=hold.until, now=now)
        hold.fixed = hold.per_unit = NONE
        return totals or []

    def in_full(self, denial: Denial, now: float) -> Denial:
        """The denial in figures that a person knows: all that was spent, of the cap and what was granted on top."""
        account, refusal = denial.account, denial.refusal
        try:
            granted = self.store.read([GRANTED + account.name], now=now)[0].spent
        except StoreError:
            return denial
        if granted <= 0 or account.measure == SECONDS:
            return denial
        return Denial(account._replace(cap=account.cap + granted), replace(refusal, spent=refusal.spent + granted))

    def forget(self, trace: str) -> None:
        """A trace is over: the accounts of it and of its steps can go. Shared stores forget by their age instead."""
        accounts = self._of_trace.pop(trace, None)
        if accounts and self._memory is not None:
            self._memory.forget(accounts)

    def _reserve(self, hold: Hold, candidates: list[Account], units: tuple[int, int], now: float) -> Hold | Denial:
        fixed, per_unit = hold.fixed, hold.per_unit
        # Money is asked for even where it is free: what is billed in the end may not be.
        accounts = [a for a in candidates if fixed[a[0]] or per_unit[a[0]] or a[0] in (USD, SECONDS)]
        if not accounts:
            return hold
        claims = _claims(accounts, fixed, per_unit)
        granted = self.store.reserve(claims, units=units, until=hold.until, now=now)
        if isinstance(granted, Refusal):
            return Denial(accounts[granted.index], granted)
        if granted.started:
            caps = [claim[1] for claim in claims if claim[4]]
            hold.deadline = min(hold.deadline, min(map(add, granted.started, caps)) / 1000)
        hold.accounts, hold.units = accounts, granted.units
        return hold

    def _fleeting(self, plan: Plan, scope: Scope, step_id: str, now: float) -> list[Account]:
        before = plan.recent
        accounts = plan.accounts(scope, step_id, now)[1]
        if plan.recent is not before:
            self._note(scope.trace, plan.recent[2])
        return accounts

    def _note(self, trace: str, accounts: Sequence[Account]) -> None:
        names = self._of_trace.setdefault(trace, [])
        names += [account.name for account in accounts]
        if len(self._of_trace) > _KEPT_TRACES:  # traces that never ended
            oldest = next(iter(self._of_trace), None)
            if oldest is not None:
                self.forget(oldest)


def _claims(accounts: Sequence[Account], fixed: Amounts, per_unit: Amounts) -> list[Claim]:
    return [
        new_tuple(Claim, (name, cap, fixed[measure], per_unit[measure], measure == SECONDS, ttl, reserve))
        for measure, name, cap, ttl, _, _, reserve in accounts
    ]


def _within_call(
    private: Sequence[Plan],
    scope: Scope,
    fixed: Amounts,
    per_unit: Amounts,
    units: tuple[int, int],
    now: float,
    *,
    last: bool,
) -> Denial | tuple[tuple[int, int], float, int, Account | None]:
    """Budgets that count nothing but this call need no store: what it may take is compared on the spot."""
    least, most = units
    deadline, room, tight = FOREVER, MAX_AMOUNT, None
    for plan in private:
        if plan.only and not plan.applies(scope):
            continue
        for measure, _, cap, base, idle, kept in plan.caps:
            if measure == SECONDS:
                deadline = min(deadline, now + cap / 1000)
                continue
            needed, rate = fixed[measure] + per_unit[measure] * least, per_unit[measure]
            reserve = 0 if last else kept
            if needed > cap - reserve:
                account = Account(measure, "", cap, idle, base, plan.budget, reserve)
                return Denial(account, Refusal(0, needed, 0, 0, by_holds=False))
            if rate and (affordable := (cap - reserve - fixed[measure]) // rate) < room:
                room, most = affordable, min(most, affordable)
                tight = Account(measure, "", cap, idle, base, plan.budget, reserve)
    return (least, most), deadline, room if units == (0, 0) else room - most, tight
