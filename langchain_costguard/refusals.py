"""The sentences of refusals: which budget, for whom, what it takes and what is left."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from .budgets.budget import MEASURES, Budget
from .budgets.ledger import SECONDS, USD, Denial
from .money import show, usd
from .scope import Scope

if TYPE_CHECKING:
    from .errors import AgentHaltedError, BudgetExceededError, StoreUnavailableError, UnpricedModelError


def over_budget(denial: Denial, what: str, scope: Scope, advice: str = "") -> BudgetExceededError:
    """A budget cannot pay for ``what``; ``advice`` is for refusals of money and tokens, which depend on length."""
    from .errors import BudgetExceededError

    account, refusal = denial.account, denial.refusal
    measure, cap, who = MEASURES[account.measure], account.cap, whose(account.budget, scope)
    name = account.budget.label
    if account.measure == SECONDS:
        needed = left = Decimal(0)
        text = f"Budget {name!r} refused {what}: its {cap / 1000:g} seconds are over{who}."
    else:
        needed, left = Decimal(refusal.needed), Decimal(cap - refusal.spent - refusal.held)
        amounts = [refusal.needed, max(0, cap - refusal.spent - refusal.held), cap, refusal.held]
        if account.measure == USD:
            needed, left = usd(int(needed)), usd(int(left))
            words = [show(amount) for amount in amounts]
        else:
            words = [f"{amount:,}" for amount in amounts]
        noun = measure.replace("_", " ")
        unit = "" if account.measure == USD else f" {noun if refusal.needed != 1 else noun.removesuffix('s')}"
        text = (
            f"Budget {name!r} refused {what}: it may take {words[0]}{unit}, and {words[1]} of {words[2]} is left{who}"
        )
        text += f" ({words[3]} is held by calls under way)." if refusal.held else "."
        if advice and measure in ("usd", "tokens", "output_tokens"):
            text += f" {advice}"
    return BudgetExceededError(
        text,
        budget=name,
        measure=measure,
        scope=who.strip(" ()") or "all",
        needed=needed,
        left=left,
        by_holds=refusal.by_holds,
    )


def halted(what: str, agent: str, reason: str) -> AgentHaltedError:
    """The kill switch is on."""
    from .errors import AgentHaltedError

    who = "all agents are" if agent == "*" else f"agent {agent!r} is"
    return AgentHaltedError(
        f"Refused {what}: {who} halted: {reason.rstrip('.')}.", reason=reason, agent="" if agent == "*" else agent
    )


def unpriced(model: str) -> UnpricedModelError:
    """Nobody knows the price."""
    from .errors import UnpricedModelError

    return UnpricedModelError(
        f"Refused a call to {model}: its price is not known. "
        f"Give it one with prices={{{model.split(':', 1)[-1]!r}: Price(...)}}, or set unpriced='estimate'.",
        model=model,
    )


def store_down(store: str, why: str) -> StoreUnavailableError:
    """The store of balances does not answer."""
    from .errors import StoreUnavailableError

    return StoreUnavailableError(
        f"Refused: {why} ({store}). Budgets cannot be checked; with on_store_failure='local' calls would go on.",
        store=store,
    )


def whose(budget: Budget, scope: Scope) -> str:
    """Whose account it is, in brackets: `` (session=s1)``; empty for a budget that all share."""
    parts = [f"{d}={getattr(scope, d) or 'unnamed'}" for d in budget.dimensions() if d not in ("all", "call")]
    return f" ({', '.join(parts)})" if parts else ""
