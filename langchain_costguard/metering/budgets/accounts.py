"""Which accounts a scope counts into: one per budget, measure, scope value and calendar window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from langchain_costguard.metering.budgets.budget import MEASURES, Budget, quoted, window_at
from langchain_costguard.vocabulary.scope import Scope

USD, TOKENS, INPUT, OUTPUT, MODEL_CALLS, TOOL_CALLS, STEPS, SECONDS = range(len(MEASURES))
FOREVER = float("inf")
GRANTED = "granted:"
"""With an account's name after it: the account of what was granted to it. In a key, the first part has no colon."""

_FIELDS = {name: index for index, name in enumerate(Scope._fields)}
_STEP, _TRACE = _FIELDS["step"], _FIELDS["trace"]
_KEPT = 4096
new_tuple: Any = tuple.__new__
"""A named tuple's own constructor takes three times as long, and a call makes a dozen."""


class Account(NamedTuple):
    """One measure of one budget for one scope value, in one window."""

    measure: int
    name: str
    cap: int
    """Where it refuses: the budget's cap times its lockout."""
    ttl: int
    base: int
    """The budget's cap, of which alerts are shares."""
    budget: Budget
    reserve: int = 0
    """What of the cap is kept for a last answer."""


class Accounts:
    """The accounts of one scope that outlive a trace, until the first of their windows ends.

    A call asks for the same few again and again, so they are named once. ``bound`` is for a store in this process: its
    own states of them, by which it is asked without naming them again; ``watch`` is what a headroom is made from.
    """

    __slots__ = ("accounts", "bound", "until", "watch")

    def __init__(self, accounts: list[Account], until: float) -> None:
        self.accounts = accounts
        self.until = until
        self.bound: Any = None
        self.watch: Any = None


class Naming:
    """Names the accounts of all budgets for a scope."""

    def __init__(self, budgets: Sequence[Budget]) -> None:
        plans = [Plan(budget) for budget in budgets]
        self.plans = plans
        per_call = [plan for plan in plans if plan.budget.per == "call"]
        self.fleeting = [plan for plan in plans if plan.fleeting]
        self.per_call = per_call
        self.private = per_call + self.fleeting
        """The budgets that count nothing but a call which is a trace of its own."""
        self._lasting = [plan for plan in plans if not plan.fleeting and plan not in per_call]
        self._known: dict[tuple[str, ...], Accounts] = {}

    def lasting(self, scope: Scope, now: float) -> Accounts:
        """The accounts that outlive the trace."""
        # A call's trace is its own, the rest of its scope is that of the calls before it.
        key = scope[:_TRACE] + scope[_TRACE + 1 :]
        known = self._known.get(key)
        if known is not None and now < known.until:
            return known
        until, accounts = FOREVER, []
        for plan in self._lasting:
            ends, named = plan.accounts(scope, "", now)
            until = min(until, ends)
            accounts += named
        if len(self._known) >= _KEPT:
            self._known.clear()
        found = self._known[key] = Accounts(accounts, until)
        return found


class Plan:
    """One budget, ready to name its accounts."""

    __slots__ = ("budget", "caps", "fleeting", "key", "only", "recent", "where")

    def __init__(self, budget: Budget) -> None:
        idle = budget.idle()
        self.budget = budget
        self.key = budget.key()
        kept = budget.reserves()
        self.caps = [
            (MEASURES.index(m), "|" + m, budget.ceiling(cap), cap, idle, kept.get(m, 0))
            for m, cap in budget.caps().items()
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
            return FOREVER, []
        value = [step_id if index == _STEP else scope[index] for index in self.where]
        recent, until, accounts = self.recent
        if recent == value and now < until:
            return until, accounts
        budget, until, where = self.budget, FOREVER, self.key
        if self.where:
            where += "|" + ",".join(map(quoted, value))
        if budget.window:
            label, until = window_at(budget.window, budget.tz, now)
            where += "|" + label
        accounts = [
            new_tuple(Account, (measure, where + suffix, cap, idle, base, budget, reserve))
            for measure, suffix, cap, base, idle, reserve in self.caps
        ]
        self.recent = (value, until, accounts)
        return until, accounts


def refuse_shared_accounts(budgets: Sequence[Budget]) -> None:
    """Raise if two budgets would count into one account.

    Raises:
        ValueError: names the measure and the budget.
    """
    seen: set[tuple[str, str]] = set()
    for budget in budgets:
        for measure in budget.caps():
            if (budget.key(), measure) in seen:
                raise ValueError(
                    f"two budgets cap {measure} per {budget.label!r} and would count every call twice: "
                    f"join them, or give one a name="
                )
            seen.add((budget.key(), measure))
