"""Which accounts a scope counts into: one per budget, measure, scope value and calendar window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from langchain_costguard.metering.budgets.budget import MEASURES, Budget, quoted
from langchain_costguard.vocabulary.calendar import window_at
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
    reserve: int
    """What of the cap is kept for a last answer."""


class Accounts:
    """The accounts of one scope that outlive a trace, until the first of their windows ends.

    A call asks for the same few again and again, so they are named once.

    Attributes:
        until: When the first of the windows ends; 0 once other budgets have taken the place of these.
        page: What a store in this process has of them; ``with_tools`` once it has the accounts of tool calls, too.
        watch: What a headroom is made from.
        per_call: What budgets say that count one call alone; ``private`` those too that would count its trace, where it
            is a trace of its own. None where the trace alone tells which of them apply.
    """

    __slots__ = ("accounts", "page", "per_call", "private", "until", "watch", "with_tools")

    def __init__(self, accounts: list[Account], until: float, per_call: Alone | None, private: Alone | None) -> None:
        self.accounts = accounts
        self.until = until
        self.per_call = per_call
        self.private = private
        self.page: Any = None
        self.with_tools = False
        self.watch: Any = None


class Alone(NamedTuple):
    """Budgets of one call alone, ready to be compared: no account is needed for them."""

    caps: tuple[tuple[int, int, Account], ...]
    """Measure, what one call may take of it, and the account to name in a refusal; of each measure the tightest."""
    seconds: float


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
            self.forget()
        found = Accounts(accounts, until, _alone(self.per_call, scope), _alone(self.private, scope))
        self._known[key] = found
        return found

    def forget(self) -> None:
        """What was named is named anew, by whoever kept it, too."""
        for known in self._known.values():
            known.until = 0.0
        self._known.clear()


def _alone(plans: Sequence[Plan], scope: Scope) -> Alone | None:
    """None where which of them apply is known only with the trace."""
    if any(index == _TRACE for plan in plans for index, _ in plan.only):
        return None
    caps: dict[int, tuple[int, int, Account]] = {}
    seconds = FOREVER
    for plan in plans:
        if not plan.applies(scope):
            continue
        for measure, _, cap, base, idle, kept in plan.caps:
            if measure == SECONDS:
                seconds = min(seconds, cap / 1000)
            elif measure not in caps or cap - kept < caps[measure][1]:
                caps[measure] = measure, cap - kept, Account(measure, "", cap, idle, base, plan.budget, kept)
    return Alone(tuple(caps.values()), seconds)


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
        self.recent: tuple[Any, float, list[Account]] = (None, FOREVER, [])

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
