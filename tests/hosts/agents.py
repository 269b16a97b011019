"""Agents of packages that build upon LangGraph: each made plain, or steered in the way that its package has for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool, tool
from langchain_mcp_adapters.client import MultiServerMCPClient
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph_supervisor import create_supervisor
from langgraph_swarm import create_handoff_tool, create_swarm
from langmem import create_manage_memory_tool
from pydantic import BaseModel
from trustcall import create_extractor

from langchain_costguard.steering import SteeredModel, Steering
from langchain_costguard.testing import Reply, Request

Made = Callable[[Any, Any, Any, list[str]], Any]
"""Of a model, what ``steer()`` returned or None, a checkpointer, and a list of what was done: the agent."""


def searching(done: list[str]) -> BaseTool:
    @tool
    def search(query: str) -> str:
        """Search."""
        done.append(f"search {query}")
        return f"found {query}"

    return search


def middleware(steering: Steering | None) -> Sequence[Any]:
    return steering or ()  # type: ignore[return-value]


def deep(model: Any, steering: Any, saver: Any, done: list[str]) -> Any:
    digger = {
        "name": "digger", "description": "Digs.", "system_prompt": "You dig.", "tools": [searching(done)],
        "middleware": list(middleware(steering)),
    }  # fmt: skip
    return create_deep_agent(model, subagents=[digger], middleware=middleware(steering), checkpointer=saver)  # type: ignore[list-item]


def supervised(model: Any, steering: Any, saver: Any, done: list[str]) -> Any:
    worker = create_agent(model, [searching(done)], middleware=middleware(steering), name="worker")
    chief = model if steering is None else SteeredModel(model, steering)
    return create_supervisor([worker], model=chief).compile(checkpointer=saver)


def swarming(model: Any, steering: Any, saver: Any, done: list[str]) -> Any:
    to_bob = create_handoff_tool(agent_name="bob")
    ann = create_agent(model, [to_bob], middleware=middleware(steering), name="ann")
    bob = create_agent(model, [searching(done)], middleware=middleware(steering), name="bob")
    return create_swarm([ann, bob], default_active_agent="ann").compile(checkpointer=saver)


def remembering(model: Any, steering: Any, saver: Any, done: list[str]) -> Any:
    store = InMemoryStore()
    tools = [create_manage_memory_tool(("memories",)), searching(done)]
    return create_agent(model, tools, middleware=middleware(steering), checkpointer=saver, store=store)


class City(BaseModel):
    """A city, and how many live there."""

    name: str
    people: int


def extracting(model: Any, steering: Any, saver: Any, done: list[str]) -> Any:
    steered = model if steering is None else SteeredModel(model, steering)
    extractor = create_extractor(steered, tools=[City], tool_choice="City")

    def found(result: Any) -> dict[str, Any]:
        done.append(str(result["responses"]))
        return {"messages": [("ai", str(result["responses"]))]}

    def greet(state: MessagesState) -> dict[str, Any]:
        return {"messages": [steered.invoke(state["messages"])]}

    def asked(state: MessagesState) -> dict[str, Any]:
        return {"messages": state["messages"][:1]}

    graph = StateGraph(MessagesState).add_sequence([greet, ("extract", RunnableLambda(asked) | extractor | found)])
    return graph.add_edge(START, "greet").compile(checkpointer=saver)


async def outside(model: Any, steering: Any, saver: Any, done: list[str]) -> Any:
    file = str(Path(__file__).with_name("mcp_server.py"))
    server = {"command": sys.executable, "args": [file], "transport": "stdio"}
    tools = await MultiServerMCPClient({"sums": server}).get_tools()  # type: ignore[dict-item]
    return create_agent(model, tools, middleware=middleware(steering), checkpointer=saver)


HOSTS: Mapping[str, Made] = {
    "deepagents": deep,
    "langgraph-supervisor": supervised,
    "langgraph-swarm": swarming,
    "langmem": remembering,
    "trustcall": extracting,
    "mcp": outside,
}
AT_ONCE = "at once"
"""In what the user says: what is asked for is right the first time. trustcall takes whatever is raised where it mends
a reply, a question to a person too, for a reply that cannot be mended."""
_PLANS: Sequence[tuple[str, list[tuple[str, dict[str, Any]]]]] = [
    ("task", [("task", {"description": "Dig for gold.", "subagent_type": "digger"})]),
    ("transfer_to_worker", [("transfer_to_worker", {})]),
    ("transfer_to_bob", [("transfer_to_bob", {})]),
    ("manage_memory", [("manage_memory", {"content": "likes tea"}), ("search", {"query": "tea"})]),
    ("City", [("City", {"name": "Rome", "people": "many"}), ("City", {"name": "Rome", "people": 3})]),
    ("add", [("add", {"a": 1, "b": 2}), ("fail", {}), ("add", {"a": 3, "b": 4})]),
    ("search", [("search", {"query": "gold"})]),
]
"""By the tool that tells whose turn it is, the calls that it makes, one after the other, before it answers."""


def plan(request: Request) -> Reply:
    """Goes by the tools that are offered, and by how much of the plan is done."""
    names = [each.name for each in request.tools]
    if AT_ONCE in str(request.messages) and "City" in names:
        return Reply(tool_calls=[("City", {"name": "Rome", "people": 3})])
    if "PatchFunctionErrors" in names or "PatchDoc" in names:  # trustcall mends what did not fit the schema
        return Reply(tool_calls=[_mended(names)])
    calls = next((calls for name, calls in _PLANS if name in names), [])
    said = json.dumps([m.get("tool_calls") or [] for m in request.messages if m.get("role") == "assistant"])
    made = sum(said.count(f'"name": "{name}"') for name in {name for name, _ in calls})
    return Reply(tool_calls=[calls[made]]) if made < len(calls) else Reply(f"done, {made} calls")


def _mended(names: Sequence[str]) -> tuple[str, dict[str, Any]]:
    patch = {"op": "replace", "path": "/people", "value": 3}
    name = next(name for name in names if name.startswith("Patch"))
    return name, {"json_doc_id": "0", "planned_edits": "a number", "patches": [patch]}
