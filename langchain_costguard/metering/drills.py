"""A trial of a program: what guards that are constructed in it are given besides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from langchain_costguard.metering.budgets.budget import Budget

if TYPE_CHECKING:
    from langchain_costguard.events import Sink

budgets: tuple[Budget, ...] = ()
sinks: tuple[Sink, ...] = ()


@contextmanager
def drill(extra: Sequence[Budget], listening: Sequence[Sink]) -> Iterator[None]:
    """Give every guard constructed in the block these budgets and sinks, and with budgets a store of its own.

    ``costguard doctor`` uses it: nothing of a trial is booked in the user's store.
    """
    global budgets, sinks
    before = budgets, sinks
    budgets, sinks = tuple(extra), tuple(listening)
    try:
        yield
    finally:
        budgets, sinks = before
