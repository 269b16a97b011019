"""Streams are exact to the chunk: what was received is paid, whoever ended it, and what is stopped ends upstream."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from langchain_costguard import Budget, BudgetExceededError, CostGuard, CostGuardError
from langchain_costguard.events import Overrun
from langchain_costguard.testing import FakeProvider, ManualClock, Recorder, Reply, ScriptedChatModel
from tests.conftest import PRICES, Caller

WORDS = 50
PROMPT = "please count for me"


def counting(**changes: Any) -> Reply:
    """A reply of fifty one-token words, sent one a chunk."""
    return Reply(chunks=["one "] * WORDS, **changes)


def attached(guard: CostGuard, how: str, model: Any) -> tuple[Any, Any]:
    """The model and config of one way to attach."""
    return (guard.wrap(model), None) if how == "wrapped" else (model, {"callbacks": [guard]})


@pytest.mark.parametrize("how", ["callback", "wrapped"])
def test_a_stream_read_to_its_end_is_paid_as_the_provider_says(how: str, stream: Caller) -> None:
    with FakeProvider(counting()) as provider:
        guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES)
        model, config = attached(guard, how, provider.openai(max_tokens=100))
        stream(model, PROMPT, config)
        truth = provider.usage()
    total = guard.report().total
    assert (total.input_tokens, total.output_tokens) == (truth.input_tokens, truth.output_tokens) == (4, WORDS)
    assert total.estimated == 0


@pytest.mark.parametrize("how", ["callback", "wrapped"])
@pytest.mark.parametrize("most", [1, 7, 25, 40, 49])
def test_a_stream_the_caller_breaks_off_settles_what_was_received(how: str, most: int, stream: Caller) -> None:
    with FakeProvider(counting(hold_after=most)) as provider:
        guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES)
        model, config = attached(guard, how, provider.openai(max_tokens=100))
        stream(model, PROMPT, config, most=most)
        provider.wait_until(lambda: provider.requests[0].aborted)
        assert provider.requests[0].chunks_sent == most
    total = guard.report().total
    assert total.output_tokens == most
    assert total.estimated == 1
    assert guard.meter.open_calls == {}


@pytest.mark.parametrize("how", ["callback", "wrapped"])
def test_a_cancelled_stream_settles_what_was_received(how: str) -> None:
    async def read(model: Any, config: Any) -> None:
        got = 0
        async for piece in model.astream(PROMPT, config):
            got += bool(piece.content)
            if got == 30:
                asyncio.current_task().cancel()  # type: ignore[union-attr]

    with FakeProvider(counting(hold_after=30)) as provider:
        guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES)
        model, config = attached(guard, how, provider.openai(max_tokens=100))
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(read(model, config))
    assert guard.report().total.output_tokens == 30
    assert guard.meter.open_calls == {}


@pytest.mark.parametrize("how", ["callback", "wrapped"])
def test_a_stream_that_outgrows_its_budget_is_stopped_and_ends_upstream(how: str, stream: Caller) -> None:
    # No maximum is asked for, and the server ignores the one a wrapped model sets: 20 tokens are affordable.
    reply = Reply(chunks=["one "] * 2000, pace=0.001)
    with FakeProvider(lambda request: reply) as provider:
        for_prompt, for_words = 60 * 2500, 20 * 10_000
        guard = CostGuard(
            Budget(per="session", usd=f"{(for_prompt + for_words) / 1e9:.9f}"), prices=PRICES, assume_output_tokens=5
        )
        model, config = attached(guard, how, provider.openai())
        if how == "wrapped":
            got = stream(model, PROMPT, config)
            assert provider.requests[0].max_tokens is not None
            assert sum(bool(piece.content) for piece in got) <= 80
        else:
            with pytest.raises(BudgetExceededError, match="refused more of a reply of gpt-4o: it may take"):
                stream(model, PROMPT, config)
            provider.wait_until(lambda: provider.requests[0].aborted)
            assert provider.requests[0].chunks_sent < 2000
    total = guard.report().total
    assert total.spent <= for_prompt + for_words


def test_a_stopped_stream_says_which_budget_stopped_it(stream: Caller) -> None:
    with FakeProvider(Reply(chunks=["one "] * 2000, pace=0.001)) as provider:
        guard = CostGuard(
            Budget(per="session", usd="100"),
            Budget(per="all", output_tokens=50),
            prices=PRICES,
            assume_output_tokens=5,
        )
        with pytest.raises(BudgetExceededError) as caught:
            stream(provider.openai(), PROMPT, {"callbacks": [guard]})
        provider.wait_until(lambda: provider.requests[0].aborted)
    assert (caught.value.budget, caught.value.measure) == ("all", "output_tokens")
    assert guard.report().total.output_tokens <= 60


@pytest.mark.parametrize("piece", ["日本語の長い文章", "one two three four five six ", "0123456789"])
def test_a_stream_of_long_chunks_is_stopped_no_later_than_one_of_short_ones(piece: str, stream: Caller) -> None:
    with FakeProvider(Reply(chunks=[piece] * 2000, pace=0.001)) as provider:
        guard = CostGuard(Budget(per="all", output_tokens=200), prices=PRICES, assume_output_tokens=5)
        with pytest.raises(BudgetExceededError):
            stream(provider.openai(), PROMPT, {"callbacks": [guard]})
    assert 200 <= guard.report().total.output_tokens <= 240


class Talkative(ScriptedChatModel):
    """Says that it gives a hundred tokens at the most, and gives more."""

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {**super()._get_ls_params(stop=stop, **kwargs), "ls_max_tokens": 100}


def test_a_stream_is_extended_while_the_budget_still_affords_it(stream: Caller, recorder: Recorder) -> None:
    guard = CostGuard(Budget(per="session", usd="1"), Budget(per="call", usd="0.5"), prices=PRICES, sinks=[recorder])
    model = Talkative(replies=[Reply(chunks=["one "] * 300)], usage=(4, None))
    assert sum(bool(piece.content) for piece in stream(model, PROMPT, {"callbacks": [guard]})) == 300
    assert guard.report().total.output_tokens == 300
    assert recorder.of(Overrun) == []


def test_a_stream_that_cannot_be_extended_is_stopped_at_its_hold(stream: Caller) -> None:
    guard = CostGuard(Budget(per="call", output_tokens=150), prices=PRICES)
    model = Talkative(replies=[Reply(chunks=["one "] * 300)], usage=(4, None))
    with pytest.raises(BudgetExceededError) as caught:
        stream(model, PROMPT, {"callbacks": [guard]})
    assert caught.value.measure == "output_tokens"
    assert 150 <= guard.report().total.output_tokens <= 170


def test_the_kill_switch_stops_a_stream_under_way(stream: Caller) -> None:
    clock = ManualClock()
    with FakeProvider(counting(pace=0.001)) as provider:
        guard = CostGuard(prices=PRICES, clock=clock)

        def brake(event: Any) -> None:
            if type(event).__name__ == "CallStarted":
                guard.kill(reason="enough")

        guard.add_sink(brake)
        with pytest.raises(CostGuardError, match="enough"):
            stream(provider.openai(max_tokens=100), PROMPT, {"callbacks": [guard]})
        provider.wait_until(lambda: provider.requests[0].aborted or provider.requests[0].finished)
    assert guard.report().total.spent > 0


def test_a_budget_of_seconds_stops_a_stream_when_they_are_over(stream: Caller, recorder: Recorder) -> None:
    clock = ManualClock()
    with FakeProvider(counting()) as provider:
        guard = CostGuard(Budget(per="session", seconds=5), prices=PRICES, clock=clock, sinks=[recorder])
        guard.add_sink(lambda event: clock.advance(6) if type(event).__name__ == "CallStarted" else None)
        with pytest.raises(BudgetExceededError, match="its 5 seconds are over"):
            stream(provider.openai(max_tokens=100), PROMPT, {"callbacks": [guard]})


def test_a_finished_stream_without_usage_is_settled_at_its_hold_and_flagged(stream: Caller, recorder: Recorder) -> None:
    with FakeProvider(counting()) as provider:
        guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES, sinks=[recorder])
        stream(provider.openai(max_tokens=80, stream_usage=False), PROMPT, {"callbacks": [guard]})
    total = guard.report().total
    assert (total.output_tokens, total.estimated) == (80, 1)
    assert [type(event).__name__ for event in recorder.events] == ["CallStarted", "CallSettled", "UsageMissing"]


def test_tokens_of_a_graph_in_messages_mode_are_counted_once(world: str) -> None:
    with FakeProvider(counting()) as provider:
        model = provider.openai(max_tokens=100)
        builder = StateGraph(MessagesState)
        builder.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
        builder.add_edge(START, "model")
        graph = builder.compile()
        guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES)
        config: Any = {"callbacks": [guard]}
        question: Any = {"messages": [("user", PROMPT)]}
        if world == "sync":
            pieces = [piece for piece, _ in graph.stream(question, config, stream_mode="messages")]
        else:

            async def read() -> list[Any]:
                return [piece async for piece, _ in graph.astream(question, config, stream_mode="messages")]

            pieces = asyncio.run(read())
        assert sum(isinstance(piece, AIMessageChunk) and bool(piece.content) for piece in pieces) == WORDS
    total = guard.report().total
    assert (total.calls, total.output_tokens, total.estimated) == (1, WORDS, 0)


def test_a_protocol_stream_is_counted_once_and_can_be_stopped(world: str) -> None:
    with FakeProvider(counting()) as provider:
        guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES)
        model = provider.openai(max_tokens=100)
        config: Any = {"callbacks": [guard]}
        if world == "sync":
            for _ in model.stream_events(PROMPT, config, version="v3"):
                pass
        else:

            async def read() -> None:
                async for _ in await model.astream_events(PROMPT, config, version="v3"):
                    pass

            asyncio.run(read())
    total = guard.report().total
    assert (total.calls, total.output_tokens) == (1, WORDS)


def test_a_stream_of_several_replies_asks_for_no_more_than_each_of_them_needs() -> None:
    guard, run_id = CostGuard(Budget(per="all", output_tokens=66), prices=PRICES), uuid4()
    guard.on_chat_model_start(
        {},
        [[HumanMessage("hi")]],
        run_id=run_id,
        metadata={"ls_model_name": "gpt-4o", "ls_max_tokens": 11},
        invocation_params={"n": 3},
    )
    for _ in range(60):  # 33 are held
        guard.on_llm_new_token("a", run_id=run_id)
    assert 33 < guard.headroom().rows[0].held <= 66
