"""The sentences of refusals: which budget, for whom, what it takes and what is left."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from langchain_costguard.budgets.budget import MEASURES, Budget
from langchain_costguard.budgets.ledger import SECONDS, USD, Denial
from langchain_costguard.money import show, usd
from langchain_costguard.scope import Scope

if TYPE_CHECKING:
    from langchain_costguard.errors import (
        AgentHaltedError,
        BudgetExceededError,
        StoreUnavailableError,
        UnpricedModelError,
    )


def over_budget(denial: Denial, what: str, scope: Scope, advice: str = "") -> BudgetExceededError:
    """A budget cannot pay for ``what``; ``advice`` is for refusals of money and tokens, which depend on length."""
    account, refusal = denial.account, denial.refusal
    if account.measure == SECONDS:
        return out_of_time(account.budget, what, scope)
    measure, left = MEASURES[account.measure], account.cap - refusal.spent - refusal.held
    amounts = (refusal.needed, max(0, left), account.cap, refusal.held)
    words = [show(amount) if account.measure == USD else f"{amount:,}" for amount in amounts]
    noun = measure.replace("_", " ")
    unit = "" if account.measure == USD else f" {noun if refusal.needed != 1 else noun.removesuffix('s')}"
    who = whose(account.budget, scope)
    text = f"it may take {words[0]}{unit}, and {words[1]} of {words[2]} is left{who}"
    text += f" ({words[3]} is held by calls under way)." if refusal.held else "."
    if advice and measure in ("usd", "tokens", "output_tokens"):
        text += f" {advice}"
    unit_of = usd if account.measure == USD else Decimal
    needed, remaining = unit_of(refusal.needed), unit_of(left)
    return _exceeded(account.budget, measure, scope, what, text, needed, remaining, by_holds=refusal.by_holds)


def out_of_time(budget: Budget, what: str, scope: Scope) -> BudgetExceededError:
    """A budget's ``seconds`` are over."""
    text = f"its {float(budget.seconds or 0):g} seconds are over{whose(budget, scope)}."
    return _exceeded(budget, "seconds", scope, what, text, Decimal(0), Decimal(0), by_holds=False)


def _exceeded(
    budget: Budget, measure: str, scope: Scope, what: str, text: str, needed: Decimal, left: Decimal, *, by_holds: bool
) -> BudgetExceededError:
    from langchain_costguard.errors import BudgetExceededError

    return BudgetExceededError(
        f"Budget {budget.label!r} refused {what}: {text}",
        budget=budget.label,
        measure=measure,
        scope=whose(budget, scope).strip(" ()") or "all",
        needed=needed,
        left=left,
        by_holds=by_holds,
    )


def halted(what: str, agent: str, reason: str) -> AgentHaltedError:
    """The kill switch is on."""
    from langchain_costguard.errors import AgentHaltedError

    who = "all agents are" if agent == "*" else f"agent {agent!r} is"
    return AgentHaltedError(
        f"Refused {what}: {who} halted: {reason.rstrip('.')}.", reason=reason, agent="" if agent == "*" else agent
    )


def unpriced(model: str) -> UnpricedModelError:
    """Nobody knows the price."""
    from langchain_costguard.errors import UnpricedModelError

    return UnpricedModelError(
        f"Refused a call to {model}: its price is not known. "
        f"Give it one with prices={{{model.split(':', 1)[-1]!r}: Price(...)}}, or set unpriced='estimate'.",
        model=model,
    )


def store_down(store: str, why: str) -> StoreUnavailableError:
    """The store of balances does not answer."""
    from langchain_costguard.errors import StoreUnavailableError

    return StoreUnavailableError(
        f"Refused: {why} ({store}). Budgets cannot be checked; with on_store_failure='local' calls would go on.",
        store=store,
    )


def whose(budget: Budget, scope: Scope) -> str:
    """Whose account it is, in brackets: `` (session=s1)``; empty for a budget that all share."""
    parts = [f"{d}={getattr(scope, d) or 'unnamed'}" for d in budget.dimensions() if d not in ("all", "call")]
    return f" ({', '.join(parts)})" if parts else ""
