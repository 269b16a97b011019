"""What a budget keeps back is for a last answer: nobody else has it, whatever store and whatever scope."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool

from langchain_costguard import Budget, BudgetExceededError, CostGuard, MemoryStore, RedisStore, SQLiteStore
from langchain_costguard.cli.accounts import lines_of
from langchain_costguard.events import Alert
from langchain_costguard.metering.admission import last_call, spending_reserve
from langchain_costguard.testing import FakeProvider, ManualClock, Recorder, Reply, ScriptedChatModel
from tests.conftest import PRICES, Caller
from tests.servers import redis_server

ONE_CALL = 10 * 2500 + 5 * 10_000


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with redis_server() as running:
        yield running


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "sqlite":
        return SQLiteStore(tmp_path / "b.db")
    return RedisStore(request.getfixturevalue("server").url, namespace=tmp_path.name)


def model(**changes: Any) -> ScriptedChatModel:
    return ScriptedChatModel(usage=(10, 5), max_tokens=5, **changes)


def admitted(guard: CostGuard, call: Caller, times: int = 1, **tags: str) -> int:
    """How many of the calls were let through."""
    done = 0
    for _ in range(times):
        try:
            with guard.scope(**tags):
                call(model(), "hi", {"callbacks": [guard]})
        except BudgetExceededError:
            continue
        done += 1
    return done


@pytest.mark.parametrize("per", ["session", "trace", ("user", "agent")])
def test_ordinary_calls_end_where_the_reserve_begins_and_a_last_one_has_it(per: Any, store: Any, call: Caller) -> None:
    guard = CostGuard(Budget(per=per, output_tokens=30, reserve="50%"), store=store, prices=PRICES)
    if per == "trace":  # each call here is a trace of its own
        with FakeProvider("four little words here") as provider:
            dear = provider.openai(max_tokens=25)
            with pytest.raises(BudgetExceededError) as caught:
                call(dear, "hi", {"callbacks": [guard]})
            assert caught.value.reserve
            with spending_reserve():
                assert call(dear, "hi", {"callbacks": [guard]}).content == "four little words here"
        return
    assert admitted(guard, call, 9) == 3
    with pytest.raises(BudgetExceededError) as caught:
        call(model(), "hi", {"callbacks": [guard]})
    assert caught.value.reserve
    with spending_reserve():
        assert last_call.get()
        assert admitted(guard, call, 9) == 3
        with pytest.raises(BudgetExceededError) as caught:
            call(model(), "hi", {"callbacks": [guard]})
    assert not caught.value.reserve
    assert not last_call.get()
    with spending_reserve(False):
        assert admitted(guard, call) == 0


def test_a_refusal_says_what_is_kept_back_and_carries_the_facts(store: Any, call: Caller) -> None:
    budget = Budget(per="user", usd="0.001", reserve="0.0004", name="mine")
    guard = CostGuard(budget, store=store, prices=PRICES)
    assert admitted(guard, call, 3, user="u1") == 3
    with guard.scope(user="u1"), FakeProvider("fine") as provider, pytest.raises(BudgetExceededError) as caught:
        call(provider.openai(max_tokens=50), "hi", {"callbacks": [guard]})
    error = caught.value
    assert "$0.0003750 of $0.0010000 is left (user=u1). $0.0004000 more is kept back for a last answer." in str(error)
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert each.reserve is True
        assert (each.account, each.spent, each.cap) == ("mine|u1|usd", 3 * ONE_CALL, 1_000_000)
        assert each.asked == int(each.needed * 10**9) >= 500_000
        assert each.left == Decimal("0.000375")
        assert {"reserve", "account", "asked", "spent", "cap"} <= set(each.facts)
    assert guard.report().total.refused == 1


def test_there_is_no_reserve_of_a_measure_that_keeps_nothing_back(call: Caller) -> None:
    guard = CostGuard(Budget(per="session", usd="1", model_calls=1, reserve="0.1"), prices=PRICES)
    admitted(guard, call)
    with pytest.raises(BudgetExceededError, match="model call") as caught:
        call(model(), "hi", {"callbacks": [guard]})
    assert caught.value.reserve is False
    assert "kept back" not in str(caught.value)


def test_threads_never_have_the_reserve_together(store: Any) -> None:
    guard = CostGuard(Budget(per="all", tokens=1000, reserve="10%"), store=store, prices=PRICES, wait=0)

    def spend(_: int) -> bool:
        try:
            model().invoke("hi", {"callbacks": [guard]})
        except BudgetExceededError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        done = sum(threads.map(spend, range(80)))
    assert 0 < done * 15 <= 900
    (row,) = guard.headroom().rows
    assert (row.spent, row.cap, row.reserve, row.left) == (done * 15, 1000, 100, 900 - done * 15)


def test_a_wrapped_model_is_given_what_the_reserve_affords(store: Any, call: Caller) -> None:
    guard = CostGuard(
        Budget(per="session", output_tokens=1000, reserve="50%"), store=store, prices=PRICES, assume_output_tokens=10
    )
    with FakeProvider("four little words here") as provider:
        wrapped = guard.wrap(provider.openai(max_tokens=900))
        call(wrapped, "hi")
        with spending_reserve():
            call(wrapped, "hi")
        asked = [
            request.body.get("max_tokens") or request.body.get("max_completion_tokens") for request in provider.requests
        ]
        assert asked == [500, 900]
        with spending_reserve():
            call(guard.wrap(provider.openai(max_tokens=2000)), "hi")
        assert (
            provider.requests[-1].body.get("max_completion_tokens") or provider.requests[-1].body.get("max_tokens")
        ) == 992


def test_a_stream_stops_at_the_reserve_and_a_last_one_goes_on(stream: Caller) -> None:
    said = "word " * 60
    with FakeProvider(said) as provider:
        guard = CostGuard(Budget(per="session", output_tokens=50, reserve=0.5), prices=PRICES, assume_output_tokens=10)
        asked = provider.openai()
        with pytest.raises(BudgetExceededError) as caught:
            stream(asked, "hi", {"callbacks": [guard]})
        assert caught.value.reserve
        used = guard.report().total.output_tokens
        assert 20 <= used <= 30
        with spending_reserve(), pytest.raises(BudgetExceededError) as caught:
            stream(asked, "hi", {"callbacks": [guard]})
        assert not caught.value.reserve
        assert 45 <= guard.report().total.output_tokens <= 55


def test_a_tool_is_not_paid_from_the_reserve_unless_it_is_the_last(call: Caller) -> None:
    @tool
    def search(q: str) -> str:
        """Search."""
        return "found"

    guard = CostGuard(Budget(usd="0.03", reserve="0.02"), tool_prices={"search": "0.01"}, prices=PRICES)
    config: Any = {"callbacks": [guard]}
    assert call(search, {"q": "x"}, config) == "found"
    with pytest.raises(BudgetExceededError, match="kept back"):
        call(search, {"q": "x"}, config)
    with spending_reserve():
        assert call(search, {"q": "x"}, config) == "found"


def test_alerts_and_status_know_the_whole_cap(store: Any, call: Caller) -> None:
    recorder, clock = Recorder(), ManualClock()
    guard = CostGuard(
        Budget(per="all", tokens=100, reserve="30%", lockout=1.2),
        store=store, prices=PRICES, sinks=[recorder], clock=clock, alerts=[0.5, 0.9],
    )  # fmt: skip
    assert admitted(guard, call, 9) == 5
    assert [(alert.threshold, alert.spent, alert.cap) for alert in recorder.of(Alert)] == [(0.5, 60, 100)]
    (line,) = lines_of(guard.store.scan(now=clock()), clock())
    assert (line.spent, line.held, line.cap) == (75, 0, 120)


def test_a_budget_per_call_lets_only_a_last_call_be_so_dear(call: Caller) -> None:
    guard = CostGuard(Budget(per="call", output_tokens=100, reserve="40%"), prices=PRICES)
    with FakeProvider(Reply("fine")) as provider:
        config: Any = {"callbacks": [guard]}
        call(provider.openai(max_tokens=60), "hi", config)
        with pytest.raises(BudgetExceededError) as caught:
            call(provider.openai(max_tokens=61), "hi", config)
        assert (caught.value.reserve, caught.value.account) == (True, "")
        with spending_reserve():
            call(provider.openai(max_tokens=100), "hi", config)
