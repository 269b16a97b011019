"""Questions to a person: each is asked once, its answer is its own, and nothing that ran runs again for it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition
from langgraph.types import Command, interrupt

from langchain_costguard import Budget, BudgetExceededError, CostGuard
from langchain_costguard.steering import guarded_tools, install, steer
from langchain_costguard.testing import FakeProvider, Reply, Request
from langchain_costguard.vocabulary.histories import faults
from tests.conftest import PRICES, Caller
from tests.steering.seams import hand_written

GO: Any = {"messages": [HumanMessage("go")]}
THREAD: Any = {"configurable": {"thread_id": "t"}}
ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@tool
def send(to: str) -> str:
    """Send a mail."""
    ran.append(to)
    return f"sent to {to}"


@tool
def ask_and_send(to: str) -> str:
    """Send a mail, after a question of the tool's own."""
    ran.append((to, interrupt({"own": to})))
    return f"sent to {to}"


TOOLS = (send, ask_and_send)


def with_steer(guard: CostGuard, model: Any, tools: Any = TOOLS, **policies: Any) -> Any:
    steering = steer(guard, loops=None, **policies)
    return create_agent(model, list(tools), middleware=steering, checkpointer=InMemorySaver())


def with_install(guard: CostGuard, model: Any, tools: Any = TOOLS, **policies: Any) -> Any:
    graph = hand_written(model, list(tools), InMemorySaver())
    return install(graph, guard, policies=steer(guard, loops=None, **policies))


def with_guarded_tools(guard: CostGuard, model: Any, tools: Any = TOOLS, **policies: Any) -> Any:
    bound = model.bind_tools(tools)
    builder = StateGraph(MessagesState)
    builder.add_node("agent", lambda state: {"messages": [bound.invoke(state["messages"])]})
    builder.add_node("tools", guarded_tools(tools, guard, **policies))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=InMemorySaver())


SEAMS = pytest.mark.parametrize("build", [with_steer, with_install, with_guarded_tools])


def calling(*turns: list[tuple[str, dict[str, Any]]]) -> Any:
    """A model that makes these calls, a message each, and is done."""

    def reply(request: Request) -> Reply:
        made = sum(m["role"] == "assistant" for m in request.messages)
        return Reply(tool_calls=turns[made]) if made < len(turns) else Reply("done")

    return reply


def about(question: Any) -> str:
    """What a question is about."""
    return str(question.get("measure") or question.get("own") or question["args"]["to"])


def to_the_end(call: Caller, graph: Any, answer: Any, *, one: bool = False) -> tuple[list[str], Any]:
    """Run it and answer each question, or (``one``) the last of them at a time; returns what was asked, and the last
    state."""
    asked: list[str] = []
    state = call(graph, GO, THREAD)
    while (pauses := state.get("__interrupt__")) and len(asked) < 12:
        said = {}
        for pause in pauses[-1:] if one else pauses:
            asked.append(about(pause.value))
            said[pause.id] = answer(pause.value)
        state = call(graph, Command(resume=said if len(pauses) > 1 else next(iter(said.values()))), THREAD)
    return asked, state


def mails(*to: str) -> list[tuple[str, dict[str, Any]]]:
    return [("send", {"to": each}) for each in to]


@SEAMS
@pytest.mark.parametrize(
    ("budget", "prices"),
    [(Budget(tool_calls=1), {}), (Budget(usd="0.015"), {"send": "0.01"})],
)
def test_leave_is_asked_once_and_a_grant_for_the_same_call_asks_no_more(
    build: Any, budget: Budget, prices: Any, call: Caller
) -> None:
    with FakeProvider(calling(mails("ann"), mails("bob"))) as provider:
        guard = CostGuard(budget, prices=PRICES, tool_prices=prices)
        graph = build(guard, provider.openai(max_tokens=20), on_exceeded="interrupt", approve_tools={"send"})
        asked, _ = to_the_end(call, graph, lambda question: True)
        assert (asked.count("ann"), asked.count("bob")) == (1, 1)
        assert ran == ["ann", "bob"]


@SEAMS
@pytest.mark.parametrize("measure", ["steps", "tool_calls", "model_calls"])
def test_a_no_wins_whatever_else_was_asked_before_it(build: Any, measure: str, call: Caller) -> None:
    """A yes to more of a budget is not taken for leave to send."""
    with FakeProvider(calling(mails("ann"), mails("bob"))) as provider:
        guard = CostGuard(Budget(**{measure: 1}), prices=PRICES)  # type: ignore[arg-type]
        graph = build(guard, provider.openai(max_tokens=20), on_exceeded="interrupt", approve_tools={"send"})
        with suppress(BudgetExceededError):  # of a model's node that nobody steers
            to_the_end(call, graph, lambda question: question["type"] == "costguard.budget")
        assert ran == []


@SEAMS
def test_what_ran_beside_a_call_that_has_to_ask_does_not_run_again(build: Any, call: Caller) -> None:
    with FakeProvider(calling(mails("ann", "bob", "cid"))) as provider:
        guard = CostGuard(Budget(tool_calls=1), prices=PRICES)
        graph = build(guard, provider.openai(max_tokens=20), on_exceeded="interrupt")
        yes = {"approve": True, "add_tool_calls": 1}
        asked, state = to_the_end(call, graph, lambda question: yes)
        assert sorted(ran) == ["ann", "bob", "cid"]
        assert set(asked) == {"tool_calls"}
        assert sorted(m.text for m in state["messages"] if m.type == "tool") == [f"sent to {n}" for n in sorted(ran)]
        assert not faults(state["messages"], whole=False)


