"""Budgets times a store: which accounts a call counts into, reserved in one step and settled in one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from typing import Any, NamedTuple

from ..scope import Scope
from ..stores.base import MAX_AMOUNT, Claim, Refusal, Store
from ..stores.memory import MemoryStore
from .budget import MEASURES, Budget, quoted, window_at

_KEPT = 4096
_FIELDS = {name: index for index, name in enumerate(Scope._fields)}
_STEP, _TRACE = _FIELDS["step"], _FIELDS["trace"]
USD, TOKENS, INPUT, OUTPUT, MODEL_CALLS, TOOL_CALLS, STEPS, SECONDS = range(len(MEASURES))

Amounts = Sequence[int]
"""One integer per measure, in the order of ``MEASURES``."""
NONE: Amounts = (0,) * len(MEASURES)

_new: Any = tuple.__new__
"""A named tuple's own constructor takes three times as long, and a call makes a dozen."""
_FOREVER = float("inf")


class Account(NamedTuple):
    """One measure of one budget for one scope value, in one window."""

    measure: int
    name: str
    cap: int
    """Where it refuses: the budget's cap times its lockout."""
    base: int
    """The budget's cap, of which alerts are shares."""
    ttl: int
    budget: Budget


@dataclass(slots=True)
class Hold:
    """What was reserved for one call, and where."""

    accounts: list[Account]
    claims: list[Claim]
    held: list[int]
    until: int
    units: int = 0
    deadline: float = _FOREVER
    """Epoch seconds at which the tightest ``seconds`` budget runs out."""
    room: int = MAX_AMOUNT
    """Units that budgets of this call alone would bear on top."""


@dataclass(slots=True)
class Denial:
    """Why a call was refused: the account, and what it would have taken."""

    account: Account
    refusal: Refusal


