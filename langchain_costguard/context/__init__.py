"""Context budgets: what goes into the window of a model, and when it pays to take something out.

``Context`` is what a user chooses: ``steer(guard, context=Context())``. The rest is pure: a thread in pieces with their
ranks, long results cut at birth, the arithmetic of when to compact, summaries, and the record of what was done.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_costguard.context.context import Context as Context
    from langchain_costguard.context.stash import MemoryStash as MemoryStash
    from langchain_costguard.context.stash import Stash as Stash

_HOMES = {"Context": "context", "MemoryStash": "stash", "Stash": "stash"}

__all__ = ["Context", "MemoryStash", "Stash"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
