"""A drill: the guards made in a block get budgets and sinks on top, and what is tried is booked nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from langchain_costguard.metering.budgets.budget import Budget


@dataclass(frozen=True, slots=True)
class Drill:
    """What a guard gets on top. With budgets it keeps its balances in a store of its own, not in the user's."""

    budgets: tuple[Budget, ...] = ()
    sinks: tuple[Any, ...] = ()


_current = Drill()


def current() -> Drill:
    """The drill that is on; an empty one where there is none."""
    return _current


@contextmanager
def drill(budgets: Sequence[Budget], sinks: Sequence[Any]) -> Iterator[None]:
    """Give every guard constructed in the block these budgets and sinks, and with budgets a store of its own.

    ``costguard doctor`` uses it: nothing of a trial is booked in the user's store.
    """
    global _current
    before, _current = _current, Drill(tuple(budgets), tuple(sinks))
    try:
        yield
    finally:
        _current = before
