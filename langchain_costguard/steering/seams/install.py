"""The seam in a graph that exists already: the same graph, its model and tool nodes steered."""

from __future__ import annotations

import copy
import dataclasses
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig
from langgraph.channels import LastValue
from langgraph.graph import END
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode

from langchain_costguard.metering.settlement import noting
from langchain_costguard.steering.flow import Call, adrive, drive
from langchain_costguard.steering.seams.held import unseen, watched
from langchain_costguard.steering.seams.states import node_reply, node_request, node_update
from langchain_costguard.steering.seams.tools import asteer_tool, back_to, side_by_side, steer_tool
from langchain_costguard.steering.steering import Steering
from langchain_costguard.steering.surroundings import Here, paying
from langchain_costguard.vocabulary.checks import is_text, kind

if TYPE_CHECKING:
    from langchain_costguard.guard import CostGuard

_Callable: Any = ToolNode.__bases__[0]
"""LangGraph's own node of a sync and an async function, which has no public name of its own. Unlike a
``RunnableLambda`` it is no run of its own in traces, and a subgraph in it is found."""


def install(
    graph: Any,
    guard: CostGuard,
    *,
    tools: str | None = "tools",
    model: str | None = "agent",
    policies: Steering | None = None,
    messages_key: str = "messages",
) -> Any:
    """Steer a compiled graph: the same nodes, edges, checkpointer, store, cache, interrupts and name.

    The model's node is steered as a whole, for its model is its own: a failure is tried again only where nothing was
    paid in the node yet, and for a last answer it is asked, not forced, to call no tool.

    Args:
        graph: A compiled ``StateGraph`` (``create_agent`` returns one; its model's node is called ``"model"``).
        guard: Whose budgets, store and report.
        tools: The ``ToolNode``. None: the graph has none to steer.
        model: The node that calls the model, or None.
        policies: What ``steer(guard, ...)`` returned; default: what it chooses by itself.
        messages_key: The state's key of the messages.

    Raises:
        ValueError: there is no such node or key, or it is of another kind.
    """
    if not isinstance(graph, CompiledStateGraph):
        hint = "; compile() it first" if hasattr(graph, "compile") else ""
        raise ValueError(f"graph: {kind(graph)} is no compiled StateGraph{hint}")
    if not is_text(messages_key):
        raise ValueError(f"messages_key: {messages_key!r} must be a key of the graph's state")
    if policies is not None and not (isinstance(policies, Steering) and policies.guard is guard):
        raise ValueError(f"policies: {policies!r} is not what steer() returns for this guard")
    steering = policies or Steering(guard)
    specs, nodes, channels = dict(graph.builder.nodes), dict(graph.nodes), graph.channels
    if model is not None and steering.on_exceeded != "raise" and {messages_key, "__root__"}.isdisjoint(channels):
        keys = ", ".join(repr(key) for key in graph.builder.channels)
        raise ValueError(
            f"messages_key: the graph's state has no key {messages_key!r} to put a last reply in, but {keys}"
        )
    replaces = isinstance(channels.get(messages_key), LastValue)
    for field, name in (("model", model), ("tools", tools)):
        if name is not None:
            spec = _node(specs, field, name)
            if field == "model":
                steered = _steered(spec.runnable, steering, name, messages_key, replaces=replaces)
            else:
                back = partial(back_to, _loop_entry(graph, name) if messages_key in channels else None, messages_key)
                steered = _steered_tools(spec.runnable, steering, name, back)
            specs[name] = dataclasses.replace(spec, runnable=steered)
            nodes[name] = nodes[name].copy({"bound": steered})
    guard.deferrals.steer(model or tools or "")
    # Not compiled anew: a compiled graph has settings of its own, some made after it was compiled (`step_timeout`).
    copied = copy.copy(graph)
    copied.nodes, copied.builder = nodes, copy.copy(graph.builder)
    copied.builder.nodes = specs
    return copied.with_config(callbacks=[guard])  # the graph's other nodes call models, too


def _node(nodes: dict[str, Any], field: str, name: str) -> Any:
    if not isinstance(name, str) or name not in nodes:
        there = ", ".join(map(repr, nodes)) or "none"
        raise ValueError(f"{field}: the graph has no node {name!r}; its nodes are {there} ({field}=None steers none)")
    return nodes[name]


def _steered(node: Any, steering: Steering, name: str, key: str, *, replaces: bool) -> Any:
    guard, held = steering.guard, steering.holds_streams

    def call(node: Any, config: RunnableConfig, here: Here, wanted: Call) -> Any:
        with paying(guard, wanted), noting(wanted.request.paid), nullcontext() if held else watched(here):
            return node_reply(node.invoke(wanted.request.state, unseen(config) if held else config), key)

    async def acall(node: Any, config: RunnableConfig, here: Here, wanted: Call) -> Any:
        with paying(guard, wanted), noting(wanted.request.paid), nullcontext() if held else watched(here):
            return node_reply(await node.ainvoke(wanted.request.state, unseen(config) if held else config), key)

    def run(state: Any, config: RunnableConfig) -> Any:
        request, here = node_request(state, key, replaces=replaces), Here(guard, name)
        flow = steering.model_flow(request, here=here)
        return node_update(drive(flow, partial(call, node, config, here)), request)

    async def arun(state: Any, config: RunnableConfig) -> Any:
        request, here = node_request(state, key, replaces=replaces), Here(guard, name)
        flow = steering.model_flow(request, here=here)
        reply = await adrive(flow, partial(acall, node, config, here), guard.aside)
        return node_update(reply, request)

    # LangGraph's cache of nodes tells them apart by their function, and finds a subgraph in what it refers to.
    own = node.func if isinstance(node, _Callable) else node
    run.__qualname__ = getattr(own, "__qualname__", run.__qualname__)
    run.__module__ = getattr(own, "__module__", None) if hasattr(own, "__qualname__") else None  # type: ignore[assignment]
    return _Callable(run, arun, name=name, trace=False)


def _loop_entry(graph: Any, tools: str) -> str | None:
    """Where the graph goes on after its tools, where that is one node and it may end there instead."""
    branches = graph.builder.branches.get(tools, {}).values()
    ends = {end for branch in branches for end in (branch.ends or {}).values()}
    return ends.difference({END}).pop() if END in ends and len(ends) == 2 else None


def _steered_tools(node: Any, steering: Steering, name: str, back: Any) -> Any:
    """A copy of the node, around whose own wrappers ours is put: it has no public way to be given one later."""
    if not isinstance(node, ToolNode):
        raise ValueError(
            f"tools: node {name!r} is no ToolNode, so its calls cannot be told apart: "
            f"build it with guarded_tools(tools, guard), or pass tools=None"
        )
    sync: Any = partial(steer_tool, steering, back=back)
    asynchronous: Any = partial(asteer_tool, steering, back=back)
    inner, ainner = node._wrap_tool_call, node._awrap_tool_call
    steered = copy.copy(node)
    # The node's function is bound to the node it was made for.
    steered.func, steered.afunc = steered._func, steered._afunc
    steered._wrap_tool_call = sync if inner is None else lambda request, run: sync(request, partial(_in, inner, run))
    if ainner is not None:
        steered._awrap_tool_call = lambda request, run: asynchronous(request, partial(_in, ainner, run))
    elif inner is None:  # else the node runs its one wrapper, and ours around it, in both worlds
        steered._awrap_tool_call = asynchronous
    return side_by_side(steered, steering)


def _in(inner: Any, run: Any, request: Any) -> Any:
    return inner(request, run)
