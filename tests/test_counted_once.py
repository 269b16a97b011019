"""No paid reply is lost, and none is counted twice."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langchain_openai import OpenAI
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import SecretStr

from langchain_costguard import Budget, BudgetExceededError, CostGuard
from langchain_costguard.events import HoldExpired
from langchain_costguard.testing import FakeProvider, ManualClock, Recorder, Reply, ScriptedChatModel
from tests.conftest import PRICES, Caller

ONE_CALL = 2 * 2500 + 4 * 10_000
"""Two words asked, four answered."""


def test_a_call_is_charged_to_the_nano(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(prices=PRICES)
    call(provider.openai(), "hello there", {"callbacks": [guard]})
    assert guard.report().total.spent == ONE_CALL


def test_a_guard_attached_in_four_ways_counts_once(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES)
    model = guard.wrap(provider.openai(callbacks=[guard]))
    with guard.watch():
        call(model, "hello there", {"callbacks": [guard, guard]})
    total = guard.report().total
    assert (total.calls, total.spent) == (1, ONE_CALL)


def test_two_streams_of_a_guard_attached_twice_count_once(stream: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES)
    stream(provider.openai(stream_usage=False), "hello there", {"callbacks": [guard, guard]}, most=3)
    assert guard.report().total.output_tokens == 3


def test_several_replies_to_one_prompt_are_one_bill(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES)
    call(provider.openai(n=3, max_tokens=10), "hello there", {"callbacks": [guard]})
    truth = provider.usage()
    total = guard.report().total
    assert (total.calls, total.output_tokens) == (1, truth.output_tokens) == (1, 12)


def test_every_item_of_a_batch_is_counted(world: str, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES)
    model, config = provider.openai(), RunnableConfig(callbacks=[guard])
    if world == "sync":
        model.batch(["hello there"] * 5, config)
        model.generate([[HumanMessage("hello there")]] * 2, callbacks=[guard])
    else:
        asyncio.run(model.abatch(["hello there"] * 5, config))
        asyncio.run(model.agenerate([[HumanMessage("hello there")]] * 2, callbacks=[guard]))
    total = guard.report().total
    assert (total.calls, total.spent) == (7, 7 * ONE_CALL)


@pytest.mark.parametrize("how", ["callback", "wrapped"])
def test_a_hit_of_langchains_cache_is_money_saved(how: str, call: Caller, provider: FakeProvider) -> None:
    set_llm_cache(InMemoryCache())
    guard = CostGuard(Budget(per="session", usd="1", model_calls=1), prices=PRICES)
    model: Any = provider.openai()
    config: Any = None
    if how == "wrapped":
        model = guard.wrap(model)
    else:
        guard = CostGuard(Budget(per="session", usd="1", model_calls=2), prices=PRICES)
        config = {"callbacks": [guard]}
    call(model, "hello there", config)
    call(model, "hello there", config)
    assert len(provider.requests) == 1
    total = guard.report().total
    assert (total.calls, total.spent, total.saved) == (1, ONE_CALL, ONE_CALL)
    assert guard.store.read([f"session|{guard.session}|usd"], now=0)[0].spent == ONE_CALL


def test_a_wrapped_models_cache_hit_needs_no_budget_at_all(call: Caller, provider: FakeProvider) -> None:
    set_llm_cache(InMemoryCache())
    guard = CostGuard(Budget(per="session", model_calls=1), prices=PRICES)
    model = guard.wrap(provider.openai())
    for _ in range(3):
        assert call(model, "hello there").content == "four little words here"
    assert len(provider.requests) == 1


def test_a_sub_agent_in_a_tool_is_counted_under_its_own_name_and_the_same_trace(call: Caller) -> None:
    with FakeProvider("done") as inner_provider, FakeProvider([Reply(tool_calls=[("ask", {"q": "x"})]), "ok"]) as outer:
        inner = create_agent(inner_provider.openai(), [], name="inner")

        @tool
        def ask(q: str) -> str:
            """Ask the inner agent."""
            return str(inner.invoke({"messages": [("user", q)]})["messages"][-1].content)

        guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES)
        agent = create_agent(outer.openai(), [ask], name="outer")
        call(agent, {"messages": [("user", "hello there")]}, {"callbacks": [guard]})
        served = outer.usage(), inner_provider.usage()
    report = guard.report()
    assert {row[0]: tally.calls for row, tally in report.by("agent").rows} == {"outer": 2, "inner": 1}
    assert len(report.by("trace").rows) == 1
    truth = sum(part.input_tokens * 2500 + part.output_tokens * 10_000 for part in served)
    assert report.total.spent == truth
    assert report.total.tool_calls == 1


def test_calls_below_a_child_that_replaces_callbacks_are_seen_by_watch(call: Caller, provider: FakeProvider) -> None:
    model = provider.openai()
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [model.invoke(state["messages"], {"callbacks": []})]})
    builder.add_edge(START, "model")
    graph = builder.compile()
    outer, watching = CostGuard(prices=PRICES), CostGuard(prices=PRICES)
    with watching.watch():
        call(graph, {"messages": [("user", "hello there")]}, {"callbacks": [outer]})
    assert (outer.report().total.calls, watching.report().total.calls) == (0, 1)
    assert len(watching.report().by("trace").rows) == 1


def test_two_guards_at_once_each_count_once(call: Caller, provider: FakeProvider) -> None:
    first, second = CostGuard(prices=PRICES), CostGuard(prices=PRICES)
    with first.watch(), second.watch():
        call(provider.openai(), "hello there")
    call(provider.openai(), "hello there")
    assert [guard.report().total.calls for guard in (first, second)] == [1, 1]


def test_watch_reaches_bare_threads(provider: FakeProvider) -> None:
    from threading import Thread

    guard = CostGuard(prices=PRICES)
    model = provider.openai()
    with guard.watch():
        thread = Thread(target=model.invoke, args=("hello there",))
        thread.start()
        thread.join()
    assert guard.report().total.calls == 1


def test_the_price_of_the_model_that_answered_wins(call: Caller) -> None:
    with FakeProvider(Reply("four little words here", model="gpt-4o-mini-2024-07-18")) as provider:
        guard = CostGuard()
        call(provider.openai(model="gpt-4o"), "hello there", {"callbacks": [guard]})
    assert guard.report().total.spent == 2 * 150 + 4 * 600


def test_a_failed_call_costs_nothing_and_frees_its_hold(call: Caller) -> None:
    with FakeProvider([Reply(status=429), Reply(status=500), "fine"]) as provider:
        guard = CostGuard(Budget(per="session", usd="0.001"), prices=PRICES)
        model = provider.openai(max_tokens=80)
        for _ in range(2):
            with pytest.raises(Exception, match="told to fail"):
                call(model, "hello there", {"callbacks": [guard]})
        call(model, "hello there", {"callbacks": [guard]})
    balance = guard.store.read([f"session|{guard.session}|usd"], now=0)[0]
    assert (balance.spent, balance.held) == (2 * 2500 + 10_000, 0)


def test_a_reply_is_not_lost_to_a_sink_that_fails(call: Caller, provider: FakeProvider, caplog: Any) -> None:
    def broken(event: object) -> None:
        raise RuntimeError("the sink is broken")

    recorder = Recorder()
    guard = CostGuard(prices=PRICES, sinks=[broken, recorder])
    for _ in range(3):
        call(provider.openai(), "hello there", {"callbacks": [guard]})
    assert guard.report().total.calls == 3
    assert len(recorder.events) == 6
    assert sum("the sink is broken" in record.message for record in caplog.records) == 1


def test_what_a_cancelled_graph_left_open_is_settled_by_estimate_and_corrected_when_heard_of() -> None:
    async def run(provider: FakeProvider, guard: CostGuard) -> None:
        model = provider.openai(max_tokens=20)
        builder = StateGraph(MessagesState)

        async def node(state: Any) -> Any:
            return {"messages": [await model.ainvoke(state["messages"])]}

        builder.add_node("model", node)
        builder.add_edge(START, "model")
        question: Any = {"messages": [("user", "hello there")]}
        task = asyncio.create_task(builder.compile().ainvoke(question, {"callbacks": [guard]}))
        await asyncio.to_thread(provider.wait_for_requests, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with FakeProvider("never", gate=True) as provider:
        guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES)
        asyncio.run(run(provider, guard))
    total = guard.report().total
    assert (total.calls, total.estimated) == (1, 1)
    assert total.spent >= 20 * 10_000
    assert guard.store.read([f"session|{guard.session}|usd"], now=0)[0].held == 0


def test_a_cancelled_call_of_a_wrapped_model_is_settled() -> None:
    async def run(provider: FakeProvider, model: Any) -> None:
        task = asyncio.create_task(model.ainvoke("hello there"))
        await asyncio.to_thread(provider.wait_for_requests, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with FakeProvider("never", gate=True) as provider:
        guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES)
        asyncio.run(run(provider, guard.wrap(provider.openai(max_tokens=20))))
    total = guard.report().total
    assert (total.calls, total.estimated) == (1, 1)
    assert guard.meter.open_calls == {}


def test_memory_does_not_grow_with_calls_and_cancelled_calls() -> None:
    guard = CostGuard(Budget(per="session", usd="1000000"), Budget(per="trace", usd="1000"), prices=PRICES)
    model = SlowModel(replies=["fine"], usage=(2, 1), provider="openai", model="gpt-4o", max_tokens=5)

    async def calls(count: int) -> None:
        for i in range(count):
            if i % 3:
                await model.ainvoke("hi", {"callbacks": [guard]})
            else:
                task = asyncio.create_task(model.ainvoke("never", {"callbacks": [guard]}))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])

    async def measured() -> int:
        await calls(4_500)
        gc.collect()
        before = sys.getallocatedblocks()
        await calls(1_500)
        gc.collect()
        return sys.getallocatedblocks() - before

    grown = asyncio.run(measured())
    balance = guard.store.read([f"session|{guard.session}|usd"], now=0)[0]
    assert balance.held == 0
    assert guard.report().total.estimated == 2_000
    assert grown < 4_000


def test_a_cancelled_child_leaves_the_balances_of_the_trace_it_belongs_to() -> None:
    guard = CostGuard(Budget(per="trace", model_calls=2), prices=PRICES)
    model = SlowModel(replies=["fine"], usage=(2, 1), provider="openai", model="gpt-4o", max_tokens=5)
    replacing: RunnableConfig = {"callbacks": [guard]}

    async def node(state: Any) -> Any:
        await model.ainvoke("hi")
        task = asyncio.create_task(model.ainvoke("never", replacing))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return {"messages": [await model.ainvoke("hi")]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", node)
    builder.add_edge(START, "model")
    with pytest.raises(BudgetExceededError):
        asyncio.run(builder.compile().ainvoke({"messages": []}, {"callbacks": [guard]}))


def test_calls_never_heard_of_again_are_let_go_when_their_holds_expire(recorder: Recorder) -> None:
    clock = ManualClock()
    guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES, clock=clock, sinks=[recorder])
    metadata = {"ls_provider": "openai", "ls_model_name": "gpt-4o", "ls_max_tokens": 5}
    for _ in range(1000):
        guard.on_chat_model_start({}, [[HumanMessage("hi")]], run_id=uuid4(), metadata=metadata)
        clock.advance(10)
    assert len(guard.meter.open_calls) <= 60 + 64
    assert len(recorder.of(HoldExpired)) >= 1000 - 124


class SlowModel(ScriptedChatModel):
    """Never answers "never"."""

    async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        if messages[0].content == "never":
            await asyncio.Event().wait()
        return await super()._agenerate(messages, *args, **kwargs)


@pytest.mark.parametrize("kind", ["chat model", "text model", "stream", "tool"])
def test_what_one_guard_refuses_another_that_let_it_in_neither_pays_nor_holds(
    call: Caller, stream: Caller, provider: FakeProvider, kind: str
) -> None:
    @tool
    def search(query: str) -> str:
        """Search."""
        return "three results"

    wide = CostGuard(Budget(usd="1", name="wide"), prices=PRICES, tool_prices={"search": "0.01"})
    narrow = CostGuard(Budget(usd="0.0000001", name="narrow"), prices=PRICES, tool_prices={"search": "0.01"})
    text = OpenAI(base_url=provider.url, api_key=SecretStr("x"), model="gpt-3.5-turbo-instruct")
    use = {
        "chat model": lambda config: call(provider.openai(), "hello there", config),
        "text model": lambda config: call(text, "hello there", config),
        "stream": lambda config: stream(provider.openai(), "hello there", config),
        "tool": lambda config: call(search, {"query": "May"}, config),
    }[kind]
    for _ in range(2):
        with pytest.raises(BudgetExceededError, match="'narrow' refused"):
            use({"callbacks": [wide, narrow]})
    gc.collect()
    assert (wide.report().total.spent, wide.report().total.calls, wide.report().total.tool_calls) == (0, 0, 0)
    assert [(row.spent, row.held) for row in wide.headroom().rows] == [(0, 0)]
    assert provider.requests == []
