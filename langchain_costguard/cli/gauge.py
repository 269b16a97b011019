"""What the live line says: how much of each limit is used, and how many calls were made."""

from __future__ import annotations

import threading

from langchain_costguard.cli.words import amount, count, unit
from langchain_costguard.events.metered import CacheHit, CallSettled, Event, Refused, ToolSettled
from langchain_costguard.guard import CostGuard
from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.metering.stores.base import Balance
from langchain_costguard.vocabulary.money import show
from langchain_costguard.vocabulary.scope import Scope


class Gauge:
    """Counts what the guard tells, and reads the accounts of the budget that all calls share."""

    def __init__(self, guard: CostGuard, budget: Budget | None) -> None:
        self.guard = guard
        self.budget = budget
        self.calls = self.tools = self.refused = self.spent = 0
        self.reasons: list[Refused] = []
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
                if len(self.reasons) < 100:
                    self.reasons.append(event)

    def parts(self) -> list[str]:
        """The facts, most important first."""
        balances = self.balances()
        said = []
        if "usd" in balances:
            said += _money(balances["usd"])
        else:
            said.append(f"{show(self.spent)} spent")
        for measure, noun, number in (("model_calls", "call", self.calls), ("tool_calls", "tool call", self.tools)):
            said.append(_of(measure, balances[measure]) if measure in balances else count(number, noun))
        said += [_of(m, balance) for m, balance in balances.items() if m not in ("usd", "model_calls", "tool_calls")]
        if self.refused:
            said.append(f"{self.refused:,} refused")
        return said

    def used(self) -> float | None:
        """The largest share of a limit that is used; None where there is no limit, or no answer."""
        shares = [b.spent / b.cap for b in self.balances().values() if b.cap]
        return max(shares, default=None)

    def balances(self) -> dict[str, Balance]:
        """The accounts by measure; of ``seconds``, the milliseconds since the first call."""
        if self.budget is None:
            return {}
        rows = self.guard.headroom(Scope()).rows
        return {row.measure: Balance(max(0, row.spent), row.held, row.ceiling + row.granted) for row in rows}


def _money(balance: Balance) -> list[str]:
    left = show(max(0, balance.left))
    return [f"{show(balance.spent)} spent", f"{show(balance.held)} held", f"{left} left of {show(balance.cap)}"]


def _of(measure: str, balance: Balance) -> str:
    return f"{amount(measure, balance.spent)} of {amount(measure, balance.cap)} {unit(measure)}".rstrip()
