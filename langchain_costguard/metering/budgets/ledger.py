"""Budgets times a store: which accounts a call counts into, reserved in one step and settled in one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import add
from typing import TYPE_CHECKING, cast

from langchain_costguard.metering.budgets.accounts import (
    FOREVER,
    GRANTED,
    INPUT,
    MODEL_CALLS,
    OUTPUT,
    SECONDS,
    TOOL_CALLS,
    USD,
    Account,
    Accounts,
    Naming,
    Plan,
    new_tuple,
    refuse_shared_accounts,
)
from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.metering.budgets.holds import NONE, Amounts, Denial, Hold, within_call
from langchain_costguard.metering.stores.base import MAX_AMOUNT, Claim, Refusal, Store, StoreError
from langchain_costguard.metering.stores.memory import MemoryStore
from langchain_costguard.metering.stores.page import NO_BRIEF, Page, give_brief
from langchain_costguard.vocabulary.scope import Scope

if TYPE_CHECKING:
    from langchain_costguard.metering.budgets.headroom import Watch
    from langchain_costguard.metering.stores.leases.leased import LeasedStore

__all__ = ["INPUT", "NONE", "OUTPUT", "SECONDS", "USD", "Account", "Amounts", "Denial", "Hold", "Ledger"]

_KEPT_TRACES = 4096


class Ledger:
    """Budgets times a store. Holds no balance of its own: those are the store's."""

    def __init__(self, budgets: Sequence[Budget], store: Store, *, hold_seconds: float) -> None:
        self.store = store
        self.hold_seconds = hold_seconds
        self.memory: MemoryStore | None = store if isinstance(store, MemoryStore) else getattr(store, "memory", None)
        self.leased = self.memory is not None and self.memory is not store
        """Whether ``memory`` has but what this process leased of the store; then its accounts have no caps."""
        self._grain = max(1, int(hold_seconds // 10))
        self._of_trace: dict[str, list[str]] = {}
        self._naming = Naming(())
        self.budgets: tuple[Budget, ...] = ()
        self.load(budgets)

    def load(self, budgets: Sequence[Budget]) -> None:
        """Put these budgets in the place of those there are, while calls are under way: each call is settled on the
        accounts that it was held on.

        Raises:
            ValueError: two of them would count into one account.
        """
        refuse_shared_accounts(budgets)
        before, self._naming = self._naming, Naming(budgets)
        self.budgets = tuple(budgets)
        self.counts_steps = any(budget.steps is not None for budget in budgets)
        self.by_trace = bool(self._naming.fleeting)
        before.forget()

    def known(self, scope: Scope, now: float) -> Accounts:
        """The accounts of the scope that outlive its trace, named once."""
        return self._naming.lasting(scope, now)

    def until(self, now: float) -> int:
        """The second in which a hold made now expires."""
        return (int(now + self.hold_seconds) // self._grain + 1) * self._grain

    def with_budgets(self, budgets: Sequence[Budget]) -> Ledger:
        """One of other budgets, on the same store; what traces under way have counted goes over to it.

        Raises:
            ValueError: two budgets would count into one account.
        """
        other = Ledger(budgets, self.store, hold_seconds=self.hold_seconds)
        other._of_trace = self._of_trace
        if self.leased:  # caps may be lower
            self.leases.give_back()
        return other

    @property
    def plans(self) -> Sequence[Plan]:
        """The budgets, each ready to name its accounts."""
        return self._naming.plans

    def watch(self, scope: Scope, now: float) -> Watch:
        """What to read for the headroom of the scope: its accounts that outlive a call and a step."""
        from langchain_costguard.metering.budgets.headroom import Watch

        known = self.known(scope, now)
        if self.by_trace and scope.trace:
            plans = [plan for plan in self._naming.fleeting if "step" not in plan.budget.dimensions()]
            return Watch(known.accounts + [a for plan in plans for a in self._fleeting(plan, scope, "", now)])
        if known.watch is None:
            known.watch = Watch(known.accounts)
        watch: Watch = known.watch
        return watch

    def accounts(self, scope: Scope, step_id: str, now: float, *, alone: bool = False) -> list[Account]:
        """Every account of the store that the scope counts into at ``now``."""
        lasting = self.known(scope, now).accounts
        if alone or not self.by_trace:
            return lasting
        return lasting + self._brief(scope, step_id, now)

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
        if self.memory is not None and not last:
            quick = self._at_once(self.memory, scope, step_id, fixed, per_unit, units, now, alone=alone)
            if quick is not None:
                return quick
        deadline, room, tight = FOREVER, MAX_AMOUNT, None
        private = self._naming.private if alone else self._naming.per_call
        if private:
            answer = within_call(private, scope, fixed, per_unit, units, now, last=last)
            if isinstance(answer, Denial):
                return answer
            units, deadline, room, tight = answer
        hold = Hold([], fixed, per_unit, units[1], self.until(now), deadline=deadline)
        accounts = self.accounts(scope, step_id, now, alone=alone)
        if last:
            accounts = [account._replace(reserve=0) for account in accounts]
        denial = self._reserve(hold, accounts, units, now)
        if tight is not None:  # the others may have granted less
            hold.room, hold.tight = room - hold.units, tight
        return denial or hold

    def hold_coarsely(
        self,
        known: Accounts,
        scope: Scope,
        step_id: str,
        amounts: Amounts,
        per_unit: Amounts,
        now: float,
        *,
        alone: bool,
    ) -> Hold | None:
        """Hold amounts that may be far too high, where it makes no difference; else None, and nothing has changed."""
        own, page, memory = known.private if alone else known.per_call, known.page or self.page(known), self.memory
        if own is None or page is None or memory is None or (self.leased and self.by_trace and not alone):
            return None
        for measure, most, _ in own.caps:
            if amounts[measure] > most:
                return None
        until = (int(now + self.hold_seconds) // self._grain + 1) * self._grain  # as ``until`` says
        accounts, states = page.accounts, NO_BRIEF
        if alone or not self.by_trace:
            if not memory.take_coarsely(page, amounts, until, now):
                return None
        else:
            found = self._brief(scope, step_id, now)
            if any(a[0] == SECONDS for a in found):  # its end is on no page
                return None
            brief = [a for a in found if amounts[a[0]] or a[0] == USD]
            taken = memory.take(page, amounts, NONE, (0, 0), until, now, brief, coarse=True)
            if taken is None:
                return None
            accounts, states = accounts + brief, taken[2]
        ends = now + own.seconds
        return Hold(accounts, amounts, per_unit, 0, until, page, ends if ends < page.ends else page.ends, own, states)

    def settle_plainly(self, hold: Hold, actual: Amounts, now: float) -> bool:
        """Replace what was held on a page, all of it ``fixed``; false, with nothing changed, where it is closed."""
        memory, page = self.memory, hold.page
        if memory is None or page is None:
            return False
        with memory.lock:
            if page is not memory.page and not memory.turn_to(page):
                return False
            page.give(hold.fixed, actual, hold.until, now)
            if hold.brief:
                give_brief(hold.brief, hold.fixed, actual, hold.until, now)
            hold.fixed = hold.per_unit = NONE
        return True

    def page(self, known: Accounts, *, tools: bool = False) -> Page | None:
        """The page of these accounts, those of tool calls on it from the first of them on; None until the store in this
        process knows them all."""
        if self.memory is None:
            return None
        page: Page | None = known.page
        if page is None or (tools and not known.with_tools):
            accounts = [a for a in known.accounts if tools or known.with_tools or a[0] != TOOL_CALLS]
            free = self.leased
            page = self.memory.bind(
                [(a, a[0], a[1], 0 if free and a[0] != SECONDS else a[2] - a[6], a[0] == SECONDS) for a in accounts]
            )
            if page is not None:
                known.page, known.with_tools = page, tools or known.with_tools
        return page

    def _at_once(
        self,
        memory: MemoryStore,
        scope: Scope,
        step_id: str,
        fixed: Amounts,
        per_unit: Amounts,
        units: tuple[int, int],
        now: float,
        *,
        alone: bool,
    ) -> Hold | None:
        """The same, for a call that fits, and whose accounts a store in this process has at hand; else None."""
        known, tools = self.known(scope, now), bool(fixed[TOOL_CALLS])
        own = known.private if alone else known.per_call
        page = self.page(known, tools=tools)
        if own is None or page is None or not (tools or fixed[MODEL_CALLS]):
            return None
        for measure, most, _ in own.caps:
            room, rate = most - fixed[measure], per_unit[measure]
            if rate * units[1] > room:
                if rate * units[0] > room:
                    return None
                units = units[0], room // rate
        brief: list[Account] = []
        if self.leased:  # what was leased says nothing of what the budgets afford
            units = units[1], units[1]
        if self.by_trace and not alone:
            if self.leased:
                return None
            for account in self._brief(scope, step_id, now):
                if account.measure == SECONDS:
                    return None
                if fixed[account.measure] or per_unit[account.measure] or account.measure == USD:
                    brief.append(account)
        until = self.until(now)
        taken = memory.take(page, fixed, per_unit, units, until, now, brief)
        if taken is None:
            known.page = None  # what it lacks may be known the next time
            return None
        n, ends, states = taken
        accounts = page.accounts + brief if brief else page.accounts
        return Hold(accounts, fixed, per_unit, n, until, page, min(ends, now + own.seconds), own, states)

    def lower(self, hold: Hold, fixed: Amounts, now: float) -> None:
        """Release what a coarse estimate has held too much: ``fixed`` is what should have been held."""
        if self.memory is not None:
            with self.memory.lock:  # its own thread may be settling it
                if hold.fixed is not NONE:
                    spare = [old - new for old, new in zip(hold.fixed, fixed, strict=True)]
                    hold.fixed = fixed
                    self._settle(hold, spare, NONE, now)

    def extend(self, hold: Hold, more: int, now: float) -> Denial | None:
        """Hold ``more`` units on top; the denial, with nothing changed, where they do not fit."""
        if hold.alone is not None:
            hold.spare()
        if more > hold.room and hold.tight is not None:
            measure = hold.tight.measure
            needed, spent = hold.per_unit[measure] * more, hold.amounts()[measure]
            return Denial(hold.tight, Refusal(0, needed, spent, 0, by_holds=False))
        accounts = [account for account in hold.accounts if hold.per_unit[account.measure]]
        claims = [Claim(a.name, a.cap, hold.per_unit[a.measure] * more, ttl=a.ttl, reserve=a.reserve) for a in accounts]
        if claims:
            granted = self.store.reserve(claims, units=(0, 0), until=hold.until, now=now)
            if isinstance(granted, Refusal):
                return Denial(accounts[granted.index], granted)
            if self.leased:  # what came on top may be held in the shared store, of which no page knows
                hold.page = None
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
        if self.memory is None or (self.leased and hold.page is None):
            totals = self._settle(hold, hold.amounts(), actual, now)
            hold.fixed = hold.per_unit = NONE
            return totals
        with self.memory.lock:  # another thread may be lowering it
            totals = self._settle(hold, hold.amounts(), actual, now)
            hold.fixed = hold.per_unit = NONE
        return totals

    def _settle(self, hold: Hold, held: Amounts, actual: Amounts, now: float) -> list[int]:
        """Replace this part of the hold by what was really used."""
        totals: list[int] | None = None
        if hold.page is not None and self.memory is not None:
            totals = self.memory.give(hold.page, held, actual, hold.until, now, hold.brief)
        if totals is None and hold.accounts:
            released = [held[account[0]] for account in hold.accounts]
            amounts = [actual[account[0]] for account in hold.accounts]
            claims = _claims(hold.accounts, hold.fixed, hold.per_unit)
            return self.store.settle(claims, released, amounts, until=hold.until, now=now)
        if totals and self.leased:
            totals = self.leases.totals([account.name for account in hold.accounts])
        return totals or []

    @property
    def leases(self) -> LeasedStore:
        """The store, where it is ``leased``."""
        return cast("LeasedStore", self.store)

    def settles_here(self, hold: Hold) -> bool:
        """Whether a hold is on leases alone, so that nobody waits for its settlement."""
        if not self.leased or hold.page is not None:
            return self.leased
        held, accounts = hold.amounts(), [account for account in hold.accounts if account[0] != SECONDS]
        names, amounts = [account.name for account in accounts], [held[account[0]] for account in accounts]
        return self.leases.settles_here(names, amounts, hold.until)

    def in_full(self, denial: Denial, now: float) -> Denial:
        """The denial in figures that a person knows: all that was spent, of the cap and what was granted on top."""
        account, refusal = denial.account, denial.refusal
        if account.measure == SECONDS:  # a grant has moved its start
            return denial
        try:
            (beside,) = self.store.read([GRANTED + account.name], now=now)
        except StoreError:
            return denial
        granted = beside.spent
        return Denial(account._replace(cap=account.cap + granted), replace(refusal, spent=refusal.spent + granted))

    def forget(self, trace: str) -> None:
        """A trace is over: the accounts of it and of its steps can go. Shared stores forget by their age instead."""
        accounts = self._of_trace.pop(trace, None)
        if accounts and self.leased:
            self.leases.give_back(accounts)
        elif accounts and self.memory is not None:
            self.memory.forget(accounts)

    def _reserve(self, hold: Hold, candidates: list[Account], units: tuple[int, int], now: float) -> Denial | None:
        fixed, per_unit = hold.fixed, hold.per_unit
        # Money is asked for even where it is free: what is billed in the end may not be.
        accounts = [a for a in candidates if fixed[a[0]] or per_unit[a[0]] or a[0] in (USD, SECONDS)]
        if not accounts:
            return None
        claims = _claims(accounts, fixed, per_unit)
        granted = self.store.reserve(claims, units=units, until=hold.until, now=now)
        if isinstance(granted, Refusal):
            return Denial(accounts[granted.index], granted)
        if granted.started:
            caps = [claim[1] for claim in claims if claim[4]]
            hold.deadline = min(hold.deadline, min(map(add, granted.started, caps)) / 1000)
        hold.accounts, hold.units = accounts, granted.units
        return None

    def _brief(self, scope: Scope, step_id: str, now: float) -> list[Account]:
        """The accounts that last no longer than the trace."""
        accounts: list[Account] = []
        for plan in self._naming.fleeting:
            accounts += self._fleeting(plan, scope, step_id, now)
        return accounts

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
