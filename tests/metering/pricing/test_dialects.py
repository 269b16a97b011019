"""Usage blocks in the providers' own dialects."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_costguard.metering.pricing.dialects import from_raw, normal_tier
from langchain_costguard.vocabulary.usage import Usage

BLOCKS: dict[str, tuple[dict[str, Any], Usage | None]] = {
    "OpenAI chat": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0, "cache_write_tokens": 20},
            "completion_tokens_details": {"reasoning_tokens": 32, "audio_tokens": 4},
        },
        Usage(100, 50, cache_read=64, cache_write=20, reasoning=32, output_audio=4),
    ),
    "OpenAI responses": (
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "total_tokens": 150,
            "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 20},
            "output_tokens_details": {"reasoning_tokens": 32},
        },
        Usage(100, 50, cache_read=64, cache_write=20, reasoning=32),
    ),
    "OpenAI embeddings": ({"prompt_tokens": 11, "total_tokens": 11}, Usage(11, 0)),
    "Anthropic": (
        {
            "input_tokens": 6,
            "output_tokens": 9,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 300,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 5},
            "output_tokens_details": {"thinking_tokens": 4},
            "service_tier": "standard",
        },
        Usage(1306, 9, cache_read=1000, cache_write=300, cache_write_1h=200, reasoning=4, web_searches=2),
    ),
    "Anthropic stream, no lifetimes": (
        {
            "input_tokens": 6,
            "output_tokens": 9,
            "cache_read_input_tokens": 10,
            "cache_creation_input_tokens": 5,
        },
        Usage(21, 9, cache_read=10, cache_write=5),
    ),
    "Anthropic count_tokens": ({"input_tokens": 1114}, Usage(1114, 0)),
    "Gemini": (
        {
            "promptTokenCount": 95,
            "candidatesTokenCount": 66,
            "thoughtsTokenCount": 132,
            "toolUsePromptTokenCount": 439,
            "cachedContentTokenCount": 30,
            "totalTokenCount": 732,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 90},
                {"modality": "AUDIO", "tokenCount": 5},
            ],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 50}],
            "serviceTier": "standard",
        },
        Usage(534, 198, cache_read=30, reasoning=132, input_audio=5, output_image=50),
    ),
    "Gemini, the SDK's names and numbers": (
        {
            "prompt_token_count": 11,
            "candidates_token_count": 17,
            "thoughts_token_count": 190,
            "total_token_count": 218,
            "prompt_tokens_details": [{"modality": 4, "token_count": 3}],
            "traffic_type": "ON_DEMAND_PRIORITY",
        },
        Usage(11, 207, reasoning=190, input_audio=3, tier="priority"),
    ),
    "Gemini with nothing said": ({"promptTokenCount": 14, "totalTokenCount": 14}, Usage(14, 0)),
    "Gemini through OpenAI's format, thoughts in the total only": (
        {"completion_tokens": 12, "prompt_tokens": 35, "total_tokens": 109},
        Usage(35, 74),
    ),
    "Google interactions": (
        {
            "total_tokens": 229,
            "total_input_tokens": 9,
            "total_cached_tokens": 4,
            "total_output_tokens": 13,
            "total_tool_use_tokens": 2,
            "total_thought_tokens": 207,
        },
        Usage(11, 220, cache_read=4, reasoning=207),
    ),
    "Bedrock converse": (
        {
            "inputTokens": 3,
            "outputTokens": 227,
            "totalTokens": 2942,
            "cacheReadInputTokens": 1000,
            "cacheWriteInputTokens": 1712,
            "cacheDetails": [{"inputTokens": 712, "ttl": "5m"}, {"inputTokens": 1000, "ttl": "1h"}],
        },
        Usage(2715, 227, cache_read=1000, cache_write=1712, cache_write_1h=1000),
    ),
    "Bedrock invoke": (
        {
            "inputTokens": 16,
            "outputTokens": 27,
            "cacheReadInputTokenCount": 8,
            "cacheWriteInputTokenCount": 0,
        },
        Usage(24, 27, cache_read=8),
    ),
    "Cohere bills its units": (
        {
            "billed_units": {"input_tokens": 25, "output_tokens": 9},
            "tokens": {"input_tokens": 91, "output_tokens": 11},
            "cached_tokens": 88,
        },
        Usage(25, 9, cache_read=25),
    ),
    "Cohere, floats": ({"tokens": {"input_tokens": 91.0, "output_tokens": 11.0}}, Usage(91, 11)),
    "Groq": (
        {
            "prompt_tokens": 35,
            "completion_tokens": 25,
            "total_tokens": 60,
            "queue_time": 0.02,
            "total_time": 0.1,
        },
        Usage(35, 25),
    ),
    "Mistral": (
        {"prompt_tokens": 64, "completion_tokens": 6, "total_tokens": 70, "num_cached_tokens": 32},
        Usage(64, 6, cache_read=32),
    ),
    "DeepSeek": (
        {
            "prompt_tokens": 60,
            "completion_tokens": 6,
            "total_tokens": 66,
            "prompt_cache_hit_tokens": 50,
            "prompt_cache_miss_tokens": 10,
        },
        Usage(60, 6, cache_read=50),
    ),
    "Together": (
        {"prompt_tokens": 41, "completion_tokens": 15, "total_tokens": 56, "cached_tokens": 40},
        Usage(41, 15, cache_read=40),
    ),
    "xAI leaves reasoning out of the completion": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 115,
            "completion_tokens_details": {"reasoning_tokens": 100},
        },
        Usage(10, 105, reasoning=100),
    ),
    "OpenRouter": (
        {
            "prompt_tokens": 687,
            "completion_tokens": 187,
            "total_tokens": 874,
            "cost": 0.0033,
            "prompt_tokens_details": {"cached_tokens": 679},
            "completion_tokens_details": {"reasoning_tokens": 118, "image_tokens": 0},
            "server_tool_use_details": {"web_search_requests": 1},
        },
        Usage(687, 187, cache_read=679, reasoning=118, web_searches=1),
    ),
    "LiteLLM, Anthropic's cache beside OpenAI's names, exclusive": (
        {"prompt_tokens": 6, "completion_tokens": 2, "cache_read_input_tokens": 100, "total_tokens": 8},
        Usage(106, 2, cache_read=100),
    ),
    "Ollama": ({"prompt_eval_count": 26, "eval_count": 290, "eval_duration": 12}, Usage(26, 290)),
    "nothing": ({}, None),
    "another thing": ({"contentPolicyUnits": 1}, None),
    "a count that is text": ({"prompt_tokens": "12", "completion_tokens": 3}, None),
    "a count that is text, told by the total": (
        {"prompt_tokens": "12", "completion_tokens": 3, "total_tokens": 15},
        Usage(12, 3),
    ),
    "negative": ({"inputTokens": -1, "outputTokens": 3}, None),
    "None": ({"input_tokens": None, "output_tokens": None}, None),
    "bools": ({"promptTokenCount": True, "candidatesTokenCount": True}, None),
    "details that are no mapping": (
        {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": [1]},
        Usage(1, 2),
    ),
    "infinite": ({"prompt_tokens": float("inf"), "completion_tokens": 2}, None),
}


@pytest.mark.parametrize(("block", "expected"), BLOCKS.values(), ids=BLOCKS.keys())
def test_a_providers_block_is_read(block: dict[str, Any], expected: Usage | None) -> None:
    assert from_raw(block) == expected


@pytest.mark.parametrize("thing", [None, 3, "usage", [1, 2], object()])
def test_what_is_no_block_is_no_usage(thing: object) -> None:
    assert from_raw(thing) is None


def test_parts_never_exceed_their_whole() -> None:
    usage = from_raw(
        {
            "prompt_tokens": 5,
            "completion_tokens": 5,
            "prompt_tokens_details": {"audio_tokens": 50},
            "completion_tokens_details": {"reasoning_tokens": 50, "audio_tokens": 60, "image_tokens": 70},
        }
    )
    assert usage is not None
    assert (usage.input_audio, usage.reasoning, usage.output_audio, usage.output_image) == (5, 5, 5, 5)


@pytest.mark.parametrize(
    ("said", "tier"),
    [
        ("default", None),
        ("Standard", None),
        ("ON_DEMAND", None),
        ("ON_DEMAND_FLEX", "flex"),
        ("batch", "batch"),
        (1, None),
    ],
)
def test_a_tier_is_named_as_the_tables_name_it(said: object, tier: str | None) -> None:
    assert normal_tier(said) == tier
