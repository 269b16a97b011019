"""The seam at a tool call: what an agent's middleware and a ``ToolNode`` are wrapped with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from langchain_costguard.metering.seams.watching import attached
from langchain_costguard.steering.flow import Call, Flow, adrive, drive, no_calls
from langchain_costguard.steering.layers.approval import Approval, Given, asked_leave, given
from langchain_costguard.steering.surroundings import Here

if TYPE_CHECKING:
    from langchain_costguard.guard import CostGuard
    from langchain_costguard.steering.steering import Steering


def steer_tool(steering: Steering, request: Any, handler: Callable[[Any], Any]) -> Any:
    """One tool call, steered; for ``wrap_tool_call`` of an agent's middleware and of a ``ToolNode``."""

    def call(wanted: Call) -> Any:
        with attached(steering.guard), _framed(steering, wanted.request):
            return handler(wanted.request)

    return drive(steering.tool_flow(request), call)


async def asteer_tool(steering: Steering, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
    """One tool call, steered; for ``awrap_tool_call``."""

    async def call(wanted: Call) -> Any:
        with attached(steering.guard), _framed(steering, wanted.request):
            return await handler(wanted.request)

    return await adrive(steering.tool_flow(request), call)


def _framed(steering: Steering, request: Any) -> AbstractContextManager[None]:
    """The frame in which a tool runs, for those who trace it."""
    if not steering.guard.voice.witnesses:
        return nullcontext()
    manager = (getattr(request.runtime, "config", None) or {}).get("callbacks")
    return steering.guard.voice.within("tool", getattr(manager, "parent_run_id", None), request.tool_call["name"])


def ask_leave_first(node: Any, steering: Steering) -> Any:
    """The ``ToolNode``, asking for leave for all its calls before it makes any of them.

    It runs them side by side as one task of the graph, which starts again with each answer of a person: a tool that had
    run would run again, and which answer is whose would be a matter of chance.
    """
    if steering.approve_tools is None:
        return node
    guard, approval = steering.guard, steering.approve_tools
    # In a tuple: LangGraph looks for subgraphs in what a node's function refers to, and would find this node for ever.
    own = node, node.func, node.afunc

    def func(input: Any, **known: Any) -> Any:
        node, sync, _ = own
        with _giving(drive(_leave_for_all(guard, approval, _calls(node, input)), no_calls)):
            return sync(input, **known)

    async def afunc(input: Any, **known: Any) -> Any:
        node, _, asynchronous = own
        with _giving(await adrive(_leave_for_all(guard, approval, _calls(node, input)), no_calls)):
            return await asynchronous(input, **known)

    # LangGraph's cache knows it by these.
    func.__qualname__, func.__module__ = node.func.__qualname__, node.func.__module__
    node.func, node.afunc = func, afunc
    return node


def _leave_for_all(guard: CostGuard, approval: Approval, calls: Sequence[Any]) -> Flow[Given]:
    if len(calls) < 2 or any(not call["id"] for call in calls):
        return {}
    here, found = Here(guard, "tools"), {}
    if here.in_graph:
        for call in calls:
            found[call["id"]] = yield from asked_leave(approval, here, call)
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
