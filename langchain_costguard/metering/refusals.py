"""The sentences of refusals: which budget, for whom, what it takes and what is left."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from langchain_costguard.metering.budgets.budget import MEASURES, Budget
from langchain_costguard.metering.budgets.ledger import SECONDS, USD, Account, Denial
from langchain_costguard.metering.calls import Call
from langchain_costguard.metering.stores.base import Refusal
from langchain_costguard.vocabulary.money import show, usd
from langchain_costguard.vocabulary.scope import Scope

if TYPE_CHECKING:
    from langchain_costguard.vocabulary.errors import (
        AgentHaltedError,
        BudgetExceededError,
        StoreUnavailableError,
        UnpricedModelError,
    )


def over_budget(denial: Denial, what: str, scope: Scope, advice: str = "") -> BudgetExceededError:
    """A budget cannot pay for ``what``; ``advice`` is for refusals of money and tokens, which depend on length."""
    account, refusal = denial.account, denial.refusal
    if account.measure == SECONDS:
        return out_of_time(account, what, scope, refusal.spent)
    measure, kept = MEASURES[account.measure], account.reserve
    left = account.cap - kept - refusal.spent - refusal.held
    amounts = (refusal.needed, max(0, left), account.cap, refusal.held, kept)
    words = [show(amount) if account.measure == USD else f"{amount:,}" for amount in amounts]
    noun = measure.replace("_", " ")
    unit = "" if account.measure == USD else f" {noun if refusal.needed != 1 else noun.removesuffix('s')}"
    who = whose(account.budget, scope)
    text = f"it may take {words[0]}{unit}, and {words[1]} of {words[2]} is left{who}"
    text += f" ({words[3]} is held by calls under way)." if refusal.held else "."
    text += f" {words[4]} more is kept back for a last answer." if kept else ""
    if advice and measure in ("usd", "tokens", "output_tokens"):
        text += f" {advice}"
    return _exceeded(account, refusal, scope, f"{what}: {text}", left, reserve=kept > 0 and left + kept > 0)


def out_of_time(account: Account, what: str, scope: Scope, elapsed: int | None = None) -> BudgetExceededError:
    """A budget's ``seconds`` are over, after ``elapsed`` milliseconds (default: all it had)."""
    text = f"its {float(account.budget.seconds or 0):g} seconds are over{whose(account.budget, scope)}."
    over = Refusal(0, 0, account.cap if elapsed is None else elapsed, 0, by_holds=False)
    return _exceeded(account, over, scope, f"{what}: {text}", 0, reserve=False)


def _exceeded(
    account: Account, refusal: Refusal, scope: Scope, text: str, left: int, *, reserve: bool
) -> BudgetExceededError:
    from langchain_costguard.vocabulary.errors import BudgetExceededError

    budget, unit = account.budget, usd if account.measure == USD else Decimal
    return BudgetExceededError(
        f"Budget {budget.label!r} refused {text}",
        budget=budget.label,
        measure=MEASURES[account.measure],
        scope=whose(budget, scope).strip(" ()") or "all",
        needed=unit(refusal.needed),
        left=unit(left),
        by_holds=refusal.by_holds,
        reserve=reserve,
        account=account.name,
        asked=refusal.needed,
        spent=refusal.spent,
        cap=account.cap,
    )


def halted(what: str, agent: str, reason: str) -> AgentHaltedError:
    """The kill switch is on."""
    from langchain_costguard.vocabulary.errors import AgentHaltedError

    who = "all agents are" if agent == "*" else f"agent {agent!r} is"
    return AgentHaltedError(
        f"Refused {what}: {who} halted: {reason.rstrip('.')}.", reason=reason, agent="" if agent == "*" else agent
    )


def unpriced(model: str) -> UnpricedModelError:
    """Nobody knows the price."""
    from langchain_costguard.vocabulary.errors import UnpricedModelError

    return UnpricedModelError(
        f"Refused a call to {model}: its price is not known. "
        f"Give it one with prices={{{model.split(':', 1)[-1]!r}: Price(...)}}, or set unpriced='estimate'.",
        model=model,
    )


def store_down(store: str, why: str) -> StoreUnavailableError:
    """The store of balances does not answer."""
    from langchain_costguard.vocabulary.errors import StoreUnavailableError

    return StoreUnavailableError(
        f"Refused: {why} ({store}). Budgets cannot be checked; with on_store_failure='local' calls would go on.",
        store=store,
    )


def whose(budget: Budget, scope: Scope) -> str:
    """Whose account it is, in brackets: `` (session=s1)``; empty for a budget that all share."""
    parts = [f"{d}={getattr(scope, d) or 'unnamed'}" for d in budget.dimensions() if d not in ("all", "call")]
    return f" ({', '.join(parts)})" if parts else ""


def affordable(call: Call, denial: Denial) -> int:
    """Output tokens the refusing account could pay for if nothing were held."""
    account, refusal, times = denial.account, denial.refusal, call.times
    left = account.cap - account.reserve - refusal.spent
    rate = call.rates.output_rate(call.upper)
    measure = MEASURES[account.measure]
    if measure == "usd":
        rest = left - call.rates.ceiling(call.upper, 0, cache_write=call.writes_cache)
        return rest // (rate * times) if rate and rest >= 0 else (call.ceiling if rest >= 0 else -1)
    if measure == "tokens":
        return (left - call.upper) // times
    if measure == "output_tokens":
        return left // times
    return call.ceiling if refusal.by_holds else -1