@SEAMS
def test_a_tools_own_questions_keep_their_answers_beside_ours(build: Any, call: Caller) -> None:
    calls = [("ask_and_send", {"to": "ann"}), ("send", {"to": "bob"}), ("send", {"to": "eve"})]
    answers = {"ann": "yes to ann", "bob": {"approve": False}, "eve": True}
    with FakeProvider(calling(calls)) as provider:
        guard = CostGuard(prices=PRICES)
        graph = build(guard, provider.openai(max_tokens=20), approve_tools={"send"})
        asked, _ = to_the_end(call, graph, lambda q: answers[about(q)])
        assert sorted(asked) == ["ann", "bob", "eve"]
        assert {("ann", "yes to ann"), "eve"} == set(ran)


@SEAMS
@pytest.mark.parametrize("measure", ["steps", "model_calls", "tool_calls"])
def test_each_measure_is_asked_about(build: Any, measure: str, call: Caller) -> None:
    if build is with_guarded_tools and measure != "tool_calls":
        pytest.skip("its graph's other nodes are not steered")
    with FakeProvider(calling(mails("ann"), mails("bob"), mails("cid"))) as provider:
        guard = CostGuard(Budget(**{measure: 2}), prices=PRICES)  # type: ignore[arg-type]
        graph = build(guard, provider.openai(max_tokens=20), on_exceeded="interrupt")
        asked, state = to_the_end(call, graph, lambda question: True)
        assert set(asked) == {measure}
        assert ran == ["ann", "bob", "cid"]
        assert state["messages"][-1].text == "done"


@SEAMS
def test_a_call_that_a_person_edited_is_told_as_it_ran(build: Any, call: Caller) -> None:
    with FakeProvider(calling(mails("ann"))) as provider:
        guard = CostGuard(prices=PRICES)
        graph = build(guard, provider.openai(max_tokens=20), approve_tools={"send"})
        _, state = to_the_end(call, graph, lambda question: {"approve": True, "args": {"to": "eva"}})
        (answer,) = [m for m in state["messages"] if isinstance(m, ToolMessage)]
        assert ran == ["eva"]
        assert answer.text == (
            'A person changed this call before it ran: send was called with {"to": "eva"}.\n\nsent to eva'
        )


@SEAMS
@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("budget", [Budget(usd=1), Budget(tool_calls=2)])
def test_questions_of_several_kinds_in_one_message_are_asked_once_each(
    build: Any, budget: Budget, one: bool, call: Caller
) -> None:
    """Ours, a tool's own, and a budget's; and nothing that ran runs again, or is counted again, for any of them."""
    calls = [("ask_and_send", {"to": "q1"}), *mails("ann"), *mails("bob"), ("ask_and_send", {"to": "q2"})]
    answers = {"ann": True, "bob": {"approve": False}, "q1": "yes to q1", "q2": "yes to q2", "tool_calls": True}
    with FakeProvider(calling(calls)) as provider:
        guard = CostGuard(budget, prices=PRICES)
        graph = build(guard, provider.openai(max_tokens=20), approve_tools={"send"}, on_exceeded="interrupt")
        asked, state = to_the_end(call, graph, lambda q: answers[about(q)], one=one)
        assert sorted(set(asked) - {"tool_calls"}) == ["ann", "bob", "q1", "q2"]
        assert all(asked.count(each) == 1 for each in ("ann", "bob", "q1", "q2"))
        assert sorted(map(str, ran)) == ["('q1', 'yes to q1')", "('q2', 'yes to q2')", "ann"]
        assert guard.report().total.tool_calls == 3
        assert not faults(state["messages"], whole=False)


@SEAMS
@pytest.mark.parametrize("one", [False, True])
def test_agents_in_tools_are_each_given_their_own_answer(build: Any, one: bool, call: Caller) -> None:
    """Two calls of one message run an agent each, and a person allows the mail of one of them."""

    def reply(request: Request) -> Reply:
        results = any(m["role"] == "tool" for m in request.messages)
        if results:
            return Reply("done")
        if "delegate" in [each.name for each in request.tools]:
            return Reply(tool_calls=[("delegate", {"to": "ann"}), ("delegate", {"to": "bob"})])
        return Reply(tool_calls=mails(str(request.messages[-1]["content"])))

    with FakeProvider(reply) as provider:
        guard = CostGuard(prices=PRICES)
        model = provider.openai(max_tokens=20)
        worker = create_agent(model, [send], middleware=steer(guard, approve_tools={"send"}))

        @tool
        def delegate(to: str) -> str:
            """Have a mail sent."""
            return str(worker.invoke({"messages": [HumanMessage(to)]})["messages"][-1].text)

        asked, state = to_the_end(call, build(guard, model, tools=[delegate]), lambda q: about(q) == "ann", one=one)
        assert sorted(asked) == ["ann", "bob"]
        assert ran == ["ann"]
        assert provider.usage().calls == 6
        assert not faults(state["messages"], whole=False)


@pytest.mark.parametrize("build", [with_steer, with_install])
def test_steps_that_a_person_grants_are_counted(build: Any, call: Caller) -> None:
    """One at a time: the node whose calls found no room is asked about once, and takes the step that it was given."""
    with FakeProvider(calling(mails("ann", "bob"))) as provider:
        guard = CostGuard(Budget(steps=1), prices=PRICES)
        graph = build(guard, provider.openai(max_tokens=20), on_exceeded="interrupt")
        asked, state = to_the_end(call, graph, lambda question: {"approve": True, "add_steps": 1})
        assert sorted(ran) == ["ann", "bob"]
        assert state["messages"][-1].text == "done"
        steps = 4 if build is with_steer else 3  # a step for each call, or for the node of both
        assert asked == ["steps"] * (steps - 1)
