"""Guards and budgets that bound nobody, told when that is certain: a budget that binds nobody is no budget."""

from __future__ import annotations

import atexit
import sys
import warnings
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any
from weakref import WeakKeyDictionary, finalize

from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.observe.tallies import Tallies

_RAN = "langchain_core.tracers.stdout"
"""LangChain loads it when it configures the callbacks of its first run.
https://github.com/langchain-ai/langchain/blob/master/libs/core/langchain_core/callbacks/manager.py (_configure)"""
_ALIKE = 0.8
_NAMED_BY_PEOPLE = ("agent", "step", "feature")

_guards: WeakKeyDictionary[Any, Tallies] = WeakKeyDictionary()


def expect(guard: Any, budgets: Sequence[Budget], tallies: Tallies) -> None:
    """Look at a guard when it is gone, or the program ends."""
    if not budgets:
        return
    if not _guards:
        atexit.register(_tell_of_idle)
    _guards[guard] = tallies
    if any(budget.only for budget in budgets):
        finalize(guard, _tell_of_names, tuple(budgets), tallies)


def _tell_of_idle() -> None:
    for guard, tallies in list(_guards.items()) if _RAN in sys.modules else ():
        if not tallies.counted():  # a report would load some 50 ms of modules, at the end of each process
            warnings.warn(
                f"{guard!r} saw no call: LangChain was used without it. Pass config={{'callbacks': [guard]}} to the "
                "outermost call (not callbacks=[guard]), or use `with guard.watch():`",
                RuntimeWarning,
                stacklevel=2,
            )


def _tell_of_names(budgets: Sequence[Budget], tallies: Tallies) -> None:
    for text in misspelt(budgets, [scope for scope, _ in tallies.items()]):
        warnings.warn(text, RuntimeWarning, stacklevel=2)


def misspelt(budgets: Sequence[Budget], scopes: Sequence[Any]) -> Iterator[str]:
    """Names in ``only=`` of which no call was ever seen, though some were seen of one that is spelt nearly so."""
    for budget in budgets:
        for dimension in _NAMED_BY_PEOPLE:
            names = set(budget.only.get(dimension, ()))
            seen = {getattr(scope, dimension) for scope in scopes} - {""}
            for name in [] if seen & names else sorted(names):
                close = [other for other in get_close_matches(name, seen, n=3, cutoff=_ALIKE) if _slip(name, other)]
                if close:
                    yield (
                        f"{budget!r}: no call of {dimension} {name!r} was seen, but some of {close[0]!r}: "
                        "did you mean that?"
                    )


def _slip(one: str, other: str) -> bool:
    """Whether two names differ as by a slip: ``agent-1`` and ``agent-2``, or ``search`` and ``searcher``, do not."""
    digits = ["".join(filter(str.isdigit, name)) for name in (one, other)]
    return digits[0] == digits[1] and not one.startswith(other) and not other.startswith(one)
