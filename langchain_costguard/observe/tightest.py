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


def busiest(budget: Any, rows: Iterable[tuple[Sequence[str], Any]]) -> Scope:
    """The scope that used most of what the budget caps, or was seen last; where none was, one that it would count."""
    caps, unseen = budget.caps(), Scope(**{name: min(values) for name, values in budget.only.items()})

    def used(found: tuple[Scope, dict[str, int]]) -> float:
        return max((found[1].get(measure, 0) / cap for measure, cap in caps.items()), default=0.0)

    sums = _sums(budget, [(Scope(*scope), tally) for scope, tally in rows])
    return max(reversed(sums.items()), key=used, default=(unseen, {}))[0]


def _sums(budget: Any, rows: Sequence[tuple[Scope, Any]]) -> dict[Scope, dict[str, int]]:
    """What each account of the budget counted, by its scope."""
    others = [name for name in Scope._fields if name not in budget.dimensions() and name not in budget.only]
    sums: dict[Scope, dict[str, int]] = {}
    for scope, tally in rows:
        if all(getattr(scope, name) in values for name, values in budget.only.items()):
            of_one = sums.setdefault(scope._replace(**dict.fromkeys(others, "")), {})
            for measure, amount in _amounts(tally).items():
                of_one[measure] = of_one.get(measure, 0) + amount
    return sums


def _used(budget: Any, rows: Sequence[tuple[Scope, Any]]) -> Iterable[tuple[float, str, str, int, int]]:
    sums = _sums(budget, rows)
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
