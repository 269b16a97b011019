"""Steered agents inside other graphs: as a subgraph, under ``Send`` fan-out, as a tool; paused and resumed there."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send

from langchain_costguard import Budget, CostGuard, SQLiteStore
from langchain_costguard.steering import StuckLoopNode, steer
from langchain_costguard.testing import FakeProvider, Reply, Request
from tests.conftest import PRICES, Caller
from tests.steering.seams import valid

GO: Any = {"messages": [HumanMessage("go")]}
THREAD: Any = {"configurable": {"thread_id": "t1"}}


@tool
def look_up(key: str) -> str:
    """Look a key up."""
    return f"value of {key}"


def searching(times: int) -> Any:
    def reply(request: Request) -> Reply:
        made = sum(message.get("role") == "tool" for message in request.body["messages"])
        if not request.tools or made >= times:
            return Reply("that is all I have")
        return Reply(tool_calls=[("look_up", {"key": f"thing {made}"})])

    return reply


def ledger_agrees(guard: CostGuard, provider: FakeProvider) -> bool:
    served = provider.usage()
    return guard.report().total.spent == served.input_tokens * 2_500 + served.output_tokens * 10_000


def test_an_agent_in_a_graph_is_paused_and_resumed_without_paying_twice(call: Caller, tmp_path: Path) -> None:
    with FakeProvider(searching(6)) as provider:
        guard = CostGuard(Budget(usd="0.0015"), prices=PRICES, store=SQLiteStore(tmp_path / "b.db"))
        saver = InMemorySaver()

        def graph() -> Any:
            steering = steer(guard, on_exceeded="interrupt", loops=None)
            research = create_agent(provider.openai(max_tokens=20), [look_up], middleware=steering, name="research")
            builder = StateGraph(MessagesState)
            builder.add_node("research", research)
            builder.add_edge(START, "research")
            builder.add_edge("research", END)
            return builder.compile(checkpointer=saver)

        paused = call(graph(), GO, THREAD)
        assert paused["__interrupt__"][0].value["scope"]["agent"] == "research"
        state = call(graph(), Command(resume={"approve": True, "add_usd": "1.00"}), THREAD)
        assert state["messages"][-1].text == "that is all I have"
        assert valid(state["messages"])
        lengths = [len(request.body["messages"]) for request in provider.requests]
        assert lengths == sorted(set(lengths)), "no call was made twice"
        assert ledger_agrees(guard, provider)


class Fan(TypedDict):
    answers: Annotated[list[str], operator.add]


def test_agents_side_by_side_are_each_asked_about(call: Caller) -> None:
    with FakeProvider("done") as provider:
        guard = CostGuard(Budget(per="task", usd="0.0000001"), prices=PRICES)
        steering = steer(guard, on_exceeded="interrupt")
        agent = create_agent(provider.openai(max_tokens=20), [look_up], middleware=steering)

        def ask(state: Any) -> Any:
            with guard.scope(task=state["q"]):
                return {"answers": [agent.invoke({"messages": [("user", state["q"])]})["messages"][-1].text]}

        builder = StateGraph(Fan)
        builder.add_node("ask", ask)
        builder.add_conditional_edges(START, lambda _: [Send("ask", {"q": f"question {n}"}) for n in range(3)], ["ask"])
        builder.add_edge("ask", END)
        graph = builder.compile(checkpointer=InMemorySaver())
        paused = call(graph, {"answers": []}, THREAD)["__interrupt__"]
        assert len(paused) == 3
        answers = {pause.id: {"approve": number != 1, "add_usd": "0.10"} for number, pause in enumerate(paused)}
        state = call(graph, Command(resume=answers), THREAD)
        assert state["answers"].count("done") == 2
        assert sum("more would be needed" in answer for answer in state["answers"]) == 1
        assert guard.report().actions.times("Granted") == 2


def test_calls_made_at_once_are_each_judged_by_the_node_as_by_the_middleware() -> None:
    def made(n: int, *queries: str) -> list[Any]:
        calls = [{"name": "search", "args": {"query": q}, "id": f"{n}-{i}"} for i, q in enumerate(queries)]
        results = [ToolMessage(f"found {q}", tool_call_id=f"{n}-{i}", name="search") for i, q in enumerate(queries)]
        return [AIMessage("", tool_calls=calls), *results]

    looping = made(0, "may") + made(1, "may") + made(2, "may", "a new subject of its own, 4711")
    update = StuckLoopNode(CostGuard())({"messages": [HumanMessage("go"), *looping]})
    assert "repeating the same action" in update["messages"][-1].text


def test_a_sub_agent_in_a_tool_ends_by_itself_and_its_caller_goes_on(call: Caller) -> None:
    def reply(request: Request) -> Reply:
        text = str(request.body["messages"])
        if "the sub-question" in text and "delegate" not in str(request.body.get("tools")):
            return searching(99)(request)
        return Reply("the caller's answer") if "have to stop" in text else Reply(tool_calls=[("delegate", {"q": "x"})])

    with FakeProvider(reply) as provider:
        budget = Budget(per="agent", usd="0.003", only={"agent": "helper"})
        guard = CostGuard(budget, prices=PRICES)
        model = provider.openai(max_tokens=20)
        helper = create_agent(model, [look_up], middleware=steer(guard, loops=None), name="helper")

        @tool
        def delegate(q: str) -> str:
            """Ask a helper."""
            return str(helper.invoke({"messages": [("user", f"the sub-question {q}")]})["messages"][-1].text)

        agent = create_agent(model, [delegate], middleware=steer(guard), name="caller")
        state = call(agent, GO)
        assert state["messages"][-1].text == "the caller's answer"
        assert guard.report().actions.times("EndedEarly") == 1
        assert ledger_agrees(guard, provider)
