"""What clients do not pass on of the bill: a wrapped model hears it, a callback goes by what request and reply show."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from langchain_costguard import Budget, CostGuard
from langchain_costguard.events import CallSettled
from langchain_costguard.testing import FakeProvider, Recorder, Reply
from tests.conftest import Caller
from tests.test_bill import iteration, settled, table

COMPACTS = {"context_management": {"edits": [{"type": "compact_20260112"}]}, "betas": ["compact-2026-01-12"]}
ADVISER = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4-5", "max_uses": 2}
ADVICE = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "advisor", "input": {}},
    {"type": "advisor_tool_result", "tool_use_id": "srvtoolu_1",
     "content": {"type": "advisor_result", "text": "Say four words."}},
]  # fmt: skip
ITERATIONS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], int]] = {
    "a compaction": (
        COMPACTS,
        [iteration("compaction", 100_000, 3_500), iteration("message", 23_000, 1_000)],
        123_000 * 3_000 + 4_500 * 15_000,
    ),
    "an advice": (
        {},
        [iteration("message", 23_000, 1_000), iteration("advisor_message", 20_000, 2_000, model="claude-opus-4-5")],
        23_000 * 3_000 + 1_000 * 15_000 + 20_000 * 5_000 + 2_000 * 25_000,
    ),
}


def wrapped(model: Any, call: Caller, ask: Any = "hello there") -> CallSettled:
    recorder = Recorder()
    call(table(sinks=[recorder]).wrap(model), ask)
    (event,) = recorder.of(CallSettled)
    return event


@pytest.mark.parametrize("case", ITERATIONS)
def test_a_wrapped_stream_is_charged_by_the_iterations_that_its_client_drops(case: str, stream: Caller) -> None:
    asked, iterations, charge = ITERATIONS[case]
    usage = {"input_tokens": 23_000, "output_tokens": 1_000, "iterations": iterations}
    with FakeProvider(Reply("hi", usage=usage)) as provider:
        event = wrapped(provider.anthropic("claude-sonnet-4-6", max_tokens=2_000, **asked), stream)
    assert (event.charge, event.estimated) == (charge, False)


def marked(ttl: str, words: int) -> list[dict[str, Any]]:
    return [{"type": "text", "text": "word " * words, "cache_control": {"type": "ephemeral", "ttl": ttl}}]


LIFETIMES = {"ephemeral_1h_input_tokens": 2_000, "ephemeral_5m_input_tokens": 1_000}
WRITTEN = {"input_tokens": 100, "output_tokens": 4, "cache_creation_input_tokens": 3_000, "cache_creation": LIFETIMES}


def test_a_wrapped_stream_is_charged_by_how_long_the_cache_keeps_each_part(stream: Caller) -> None:
    with FakeProvider(Reply("hi", usage=WRITTEN)) as provider:
        prompt = [SystemMessage(marked("1h", 9)), HumanMessage(marked("5m", 9))]
        event = wrapped(provider.anthropic("claude-sonnet-4-6", max_tokens=50), stream, prompt)
    assert (event.usage.cache_write_1h, event.estimated) == (2_000, False)
    assert event.charge == 100 * 3_000 + 1_000 * 3_750 + 2_000 * 6_000 + 4 * 15_000


def test_where_nobody_says_what_is_kept_how_long_the_marks_of_the_request_do(stream: Caller) -> None:
    recorder = Recorder()
    with FakeProvider(Reply("hi", usage=WRITTEN)) as provider:
        prompt = [SystemMessage(marked("1h", 2_000)), HumanMessage(marked("5m", 1_000))]
        stream(provider.anthropic(max_tokens=50), prompt, {"callbacks": [table(sinks=[recorder])]})
    (event,) = recorder.of(CallSettled)
    assert event.usage.cache_write_1h == pytest.approx(2_000, rel=0.05)
    assert event.estimated


def test_a_compaction_without_a_block_is_seen_by_what_is_left_of_the_prompt(stream: Caller) -> None:
    recorder = Recorder()
    long = [HumanMessage("word " * 170_000), AIMessage("and so on"), HumanMessage("well?")]
    with FakeProvider(Reply("hi", usage={"input_tokens": 9_000, "output_tokens": 4})) as provider:
        stream(provider.anthropic(max_tokens=100, **COMPACTS), long, {"callbacks": [table(sinks=[recorder])]})
    (event,) = recorder.of(CallSettled)
    assert event.estimated
    assert event.usage.input_tokens > 9_000 + 150_000
    assert event.held >= event.charge


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_an_advice_is_held_and_where_its_counts_are_lost_charged_by_estimate(version: str, stream: Caller) -> None:
    recorder = Recorder()
    with FakeProvider(Reply("four words", items=ADVICE, input_tokens=100)) as provider:
        model = provider.anthropic(max_tokens=50, output_version=version)
        stream(model.bind(tools=[ADVISER]), "hello", {"callbacks": [table(sinks=[recorder])]})
        stream(model, "hello", {"callbacks": [table(sinks=[recorder])]})
    event, alone = recorder.of(CallSettled)
    ((adviser, used),) = event.usage.others
    assert (adviser, event.estimated) == ("claude-opus-4-5", True)
    assert event.charge > alone.charge + used.input_tokens * 5_000 + used.output_tokens * 25_000 - 1
    assert event.held - alone.held >= 2 * 2_048 * 25_000
    assert event.held >= event.charge


def test_a_gateways_cost_is_the_bill_of_a_wrapped_stream(stream: Caller) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "cost": 0.0042}
    recorder = Recorder()
    with FakeProvider(Reply("hi", usage=usage)) as provider:
        guard = CostGuard(Budget(per="session", usd="5"), sinks=[recorder], trust_cost_from=[provider.url])
        stream(guard.wrap(provider.openai("openai/gpt-4o", stream_usage=True)), "hello")
    (event,) = recorder.of(CallSettled)
    assert (event.charge, event.source) == (4_200_000, "provider")


@pytest.mark.parametrize("road", ["callback", "wrapped"])
def test_a_cost_that_the_models_own_class_states_is_the_bill(road: str, call: Caller) -> None:
    usage: Any = {"input_tokens": 10, "output_tokens": 4, "total_tokens": 14, "total_cost": 0.0042}
    recorder = Recorder()
    guard = table(sinks=[recorder])
    model: Any = FakeMessagesListChatModel(responses=[AIMessage("hi", usage_metadata=usage)])
    if road == "wrapped":
        call(guard.wrap(model), "hello")
    else:
        call(model, "hello", {"callbacks": [guard]})
    (event,) = recorder.of(CallSettled)
    assert (event.charge, event.source, event.usage.output_tokens) == (4_200_000, "provider", 4)


def test_what_is_heard_is_not_put_into_the_reply(stream: Caller) -> None:
    usage = {"input_tokens": 9, "output_tokens": 4, "iterations": ITERATIONS["a compaction"][1]}
    with FakeProvider(Reply("hi", usage=usage)) as provider:
        plain, guarded = provider.anthropic(max_tokens=9), table().wrap(provider.anthropic(max_tokens=9))
        told = [[chunk.response_metadata for chunk in model.stream("hello")] for model in (plain, guarded)]
    assert told[0] == told[1]


def picture(**more: Any) -> dict[str, Any]:
    return {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "AAAA", **more}


DRAWN: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "by its quality and size": (
        {"model": "gpt-image-1.5", "quality": "medium", "size": "1024x1536"},
        picture(quality="medium", size="1024x1536", output_format="png"),
        1_584 * 32_000,
    ),
    "in any size, from the second on": (
        {"model": "gpt-image-2", "quality": "high", "size": "1536x1024"},
        picture(quality="high", size="1536x1024"),
        5_488 * 30_000,
    ),
    "but not what failed": ({"model": "gpt-image-1.5"}, picture(status="failed", quality="high"), 0),
}


@pytest.mark.parametrize("road", ["invoke", "stream", "wrapped invoke", "wrapped stream"])
@pytest.mark.parametrize("version", ["v0", "responses/v1", "v1"])
@pytest.mark.parametrize("case", DRAWN)
def test_pictures_that_a_tool_draws_are_held_and_charged(case: str, version: str, road: str) -> None:
    asked, item, drawn = DRAWN[case]
    with FakeProvider(Reply("four little words here", input_tokens=2, items=[item])) as provider:
        model = provider.openai("gpt-5.2", use_responses_api=True, output_version=version, max_tokens=50)
        event = settled(table, road, model.bind(tools=[{"type": "image_generation", **asked}]))
    assert event.charge == 2 * 1_750 + 4 * 14_000 + drawn
    assert event.held >= event.charge


HOSTED: dict[str, tuple[dict[str, Any], int]] = {
    "a search": ({"type": "web_search"}, 10_000_000),
    "five searches": ({"type": "web_search_20250305", "name": "web_search", "max_uses": 5}, 50_000_000),
    "a container": ({"type": "code_interpreter", "container": {"type": "auto"}}, 30_000_000),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTED)
def test_the_fees_of_tools_that_a_request_offers_are_held(case: str, call: Caller) -> None:
    tool, fee = HOSTED[case]
    recorder = Recorder()
    with FakeProvider("hi") as provider:
        model: Any = provider.openai("gpt-5.2", use_responses_api=True, max_tokens=50)
        if "name" in tool:
            model = provider.anthropic(max_tokens=50)
        for each in (model, model.bind(tools=[tool])):
            call(each, "hello", {"callbacks": [table(sinks=[recorder])]})
    without, offered = recorder.of(CallSettled)
    assert offered.held - without.held >= fee
