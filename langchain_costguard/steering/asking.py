"""Asking a person in the middle of a node, and whose answer is whose.

A node that paused begins anew, and LangGraph gives its answers back by their order alone: the first question of the new
execution is given the first answer, whatever it asks. But a budget that was granted more is not asked about again, and
the next question (may this mail be sent?) would be answered by the yes to the one before. So what was asked is kept
among the answers, each as a pair (what, answer) in the task's own list, which the checkpoint keeps. In a node of
several tool calls the results of those that ran are kept there too, for they must not run again.
https://github.com/langchain-ai/langgraph/blob/main/libs/langgraph/langgraph/types.py (interrupt)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from langgraph.errors import GraphInterrupt
from langgraph.types import interrupt

_WHAT = "costguard.what"
_OTHER = "another question"
_lock = threading.RLock()


class Paused(GraphInterrupt):
    """A tool of several in one node has to ask: the node does, when the others have finished."""

    def __init__(self, what: str, question: Any) -> None:
        super().__init__()
        self.what = what
        self.question = question


class Side:
    """The tool calls that one node makes side by side."""

    def __init__(self, calls: int) -> None:
        self.results: dict[str, Any] = {}
        """By call, of those that ran in this execution of the node."""
        self._running = calls
        self._over = asyncio.Event()

    def ended(self) -> None:
        """One of the calls is over, or has to ask."""
        self._running -= 1
        if self._running <= 0:
            self._over.set()

    async def others(self) -> None:
        """Wait for the other calls: the node would end with the first that asks, and they go on unseen."""
        await self._over.wait()


side: ContextVar[Side | None] = ContextVar("costguard_side", default=None)


def begin(configurable: Mapping[str, Any]) -> None:
    """Leave out, of the answers that are given back by their order, those to questions of ours."""
    pad: Any = configurable.get("__pregel_scratchpad")
    log = getattr(pad, "resume", None)
    if not log:
        return
    with _lock:
        _settle(pad, log)
        configurable["__pregel_send"]([("__resume__", log)])
        position = _position(pad.interrupt_counter)
        while position < len(log) and _is_mark(log[position]):
            pad.interrupt_counter()
            pad.interrupt_counter()
            position += 2


def named(question: Mapping[str, Any]) -> str:
    """What a question is about, whatever the figures in it are by now."""
    facts = ("type", "tool_call_id", "tool", "args", "budget", "measure")
    whose = {name: value for name, value in question.get("scope", {}).items() if name != "trace"}  # a resume's is new
    return "|".join([*(str(question[fact]) for fact in facts if fact in question), str(whose)])


def kept(configurable: Mapping[str, Any], what: str, nth: int = 0) -> Any:
    """What was kept for ``what`` the ``nth`` time, before this execution; None where nothing was."""
    log = getattr(configurable.get("__pregel_scratchpad"), "resume", None) or ()
    found = [log[i + 1] for i in range(len(log) - 1) if _is_mark(log[i]) and log[i][_WHAT] == what]
    return found[nth] if nth < len(found) else None


def put(configurable: Mapping[str, Any], what: str, question: Any, results: Mapping[str, Any] | None = None) -> Any:
    """Pause the graph with a question, and keep what ran beside it. Returns an answer only in a host that keeps its
    answers otherwise."""
    pad = configurable["__pregel_scratchpad"]
    log = getattr(pad, "resume", None)
    if not isinstance(log, list):
        return interrupt(question)
    with _lock:
        _settle(pad, log)
        other = pad.get_null_resume(True)
        if other is not None:  # the answer to a question of the node's own, which has not come to it yet: it asks again
            log += [{_WHAT: _OTHER}, other]
        if results:
            log[:] = _all_named(log)
        for name, result in (results or {}).items():
            log += [{_WHAT: name}, result]
        log.append({_WHAT: what})
        configurable["__pregel_send"]([("__resume__", log)])
        while _position(pad.interrupt_counter) < len(log):
            pad.interrupt_counter()
    return interrupt(question)


def _settle(pad: Any, log: list[Any]) -> None:
    """Put the answer that has just come to the question that it answers."""
    if log and _is_mark(log[-1]):
        log.append(pad.get_null_resume(True))


def _all_named(log: list[Any]) -> list[Any]:
    """The answers with a name each. Those to questions of a tool that has run are no other tool's: it would rather ask
    again."""
    named, i = list[Any](), 0
    while i < len(log):
        named += log[i : i + 2] if _is_mark(log[i]) else [{_WHAT: _OTHER}, log[i]]
        i += 2 if _is_mark(log[i]) else 1
    return named


def _is_mark(entry: Any) -> bool:
    return isinstance(entry, dict) and set(entry) == {_WHAT}


def _position(counter: Any) -> int:
    """How many answers this execution of the node was given already."""
    bound = getattr(counter, "_counter", None)
    return 0 if bound is None else int(repr(bound.__self__).removeprefix("count(").removesuffix(")"))
