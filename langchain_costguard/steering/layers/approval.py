"""Leave for all the tool calls of one message, in their order, before any of them runs.

A ``ToolNode`` runs them side by side as one task of the graph, which starts again with each answer of a person: a tool
that had run would run again, and which answer is whose would be a matter of chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from langchain_costguard.steering.flow import Flow, adrive, drive, no_calls
from langchain_costguard.steering.questions import Answer
from langchain_costguard.steering.surroundings import Here

if TYPE_CHECKING:
    from langchain_costguard.steering.steering import Steering

Given = dict[str, "Answer | None"]
"""By the id of a tool call, what a person said of it; None where it needs no leave."""
given: ContextVar[Given] = ContextVar("costguard_leave", default={})  # noqa: B039 - never changed
Deciding = Callable[[Here, Any], Flow["Answer | None"]]


def ask_first(node: Any, steering: Steering, decide: Deciding) -> Any:
    """Have a ``ToolNode`` of ours ask for leave before it runs anything; ``decide`` asks about one call."""
    # In a tuple: LangGraph looks for subgraphs in what a node's function refers to, and would find this node for ever.
    own = node, node.func, node.afunc

    def func(input: Any, **known: Any) -> Any:
        node, sync, _ = own
        with _giving(drive(_all(steering, decide, _calls(node, input)), no_calls)):
            return sync(input, **known)

    async def afunc(input: Any, **known: Any) -> Any:
        node, _, asynchronous = own
        with _giving(await adrive(_all(steering, decide, _calls(node, input)), no_calls)):
            return await asynchronous(input, **known)

    # LangGraph's cache knows it by these.
    func.__qualname__, func.__module__ = node.func.__qualname__, node.func.__module__
    node.func, node.afunc = func, afunc
    return node


def _all(steering: Steering, decide: Deciding, calls: Sequence[Any]) -> Flow[Given]:
    if len(calls) < 2 or any(not call["id"] for call in calls):
        return {}
    here, found = Here(steering.guard, "tools"), {}
    if here.in_graph:
        for call in calls:
            found[call["id"]] = yield from decide(here, call)
    return found


def _calls(node: Any, input: Any) -> Sequence[Any]:
    try:
        return node._parse_input(input)[0]  # type: ignore[no-any-return]
    except ValueError:  # the node says so itself
        return ()


@contextmanager
def _giving(found: Given) -> Iterator[None]:
    token = given.set(found)
    try:
        yield
    finally:
        given.reset(token)
