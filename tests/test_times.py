"""What takes time: fees by the second, how long calls took, and calls that outlast their budget's seconds."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain_core.tools import tool

from langchain_costguard import Budget, BudgetExceededError, CostGuard, SQLiteStore, ToolFee
from langchain_costguard.events import CallSettled
from langchain_costguard.testing import FakeProvider, ManualClock, Recorder, Reply, ScriptedChatModel
from tests.conftest import PRICES, Caller


@pytest.mark.parametrize(
    ("price", "usd"),
    [
        (ToolFee(call="0.10", second="0.01", unit="0.001"), Decimal("0.133")),
        (ToolFee(second="0.01", unit="1", units=lambda output: 2), Decimal("2.03")),
        (lambda tool, arguments, output, seconds: f"{seconds:.2f}", Decimal("3")),
        (lambda tool, arguments, output: "0.5", Decimal("0.5")),
    ],
)
def test_a_tools_fee_may_be_computed_from_how_long_it_ran(price: Any, usd: Decimal) -> None:
    clock = ManualClock(1_000_000.0)
    guard = CostGuard(Budget(per="session", usd="5"), tool_prices={"compute": price}, clock=clock)

    @tool
    def compute(n: int) -> str:
        """Compute."""
        clock.advance(3)
        return "abc"

    compute.invoke({"n": 1}, {"callbacks": [guard]})
    assert guard.report().to_dicts()[0]["usd"] == usd


def test_a_report_says_how_long_calls_took_and_how_many_failed(call: Caller, stream: Caller) -> None:
    guard = CostGuard(prices=PRICES)
    with FakeProvider([Reply("one two"), Reply("one two"), Reply(status=500)]) as provider:
        model = provider.openai()
        call(model, "x", {"callbacks": [guard]})
        stream(model, "x", {"callbacks": [guard]})
        with pytest.raises(openai.InternalServerError):
            call(model, "x", {"callbacks": [guard]})
    (row,) = guard.report().by("model").times().to_dicts()
    assert (row["calls"], row["failed"]) == (2, 1)
    assert 0 < row["first_token_median"] <= row["seconds_p95"]
    assert "first token" in str(guard.report().times())
    assert guard.report().total.failed == 1


@pytest.mark.parametrize("streamed", [False, True])
def test_an_async_call_that_outlasts_its_budgets_seconds_is_cancelled_and_settled(streamed: bool) -> None:
    guard = CostGuard(Budget(per="session", usd="1", seconds=0.3), prices=PRICES)

    async def ask(model: Any) -> None:
        if streamed:
            async for _ in model.astream("hello there"):
                pass
        else:
            await model.ainvoke("hello there")

    with FakeProvider(Reply("late", delay=20)) as provider:
        with pytest.raises(BudgetExceededError, match="seconds are over"):
            asyncio.run(ask(guard.wrap(provider.openai(max_tokens=10))))
        assert not any(request.finished for request in provider.requests)
    total = guard.report().total
    assert (total.calls, total.estimated) == (1, 1)
    assert total.spent > 0


@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_that_blocks_its_thread_has_its_own_timeout_lowered_and_is_refused(streamed: bool) -> None:
    guard = CostGuard(Budget(per="session", usd="1", seconds=0.3), prices=PRICES)
    with FakeProvider(Reply("late", delay=20)) as provider:
        model = guard.wrap(provider.openai(max_tokens=10))
        with pytest.raises(BudgetExceededError, match="seconds are over") as refusal:
            list(model.stream("hello there")) if streamed else model.invoke("hello there")
    assert isinstance(refusal.value.__cause__, openai.APITimeoutError)
    assert guard.report().total.estimated == 1


def test_a_timeout_of_the_clients_own_stays_one() -> None:
    guard = CostGuard(Budget(per="session", usd="1", seconds=60), prices=PRICES)
    with FakeProvider(Reply("late", delay=20)) as provider, pytest.raises(openai.APITimeoutError):
        guard.wrap(provider.openai(max_tokens=10, timeout=0.2)).invoke("hello there")


def test_a_call_is_priced_before_it_is_made(provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES)
    model = provider.openai(max_tokens=100)
    quote = guard.estimate(model, "hello there", output_tokens=50)
    assert 0 < quote.least < quote.expected < quote.most
    assert quote.expected - quote.least == Decimal("0.0005")
    assert guard.estimate("openai:gpt-4o", "hello there", max_tokens=100).most == quote.most
    assert not provider.requests
    assert guard.report().rows == []


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_settled_call_tells_of_the_same_accounts_each_time_and_of_no_clock(
    kind: str, call: Caller, tmp_path: Path
) -> None:
    recorder = Recorder()
    store = SQLiteStore(tmp_path / "budgets.db") if kind == "sqlite" else None
    guard = CostGuard(Budget(per="session", usd="1", seconds=60), store=store, prices=PRICES, sinks=[recorder])
    with guard.scope(session="a"):
        for _ in range(3):
            call(ScriptedChatModel(), "hi", {"callbacks": [guard]})
    assert [[name for name, *_ in event.balances] for event in recorder.of(CallSettled)] == [["session|a|usd"]] * 3
