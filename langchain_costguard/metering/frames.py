"""Which model runs are under way on this very stack: what a context variable says outlives a call that never ended."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

_ASKING = frozenset({"_generate_with_cache", "_agenerate_with_cache"})
_RUNNING = _ASKING | {"_generate", "_agenerate", "_stream", "_astream", "_call", "_acall"}
"""LangChain's methods that make a model's call: each has the run's manager as an argument.
https://github.com/langchain-ai/langchain/blob/master/libs/core/langchain_core/language_models/chat_models.py"""


def asking_run() -> Any:
    """The manager of the run for which LangChain asks its cache here; None where it has none yet, or nothing asks."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in _ASKING:
            return frame.f_locals.get("run_manager")
        frame = frame.f_back
    return None


def is_running(run_id: Any) -> bool:
    """Whether this code is part of that model run: the run's own call is on the stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in _RUNNING:
            manager = frame.f_locals.get("run_manager")
            if manager is not None and getattr(manager, "run_id", None) == run_id:
                return True
        frame = frame.f_back
    return False
