"""What steering sends, and what it leaves in a conversation, is accepted by every provider."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from langchain_costguard import Budget, CostGuard
from langchain_costguard.steering import LoopDetector, Retry, SteeredModel, StuckLoopNode, steer
from langchain_costguard.steering.flow import Call, drive
from langchain_costguard.steering.requests import ChatRequest, Reply
from langchain_costguard.testing import FakeProvider, Request
from langchain_costguard.testing import Reply as Answer
from langchain_costguard.vocabulary.histories import DIALECTS, faults
from tests.conftest import PRICES, Caller
from tests.steering.seams import hand_written

GO: Any = {"messages": [HumanMessage("go")]}
THREAD: Any = {"configurable": {"thread_id": "t"}}


@tool
def search(query: str) -> str:
    """Search."""
    return "No results found."


class Found(BaseModel):
    """The answer."""

    text: str


# Every policy's output, over histories of any shape


@st.composite
def conversations(draw: st.DrawFn) -> list[BaseMessage]:
    """A conversation as hosts make them, up to where it is the model's turn."""
    messages: list[BaseMessage] = [SystemMessage("You help.")] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(1, 3))):
        messages.append(HumanMessage(f"question {turn}"))
        for step in range(draw(st.integers(0, 4))):
            ids = [f"call_{turn}_{step}_{i}" for i in range(draw(st.integers(1, 3)))]
            text, same = draw(st.sampled_from(["", "Let me see."])), draw(st.booleans())
            calls = [{"name": "search", "args": {"query": "x" if same else id_}, "id": id_} for id_ in ids]
            messages.append(AIMessage(text, tool_calls=calls))
            for id_ in draw(st.permutations(ids)):
                content: Any = draw(st.sampled_from(["nothing", [{"type": "text", "text": "a block"}]]))
                status: Any = draw(st.sampled_from(["success", "error"]))
                messages.append(ToolMessage(content, tool_call_id=id_, name="search", status=status))
        messages.append(AIMessage("done"))
    return messages[:-1]


REPLIES = st.sampled_from(
    [
        AIMessage("an answer"),
        AIMessage("", tool_calls=[{"name": "search", "args": {}, "id": "new"}]),
        AIMessage("", invalid_tool_calls=[{"name": "search", "args": "{", "id": "new", "error": "no JSON"}]),
        AIMessage([{"type": "reasoning", "id": "r"}, {"type": "function_call", "call_id": "new", "name": "search"}]),
        AIMessage(""),
    ]
)


@given(conversations(), st.lists(REPLIES, min_size=1, max_size=4), st.integers(1, 3), st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_policy_sends_and_leaves_what_every_provider_accepts(
    messages: list[BaseMessage], replies: list[AIMessage], left: int, strict: bool
) -> None:
    guard = CostGuard(Budget(per="session", model_calls=left))
    steering = steer(
        guard,
        loops=LoopDetector(repeats=2),
        retry=Retry(repairs=2),
        guardrails=[lambda reply: "Say more." if strict and not reply.tool_calls else None],
    )
    made = 0

    def call(wanted: Call) -> Reply:
        nonlocal made
        assert not faults(wanted.request.messages)
        made += 1
        return Reply(replies[made % len(replies)])

    reply = drive(steering.model_flow(ChatRequest(None, messages), "model"), call)
    assert reply.message is not None
    ids = [c["id"] for c in (*reply.message.tool_calls, *reply.message.invalid_tool_calls)]
    answers = [ToolMessage("ok", tool_call_id=str(id_)) for id_ in ids]
    if str(reply.message.text).strip() or ids:  # what a model leaves empty is its own
        assert not faults([*messages, *reply.before, reply.message, *answers], whole=False)


# Through the front door


def looking(request: Request) -> Answer:
    """Searches the same over and over; answers when it is told that it cannot any more."""
    names = [each.name for each in request.tools]
    if "Found" in names and "search" not in names:
        return Answer(tool_calls=[("Found", {"text": "final"})])
    if not names or "search" not in names:
        return Answer('{"text": "final"}')
    return Answer(tool_calls=[("search", {"query": f"q{request.number}"})])


@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy, None])
@pytest.mark.parametrize(
    "budget",
    [Budget(steps=6), Budget(tool_calls=2), Budget(usd="0.005", reserve="0.0025"), Budget(model_calls=2)],
)
def test_a_thread_goes_on_after_its_last_answer(strategy: Any, budget: Budget, call: Caller) -> None:
    with FakeProvider(looking) as provider:
        saver, model = InMemorySaver(), provider.openai(max_tokens=50)
        form = None if strategy is None else strategy(Found)
        policies = steer(CostGuard(budget, prices=PRICES), loops=None)
        agent = create_agent(model, [search], middleware=policies, response_format=form, checkpointer=saver)
        state = call(agent, GO, THREAD)
        assert not faults(state["messages"], whole=False)
        if strategy is not None and budget.model_calls is None:
            assert state["structured_response"] == Found(text="final")
        next_turn = [*state["messages"], HumanMessage("and now?")]
        for dialect in DIALECTS:
            if dialect != "mistral" or strategy is not ToolStrategy:  # there the host ends with a tool's result
                assert not faults(next_turn, dialect)


@pytest.mark.parametrize("build", ["create_agent", "steered model"])
def test_a_nudge_reaches_the_model_each_time_and_poisons_no_thread(build: str, call: Caller) -> None:
    def reply(request: Request) -> Answer:
        if request.number > 5:
            return Answer("enough")
        return Answer(tool_calls=[("search", {"query": "x" if request.number < 4 else f"q{request.number}"})])

    with FakeProvider(reply) as provider:
        policies = steer(CostGuard(prices=PRICES), on_loop=("nudge", "nudge", "nudge"))
        model = provider.openai()
        if build == "create_agent":
            agent = create_agent(model, [search], middleware=policies)
        else:
            agent = hand_written(SteeredModel(model, policies), [search])
        state = call(agent, GO)
        told = [sum("Stop and reconsider" in str(m) for m in request.messages) for request in provider.requests]
        assert told == sorted(told)
        assert told[-1] >= 1
        assert not faults(state["messages"], whole=False)
        assert all("Stop and reconsider" not in m.text for m in state["messages"])


def test_a_loop_in_a_steered_model_climbs_its_ladder_to_the_end(call: Caller) -> None:
    with FakeProvider(Answer(tool_calls=[("search", {"query": "x"})])) as provider:
        agent = hand_written(SteeredModel(provider.openai(), steer(CostGuard(prices=PRICES))), [search])
        state = call(agent, GO, {"recursion_limit": 50})
        assert state["messages"][-1].text.startswith("I stopped, for I was repeating")
        assert len(provider.requests) == 5  # three make a loop; after the nudge, two more as before do


def test_what_the_node_says_is_valid_too() -> None:
    calls = [AIMessage("", tool_calls=[{"name": "search", "args": {"query": "x"}, "id": str(i)}]) for i in range(3)]
    results = [ToolMessage("nothing", tool_call_id=str(i)) for i in range(3)]
    messages: list[BaseMessage] = [HumanMessage("go")]
    for each, result in zip(calls, results, strict=True):
        messages += [each, result]
    update = StuckLoopNode(CostGuard())({"messages": messages})
    assert not faults([*messages, *update["messages"]])
