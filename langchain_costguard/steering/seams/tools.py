"""The seam at a tool call: what an agent's middleware and a ``ToolNode`` are wrapped with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from langchain_core.messages import ToolMessage
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.types import Command

from langchain_costguard.metering.seams.watching import attached
from langchain_costguard.steering.asking import Paused, Side, beside, by_itself, kept, put, side
from langchain_costguard.steering.flow import Call, Flow, adrive, drive, no_calls
from langchain_costguard.steering.layers.approval import Given, asked_leave, given
from langchain_costguard.steering.sayings import MARK
from langchain_costguard.steering.seams.whole_run import guard_here
from langchain_costguard.steering.surroundings import Here

if TYPE_CHECKING:
    from langchain_costguard.steering.steering import Steering


Back = Callable[[ToolMessage], Any]
"""What is returned for an answer of ours, where the tool's own would have ended the run; see ``Command``."""


def back_to(goto: str | None, key: str, message: ToolMessage) -> Any:
    """The answer, and the model's node after it: the host's edge asks which tool was called, not whether it ran."""
    return message if goto is None else Command(update={key: [message]}, goto=goto)


def _led(result: Any, request: Any, back: Back | None) -> Any:
    """The result; an answer of ours in the place of a ``return_direct`` tool is for the model, not for the user."""
    if back is None or not getattr(request.tool, "return_direct", False) or not isinstance(result, ToolMessage):
        return result
    return back(result) if result.status == "error" and MARK in result.additional_kwargs else result


def steer_tool(steering: Steering, request: Any, handler: Callable[[Any], Any], back: Back | None = None) -> Any:
    """One tool call, steered; for ``wrap_tool_call`` of an agent's middleware and of a ``ToolNode``."""
    others, ran = beside(_configurable()), _ran(request)

    def call(wanted: Call) -> Any:
        with attached(steering.guard), _framed(steering, wanted.request), _apart(others, request):
            return handler(wanted.request)

    if others is None:
        return _led(drive(steering.tool_flow(request), call), request, back)
    try:
        result = kept(_configurable(), ran)
        others.results[ran] = drive(steering.tool_flow(request), call) if result is None else result
    finally:
        others.ended()
    return _led(others.results[ran], request, back)


async def asteer_tool(
    steering: Steering, request: Any, handler: Callable[[Any], Awaitable[Any]], back: Back | None = None
) -> Any:
    """One tool call, steered; for ``awrap_tool_call``."""
    others, ran = beside(_configurable()), _ran(request)

    async def call(wanted: Call) -> Any:
        with attached(steering.guard), _framed(steering, wanted.request), _apart(others, request):
            return await handler(wanted.request)

    if others is None:
        return _led(await adrive(steering.tool_flow(request), call, steering.guard.aside), request, back)
    try:
        result = kept(_configurable(), ran)
        others.results[ran] = (
            await adrive(steering.tool_flow(request), call, steering.guard.aside) if result is None else result
        )
    except Paused:
        others.ended()
        await others.others()
        raise
    except BaseException:
        others.ended()
        raise
    others.ended()
    return _led(others.results[ran], request, back)


def _apart(others: Side | None, request: Any) -> AbstractContextManager[None]:
    """What a tool runs in: its questions are its own."""
    config = getattr(request.runtime, "config", None)
    return nullcontext() if config is None else by_itself(config, request.tool_call["id"], others)


def _ran(request: Any) -> str:
    return f"ran|{request.tool_call['id']}"


def _configurable() -> Mapping[str, Any]:
    return (var_child_runnable_config.get() or {}).get("configurable") or {}


def _framed(steering: Steering, request: Any) -> AbstractContextManager[None]:
    """The frame in which a tool runs, for those who trace it."""
    if not steering.guard.voice.witnesses:
        return nullcontext()
    guard_here()  # the node is told of before the tool
    manager = (getattr(request.runtime, "config", None) or {}).get("callbacks")
    return steering.guard.voice.within("tool", getattr(manager, "parent_run_id", None), request.tool_call["name"])


def side_by_side(node: Any, steering: Steering) -> Any:
    """The ``ToolNode``, where a person may have to be asked about its calls, by us or by what they run.

    It runs them side by side as one task of the graph, which starts again with each answer of a person. So leave is
    asked for all the calls before any of them is made, what has run when another call has to ask is kept, and an answer
    is given to the call that asked.
    """
    # In a tuple: LangGraph looks for subgraphs in what a node's function refers to, and would find this node for ever.
    own = node, node.func, node.afunc

    def func(input: Any, **known: Any) -> Any:
        node, sync, _ = own
        calls = _several(node, input)
        if not calls:
            return sync(input, **known)
        others = _side(calls)
        with _together(others, drive(_leave_for_all(steering, calls), no_calls)):
            return sync(input, **known)

    async def afunc(input: Any, **known: Any) -> Any:
        node, _, asynchronous = own
        calls = _several(node, input)
        if not calls:
            return await asynchronous(input, **known)
        others = _side(calls)
        leave = await adrive(_leave_for_all(steering, calls), no_calls, steering.guard.aside)
        with _together(others, leave):
            return await asynchronous(input, **known)

    # LangGraph's cache knows it by these.
    func.__qualname__, func.__module__ = node.func.__qualname__, node.func.__module__
    node.func, node.afunc = func, afunc
    return node


def _side(calls: Sequence[Any]) -> Side:
    return Side([call["id"] for call in calls], _configurable().get("checkpoint_ns") or "")


def _leave_for_all(steering: Steering, calls: Sequence[Any]) -> Flow[Given]:
    here, found, approval = Here(steering.guard, "tools"), {}, steering.approve_tools
    for call in calls if approval is not None else ():
        found[call["id"]] = yield from asked_leave(approval or (), here, call)
    return found


def _several(node: Any, input: Any) -> Sequence[Any]:
    """The calls, where a graph runs them and there is more than one."""
    if "__pregel_scratchpad" not in _configurable():
        return ()
    try:
        calls: Sequence[Any] = node._parse_input(input)[0]
    except ValueError:  # the node says so itself
        return ()
    return () if len(calls) < 2 or any(not call["id"] for call in calls) else calls


@contextmanager
def _together(others: Side, leave: Given) -> Iterator[None]:
    """What surrounds the calls; the question of one of them pauses the node, and keeps what the others came to."""
    tokens = given.set(leave), side.set(others)
    try:
        yield
    except Paused as pause:
        put(_configurable(), pause, others.results)
    finally:
        given.reset(tokens[0])
        side.reset(tokens[1])
