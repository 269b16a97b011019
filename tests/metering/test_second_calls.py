"""What the long way says of a first call, the short way says of the ones after it; and replies that say too little."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.callbacks import StdOutCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda

from langchain_costguard import Budget, BudgetExceededError, CostGuard, Price
from langchain_costguard.events import CallSettled
from langchain_costguard.metering.pricing.rates import Rates
from langchain_costguard.metering.seams.wrapping import unwrapped
from langchain_costguard.testing import FakeProvider, ManualClock, Recorder, Reply, ScriptedChatModel
from langchain_costguard.vocabulary.usage import Usage
from tests.conftest import PRICES, Caller
from tests.test_bill import priced, settled, table


def big_tool() -> dict[str, Any]:
    properties = {f"field_{n}": {"type": "string", "description": "what it says " * 20} for n in range(40)}
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}}


@pytest.mark.parametrize(
    "bound",
    [
        {"max_completion_tokens": 1000},
        {"max_tokens": 1000},
        {"tools": [big_tool()]},
        {"n": 9},
    ],
    ids=lambda bound: next(iter(bound)),
)
def test_what_a_call_asks_for_is_held_from_the_second_on_as_at_the_first(bound: dict[str, Any], call: Caller) -> None:
    with FakeProvider("fine") as provider:
        guard = CostGuard(Budget(per="all", usd="0.006"), prices=PRICES)
        model, config = provider.openai(max_tokens=100), {"callbacks": [guard]}
        for _ in range(3):
            call(model, "hi", config)
        with pytest.raises(BudgetExceededError):
            call(model.bind(**bound), "hi", config)
        call(model.bind(max_completion_tokens=50), "hi", config)  # the larger one is 100
        assert len(provider.requests) == 4


def test_the_smaller_of_two_ceilings_is_no_reason_to_refuse(call: Caller) -> None:
    with FakeProvider("fine") as provider:
        guard = CostGuard(Budget(per="all", output_tokens=103), prices=PRICES)
        for ceiling in (100, 50, 100, 100):
            call(provider.openai(max_tokens=100).bind(max_completion_tokens=ceiling), "hi", {"callbacks": [guard]})
        with pytest.raises(BudgetExceededError):
            call(provider.openai(max_tokens=100), "hi", {"callbacks": [guard]})


@pytest.mark.parametrize("listening", [False, True])
def test_a_thread_without_a_context_counts_into_the_trace_whose_callbacks_it_was_given(listening: bool) -> None:
    sinks = [Recorder()] if listening else []
    guard = CostGuard(Budget(per="trace", model_calls=3), prices=PRICES, sinks=sinks)
    model, refused = ScriptedChatModel(max_tokens=5), []

    def ask(given: Any) -> None:
        try:
            model.invoke("hi", {"callbacks": given})
        except BudgetExceededError as error:
            refused.append(error)

    def step(_: Any, config: RunnableConfig) -> None:
        for _ in range(4):
            thread = threading.Thread(target=ask, args=(config["callbacks"],))
            thread.start()
            thread.join()

    for runs in (1, 2):
        RunnableLambda(step).invoke("", {"callbacks": [guard]})
        assert len(refused) == runs
        assert guard.report().total.calls == 3 * runs


@pytest.mark.parametrize("road", ["invoke", "stream", "wrapped invoke"])
def test_a_reply_without_text_and_with_counts_of_zero_costs_all_that_was_held(road: str) -> None:
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    with FakeProvider(Reply("", usage=zero)) as provider:
        event = settled(priced, road, provider.openai(max_tokens=10))
    assert event.estimated
    assert event.charge == event.held > 0


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_a_compaction_is_found_in_either_version_of_langchains_blocks(version: str) -> None:
    block = {"type": "compaction", "content": "what was said until now"}
    with FakeProvider(Reply("hi", items=[block], usage={"input_tokens": 900, "output_tokens": 4})) as provider:
        edits = {"edits": [{"type": "compact_20260112"}]}
        model = provider.anthropic(
            max_tokens=100, context_management=edits, betas=["compact-2026-01-12"], output_version=version
        )
        event = settled(table, "stream", model)
    assert event.estimated
    assert event.usage.input_tokens == 150_900
    assert event.usage.output_tokens > 4


class Alias(ScriptedChatModel):
    """Asked for as gpt-4o-mini, it says that gpt-4o has answered."""

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {**super()._get_ls_params(stop, **kwargs), "ls_model_name": "gpt-4o-mini"}


@pytest.mark.parametrize("listening", [False, True])
def test_the_model_that_the_reply_names_is_the_one_that_is_charged(listening: bool, call: Caller) -> None:
    prices = {"gpt-4o": Price(input="3", output="3")}
    guard = CostGuard(Budget(per="all", usd="1"), prices=prices, sinks=[Recorder()] if listening else [])
    for times in (1, 2):
        call(Alias(usage=(100, 4), max_tokens=10), "hi", {"callbacks": [guard]})
        assert guard.report().total.spent == 104 * 3000 * times


@pytest.mark.parametrize("listening", [False, True])
def test_a_hold_stands_for_its_time_and_not_much_longer(listening: bool) -> None:
    clock = ManualClock()
    guard = CostGuard(
        Budget(per="all", usd="1"),
        prices=PRICES,
        clock=clock,
        sinks=[Recorder()] if listening else [],
        hold_seconds=600,
    )
    ScriptedChatModel(max_tokens=5).invoke("hi", {"callbacks": [guard]})
    metadata = {"ls_provider": "openai", "ls_model_name": "gpt-4o", "ls_max_tokens": 5}
    guard.on_chat_model_start({}, [[HumanMessage("never heard of again")]], run_id=uuid4(), metadata=metadata)
    began, held = clock(), []
    while (balance := guard.store.read(["all|usd"], now=clock())[0]).held:
        held.append(balance.held)
        clock.advance(1)
    assert 600 <= clock() - began <= 660  # in steps of a tenth
    assert len(set(held)) == 1


class Silent(ScriptedChatModel):
    """Says nothing of what it used."""

    def _usage_of(self, output: Any) -> Any:
        return None


@pytest.mark.parametrize(("budgets", "output"), [([], 0), ([Budget(per="all", usd="1")], 1000)])
def test_a_reply_without_counts_is_charged_at_its_hold_with_the_output_that_a_budget_allowed(
    budgets: list[Budget], output: int, recorder: Recorder, call: Caller
) -> None:
    guard = CostGuard(*budgets, prices=PRICES, sinks=[recorder])
    call(Silent(max_tokens=1000), "hi", {"callbacks": [guard]})
    (event,) = recorder.of(CallSettled)
    assert event.estimated
    assert event.usage.output_tokens == output
    assert event.charge == event.held == event.usage.input_tokens * 2500 + 1000 * 10_000


@pytest.mark.parametrize("ttl", [None, "5m", "1h"])
def test_a_tool_that_is_to_be_kept_in_the_cache_is_held_at_the_price_of_a_write(ttl: str | None, call: Caller) -> None:
    mark = {} if ttl is None else {"cache_control": {"type": "ephemeral", "ttl": ttl}}
    prices = {"claude-x": Price(input="1", output="1", cache_write="10", cache_write_1h="20")}
    held: dict[bool, list[int]] = {}

    class Looking(ScriptedChatModel):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            held[listening].append(guard.headroom().rows[0].held)
            return super()._generate(*args, **kwargs)

    model = Looking(provider="anthropic", model="claude-x", max_tokens=5).bind(tools=[{**big_tool(), **mark}])
    for listening in (False, True):
        held[listening] = []
        guard = CostGuard(Budget(per="all", usd="9"), prices=prices, sinks=[Recorder()] if listening else [])
        for _ in range(2):
            call(model, "hi", {"callbacks": [guard]})
    assert held[False] == held[True]
    assert len(set(held[True])) == 1


@pytest.mark.parametrize("named", ["nobody-knows-it", "gemini-2.5-pro", "gpt-4o-mini", "gpt-4o"])
def test_whatever_model_a_reply_names_both_ways_charge_the_same(named: str, call: Caller) -> None:
    spent = []
    for sinks in ([], [Recorder()]):
        guard = CostGuard(Budget(per="all", usd="1"), sinks=sinks)
        for _ in range(3):
            call(Alias(model=named, usage=(100, 4), max_tokens=10), "hi " * 100, {"callbacks": [guard]})
        spent.append((guard.report().total.spent, guard.store.read(["all|usd"], now=0)[0].spent))
    assert spent[0] == spent[1]
    assert spent[0][0] == spent[0][1] > 0


def test_a_wrapped_model_keeps_its_metadata_and_so_whose_calls_they_are(call: Caller) -> None:
    recorder = Recorder()
    guard = CostGuard(Budget(per="user", usd="1"), prices=PRICES, sinks=[recorder])
    for metadata in ({"user_id": "u1"}, None):
        model = ScriptedChatModel(max_tokens=5, metadata=metadata, callbacks=[heard := StdOutCallbackHandler()])
        wrapped = guard.wrap(model)
        call(wrapped, "hi", {})
        assert (unwrapped(wrapped).metadata, unwrapped(wrapped).callbacks) == (model.metadata, [heard])
    assert [event.scope.user for event in recorder.of(CallSettled)] == ["u1", ""]


@pytest.mark.parametrize(("given", "heard"), [(1, 0), (150, 140)])
def test_of_an_input_that_holds_audio_all_but_its_words_is_audio_where_the_client_drops_the_split(
    given: int, heard: int
) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 12_000, "format": "mp3"}}
    messages = [HumanMessage([{"type": "text", "text": "what is said?"}, sound])]
    usage = {"prompt_tokens": given, "completion_tokens": 4, "total_tokens": given + 4}
    with FakeProvider(Reply("a song", usage=usage)) as provider:
        event = settled(table, "invoke", provider.openai("gpt-audio", max_tokens=10), messages)
    assert (event.usage.input_tokens, event.usage.input_audio) == (given, heard)


def test_a_read_from_the_cache_that_is_dearer_than_plain_input_has_saved_nothing() -> None:
    assert Rates(input=2_000, cache_read=200).saved_by_cache(Usage(10, 0, cache_read=5)) == 9
    assert Rates(input=1_000, cache_read=1_001).saved_by_cache(Usage(10, 0, cache_read=1)) == 0


def test_traces_that_never_end_do_not_pile_up() -> None:
    guard = CostGuard(Budget(per="trace", model_calls=3))
    metadata = {"ls_provider": "openai", "ls_model_name": "gpt-4o", "ls_max_tokens": 5}
    for _ in range(4_200):
        guard.on_chat_model_start({}, [[HumanMessage("hi")]], run_id=uuid4(), parent_run_id=uuid4(), metadata=metadata)
    assert 4_000 < len(list(guard.store.scan(now=0))) <= 4_100
