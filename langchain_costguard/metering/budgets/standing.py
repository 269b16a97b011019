"""How budgets stand: of each the account of which this process used most, as the store has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.metering.budgets.headroom import Headroom
from langchain_costguard.observe.bars import Bar
from langchain_costguard.observe.tightest import busiest
from langchain_costguard.vocabulary.scope import Scope


def standing(
    budgets: Sequence[Budget], rows: Iterable[tuple[Sequence[str], Any]], headroom: Callable[[Scope], Headroom]
) -> list[Bar]:
    """A bar for each measure of each budget that outlives a call or a step; those of one scope tell whose it is."""
    rows = list(rows)
    bars = []
    for budget in budgets:
        scope = busiest(budget, rows)
        names = [name for name in budget.dimensions() if name not in budget.only]  # the label says those
        whose = ", ".join(filter(None, (getattr(scope, name, "") for name in names)))
        of_it = Headroom(tuple(row for row in headroom(scope).rows if row.budget == budget.label))
        bars += [bar._replace(label=f"{bar.label} ({whose})" if whose else bar.label) for bar in of_it.bars()]
    return bars