class Ledger:
    """Budgets times a store. Holds no balance of its own: those are the store's."""

    def __init__(self, budgets: Sequence[Budget], store: Store, *, hold_seconds: float) -> None:
        self.budgets = tuple(budgets)
        self.store = store
        self.hold_seconds = hold_seconds
        self._grain = max(1, int(hold_seconds // 10))
        compiled = [_Compiled(budget) for budget in self.budgets]
        self._per_call = [c for c in compiled if c.budget.per == "call"]
        self._lasting = [c for c in compiled if not c.fleeting and c.budget.per != "call"]
        self._fleeting = [c for c in compiled if c.fleeting]
        self._known: dict[tuple[str, ...], tuple[float, list[Account]]] = {}
        self._private = self._per_call + self._fleeting
        self._of_trace: dict[str, list[str]] = {}
        self.by_trace = bool(self._fleeting)
        self.counts_steps = any(budget.steps is not None for budget in self.budgets)
        _refuse_shared_accounts(self.budgets)

    def accounts(self, scope: Scope, step_id: str, now: float, *, alone: bool = False) -> list[Account]:
        """Every account of the store that the scope counts into at ``now``."""
        # A call's trace is its own, the rest of its scope is that of the calls before it.
        key = scope[:_TRACE] + scope[_TRACE + 1 :]
        known = self._known.get(key)
        if known is None or now >= known[0]:
            known = self._name(key, scope, now)
        if alone or not self._fleeting:
            return known[1]
        accounts = known[1].copy()
        for compiled in self._fleeting:
            before = compiled.recent
            accounts += compiled.accounts(scope, step_id, now)[1]
            if compiled.recent is not before:
                self._note(scope.trace, compiled.recent[2])
        return accounts

    def forget(self, trace: str) -> None:
        """A trace is over: the accounts of it and of its steps can go. Shared stores forget by their age instead."""
        accounts = self._of_trace.pop(trace, None)
        if accounts and isinstance(self.store, MemoryStore):
            self.store.forget(accounts)

    def _note(self, trace: str, accounts: Sequence[Account]) -> None:
        names = self._of_trace.setdefault(trace, [])
        names += [account.name for account in accounts]
        if len(self._of_trace) > _KEPT:  # traces that never ended
            oldest = next(iter(self._of_trace), None)
            if oldest is not None:
                self.forget(oldest)

    def reserve(
        self,
        scope: Scope,
        step_id: str,
        fixed: Amounts,
        per_unit: Amounts = NONE,
        *,
        units: tuple[int, int] = (0, 0),
        alone: bool = False,
        now: float,
    ) -> Hold | Denial:
        """Hold ``fixed + per_unit * units`` on every account that counts the call, or on none.

        ``alone`` says that the call is a trace of its own, so that budgets per step and trace are budgets of this call.
        """
        deadline, room = _FOREVER, MAX_AMOUNT
        private = self._private if alone else self._per_call
        if private:
            answer = _within_call(private, scope, step_id, fixed, per_unit, units, now)
            if isinstance(answer, Denial):
                return answer
            units, deadline, room = answer
        accounts: list[Account] = []
        claims: list[Claim] = []
        clocks = False
        for account in self.accounts(scope, step_id, now, alone=alone):
            measure, name, cap, _, ttl, _ = account
            if measure == SECONDS:
                clocks = True
                claims.append(_new(Claim, (name, cap, 0, 0, True, ttl)))
            elif (amount := fixed[measure]) or per_unit[measure]:
                claims.append(_new(Claim, (name, cap, amount, per_unit[measure], False, ttl)))
            else:
                continue
            accounts.append(account)
        until = self._until(now)
        if not claims:
            return Hold(accounts, claims, [], until, units[1], deadline, room)
        granted = self.store.reserve(claims, units=units, until=until, now=now)
        if isinstance(granted, Refusal):
            return Denial(accounts[granted.index], granted)
        if clocks:
            deadline = min(deadline, _deadline(claims, granted.started))
        n = granted.units
        held = [claim[2] + claim[3] * n for claim in claims] if n else [claim[2] for claim in claims]
        return Hold(accounts, claims, held, until, n, deadline, room)

    def extend(self, hold: Hold, per_unit: Amounts, more: int, now: float) -> bool:
        """Hold ``more`` units on top; False, with nothing changed, where they do not fit."""
        if more > hold.room:
            return False
        index = [i for i, account in enumerate(hold.accounts) if per_unit[account.measure]]
        claims = [hold.claims[i]._replace(fixed=per_unit[hold.accounts[i].measure] * more, per_unit=0) for i in index]
        if claims and isinstance(self.store.reserve(claims, units=(0, 0), until=hold.until, now=now), Refusal):
            return False
        for i, claim in zip(index, claims, strict=True):
            hold.held[i] += claim.fixed
        hold.units += more
        hold.room -= more
        return True

    def settle(self, hold: Hold, actual: Amounts, now: float) -> list[int]:
        """Replace the hold by what was really used; returns the new total of each of ``hold.accounts``."""
        if not hold.claims:
            return []
        amounts = [actual[account[0]] for account in hold.accounts]
        totals = self.store.settle(hold.claims, hold.held, amounts, until=hold.until, now=now)
        hold.held = [0] * len(amounts)
        return totals

    def _name(self, key: tuple[str, ...], scope: Scope, now: float) -> tuple[float, list[Account]]:
        until, accounts = float("inf"), []
        for compiled in self._lasting:
            ends, named = compiled.accounts(scope, "", now)
            until = min(until, ends)
            accounts += named
        if len(self._known) >= _KEPT:
            self._known.clear()
        self._known[key] = until, accounts
        return until, accounts

    def _until(self, now: float) -> int:
        """When a hold made now expires, on a grain that keeps an account at about a dozen buckets."""
        return (int(now + self.hold_seconds) // self._grain + 1) * self._grain


class _Compiled:
    """One budget, ready to name its accounts."""

    __slots__ = ("budget", "caps", "fleeting", "key", "only", "recent", "where")

    def __init__(self, budget: Budget) -> None:
        idle = budget.idle()
        self.budget = budget
        self.key = budget.key()
        self.caps = [
            (MEASURES.index(m), "|" + m, budget.ceiling(cap), cap, idle) for m, cap in budget.caps().items()
        ]
        self.only = [(_FIELDS[dimension], allowed) for dimension, allowed in budget.only.items()]
        self.where = [_FIELDS[d] for d in budget.dimensions() if d not in ("all", "call")]
        self.fleeting = bool({_STEP, _TRACE} & {*self.where}) or any(i == _TRACE for i, _ in self.only)
        self.recent: tuple[Any, float, list[Account]] = (None, 0.0, [])

    def applies(self, scope: Scope) -> bool:
        """Whether ``only`` lets the scope in."""
        return all(scope[index] in allowed for index, allowed in self.only)

    def accounts(self, scope: Scope, step_id: str, now: float) -> tuple[float, list[Account]]:
        """The budget's accounts for this scope, and until when they are the ones."""
        if self.only and not self.applies(scope):
            return _NOBODYS
        value = [step_id if index == _STEP else scope[index] for index in self.where]
        recent, until, accounts = self.recent
        if recent == value and now < until:
            return until, accounts
        budget, until = self.budget, float("inf")
        where = self.key
        if self.where:
            where += "|" + ",".join(map(quoted, value))
        if budget.window:
            label, until = window_at(budget.window, budget.tz, now)
            where += "|" + label
        accounts = [
            _new(Account, (measure, where + suffix, cap, base, idle, budget))
            for measure, suffix, cap, base, idle in self.caps
        ]
        self.recent = (value, until, accounts)
        return until, accounts


_NOBODYS: tuple[float, list[Account]] = (float("inf"), [])


def _within_call(
    private: Sequence[_Compiled],
    scope: Scope,
    step_id: str,
    fixed: Amounts,
    per_unit: Amounts,
    units: tuple[int, int],
    now: float,
) -> Denial | tuple[tuple[int, int], float, int]:
    """Budgets that count nothing but this call need no store: what it may take is compared on the spot."""
    least, most = units
    deadline, room = _FOREVER, MAX_AMOUNT
    for compiled in private:
        if compiled.only and not compiled.applies(scope):
            continue
        for measure, _, cap, base, idle in compiled.caps:
            if measure == SECONDS:
                deadline = min(deadline, now + cap / 1000)
                continue
            needed, rate = fixed[measure] + per_unit[measure] * least, per_unit[measure]
            if needed > cap:
                account = Account(measure, compiled.key, cap, base, idle, compiled.budget)
                return Denial(account, Refusal(0, needed, 0, 0, by_holds=False))
            if rate:
                affordable = (cap - fixed[measure]) // rate
                most, room = min(most, affordable), min(room, affordable)
    return (least, most), deadline, room if units == (0, 0) else room - most


def _deadline(claims: Sequence[Claim], started: Sequence[int]) -> float:
    caps = [claim[1] for claim in claims if claim[4]]
    return float(min(map(add, started, caps))) / 1000


def _refuse_shared_accounts(budgets: Sequence[Budget]) -> None:
    seen: set[tuple[str, str]] = set()
    for budget in budgets:
        for measure in budget.caps():
            if (budget.key(), measure) in seen:
                raise ValueError(
                    f"two budgets cap {measure} per {budget.label!r} and would count every call twice: "
                    f"join them, or give one a name="
                )
            seen.add((budget.key(), measure))
