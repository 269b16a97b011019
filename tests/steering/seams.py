"""The same agent built at each seam, and run in each way: what every policy is tested against."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command

from langchain_costguard import CostGuard
from langchain_costguard.caching import MemoryCache
from langchain_costguard.steering import CacheNode, SteeredModel, install, steer
from tests.conftest import PRICES

VERBS = ("invoke", "ainvoke", "stream", "astream")
CHECKPOINTERS = ("memory", "sqlite")


def hand_written(model: Any, tools: Sequence[Any], checkpointer: Any = None, *, errors: Any = True) -> Any:
    """The graph everybody writes, as it was before anyone thought of its costs."""
    bound = model.bind_tools(tools) if tools else model

    def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [bound.invoke(state["messages"])]}

    async def aagent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await bound.ainvoke(state["messages"])]}

    from langchain_core.runnables import RunnableLambda

    builder = StateGraph(MessagesState)
    builder.add_node("agent", RunnableLambda(agent, afunc=aagent))
    builder.add_node("tools", ToolNode(tools, handle_tool_errors=errors))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=checkpointer)


def taking_notes(model: Any) -> Any:
    """A cached node that returns more than a reply."""

    class State(MessagesState):
        notes: str

    def answer(state: State) -> dict[str, Any]:
        reply = model.invoke(state["messages"])
        return {"messages": [reply], "notes": reply.text}

    node = CacheNode(CostGuard(prices=PRICES), MemoryCache(), answer, model=model)
    return StateGraph(State).add_node("model", node).add_edge(START, "model").compile()


def build(seam: str, guard: CostGuard, model: Any, tools: Sequence[Any], checkpointer: Any, policies: Any) -> Any:
    """The agent at one seam."""
    steering = steer(guard, **policies)
    if seam == "create_agent":
        return create_agent(model, list(tools), middleware=steering, checkpointer=checkpointer)
    if seam == "graph":
        return install(hand_written(model, tools, checkpointer), guard, policies=steering)
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("messages")])
    return prompt | SteeredModel(model, steering)


@dataclass
class Ran:
    """What a run came to."""

    messages: list[BaseMessage]
    interrupts: list[Any] = field(default_factory=list)

    @property
    def last(self) -> BaseMessage:
        return self.messages[-1]

    @property
    def text(self) -> str:
        return str(self.last.text)

    def tools(self) -> list[str]:
        return [str(m.text) for m in self.messages if isinstance(m, ToolMessage)]


def run(
    seam: str,
    verb: str,
    guard: CostGuard,
    model: Any,
    tools: Sequence[Any] = (),
    *,
    messages: Sequence[Any] = (HumanMessage("go"),),
    answers: Sequence[Any] = (),
    checkpointer: str = "memory",
    folder: Path | None = None,
    **policies: Any,
) -> Ran:
    """Run it, and answer each interrupt with the next of ``answers``: in a graph built anew, as after a restart."""
    path = str(folder / "checkpoints.db") if folder is not None else ":memory:"
    memory = InMemorySaver()
    config = {"configurable": {"thread_id": "t1"}, "metadata": {"session": "s1"}}
    value: Any = {"messages": list(messages)}

    def once(value: Any) -> Any:
        if checkpointer == "memory" or seam == "chain":
            return _sync(build(seam, guard, model, tools, memory, policies), verb, value, config, seam)
        with SqliteSaver.from_conn_string(path) as saver:
            return _sync(build(seam, guard, model, tools, saver, policies), verb, value, config, seam)

    async def aonce(value: Any) -> Any:
        if checkpointer == "memory" or seam == "chain":
            return await _async(build(seam, guard, model, tools, memory, policies), verb, value, config, seam)
        async with AsyncSqliteSaver.from_conn_string(path) as saver:
            return await _async(build(seam, guard, model, tools, saver, policies), verb, value, config, seam)

    seen: list[Any] = []
    for answer in (None, *answers):
        if seen and answer is not None:
            value = Command(resume=answer)
        ran = asyncio.run(aonce(value)) if verb.startswith("a") else once(value)
        if not ran.interrupts:
            return Ran(ran.messages, seen)
        seen += ran.interrupts
    return Ran(ran.messages, seen)


def _sync(agent: Any, verb: str, value: Any, config: Any, seam: str) -> Ran:
    if seam == "chain":
        got = agent.invoke(value, config) if verb == "invoke" else _joined(list(agent.stream(value, config)))
        return Ran([*value["messages"], got])
    if verb == "invoke":
        agent.invoke(value, config)
    else:
        for _ in agent.stream(value, config, stream_mode=["updates", "messages"]):
            pass
    return _state(agent.get_state(config))


async def _async(agent: Any, verb: str, value: Any, config: Any, seam: str) -> Ran:
    if seam == "chain":
        if verb == "ainvoke":
            return Ran([*value["messages"], await agent.ainvoke(value, config)])
        return Ran([*value["messages"], _joined([piece async for piece in agent.astream(value, config)])])
    if verb == "ainvoke":
        await agent.ainvoke(value, config)
    else:
        async for _ in agent.astream(value, config, stream_mode=["updates", "messages"]):
            pass
    return _state(await agent.aget_state(config))


def _state(snapshot: Any) -> Ran:
    return Ran(list(snapshot.values["messages"]), [pause.value for pause in snapshot.interrupts])


def _joined(pieces: list[AIMessageChunk]) -> BaseMessage:
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = whole + piece  # type: ignore[assignment]
    return whole


def valid(messages: Sequence[BaseMessage]) -> bool:
    """Whether a provider accepts the history: every tool call has its answer, right after it."""
    waiting: list[str] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in waiting:
                return False
            waiting.remove(message.tool_call_id)
        else:
            if waiting:
                return False
            if isinstance(message, AIMessage):
                waiting = [call["id"] or "" for call in message.tool_calls]
    return not waiting
