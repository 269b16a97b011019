"""The budget of which most is used, by what one process has seen: no store is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from langchain_costguard.vocabulary.money import show
from langchain_costguard.vocabulary.scope import Scope


def tightest(budgets: Sequence[Any], rows: Iterable[tuple[Sequence[str], Any]]) -> str:
    """``session $0.12 of $0.50``; nothing where nothing was spent."""
    seen = [(Scope(*scope), tally) for scope, tally in rows]
    used = [found for budget in budgets for found in _used(budget, seen)]
    if not used:
        return ""
    _, label, measure, spent, cap = max(used)
    if measure == "usd":
        return f"{label} {show(spent)} of {show(cap)}"
    return f"{label} {spent:,} of {cap:,} {measure.replace('_', ' ')}"


def _used(budget: Any, rows: Sequence[tuple[Scope, Any]]) -> Iterable[tuple[float, str, str, int, int]]:
    dimensions = [name for name in budget.dimensions() if name in Scope._fields]
    sums: dict[tuple[str, ...], dict[str, int]] = {}
    for scope, tally in rows:
        if all(getattr(scope, name) in values for name, values in budget.only.items()):
            of_one = sums.setdefault(tuple(getattr(scope, name) for name in dimensions), {})
            for measure, amount in _amounts(tally).items():
                of_one[measure] = of_one.get(measure, 0) + amount
    for measure, cap in budget.caps().items():
        spent = max((one.get(measure, 0) for one in sums.values()), default=0)
        if spent and "call" not in budget.dimensions():
            yield spent / cap, budget.label, measure, spent, cap


def _amounts(tally: Any) -> dict[str, int]:
    return {
        "usd": tally.spent,
        "tokens": tally.input_tokens + tally.output_tokens,
        "input_tokens": tally.input_tokens,
        "output_tokens": tally.output_tokens,
        "model_calls": tally.calls,
        "tool_calls": tally.tool_calls,
    }
