"""A guard says what a scope may still spend, to whoever steers by it, and never fails to answer."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph

from langchain_costguard import Budget, BudgetExceededError, CostGuard, RedisStore, Scope, SQLiteStore
from langchain_costguard.events import CallStarted
from langchain_costguard.metering.budgets.headroom import Headroom
from langchain_costguard.metering.stores import Balance, Claim, MemoryStore
from langchain_costguard.testing import FakeProvider, ManualClock, Recorder, ScriptedChatModel
from tests.conftest import PRICES, Caller

ONE_CALL = 10 * 2500 + 5 * 10_000
BUDGETS = (
    Budget(per="session", usd="0.001", tokens=100, seconds=60, reserve="10%"),
    Budget(per="user", model_calls=4, window="day"),
    Budget(per="agent", usd="5", only={"agent": "research"}),
    Budget(per="step", usd="1"),
    Budget(per="call", usd="1"),
)


def model(**changes: Any) -> ScriptedChatModel:
    return ScriptedChatModel(usage=(10, 5), max_tokens=5, **changes)


def test_every_lasting_budget_of_the_scope_is_a_row(call: Caller) -> None:
    clock = ManualClock()
    guard = CostGuard(*BUDGETS, prices=PRICES, clock=clock)
    call(model(), "hi", {"callbacks": [guard]})
    clock.advance(15)
    headroom = guard.headroom()
    assert [(row.budget, row.measure, row.window) for row in headroom.rows] == [
        ("session", "usd", ""),
        ("session", "tokens", ""),
        ("session", "seconds", ""),
        ("user.day", "model_calls", "day"),
    ]
    usd, tokens, seconds, calls = headroom.rows
    assert usd[2:7] == (ONE_CALL, 0, 1_000_000, 0, 100_000)
    assert (tokens.left, tokens.share) == (90 - 15, 0.15)
    assert (seconds.spent, seconds.left, headroom.seconds_left) == (15_000, 45_000, 45.0)
    assert (calls.spent, calls.left) == (1, 3)
    assert headroom.left("usd") == 900_000 - ONE_CALL
    assert headroom.left("steps") is None
    assert headroom.fullest in (seconds, calls)
    assert headroom.share == 0.25
    with pytest.raises(ValueError, match="left: 'money' is not one of usd"):
        headroom.left("money")


def test_a_scope_may_be_asked_about_from_outside(call: Caller) -> None:
    guard = CostGuard(*BUDGETS, prices=PRICES)
    with guard.scope(user="u1", agent="research"):
        call(model(), "hi", {"callbacks": [guard]})
        assert len(guard.headroom().rows) == 5
    assert guard.headroom(Scope(user="u1")).left("model_calls") == 3
    assert guard.headroom(Scope(user="u2")).left("model_calls") == 4


def test_holds_are_shown_and_are_not_spent(call: Caller) -> None:
    guard = CostGuard(Budget(per="all", output_tokens=10), prices=PRICES)
    seen: list[Headroom] = []

    class Looking(ScriptedChatModel):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            seen.append(guard.headroom())
            return super()._generate(*args, **kwargs)

    call(Looking(usage=(10, 5), max_tokens=5), "hi", {"callbacks": [guard]})
    (row,) = seen[0].rows
    assert (row.spent, row.held, row.left, row.share) == (0, 5, 5, 0.0)


def test_more_than_the_cap_is_more_than_all_of_it(call: Caller) -> None:
    guard = CostGuard(Budget(per="all", output_tokens=8, lockout=1.25), prices=PRICES)
    for _ in range(2):
        call(model(), "hi", {"callbacks": [guard]})
    assert (guard.headroom().share, guard.headroom().left("output_tokens")) == (1.25, 0)
    guard.grant("all", output_tokens=2)
    assert (guard.headroom().share, guard.headroom().left("output_tokens")) == (1.0, 2)


def test_it_reads_as_a_table(call: Caller) -> None:
    clock = ManualClock()
    guard = CostGuard(Budget(per="session", usd="0.01", seconds=60, name="<b>"), prices=PRICES, clock=clock)
    call(model(), "hi", {"callbacks": [guard]})
    assert str(guard.headroom()) == (
        "budget  window  measure      spent       held       left        cap\n"
        "------  ------  -------  ---------  ---------  ---------  ---------\n"
        "<b>     -       usd      $0.000075  $0.000000  $0.009925  $0.010000\n"
        "<b>     -       seconds      0.0 s          -     60.0 s     60.0 s"
    )
    shown = guard.headroom()._repr_html_()
    assert "<b>" not in shown
    assert shown.count('role="progressbar"') == 2
    assert "$0.000075 of $0.010000, $0.009925 left" in shown


def test_where_nothing_is_limited_there_is_nothing_to_say() -> None:
    headroom = CostGuard().headroom()
    assert (headroom.rows, headroom.fullest, headroom.share) == ((), None, 0.0)
    assert headroom.seconds_left == math.inf
    assert str(headroom) == "No budget applies."
    assert headroom._repr_html_() == "<p>No budget applies.</p>"
    assert CostGuard(Budget(seconds=9)).headroom().seconds_left == 9.0


@pytest.mark.parametrize("policy", ["refuse", "local"])
def test_a_store_that_does_not_answer_leaves_what_is_known(policy: Any) -> None:
    guard = CostGuard(Budget(usd="1"), store=RedisStore("redis://127.0.0.1:1"), on_store_failure=policy)
    assert len(guard.headroom().rows) == (policy == "local")
    assert guard.headroom().share == 0.0


class Counting(MemoryStore):
    shared = True
    reads = 0

    def read(self, *args: Any, **kwargs: Any) -> list[Balance]:
        self.reads += 1
        return super().read(*args, **kwargs)


def test_a_shared_store_is_asked_once() -> None:
    store = Counting()
    guard = CostGuard(*BUDGETS, store=store)
    guard.headroom()
    assert store.reads == 1


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_inside_a_graph_it_is_that_of_the_calls_made_there(kind: str, call: Caller, tmp_path: Path) -> None:
    recorder = Recorder()
    store = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "b.db")
    guard = CostGuard(
        Budget(per=("user", "session"), model_calls=5),
        Budget(per="trace", model_calls=2),
        store=store, prices=PRICES, sinks=[recorder],
    )  # fmt: skip
    scopes: list[Scope] = []
    shares: list[list[tuple[str, int]]] = []

    def look() -> None:
        scopes.append(guard.whose())
        shares.append([(row.budget, row.spent) for row in guard.headroom().rows])

    def work(state: MessagesState) -> Any:
        reply = model().invoke("hi")
        look()
        return {"messages": [reply]}

    async def awork(state: MessagesState) -> Any:
        reply = await model().ainvoke("hi")
        look()
        return {"messages": [reply]}

    builder = StateGraph(MessagesState)
    builder.add_node("work", RunnableLambda(work, afunc=awork))
    builder.add_edge(START, "work")
    graph = builder.compile()
    config: Any = {"callbacks": [guard], "metadata": {"user_id": "u1"}, "configurable": {"thread_id": "t1"}}
    for _ in range(2):
        call(graph, {"messages": [("user", "hi")]}, config)
    told = [event.scope._replace(model="") for event in recorder.of(CallStarted)]
    assert scopes == told
    assert (scopes[0].user, scopes[0].session, scopes[0].step) == ("u1", "t1", "work")
    assert shares == [[("user+session", 1), ("trace", 1)], [("user+session", 2), ("trace", 1)]]
    if kind == "memory":  # a look keeps no account of a trace that is over
        assert [name for name, _ in store.scan(now=0) if name.startswith("trace")] == []


def test_whose_code_it_is_outside_of_any_run() -> None:
    guard = CostGuard(session="mine")
    assert guard.whose() == Scope(session="mine")
    with guard.scope(user="u1", agent="a"):
        assert guard.whose() == Scope(user="u1", session="mine", agent="a")


def test_the_account_of_a_stream_that_ran_out_of_time_is_known(stream: Caller) -> None:
    moments = itertools.count(1_000_000.0)
    guard = CostGuard(Budget(per="session", seconds=5), prices=PRICES, clock=lambda: next(moments), session="s1")
    said = "a good many little words that take their time to come"
    with FakeProvider(said) as provider, pytest.raises(BudgetExceededError, match="5 seconds are over") as caught:
        stream(provider.openai(), "hi", {"callbacks": [guard]})
    assert (caught.value.account, caught.value.cap) == ("session|s1|seconds", 5000)


def test_the_fullest_is_so_of_the_cap_with_what_was_granted() -> None:
    guard = CostGuard(Budget(per="all", tool_calls=10, steps=12))
    claims = [Claim("all|tool_calls", 10, 0), Claim("all|steps", 12, 0)]
    guard.store.settle(claims, [0, 0], [5, 5], until=0, now=guard.now())
    assert (guard.headroom().fullest.measure, guard.headroom().share) == ("tool_calls", 0.5)  # type: ignore[union-attr]
    guard.grant("all", tool_calls=10)
    assert (guard.headroom().fullest.measure, guard.headroom().share) == ("steps", 5 / 12)  # type: ignore[union-attr]
    assert repr(guard.headroom()) == str(guard.headroom())
    assert "5 of 20 tool calls, 15 left" in guard.headroom()._repr_html_()
