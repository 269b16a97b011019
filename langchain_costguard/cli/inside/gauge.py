"""What the status line says: how much of each limit is used, the tightest first, and how many calls were made."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from langchain_costguard.cli.words import amount, count, unit
from langchain_costguard.events.metered import CacheHit, CallSettled, Event, Refused, ToolSettled
from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.metering.budgets.headroom import Room
from langchain_costguard.vocabulary.money import show
from langchain_costguard.vocabulary.scope import Scope

if TYPE_CHECKING:
    from langchain_costguard.guard import CostGuard


class Gauge:
    """Counts what the guard tells, and reads the accounts of the budget that all calls share."""

    def __init__(self, guard: CostGuard, budget: Budget | None) -> None:
        self.guard = guard
        self.budget = budget
        self.calls = self.tools = self.refused = self.spent = 0
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Count an event; the guard's sink."""
        with self._lock:
            if isinstance(event, CallSettled):
                self.calls += 1
                self.spent += event.charge
            elif isinstance(event, ToolSettled):
                self.tools += 1
                self.spent += event.charge
            elif isinstance(event, CacheHit):
                self.calls += 1
            elif isinstance(event, Refused):
                self.refused += 1

    def parts(self) -> list[str]:
        """The facts, most important first."""
        rows = sorted(self.rows(), key=lambda row: -row.share)
        said = [_limit(row) for row in rows]
        capped = {row.measure for row in rows}
        if "usd" not in capped:
            said.append(f"{show(self.spent)} spent")
        for measure, noun, number in (("model_calls", "call", self.calls), ("tool_calls", "tool call", self.tools)):
            if measure not in capped:
                said.append(count(number, noun))
        return [*said, f"{self.refused:,} refused"] if self.refused else said

    def used(self) -> float | None:
        """The largest share of a limit that is used; None where there is no limit, or no answer."""
        return max((row.share for row in self.rows()), default=None)

    def rows(self) -> Sequence[Room]:
        """The budget's accounts; nothing where the store does not answer."""
        return () if self.budget is None else self.guard.headroom(Scope()).rows


def _limit(row: Room) -> str:
    cap = row.ceiling + row.granted
    if row.measure != "usd":
        return f"{amount(row.measure, max(0, row.spent))} of {amount(row.measure, cap)} {unit(row.measure)}".rstrip()
    return f"{show(max(0, row.spent))} of {show(cap)}" + (f" ({show(row.held)} held)" if row.held else "")
