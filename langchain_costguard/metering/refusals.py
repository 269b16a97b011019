"""The sentences of refusals: which budget, for whom, what it takes and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from langchain_costguard.metering.budgets.budget import MEASURES, Budget
from langchain_costguard.metering.budgets.ledger import SECONDS, USD, Account, Denial
from langchain_costguard.metering.stores.base import Refusal
from langchain_costguard.vocabulary.money import show, usd
from langchain_costguard.vocabulary.scope import Scope

if TYPE_CHECKING:
    from langchain_costguard.vocabulary.errors import (
        AgentHaltedError,
        BudgetExceededError,
        StoreUnavailableError,
        UnpricedModelError,
        UntaggedError,
    )


def over_budget(
    denial: Denial, what: str, scope: Scope, advice: str = "", wait: float | None = None
) -> BudgetExceededError:
    """A budget cannot pay for ``what``; ``advice`` is for refusals of money and tokens, which depend on length.

    ``wait`` is in how many seconds it may.
    """
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
    reserve = kept > 0 and left + kept > 0
    return _exceeded(account, refusal, scope, f"{what}: {text}", left, reserve=reserve, wait=wait)


def out_of_time(account: Account, what: str, scope: Scope, elapsed: int | None = None) -> BudgetExceededError:
    """A budget's ``seconds`` are over, after ``elapsed`` milliseconds (default: all it had)."""
    text = f"its {float(account.budget.seconds or 0):g} seconds are over{whose(account.budget, scope)}."
    over = Refusal(0, 0, account.cap if elapsed is None else elapsed, 0, by_holds=False)
    return _exceeded(account, over, scope, f"{what}: {text}", 0, reserve=False)


def _exceeded(
    account: Account, refusal: Refusal, scope: Scope, text: str, left: int, *, reserve: bool, wait: float | None = None
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
        **({} if wait is None else {"retry_after": wait}),
    )


def halted(what: str, agent: str, reason: str) -> AgentHaltedError:
    """The kill switch is on."""
    from langchain_costguard.vocabulary.errors import AgentHaltedError

    who = "all agents are" if agent == "*" else f"agent {agent!r} is"
    return AgentHaltedError(
        f"Refused {what}: {who} halted: {reason.rstrip('.')}.", reason=reason, agent="" if agent == "*" else agent
    )


def untagged(what: str, missing: Sequence[str]) -> UntaggedError:
    """Nobody says who spends."""
    from langchain_costguard.vocabulary.errors import UntaggedError

    names = " and ".join(missing)
    example = ", ".join(f'{name}="..."' for name in missing)
    return UntaggedError(
        f"Refused {what}: it does not say its {names}. "
        f"Make it inside guard.scope({example}), or say so in its metadata.",
        missing=tuple(missing),
    )


def no_price(model: str, near: Sequence[str]) -> str:
    """What to do about a model that nobody knows the price of."""
    name = model.split(":", 1)[-1]
    meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return (
        f"the price of {model} is not known.{meant} Give it one with prices={{{name!r}: Price(...)}}, "
        f"or say what it stands for with aliases={{{name!r}: 'provider:model'}}"
    )


def unpriced(model: str, near: Sequence[str] = ()) -> UnpricedModelError:
    """Nobody knows the price."""
    from langchain_costguard.vocabulary.errors import UnpricedModelError

    return UnpricedModelError(
        f"Refused a call to {model}: {no_price(model, near)}, or set unpriced='estimate'.",
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
