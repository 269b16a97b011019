"""What can be asked of calls that were paid, wherever they are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from langchain_costguard.observe.attribution.calls import Paid
from langchain_costguard.observe.attribution.forecast import Forecast, forecast
from langchain_costguard.observe.attribution.handoffs import Handoffs
from langchain_costguard.observe.attribution.tree import LEVELS, Tree
from langchain_costguard.observe.attribution.why import NOBODY_LOOKED, Why
from langchain_costguard.observe.witness import AccountLine
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef, Usage


class Kept(Protocol):
    """Calls, their prices, and how budgets stand."""

    def paid(self) -> Sequence[Paid]:
        """The calls, in the order in which they were paid."""

    def price(self, model: ModelRef, usage: Usage, at: float) -> int | None:
        """What a usage costs (nano-USD) of a model at a time; None where nobody knows."""

    def standing(self, now: float) -> tuple[Sequence[AccountLine], Mapping[str, float]]:
        """The accounts, and when the window of each budget ends."""

    def now(self) -> float:
        """Epoch seconds."""


def calls_of(kept: Kept, where: Mapping[str, str]) -> Sequence[Paid]:
    """The calls of a user, session, agent and so on.

    Raises:
        ValueError: there is no such dimension.
    """
    for name in where:
        if name not in Scope._fields:
            raise ValueError(f"where: {name!r} is not one of {', '.join(Scope._fields)}")
    return [call for call in kept.paid() if all(getattr(call.scope, name) == value for name, value in where.items())]


def tree_of(kept: Kept, levels: Sequence[str], where: Mapping[str, str]) -> Tree:
    """Feature → session → agent → step → call, or other levels."""
    leaves = ((call.scope, call.name, 1, call.usage, call.charge) for call in calls_of(kept, where))
    return Tree(leaves, levels or LEVELS)


def handoffs_of(kept: Kept, where: Mapping[str, str]) -> Handoffs:
    """What agents handed to one another, and the share of context that was sent again.

    Raises:
        ValueError: nobody looked at what the calls were given.
    """
    calls = calls_of(kept, where)
    models = [call for call in calls if call.kind != "tool"]
    if models and all(call.given is None for call in models):
        raise ValueError(f"handoffs: {NOBODY_LOOKED[:1].lower()}{NOBODY_LOOKED[1:]}")
    return Handoffs(calls, kept.price)


def why_of(kept: Kept, where: Mapping[str, str]) -> Why:
    """The parts of a bill."""
    whose = ", ".join(f"{name} {value}" for name, value in where.items())
    return Why(calls_of(kept, where), kept.price, whose[:1].upper() + whose[1:] if whose else "All of this")


def forecast_of(kept: Kept) -> Forecast:
    """When a budget ends at this rate, and what the month will have cost."""
    now = kept.now()
    accounts, windows = kept.standing(now)
    return forecast(kept.paid(), accounts, dict(windows), now)
