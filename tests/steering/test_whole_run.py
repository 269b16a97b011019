"""Where steering is attached, the guard sees all that the agent calls, as one run."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    LLMToolSelectorMiddleware,
    SummarizationMiddleware,
    after_agent,
    after_model,
    before_agent,
    before_model,
)
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from langchain_costguard import Budget, BudgetExceededError, CostGuard
from langchain_costguard.steering import SteeredModel, guarded_tools, install, steer
from langchain_costguard.testing import FakeProvider, ManualClock, Reply, Request
from tests.conftest import PRICES, Caller
from tests.steering.seams import build, hand_written

GO: Any = {"messages": [HumanMessage("go")]}


@tool
def search(query: str) -> str:
    """Search."""
    return f"results for {query} {'x' * len(query)}"


def busy(request: Request) -> Reply:
    """Searches on and on; answers whoever has no tools, and chooses the tool for who asks for one."""
    if "response_format" in request.body:
        return Reply('{"tools": ["search"]}')
    if not request.tools:
        return Reply("a summary")
    return Reply(tool_calls=[("search", {"query": f"thing {request.number}"})])


def hooked(hook: Any) -> Any:
    def make(model: Any) -> Any:
        @hook
        def think(state: Any, runtime: Any) -> None:
            model.invoke("Is this safe?")

        return think

    return make


def summarized(model: Any) -> Any:
    return SummarizationMiddleware(model=model, trigger=("messages", 4), keep=("messages", 2))


def selected(model: Any) -> Any:
    return LLMToolSelectorMiddleware(model=model, max_tools=1)


@pytest.mark.parametrize(
    "other", [summarized, selected, *map(hooked, (before_agent, before_model, after_model, after_agent))]
)
def test_models_of_other_middleware_are_metered_and_held(other: Any, call: Caller) -> None:
    with FakeProvider(busy) as provider:
        guard = CostGuard(Budget(per="trace", model_calls=6), prices=PRICES)
        model, theirs = provider.openai(max_tokens=20), provider.openai(max_tokens=20)
        agent = create_agent(model, [search], middleware=[other(theirs), *steer(guard, loops=None)])
        with suppress(BudgetExceededError):  # of a call that is not the agent's own
            call(agent, GO)
        assert guard.report().total.calls == len(provider.requests) <= 6


def of_steer(guard: CostGuard, model: Any) -> Any:
    return create_agent(model, [search], middleware=steer(guard, loops=None))


def of_install(guard: CostGuard, model: Any) -> Any:
    return install(hand_written(model, [search]), guard, policies=steer(guard, loops=None))


def of_models(guard: CostGuard, model: Any) -> Any:
    return hand_written(SteeredModel(model, steer(guard, loops=None)), [search])


def of_wrapped(guard: CostGuard, model: Any) -> Any:
    return hand_written(guard.wrap(model), [search])


@pytest.mark.parametrize("attach", [of_steer, of_install, of_models, of_wrapped])
@pytest.mark.parametrize("per", ["trace", ("trace", "agent")])
def test_a_budget_per_run_is_held_wherever_the_guard_is_and_begins_anew_with_the_next(
    attach: Any, per: Any, call: Caller
) -> None:
    with FakeProvider(busy) as provider:
        guard = CostGuard(Budget(per=per, model_calls=3), prices=PRICES)
        agent = attach(guard, provider.openai(max_tokens=20))
        for run in (1, 2):
            with suppress(BudgetExceededError):
                call(agent, GO, {"recursion_limit": 60})
            assert len(provider.requests) == 3 * run


def test_an_agent_inside_a_tool_of_another_is_of_its_run(call: Caller) -> None:
    with FakeProvider(busy) as provider:
        guard = CostGuard(Budget(per="trace", model_calls=4), prices=PRICES)
        inner = create_agent(provider.openai(max_tokens=20), [search], middleware=steer(guard, loops=None))

        @tool
        def delegate(job: str) -> str:
            """Have it done."""
            return str(inner.invoke(GO)["messages"][-1].text)

        def outer(request: Request) -> Reply:
            return Reply(tool_calls=[("delegate", {"job": "x"})])

        with FakeProvider(outer) as above:
            model = above.openai(max_tokens=20)
            call(create_agent(model, [delegate], middleware=steer(guard, loops=None)), GO)
            assert len(provider.requests) + len(above.requests) == 4


def test_other_nodes_of_an_installed_graph_are_metered(call: Caller) -> None:
    with FakeProvider(busy) as provider:
        guard = CostGuard(prices=PRICES)
        model = provider.openai(max_tokens=20)
        builder = StateGraph(MessagesState)
        builder.add_node("plan", lambda state: {"messages": [model.invoke(state["messages"])]})
        builder.add_node("agent", lambda state: {"messages": [model.invoke(state["messages"])]})
        builder.add_edge(START, "plan")
        builder.add_edge("plan", "agent")
        call(install(builder.compile(), guard, tools=None), GO)
        assert guard.report().total.calls == 2


def test_nothing_outside_the_agent_is_metered_and_two_agents_are_kept_apart(call: Caller) -> None:
    with FakeProvider("ok") as provider:
        ours, theirs = CostGuard(prices=PRICES), CostGuard(prices=PRICES)
        model = provider.openai()
        call(create_agent(model, [search], middleware=steer(ours)), GO)
        call(create_agent(model, [search], middleware=steer(theirs)), GO)
        call(create_agent(model, [search]), GO)
        call(model, "hello")
        assert (ours.report().total.calls, theirs.report().total.calls) == (1, 1)


def test_the_agents_state_is_what_it_was() -> None:
    seen: list[set[str]] = []

    class Look(AgentMiddleware[Any, Any]):
        def before_model(self, state: Any, runtime: Any) -> None:
            seen.append(set(state))

    with FakeProvider("ok") as provider:
        guard = CostGuard(prices=PRICES)
        plain = create_agent(provider.openai(), [search], middleware=[Look()])
        agent = create_agent(provider.openai(), [search], middleware=[Look(), *steer(guard)])
        assert set(agent.invoke(GO)) == set(plain.invoke(GO))
        assert seen[0] == seen[1]
        assert agent.get_input_jsonschema() == plain.get_input_jsonschema()
        assert agent.get_output_jsonschema() == plain.get_output_jsonschema()


def test_runs_side_by_side_are_runs_of_their_own() -> None:
    with FakeProvider(busy) as provider:
        guard = CostGuard(Budget(per="trace", model_calls=2), prices=PRICES)
        agent = create_agent(provider.openai(max_tokens=20), [search], middleware=steer(guard, loops=None))

        async def all_at_once() -> None:
            await asyncio.gather(*(agent.ainvoke(GO) for _ in range(3)))

        asyncio.run(all_at_once())
        assert len(provider.requests) == 6


def test_the_tools_of_a_guarded_node_are_of_the_run_of_its_graph(call: Caller) -> None:
    with FakeProvider(busy) as provider:
        guard = CostGuard(Budget(per="trace", tool_calls=2), prices=PRICES)
        model = provider.openai(max_tokens=20).bind_tools([search])
        builder = StateGraph(MessagesState)
        builder.add_node("agent", lambda state: {"messages": [model.invoke(state["messages"])]})
        builder.add_node("tools", guarded_tools([search], guard))
        builder.add_edge(START, "agent")
        builder.add_conditional_edges("agent", lambda s: "tools" if len(s["messages"]) < 9 else "__end__")
        builder.add_edge("tools", "agent")
        state = call(builder.compile(), GO)
        assert [m.status for m in state["messages"] if m.type == "tool"] == ["success", "success", "error", "error"]


@pytest.mark.parametrize("seam", ["create_agent", "graph"])
def test_the_time_of_a_run_is_over_when_it_is_over_though_nobody_listens(seam: str, call: Caller) -> None:
    clock = ManualClock()

    @tool
    def wait(query: str) -> str:
        """Wait."""
        clock.advance(4)
        return f"results for {query}"

    def waits(request: Request) -> Reply:
        return Reply(tool_calls=[("wait", {"query": f"thing {request.number} {'x' * request.number}"})])

    with FakeProvider(waits) as provider:
        guard = CostGuard(Budget(per="trace", seconds=10), prices=PRICES, clock=clock)
        agent = build(seam, guard, provider.openai(max_tokens=50), [wait], None, {"loops": None})
        assert "I have to stop here: the time" in call(agent, GO)["messages"][-1].text
        assert len(provider.requests) == 3
