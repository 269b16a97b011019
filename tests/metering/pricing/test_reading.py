"""Usage as replies carry it: LangChain's own form first, providers' blocks behind it."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import Usage as AnthropicUsage
from langchain_anthropic.chat_models import _create_usage_metadata as of_anthropic
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult
from langchain_openai.chat_models.base import _create_usage_metadata as of_chat
from langchain_openai.chat_models.base import _create_usage_metadata_responses as of_responses

from langchain_costguard.metering.pricing.reading import from_usage_metadata, is_cache_hit, reported_model, usage_of
from langchain_costguard.vocabulary.usage import Usage


def reply(
    usage: dict[str, Any] | None = None,
    *,
    llm_output: dict[str, Any] | None = None,
    response_metadata: dict[str, Any] | None = None,
    generation_info: dict[str, Any] | None = None,
    content: Any = "ok",
    n: int = 1,
) -> LLMResult:
    # model_construct: what must not raise includes what pydantic would not let through.
    message = AIMessage(content, response_metadata=response_metadata or {})
    object.__setattr__(message, "usage_metadata", usage)
    generation = ChatGeneration(message=message, generation_info=generation_info)
    return LLMResult(generations=[[generation] * n], llm_output=llm_output)


METADATA = [
    ("plain", {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}, Usage(12, 5)),
    (
        "cached, written, audio and reasoning",
        {
            "input_tokens": 100,
            "output_tokens": 40,
            "total_tokens": 140,
            "input_token_details": {"cache_read": 60, "cache_creation": 20, "audio": 5},
            "output_token_details": {"reasoning": 30, "audio": 4},
        },
        Usage(100, 40, cache_read=60, cache_write=20, input_audio=5, reasoning=30, output_audio=4),
    ),
    (
        "Anthropic's split by lifetime, the sum being set to 0",
        {
            "input_tokens": 1000,
            "output_tokens": 1,
            "total_tokens": 1001,
            "input_token_details": {
                "cache_read": 100,
                "cache_creation": 0,
                "ephemeral_5m_input_tokens": 300,
                "ephemeral_1h_input_tokens": 500,
            },
        },
        Usage(1000, 1, cache_read=100, cache_write=800, cache_write_1h=500),
    ),
    (
        "OpenAI flex",
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "total_tokens": 150,
            "input_token_details": {"flex_cache_read": 40, "flex": 60},
            "output_token_details": {"flex_reasoning": 20, "flex": 30},
        },
        Usage(100, 50, cache_read=40, reasoning=20, tier="flex"),
    ),
    (
        "OpenAI priority, nothing cached",
        {
            "input_tokens": 10,
            "output_tokens": 5,
            "total_tokens": 15,
            "input_token_details": {"priority_cache_read": 0, "priority": 10},
        },
        Usage(10, 5, tier="priority"),
    ),
    (
        "cached tokens left out of the input by an integration",
        {
            "input_tokens": 10,
            "output_tokens": 5,
            "total_tokens": 115,
            "input_token_details": {"cache_read": 80, "cache_creation": 20},
        },
        Usage(110, 5, cache_read=80, cache_write=20),
    ),
    (
        "reasoning that only the total knows",
        {"input_tokens": 35, "output_tokens": 12, "total_tokens": 109},
        Usage(35, 74),
    ),
    ("details of None", {"input_tokens": 1, "output_tokens": 2, "input_token_details": None}, Usage(1, 2)),
    ("a missing half that the total gives", {"input_tokens": 9, "total_tokens": 12}, Usage(9, 3)),
    ("floats that are whole", {"input_tokens": 9.0, "output_tokens": 3.0}, Usage(9, 3)),
    ("nothing but the mark of a cache hit", {"total_cost": 0}, None),
    ("text", {"input_tokens": "9", "output_tokens": "3"}, None),
    ("negative", {"input_tokens": -9, "output_tokens": 3}, None),
    ("NaN", {"input_tokens": float("nan"), "output_tokens": 3}, None),
    ("bool", {"input_tokens": True, "output_tokens": False}, None),
]


@pytest.mark.parametrize(("metadata", "expected"), [c[1:] for c in METADATA], ids=[c[0] for c in METADATA])
def test_langchains_usage_metadata_is_read(metadata: dict[str, Any], expected: Usage | None) -> None:
    assert from_usage_metadata(metadata) == expected
    assert usage_of(reply(metadata)) == expected


def test_malformed_details_are_as_if_not_reported() -> None:
    details = {"cache_read": "many", "cache_creation": -1, "audio": None, 7: 8}
    assert from_usage_metadata({"input_tokens": 5, "output_tokens": 5, "input_token_details": details}) == Usage(5, 5)


def test_the_message_comes_before_llm_output_before_response_metadata() -> None:
    first = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    second = {"token_usage": {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}}
    third = {"usage": {"input_tokens": 3, "output_tokens": 3, "total_tokens": 6}}
    assert usage_of(reply(first, llm_output=second, generation_info=third)) == Usage(1, 1)
    assert usage_of(reply(llm_output=second, generation_info=third)) == Usage(2, 2)
    assert usage_of(reply(generation_info=third)) == Usage(3, 3)
    assert usage_of(reply(response_metadata={"prompt_eval_count": 4, "eval_count": 5, "model": "m"})) == Usage(4, 5)


def test_no_usage_is_none_and_never_zero() -> None:
    assert usage_of(reply()) is None
    assert usage_of(reply(llm_output={"token_usage": {}, "model_name": "m"})) is None
    assert usage_of(LLMResult(generations=[])) is None
    assert usage_of(LLMResult(generations=[[]])) is None
    assert usage_of(None) is None
    assert usage_of(LLMResult(generations=[[Generation(text="x")]])) is None


def test_of_several_generations_only_the_first_counts() -> None:
    usage = {"input_tokens": 20, "output_tokens": 100, "total_tokens": 120}
    assert usage_of(reply(usage, n=3)) == Usage(20, 100)


def test_a_text_models_usage_is_read() -> None:
    result = LLMResult(
        generations=[[Generation(text="x")]],
        llm_output={"token_usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}},
    )
    assert usage_of(result) == Usage(3, 4)


@pytest.mark.parametrize(
    ("where", "tier"),
    [
        ({"response_metadata": {"service_tier": "priority"}}, "priority"),
        ({"response_metadata": {"service_tier": "default"}}, None),
        ({"llm_output": {"usage": {"input_tokens": 1, "service_tier": "batch"}}}, "batch"),
        ({"llm_output": {"usage": {"service_tier": "standard", "speed": "fast"}}}, "fast"),
        ({"response_metadata": {"service_tier": 3}}, None),
    ],
)
def test_the_service_tier_is_found(where: dict[str, Any], tier: str | None) -> None:
    usage = usage_of(reply({"input_tokens": 1, "output_tokens": 1}, **where))
    assert usage is not None
    assert usage.tier == tier


def test_web_searches_are_counted_from_the_usage_or_else_from_the_reply() -> None:
    plain = {"input_tokens": 1, "output_tokens": 1}
    said = usage_of(reply(plain, llm_output={"usage": {"server_tool_use": {"web_search_requests": 3}}}))
    seen = usage_of(
        reply(
            plain,
            content=[
                {"type": "server_tool_use", "name": "web_search", "id": "a", "input": {}},
                {"type": "server_tool_use", "name": "web_fetch", "id": "b", "input": {}},
                {"type": "web_search_call", "id": "c"},
                {"type": "text", "text": "done"},
            ],
        )
    )
    assert said is not None
    assert said.web_searches == 3
    assert seen is not None
    assert seen.web_searches == 2


def test_cached_tokens_that_the_client_overlooks_are_taken_from_the_raw_block() -> None:
    raw = {"prompt_tokens": 64, "completion_tokens": 6, "total_tokens": 70, "num_cached_tokens": 32}
    result = reply(dict(of_chat(raw)), llm_output={"token_usage": raw})
    assert usage_of(result) == Usage(64, 6, cache_read=32)


def test_a_cache_hit_is_told_by_a_total_cost_of_zero() -> None:
    assert is_cache_hit(reply({"input_tokens": 5, "output_tokens": 5, "total_cost": 0}))
    assert is_cache_hit(reply({"total_cost": 0}))
    assert not is_cache_hit(reply({"input_tokens": 5, "output_tokens": 5}))
    assert not is_cache_hit(reply({"total_cost": False}))
    assert not is_cache_hit(reply())


def test_the_reported_model_is_found_wherever_it_is() -> None:
    assert reported_model(reply(response_metadata={"model_name": "gpt-4o-2024-08-06"})) == "gpt-4o-2024-08-06"
    assert reported_model(reply(llm_output={"model": "claude-sonnet-4-6"})) == "claude-sonnet-4-6"
    assert reported_model(reply(response_metadata={"model_id": "us.amazon.nova"})) == "us.amazon.nova"
    assert reported_model(reply(response_metadata={"model_name": None, "model": 4})) is None
    assert reported_model(object()) is None


@pytest.mark.parametrize("tier", [None, "flex", "priority"])
def test_what_chatopenai_makes_of_a_block_is_read_back(tier: str | None) -> None:
    chat = {
        "prompt_tokens": 200,
        "completion_tokens": 90,
        "total_tokens": 290,
        "prompt_tokens_details": {"cached_tokens": 128, "audio_tokens": 7, "cache_write_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 3},
    }
    expected = Usage(
        200,
        90,
        cache_read=128,
        cache_write=30,
        reasoning=64,
        input_audio=7,
        output_audio=3,
        tier=tier,
    )
    assert from_usage_metadata(of_chat(chat, tier)) == expected
    responses = {
        "input_tokens": 200,
        "output_tokens": 90,
        "total_tokens": 290,
        "input_tokens_details": {"cached_tokens": 128, "cache_write_tokens": 30},
        "output_tokens_details": {"reasoning_tokens": 64},
    }
    assert from_usage_metadata(of_responses(responses, tier)) == Usage(
        200, 90, cache_read=128, cache_write=30, reasoning=64, tier=tier
    )


def test_what_chatanthropic_makes_of_a_block_is_read_back() -> None:
    block = {
        "input_tokens": 6,
        "output_tokens": 489,
        "cache_read_input_tokens": 20_000,
        "cache_creation_input_tokens": 574,
        "cache_creation": {"ephemeral_5m_input_tokens": 74, "ephemeral_1h_input_tokens": 500},
        "output_tokens_details": {"thinking_tokens": 77},
    }
    usage = from_usage_metadata(of_anthropic(AnthropicUsage.model_validate(block)))
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (20_580, 489)
    assert (usage.cache_read, usage.cache_write, usage.cache_write_1h) == (20_000, 574, 500)
    assert usage.reasoning == 77
