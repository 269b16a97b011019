"""Which run of a graph a call belongs to, for a guard that did not see the run begin; and what was shown of a reply.

A guard inside a node (of a model it wraps, of an agent it steers) sees no more of the graph than that node: its parent
is the node's run, another for each. What all nodes of a run share, those of its subgraphs too, is the run's control.
https://github.com/langchain-ai/langgraph/blob/main/libs/langgraph/langgraph/runtime.py (Runtime.control)
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

shown: ContextVar[list[None] | None] = ContextVar("costguard_shown", default=None)
"""Something is in it once a piece of a reply has come, where somebody wants to know."""


def show() -> None:
    """A piece of a reply has come."""
    seen = shown.get()
    if seen == []:
        seen.append(None)


_KEPT = 4_096
_runs: dict[int, tuple[Any, str]] = {}
"""By a control's id, the control (kept, so that no other has its id) and the name of its run."""
_lock = threading.Lock()


def run_of(config: Mapping[str, Any] | None) -> str | None:
    """A name for the graph's run that ``config`` is of a node in; None outside a graph."""
    runtime = ((config or {}).get("configurable") or {}).get("__pregel_runtime")
    control = getattr(runtime, "control", None)
    if control is None:
        return None
    found = _runs.get(id(control))
    if found is None:
        with _lock:
            found = _runs.setdefault(id(control), (control, str(uuid4())))
            if len(_runs) > _KEPT:
                del _runs[next(iter(_runs))]
    return found[1]
