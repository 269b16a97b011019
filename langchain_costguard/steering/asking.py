"""Asking a person in the middle of a node, and whose answer is whose.

A node that paused begins anew, and LangGraph gives its answers back by their order alone: the first question of the new
execution is given the first answer, whatever it asks. But a budget that was granted more is not asked about again, and
the next question (may this mail be sent?) would be answered by the yes to the one before. So what was asked is kept
among the answers, each as a pair (what, answer) in the task's own list, which the checkpoint keeps. In a node of
several tool calls the results of those that ran are kept there too, for they must not run again; and so are the
questions that a tool asks by itself, or a graph in it: each tool is given its own answers, and no other's.
https://github.com/langchain-ai/langgraph/blob/main/libs/langgraph/langgraph/types.py (interrupt)
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from langgraph.errors import GraphInterrupt
from langgraph.types import interrupt

_WHAT = "costguard.what"
_OTHER = "another question"
_PAD, _SEND, _RESUME = "__pregel_scratchpad", "__pregel_send", "__resume__"
_GRAPHS = 1_000
"""Graphs that one tool call may run, and that keep checkpoints."""
_lock = threading.RLock()


class Paused(GraphInterrupt):
    """A tool of several in one node has to ask: the node does, when the others have finished.

    ``own`` is what a tool asks by itself, ``below`` the question of a graph in it, which has been put already.
    """

    def __init__(
        self, what: str, question: Any = None, *, own: Any = None, below: GraphInterrupt | None = None
    ) -> None:
        super().__init__()
        self.what = what
        self.question = question if own is None else own.value
        self.below = below
        schema = getattr(own, "response_schema", None)
        self.facts = {} if schema is None else {"response_schema": schema}


class Side:
    """The tool calls that the node of this path makes side by side."""

    def __init__(self, calls: Sequence[str], path: str) -> None:
        self.path = path
        self.graphs = {call: itertools.count(place * _GRAPHS).__next__ for place, call in enumerate(calls)}
        """By call, what numbers the graphs that it runs: else one gets another's checkpoints when some run again."""
        self.results: dict[str, Any] = {}
        """By call, of those that ran in this execution of the node."""
        self._running = len(calls)
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


def beside(configurable: Mapping[str, Any]) -> Side | None:
    """The calls that the node makes in which this runs: not those of a node around its graph."""
    found = side.get()
    return found if found is not None and found.path == configurable.get("checkpoint_ns") else None


class _Own(list[Any]):
    """The answers to a tool's own questions; ``log`` has all of its node's."""

    log: list[Any]


@contextmanager
def by_itself(config: dict[str, Any], call: str, others: Side | None) -> Iterator[None]:
    """A tool runs in this ``config``, which is its own: what it asks, and what a graph in it asks, is answered to it
    alone, whoever else asks in its node."""
    around, what, below = config.get("configurable") or {}, f"asks|{call}", f"below|{call}"
    pad: Any = around.get(_PAD)
    log = getattr(pad, "resume", None)
    if not isinstance(log, list):
        yield
        return
    answers, counter, send = _Own(_all_kept(log, what)), type(pad.interrupt_counter)(), around[_SEND]
    answers.log, last = log, log[-1:] if log[-2:-1] == [{_WHAT: below}] else []

    def answer(consume: bool = False) -> Any:
        if others is None and not last:
            return pad.get_null_resume(consume)
        return (last.pop() if consume else last[0]) if last else None

    def sent(writes: Any) -> None:
        send([write for write in writes if write[0] != _RESUME])

    changes = {"interrupt_counter": counter, "resume": answers, "get_null_resume": answer}
    own = replace(pad, subgraph_counter=others.graphs[call] if others else pad.subgraph_counter, **changes)
    config["configurable"] = {**around, _PAD: own, _SEND: sent}
    try:
        yield
    except Paused:
        raise
    except GraphInterrupt as pause:
        itself = _position(counter) > len(answers)
        raised = Paused(what, own=pause.args[0][0]) if itself else Paused(below, below=pause)
        if others is not None:
            raise raised from None
        put(around, raised)
    finally:
        config["configurable"] = around


def begin(configurable: Mapping[str, Any]) -> None:
    """Leave out, of the answers that are given back by their order, those to questions of ours."""
    pad: Any = configurable.get(_PAD)
    log = getattr(pad, "resume", None)
    if not log or isinstance(log, _Own):
        return
    with _lock:
        _settle(pad, log)
        configurable[_SEND]([(_RESUME, log)])
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
    log = getattr(configurable.get(_PAD), "resume", None) or ()
    found = _all_kept(log.log if isinstance(log, _Own) else log, what)
    return found[nth] if nth < len(found) else None


def _all_kept(log: Sequence[Any], what: str) -> list[Any]:
    return [log[i + 1] for i in range(len(log) - 1) if _is_mark(log[i]) and log[i][_WHAT] == what]


def put(configurable: Mapping[str, Any], pause: Paused, results: Mapping[str, Any] | None = None) -> Any:
    """Pause the graph with a question, and keep what ran beside it. Returns an answer only in a host that keeps its
    answers otherwise."""
    pad = configurable[_PAD]
    log = getattr(pad, "resume", None)
    if not isinstance(log, list):
        return interrupt(pause.question)
    with _lock:
        _settle(pad, log)
        other = pad.get_null_resume(True)
        if other is not None:  # the answer to a question of the node's own, which has not come to it yet: it asks again
            log += [{_WHAT: _OTHER}, other]
        for name, result in (results or {}).items():
            log += [{_WHAT: name}, result]
        log.append({_WHAT: pause.what})
        configurable[_SEND]([(_RESUME, log)])
        while _position(pad.interrupt_counter) < len(log):
            pad.interrupt_counter()
    if pause.below is not None:
        raise pause.below
    return interrupt(pause.question, **pause.facts)


def _settle(pad: Any, log: list[Any]) -> None:
    """Put the answer that has just come to the question that it answers; none has come where another graph's was."""
    if log and _is_mark(log[-1]):
        answer = pad.get_null_resume(True)
        log[-1:] = [] if answer is None else [log[-1], answer]


def _is_mark(entry: Any) -> bool:
    return isinstance(entry, dict) and set(entry) == {_WHAT}


def _position(counter: Any) -> int:
    """How many answers this execution of the node was given already."""
    bound = getattr(counter, "_counter", None)
    return 0 if bound is None else int(repr(bound.__self__).removeprefix("count(").removesuffix(")"))
