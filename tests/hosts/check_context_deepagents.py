"""Beside deepagents, which summarises and moves long results to files itself: nothing is done twice, nothing lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from deepagents import create_deep_agent
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool

from langchain_costguard import CostGuard
from langchain_costguard.context import Context
from langchain_costguard.events import ContextCompacted
from langchain_costguard.steering import steer
from langchain_costguard.testing import FakeProvider, Recorder, Reply
from langchain_costguard.testing.requests import Request
from langchain_costguard.vocabulary.histories import faults

TASK = "Find a berth for my boat Daisy-77."
STEPS = 20


@tool
def search(query: str) -> str:
    """Search the harbour's book."""
    return "\n".join(f"{query}: berth {n * 37 % 91} of boat b-{n} has bells of brass." for n in range(200))


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """An agent's model: so many searches, then an answer; asked for a summary, it gives one."""
    made = iter(range(1, 10_000))

    def reply(request: Request) -> Reply:
        words = request.count_input()
        usage = {"input_tokens": 10, "cache_read_input_tokens": words, "output_tokens": 20}
        usage["cache_creation_input_tokens"] = words
        if not request.tools:
            return Reply("SUMMARY: looked at many berths.", usage=usage)
        step = next(made)
        calls = [("search", {"query": f"q{step}"})] if step % (STEPS + 1) else []
        return Reply("I will look on." if calls else "It is berth 7.", tool_calls=calls, usage=usage)

    with FakeProvider(reply) as running:
        yield running


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    if request.param == "sync":
        return lambda agent, *args: agent.invoke(*args)
    return lambda agent, *args: asyncio.run(agent.ainvoke(*args))


@pytest.mark.parametrize("cap", [400, 1_500])
def test_a_deep_agent_s_thread_is_sent_short_once_with_its_task_and_every_call_metered(
    cap: int, provider: FakeProvider, call: Callable[..., Any]
) -> None:
    recorder = Recorder()
    guard = CostGuard(sinks=[recorder])
    middleware: Any = steer(guard, context=Context(cap=cap), loops=None, breaker=None)
    agent = create_deep_agent(provider.anthropic(model="claude-sonnet-4-6"), [search], middleware=middleware)
    state = call(agent, {"messages": [HumanMessage(TASK)]}, {"recursion_limit": 300})
    assert state["messages"][-1].text == "It is berth 7."
    assert faults(state["messages"][:-1]) == []
    wholes = [m.text for m in state["messages"] if isinstance(m, ToolMessage) and m.name == "search"]
    assert len(wholes) == STEPS
    assert all(len(text) > 9_000 for text in wholes)
    assert all(TASK in str(request.messages) for request in provider.requests)
    assert all("fetch_result" in [each.name for each in request.tools] for request in provider.requests)
    shaped = guard.report().contexts.total
    assert shaped.cut > shaped.kept
    assert shaped.breaks == len(recorder.of(ContextCompacted)) <= STEPS / 4
    assert guard.report().total.calls == len(provider.requests)


def test_where_a_deep_agent_summarises_itself_its_calls_are_metered_and_its_requests_valid(
    provider: FakeProvider, call: Callable[..., Any]
) -> None:
    guard = CostGuard()
    middleware: Any = steer(guard, context=Context(cap=1_500), loops=None, breaker=None)
    model = provider.anthropic(model="claude-sonnet-4-6", max_tokens=1_000, profile={"max_input_tokens": 32_000})
    agent = create_deep_agent(model, [search], middleware=middleware)
    state = call(agent, {"messages": [HumanMessage(TASK)]}, {"recursion_limit": 300})
    assert state["messages"][-1].text == "It is berth 7."
    assert sum(isinstance(m, ToolMessage) and m.name == "search" for m in state["messages"]) == STEPS
    assert guard.report().total.calls == len(provider.requests) >= STEPS + 1
    for request in provider.requests:
        results = [block for m in request.messages for block in m["content"] if isinstance(block, dict)]
        asked = {block["id"] for block in results if block.get("type") == "tool_use"}
        assert {block["tool_use_id"] for block in results if block.get("type") == "tool_result"} == asked
