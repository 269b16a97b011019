"""What is told, what is reported and what the store keeps is one figure, to the last unit."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from langchain_costguard import (
    AgentHaltedError,
    Budget,
    BudgetExceededError,
    CostGuard,
    KillSwitch,
    MemoryStore,
    ToolFee,
)
from langchain_costguard.events import CallStarted, CallVoided, Overrun, ToolSettled
from langchain_costguard.metering.stores import Claim
from langchain_costguard.testing import FakeProvider, Recorder, Reply, ScriptedChatModel
from tests.conftest import PRICES, Caller

CENT = 10_000_000


class Heard(BaseCallbackHandler):
    """Counts the calls that it hears of."""

    starts = 0

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.starts += 1


def spent(guard: CostGuard, measure: str) -> int:
    return guard.store.read([f"all|{measure}"], now=0)[0].spent


@pytest.mark.parametrize(
    ("unit", "broken", "fee"), [("0.01", False, 30 * CENT), ("0", False, 25 * CENT), ("0.01", True, 25 * CENT)]
)
def test_a_tool_that_ends_after_what_called_it_costs_its_fee_once(
    unit: str, broken: bool, fee: int, recorder: Recorder
) -> None:
    prices = {"search": ToolFee(call="0.25", unit=unit)}
    guard = CostGuard(Budget(per="all", usd="10", tool_calls=5), tool_prices=prices, sinks=[recorder])

    async def main() -> None:
        begun, over = asyncio.Event(), asyncio.Event()

        @tool
        async def search(query: str) -> str:
            """Search."""
            begun.set()
            await over.wait()
            if broken:
                raise LookupError(query)
            return "found"

        async def parent(_: Any) -> asyncio.Task[Any]:
            task = asyncio.create_task(search.ainvoke({"query": "x"}))
            await begun.wait()
            return task

        task = await RunnableLambda(parent).ainvoke("", {"callbacks": [guard]})
        assert (guard.report().total.spent, spent(guard, "usd")) == (25 * CENT, 25 * CENT)
        over.set()
        await asyncio.wait([task])
        assert isinstance(task.exception(), LookupError) == broken

    asyncio.run(main())
    total = guard.report().total
    assert [(event.charge, event.charged_before) for event in recorder.of(ToolSettled)] == [
        (25 * CENT, None),
        (fee, 25 * CENT),
    ]
    assert (total.spent, spent(guard, "usd")) == (fee, fee)
    assert (total.tool_calls, spent(guard, "tool_calls")) == (1, 1)


@pytest.mark.parametrize("more", [-1, 0, 1, 1000])
def test_an_overrun_is_what_a_call_cost_beyond_its_hold_and_nothing_else_is_one(
    more: int, recorder: Recorder, call: Caller
) -> None:
    guard = CostGuard(Budget(per="all", usd="1"), prices=PRICES, sinks=[recorder])
    config = {"callbacks": [guard]}
    call(ScriptedChatModel(usage=(1, 1), max_tokens=5), "hi", config)
    held = recorder.of(CallStarted)[0].held
    given = (held - 5 * 10_000) // 2500
    call(ScriptedChatModel(usage=(given + more, 5), max_tokens=5), "hi", config)
    over = max(0, more * 2500)
    assert [(event.held, event.charge) for event in recorder.of(Overrun)] == [(held, held + over)][: bool(over)]
    assert guard.report().total.overrun == over


def test_a_tool_asked_for_on_its_own_is_not_run_while_its_agent_is_halted(call: Caller) -> None:
    ran: list[str] = []

    @tool
    def search(query: str) -> str:
        """Search."""
        ran.append(query)
        return "found"

    guard = CostGuard(Budget(per="all", tool_calls=5))
    guard.kill(reason="enough")
    with pytest.raises(AgentHaltedError, match="Refused a call to gpt-4o: all agents are halted: enough"):
        call(ScriptedChatModel(), "hi", {"callbacks": [guard]})
    with pytest.raises(AgentHaltedError, match="Refused tool search: all agents are halted: enough"):
        call(search, {"query": "x"}, {"callbacks": [guard]})
    guard.revive()
    assert call(search, {"query": "y"}, {"callbacks": [guard]}) == "found"
    assert ran == ["y"]
    assert (guard.report().total.tool_calls, spent(guard, "tool_calls")) == (1, 1)


def test_a_call_that_the_provider_did_not_serve_is_told_as_voided_with_what_was_held(
    recorder: Recorder, call: Caller
) -> None:
    guard = CostGuard(Budget(per="all", usd="1"), prices=PRICES, sinks=[recorder])
    with FakeProvider(Reply(status=400)) as provider, pytest.raises(Exception, match="400"):
        call(provider.openai(max_tokens=5), "hi", {"callbacks": [guard]})
    held = recorder.of(CallStarted)[0].held
    assert [(event.kind, event.held) for event in recorder.of(CallVoided)] == [("model", held)]
    assert spent(guard, "usd") == 0


def test_a_refusal_after_a_grant_is_in_figures_of_all_that_was_spent_and_may_be(call: Caller) -> None:
    guard = CostGuard(Budget(per="all", tool_calls=2), tool_prices={})
    asked = {"callbacks": [guard]}

    @tool
    def search(query: str) -> str:
        """Search."""
        return query

    call(search, {"query": "x"}, asked)
    guard.grant("all", tool_calls=3)
    for _ in range(4):
        call(search, {"query": "x"}, asked)
    with pytest.raises(BudgetExceededError) as refused:
        call(search, {"query": "x"}, asked)
    assert (refused.value.spent, refused.value.cap) == (5, 5)


def test_a_switch_that_nobody_pulled_halts_nobody() -> None:
    said: list[Any] = []
    guard = CostGuard(switch=KillSwitch(lambda: said[-1] if said else None, ttl=0.001))
    assert not guard.brake.pulled()
    assert not CostGuard().brake.pulled()
    guard.kill("somebody", "enough")
    assert guard.brake.pulled()
    guard.revive("somebody")
    assert not guard.brake.pulled()


def test_a_store_says_how_many_accounts_it_keeps() -> None:
    store = MemoryStore()
    for count, shown in enumerate(("0 accounts", "1 account", "2 accounts")):
        assert repr(store) == f"MemoryStore({shown})"
        store.reserve([Claim(f"a{count}", 9, 1)], units=(0, 0), until=600, now=0)


def test_a_wrapped_model_keeps_its_other_callbacks_and_is_watched_once(recorder: Recorder, call: Caller) -> None:
    guard, other = CostGuard(Budget(per="all", usd="1"), prices=PRICES, sinks=[recorder]), Heard()
    model = ScriptedChatModel(usage=(1, 1), max_tokens=5, callbacks=[guard, other])
    call(guard.wrap(model), "hi", {"callbacks": []})
    assert other.starts == 1
    assert len(recorder.of(CallStarted)) == 1
    for wrong, said in ((3, "3"), ("gpt-4o", "'gpt-4o'"), (None, "None"), (int, repr(int))):
        with pytest.raises(ValueError, match=re.escape(said)):
            guard.wrap(wrong)


EVERY = ("usd", "tokens", "input_tokens", "output_tokens", "model_calls", "tool_calls", "steps")


@pytest.mark.parametrize("listening", [False, True])
def test_while_a_call_runs_it_holds_one_call_of_its_kind_and_afterwards_nothing(listening: bool, call: Caller) -> None:
    limits = {
        "tokens": 9000,
        "input_tokens": 9000,
        "output_tokens": 9000,
        "model_calls": 9,
        "tool_calls": 9,
        "steps": 9,
    }
    guard = CostGuard(Budget(per="all", usd="9", **limits), prices=PRICES, sinks=[Recorder()] if listening else [])
    held: list[tuple[int, ...]] = []

    def look() -> tuple[int, ...]:
        rows = {row.measure: row for row in guard.headroom().rows}
        assert tuple(rows) == EVERY
        return tuple(rows[measure].held for measure in EVERY)

    class Looking(ScriptedChatModel):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            held.append(look())
            return super()._generate(*args, **kwargs)

    @tool
    def search(query: str) -> str:
        """Search."""
        held.append(look())
        return "found"

    config = {"callbacks": [guard]}
    for thing, given in ((Looking(max_tokens=5), "hi"), (search, {"query": "x"})) * 3:
        call(thing, given, config)
        assert look() == (0,) * 7
    assert len(held) == 6
    for usd, tokens, given, made, *calls in held[::2]:
        assert (usd, tokens, made, calls) == (2500 * given + 50_000, given + 5, 5, [1, 0, 1])
    assert held[1::2] == [(0, 0, 0, 0, 0, 1, 0)] * 3
