"""What all processes spent, out of the log that they share: for averages that are not one process' own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from langchain_costguard.observe.notify.rates import HOUR
from langchain_costguard.observe.spend import Spend
from langchain_costguard.vocabulary.scope import Scope

SPAN = 25 * HOUR
"""Seconds that are looked at: an hour, and the day before it."""
_WHO = ("user", "agent", "feature", "task", "session", "step")


def history_of(log: Any, dimensions: Iterable[str]) -> Callable[[float], Iterable[tuple[float, Scope, int]]]:
    """What was spent since a time, in its order: the day by quarters of an hour, and the last hour to the second."""
    names = [name for name in _WHO if name in set(dimensions)]

    def since(at: float) -> Iterable[tuple[float, Scope, int]]:
        spend, hour = Spend(log), at + SPAN - HOUR
        for when, who, spent in spend.between(at, hour).quarters(*names):
            yield min(when, hour), Scope(**dict(zip(names, who, strict=True))), spent
        for _, who, spent in spend.between(hour).quarters(*names):
            yield at + SPAN, Scope(**dict(zip(names, who, strict=True))), spent

    return since
