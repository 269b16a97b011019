"""The bill is the provider's: what is counted is what is billed, on every road a reply can take.

Prices are those of the public table at the time of writing, given to the guard so that a change there moves no test.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import OpenAI

from langchain_costguard import Budget, BudgetExceededError, CostGuard, Price
from langchain_costguard.events import CallFailed, CallSettled
from langchain_costguard.metering.pricing.rates import Rates
from langchain_costguard.testing import FakeProvider, Recorder, Reply, ScriptedChatModel
from tests.conftest import PRICES, Caller

SEARCH = {"type": "search", "query": "q"}
ROADS = ["invoke", "stream", "wrapped invoke", "wrapped stream"]


def settled(guard_of: Callable[..., CostGuard], road: str, model: Any, ask: Any = "hello there") -> CallSettled:
    """What a call on this road was charged."""
    recorder = Recorder()
    guard = guard_of(sinks=[recorder])
    if road.startswith("wrapped"):
        model = guard.wrap(model)
        config: Any = {}
    else:
        config = {"callbacks": [guard]}
    if road.endswith("stream"):
        list(model.stream(ask, config))
    else:
        model.invoke(ask, config)
    (event,) = recorder.of(CallSettled)
    return event


def table(**more: Any) -> CostGuard:
    return CostGuard(Budget(per="session", usd="50"), **more)


def priced(**more: Any) -> CostGuard:
    return CostGuard(Budget(per="session", usd="50"), prices=PRICES, **more)


ZERO = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
NO_INPUT = {"prompt_tokens": 0, "completion_tokens": 4, "total_tokens": 4}
NO_OUTPUT = {"prompt_tokens": 2, "completion_tokens": 0, "total_tokens": 2}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("usage", [ZERO, NO_INPUT, NO_OUTPUT])
def test_counts_that_cannot_be_are_no_counts(road: str, usage: dict[str, int]) -> None:
    with FakeProvider(Reply("four little words here", usage=usage)) as provider:
        event = settled(priced, road, provider.openai(max_tokens=10))
    assert event.estimated
    assert event.usage.input_tokens >= 2
    assert event.usage.output_tokens >= 4
    assert event.source == "estimated"


@pytest.mark.parametrize("usage", [ZERO, NO_INPUT, NO_OUTPUT])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_that_nobody_listens_to_is_counted_all_the_same(usage: dict[str, int], streamed: bool) -> None:
    """Where no sink hears of calls and there is room for many, they take the short way, which counts no prompt."""
    guard = CostGuard(prices=PRICES)
    with FakeProvider(Reply("four little words here", usage=usage)) as provider:
        model, config = provider.openai(max_tokens=10), {"callbacks": [guard]}
        if streamed:
            assert list(model.stream("hello there", config))  # type: ignore[arg-type]
        else:
            model.invoke("hello there", config)  # type: ignore[arg-type]
    total = guard.report().total
    assert (total.calls, total.estimated) == (1, 1)
    assert total.input_tokens >= 2
    assert total.spent >= 2 * 2_500 + 4 * 10_000


def test_a_budget_holds_against_a_server_that_counts_nothing() -> None:
    guard, made = CostGuard(Budget(per="session", usd="0.001"), prices=PRICES), 0
    with FakeProvider(Reply("four little words here", usage=ZERO)) as provider:
        model = provider.openai(max_tokens=10)
        while guard.report().total.refused == 0 and made < 30:
            with contextlib.suppress(BudgetExceededError):
                model.invoke("hello there", {"callbacks": [guard]})
            made += 1
    assert 1 < made < 12


@pytest.mark.parametrize("road", ROADS)
def test_usage_that_every_chunk_tells_again_is_counted_once(road: str) -> None:
    with FakeProvider(Reply("four little words here", input_tokens=35, cumulative=True)) as provider:
        event = settled(priced, road, provider.openai())
    assert (event.usage.input_tokens, event.usage.output_tokens, event.estimated) == (35, 4, False)


def web_search(action: dict[str, str], status: str = "completed") -> dict[str, Any]:
    return {"type": "web_search_call", "id": f"ws_{action['type']}", "status": status, "action": action}


HOSTED: dict[str, tuple[list[dict[str, Any]], tuple[int, int, int]]] = {
    "a search": ([web_search(SEARCH)], (1, 0, 0)),
    "pages are free": ([web_search(SEARCH), web_search({"type": "open_page", "url": "https://a.example"})], (1, 0, 0)),
    "a failed search": ([web_search(SEARCH, "failed")], (0, 0, 0)),
    "file searches": (
        [{"type": "file_search_call", "id": f"f{i}", "status": "completed", "queries": ["q"]} for i in range(2)],
        (0, 2, 0),
    ),
    "one container": (
        [
            {"type": "code_interpreter_call", "id": f"c{i}", "status": "completed", "code": "1", "container_id": "box",
             "outputs": []}
            for i in range(2)
        ],
        (0, 0, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("version", ["v0", "responses/v1", "v1"])
@pytest.mark.parametrize("case", HOSTED)
def test_tools_that_openai_runs_are_charged_by_their_use(road: str, version: str, case: str) -> None:
    items, (searches, files, boxes) = HOSTED[case]
    with FakeProvider(Reply("four little words here", items=items)) as provider:
        model = provider.openai("gpt-5.2", use_responses_api=True, output_version=version)
        event = settled(table, road, model)
    used = event.usage
    assert (used.web_searches, used.file_searches, used.containers) == (searches, files, boxes)
    tokens = used.input_tokens * 1_750 + used.output_tokens * 14_000
    assert event.charge == tokens + searches * 10_000_000 + files * 2_500_000 + boxes * 30_000_000


FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1"}
ASKED = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}
GOOD = [ASKED, {**FOUND, "content": [{"type": "web_search_result", "url": "https://a.example", "title": "t",
                                      "encrypted_content": "x", "page_age": None}]}]  # fmt: skip
BAD = [ASKED, {**FOUND, "content": {"type": "web_search_tool_result_error", "error_code": "unavailable"}}]


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize(("items", "searches"), [(GOOD, 1), (BAD, 0)])
def test_searches_that_anthropic_runs_are_charged_unless_they_failed(
    road: str, version: str, items: list[dict[str, Any]], searches: int
) -> None:
    with FakeProvider(Reply("four little words here", items=items)) as provider:
        event = settled(table, road, provider.anthropic(max_tokens=50, output_version=version))
    assert event.usage.web_searches == searches
    assert event.charge == event.usage.input_tokens * 3_000 + event.usage.output_tokens * 15_000 + searches * 10_000_000


def test_what_anthropic_counts_itself_wins_over_its_blocks(call: Caller) -> None:
    usage = {"input_tokens": 10, "output_tokens": 4, "server_tool_use": {"web_search_requests": 0}}
    recorder = Recorder()
    guard = table(sinks=[recorder])
    with FakeProvider(Reply("hi", items=GOOD, usage=usage)) as provider:
        call(provider.anthropic(max_tokens=50), "hello", {"callbacks": [guard]})
    assert recorder.of(CallSettled)[0].usage.web_searches == 0


def iteration(kind: str, given: int, made: int, **more: Any) -> dict[str, Any]:
    counts = {"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "cache_creation": None}
    return {"type": kind, "input_tokens": given, "output_tokens": made, **counts, **more}


ITERATIONS = {
    "compaction": (
        [iteration("compaction", 100_000, 3_500), iteration("message", 23_000, 1_000)],
        123_000,
        4_500,
        123_000 * 3_000 + 4_500 * 15_000,
    ),
    "advisor": (
        [iteration("message", 23_000, 1_000), iteration("advisor_message", 20_000, 2_000, model="claude-opus-4-5")],
        43_000,
        3_000,
        23_000 * 3_000 + 1_000 * 15_000 + 20_000 * 5_000 + 2_000 * 25_000,
    ),
}


@pytest.mark.parametrize("case", ITERATIONS)
def test_what_anthropic_counts_apart_is_counted(case: str) -> None:
    iterations, given, made, charge = ITERATIONS[case]
    usage = {"input_tokens": 23_000, "output_tokens": 1_000, "iterations": iterations}
    with FakeProvider(Reply("hi", usage=usage)) as provider:
        event = settled(table, "invoke", provider.anthropic(max_tokens=2_000))
    assert (event.usage.input_tokens, event.usage.output_tokens) == (given, made)
    assert event.charge == charge


def test_a_compaction_whose_counts_a_stream_loses_is_held_and_estimated() -> None:
    block = {"type": "compaction", "content": "what was said until now"}
    with FakeProvider(Reply("hi", items=[block], usage={"input_tokens": 900, "output_tokens": 4})) as provider:
        edits = {"edits": [{"type": "compact_20260112"}]}
        model = provider.anthropic(max_tokens=100, context_management=edits, betas=["compact-2026-01-12"])
        event = settled(table, "stream", model)
    assert event.estimated
    assert event.usage.input_tokens == 150_900
    assert event.held >= event.charge


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("bound", [{"service_tier": "priority"}, {"service_tier": "fast"},
                                   {"extra_body": {"service_tier": "priority"}}])  # fmt: skip
def test_the_tier_that_is_asked_for_is_held_and_the_one_used_is_charged(road: str, bound: dict[str, Any]) -> None:
    with FakeProvider(Reply("four little words here", extra={"service_tier": "default"})) as provider:
        usual = settled(table, road, provider.openai("gpt-5.2", max_tokens=50))
        asked = settled(table, road, provider.openai("gpt-5.2", max_tokens=50, **bound))
    assert (asked.held, asked.charge) == (2 * usual.held, usual.charge)


@pytest.mark.parametrize("road", ROADS)
def test_where_inference_runs_is_held_and_charged(road: str) -> None:
    with FakeProvider("four little words here") as provider:
        usual = settled(table, road, provider.anthropic("claude-opus-4-6", max_tokens=50))
        here = settled(table, road, provider.anthropic("claude-opus-4-6", max_tokens=50, inference_geo="us"))
    assert here.charge * 10 == usual.charge * 11
    assert here.held > usual.held


HOUR = {"type": "ephemeral", "ttl": "1h"}


@pytest.mark.parametrize("how", ["argument", "model_kwargs", "extra_body"])
def test_a_cache_write_for_an_hour_is_known_wherever_it_is_asked_for(how: str, stream: Caller) -> None:
    usage = {"input_tokens": 10, "output_tokens": 4, "cache_creation_input_tokens": 2_000, "cache_read_input_tokens": 0}
    recorder = Recorder()
    guard = table(sinks=[recorder])
    with FakeProvider(Reply("hi", usage=usage)) as provider:
        given = {"model_kwargs": {"cache_control": HOUR}} if how == "model_kwargs" else {}
        called = {"argument": {"cache_control": HOUR}, "extra_body": {"extra_body": {"cache_control": HOUR}}}
        model = provider.anthropic(max_tokens=50, **given)
        stream(model, "hello", {"callbacks": [guard]}, **called.get(how, {}))
    assert recorder.of(CallSettled)[0].usage.cache_write_1h == 2_000


@pytest.mark.parametrize("asynchronous", [False, True])
def test_prompts_that_go_out_together_are_paid_once_and_told_once(asynchronous: bool) -> None:
    usage = {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60}
    recorder = Recorder()
    guard = CostGuard(
        Budget(per="session", usd="5"), prices={"davinci": Price(input="1", output="2")}, sinks=[recorder]
    )
    with FakeProvider(Reply("hi", usage=usage)) as provider:
        model = OpenAI(model="davinci", base_url=provider.url, api_key="x", max_tokens=50, max_retries=0)
        config: Any = {"callbacks": [guard]}
        if asynchronous:
            asyncio.run(model.abatch(["one", "two", "three"], config))
        else:
            model.batch(["one", "two", "three"], config)
    assert len(recorder.of(CallSettled)) == 3
    total = guard.report().total
    assert (total.input_tokens, total.output_tokens, total.spent, total.estimated) == (50, 10, 70_000, 0)
    assert total.overrun == 0


class Around(ScriptedChatModel):
    """A chat model that asks another one."""

    inner: Any = None

    def _generate(self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        answer = self.inner.invoke(messages)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(**answer.model_dump(exclude={"type"})))])

    async def _agenerate(
        self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        answer = await self.inner.ainvoke(messages)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(**answer.model_dump(exclude={"type"})))])


@pytest.mark.parametrize("how", ["watch", "callbacks of both", "inner wrapped"])
def test_a_model_around_another_one_is_paid_once(how: str, call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="session", usd="5", model_calls=2), prices=PRICES)
    inner: Any = provider.openai(max_tokens=10, **({"callbacks": [guard]} if how.startswith("callbacks") else {}))
    model = Around(inner=guard.wrap(inner) if how.startswith("inner") else inner)
    if how == "watch":
        with guard.watch():
            call(model, "hello there")
    else:
        call(model, "hello there", {"callbacks": [guard]})
    total = guard.report().total
    assert (total.calls, total.spent) == (1, 2 * 2_500 + 4 * 10_000)


def test_a_model_around_one_that_nobody_meters_is_charged_as_the_one_that_answers(
    call: Caller, provider: FakeProvider
) -> None:
    guard = CostGuard(Budget(per="session", usd="5"))
    call(Around(inner=provider.openai(max_tokens=10)), "hello there", {"callbacks": [guard]})
    total = guard.report().total
    assert (total.calls, total.spent, total.estimated) == (1, 2 * 2_500 + 4 * 10_000, 0)


def test_a_failed_attempt_is_a_model_call_without_a_price(call: Caller) -> None:
    recorder = Recorder()
    guard = CostGuard(Budget(per="session", model_calls=2), sinks=[recorder])
    with FakeProvider(Reply(status=500)) as provider:
        model = provider.openai()
        for _ in range(2):
            with pytest.raises(Exception, match="told to fail"):
                call(model, "hello", {"callbacks": [guard]})
        with pytest.raises(BudgetExceededError):
            call(model, "hello", {"callbacks": [guard]})
        assert len(provider.requests) == 2
    failed = recorder.of(CallFailed)
    assert [(event.kind, event.status) for event in failed] == [("unbilled", 500)] * 2
    total = guard.report().total
    assert (total.calls, total.failed, total.spent) == (0, 2, 0)


@pytest.mark.parametrize("road", ROADS)
def test_a_call_that_fails_before_anything_is_sent_is_none(road: str, call: Caller, provider: FakeProvider) -> None:
    recorder = Recorder()
    guard = CostGuard(Budget(per="session", usd="1", model_calls=1), sinks=[recorder], prices=PRICES)
    with pytest.raises(TypeError):
        settled(lambda sinks: guard, road, provider.openai().bind(no_such_argument=1), "hello")
    assert [event.kind for event in recorder.of(CallFailed)] == ["unsent"]
    call(provider.openai(), "hello there", {"callbacks": [guard]})
    assert guard.report().total.calls == 1


@pytest.mark.parametrize("how", ["callback", "wrapped"])
def test_what_is_free_passes_an_account_that_is_overrun(how: str, call: Caller) -> None:
    guard = CostGuard(
        Budget(per="session", usd="0.0005"), prices={**PRICES, "mine": Price(input="0"), "dear": Price(input="1")}
    )
    with FakeProvider(Reply("hi", input_tokens=1_000)) as provider:
        call(provider.openai("dear", max_tokens=1), "a", {"callbacks": [guard]})
        free: Any = provider.openai("mine", max_tokens=1)
        call(guard.wrap(free) if how == "wrapped" else free, "a", None if how == "wrapped" else {"callbacks": [guard]})
        with pytest.raises(BudgetExceededError):
            call(provider.openai("dear", max_tokens=1), "a", {"callbacks": [guard]})


def test_a_cap_on_calls_refuses_what_is_free(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="session", usd="1", model_calls=1), prices={"gpt-4o": Price(input="0")})
    call(provider.openai(), "hello", {"callbacks": [guard]})
    with pytest.raises(BudgetExceededError):
        call(provider.openai(), "hello", {"callbacks": [guard]})


def test_audio_has_a_price_of_its_own_in_the_hold(provider: FakeProvider) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 12_000, "format": "mp3"}}
    messages = [HumanMessage([{"type": "text", "text": "what is said?"}, sound])]
    event = settled(table, "invoke", provider.openai("gpt-audio", max_tokens=10), messages)
    heard = 9_000 // 90
    assert event.held >= heard * 32_000


def test_prices_of_one_bucket_apart_add_up() -> None:
    from langchain_costguard import Usage

    rates = Rates(input=1_000, output=2_000, citation=3_000, web_search=10, file_search=20, container=30)
    usage = Usage(10, 10, citations=4, web_searches=1, file_searches=2, containers=3)
    assert rates.charge(usage) == 10 + 6 * 2 + 4 * 3 + 10 + 40 + 90
