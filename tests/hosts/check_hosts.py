"""Agents of other packages: metered whole, steered without a difference, refused, and resumed without damage.

Not part of the default suite: ``.ci/extended hosts`` installs the packages, and runs this.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_costguard import Budget, CostGuard
from langchain_costguard.steering import steer
from langchain_costguard.testing import FakeProvider
from langchain_costguard.vocabulary.histories import faults
from tests.conftest import PRICES
from tests.hosts.agents import AT_ONCE, HOSTS, plan

CONFIG = {"configurable": {"thread_id": "t"}, "recursion_limit": 60}
ASKED_MOST = 30
NUMBERED = re.compile(r"memory [0-9a-f-]{36}")


class Ran:
    """What a run came to."""

    def __init__(self, provider: FakeProvider, done: list[str], values: Any, questions: list[Any]) -> None:
        self.requests = [request.body["messages"] for request in provider.requests]
        self.usage = provider.usage()
        self.done = done
        self.messages = values["messages"]
        self.questions = questions

    @property
    def said(self) -> list[tuple[str, str]]:
        return [(message.type, NUMBERED.sub("a memory", message.text)) for message in self.messages]


async def run(host: str, world: str, guard: CostGuard | None, text: str = "go", **policies: Any) -> Ran:
    """Run it, and say yes to whatever is asked."""
    done: list[str] = []
    with FakeProvider(plan) as provider:
        steering = None if guard is None else steer(guard, **policies)
        agent = HOSTS[host](provider.openai(max_tokens=50), steering, InMemorySaver(), done)
        agent = await agent if inspect.isawaitable(agent) else agent
        value: Any = {"messages": [HumanMessage(text)]}
        questions: list[Any] = []
        for _ in range(ASKED_MOST):
            values = agent.invoke(value, CONFIG) if world == "sync" else await agent.ainvoke(value, CONFIG)
            asked = values.get("__interrupt__") or []
            if not asked:
                break
            questions += [question.value for question in asked]
            value = Command(resume={question.id: True for question in asked})
        assert not agent.get_state(CONFIG).next
        return Ran(provider, done, values, questions)


WORLDS = [(host, world) for host in HOSTS for world in ("sync", "async") if (host, world) != ("mcp", "sync")]
"""The tools of the MCP adapters are coroutines alone. A question that is asked inside trustcall comes again with each
answer: it is to be asked before, with a ``BudgetGate``."""


@pytest.mark.parametrize(("host", "world"), WORLDS)
def test_an_agent_of_another_package_is_metered_whole_and_otherwise_as_it_was(host: str, world: str) -> None:
    plain = asyncio.run(run(host, world, None))
    guard = CostGuard(Budget(usd="10"), prices=PRICES)
    steered = asyncio.run(run(host, world, guard))
    total = guard.report().total
    usage = steered.usage
    assert (total.calls, total.input_tokens, total.output_tokens) == (
        usage.calls,
        usage.input_tokens,
        usage.output_tokens,
    )
    assert (steered.said, steered.done, len(steered.requests)) == (plain.said, plain.done, len(plain.requests))


@pytest.mark.parametrize(("host", "world"), WORLDS)
def test_a_refused_agent_of_another_package_ends_well(host: str, world: str) -> None:
    guard = CostGuard(Budget(model_calls=1), prices=PRICES)
    ended = asyncio.run(run(host, world, guard, AT_ONCE))
    assert ended.usage.calls == guard.report().total.calls == 1
    assert faults(ended.messages, "openai", whole=False) == []


@pytest.mark.parametrize(("host", "world"), [each for each in WORLDS if each[0] != "trustcall"])
def test_a_person_lets_an_agent_of_another_package_go_on_and_nothing_is_done_twice(host: str, world: str) -> None:
    plain = asyncio.run(run(host, world, None, AT_ONCE))
    guard = CostGuard(Budget(model_calls=1), prices=PRICES)
    resumed = asyncio.run(run(host, world, guard, AT_ONCE, on_exceeded="interrupt"))
    assert resumed.questions
    assert resumed.usage.calls == guard.report().total.calls
    assert (resumed.said, resumed.done, len(resumed.requests)) == (plain.said, plain.done, len(plain.requests))
