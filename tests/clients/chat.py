"""Providers who write chat completions as OpenAI does, each with what it adds."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.case import Case, client
from tests.clients.serving import Answer, Body, Wire, events, whole

PLAIN = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}
CACHED = {**PLAIN, "prompt_tokens_details": {"cached_tokens": 400}}
COUNTED = {"input_tokens": 1_000, "output_tokens": 100}
LLAMA = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
OPENROUTER = {"provider": "X", "system_fingerprint": None}
FIREWORKS = "accounts/fireworks/models/deepseek-v4-flash"


def chat(model: str, usage: Body, *, with_the_end: bool = False, **more: Any) -> Wire:
    """Chat completions; a stream tells the usage in a chunk of its own, or (Mistral, Perplexity) ``with_the_end``."""
    head = {"id": "c", "created": 1, "model": model, **more}

    def chunk(*choices: Body, **fields: Any) -> Body:
        return {**head, "object": "chat.completion.chunk", "choices": list(choices), **fields}

    def wire(body: Body) -> Answer:
        if not body.get("stream"):
            message = {"role": "assistant", "content": "hi"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return whole({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        said = {"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}
        end = {"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}
        if "x_groq" in head:  # https://console.groq.com/docs/text-chat: its usage is in a field of its own
            return events(chunk(said), chunk(end, x_groq={"id": "r", "usage": usage}), "[DONE]")
        if with_the_end:
            return events(chunk(said), chunk(end, usage=usage), "[DONE]")
        return events(chunk(said), chunk(end), chunk(usage=usage), "[DONE]")

    return wire


def perplexity(url: str) -> Any:
    """Its client takes the address from the environment alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERPLEXITY_BASE_URL", url)
        return client("langchain_perplexity", "ChatPerplexity", model="sonar", api_key="x")(url)


CASES = {
    "openai": Case(
        client("langchain_openai", "ChatOpenAI", model="gpt-4o-mini", base_url="{url}/v1", api_key="x",
               stream_usage=True),
        chat("gpt-4o-mini-2024-07-18", CACHED), {**COUNTED, "cache_read": 400},
        600 * 150 + 400 * 75 + 100 * 600,
    ),
    "azure's model router": Case(
        client("langchain_openai", "AzureChatOpenAI", azure_endpoint="{url}", azure_deployment="model-router",
               api_version="2025-01-01-preview", api_key="x", stream_usage=True),
        chat("gpt-4o-mini-2024-07-18", PLAIN), COUNTED, 1_000 * 150 + 100 * 600,
    ),
    "groq": Case(
        client("langchain_groq", "ChatGroq", model="llama-3.3-70b-versatile", base_url="{url}", api_key="x"),
        chat("llama-3.3-70b-versatile", PLAIN, service_tier="on_demand", x_groq={"id": "r"}), COUNTED,
        1_000 * 590 + 100 * 790,
    ),
    "deepseek": Case(
        client("langchain_deepseek", "ChatDeepSeek", model="deepseek-chat", api_base="{url}", api_key="x"),
        chat("deepseek-chat", {**PLAIN, "prompt_cache_hit_tokens": 700, "prompt_cache_miss_tokens": 300,
                               "prompt_tokens_details": {"cached_tokens": 700}}),
        {**COUNTED, "cache_read": 700},
    ),
    "mistral": Case(
        client("langchain_mistralai", "ChatMistralAI", model="mistral-large-latest", endpoint="{url}/v1", api_key="x"),
        chat("mistral-large-latest", PLAIN, with_the_end=True), COUNTED, 1_000 * 2_000 + 100 * 6_000,
    ),
    "xai": Case(
        client("langchain_xai", "ChatXAI", model="grok-4", base_url="{url}/v1", xai_api_base="{url}/v1", api_key="x"),
        chat("grok-4-0709", {**CACHED, "total_tokens": 1_600, "completion_tokens_details": {"reasoning_tokens": 500}}),
        {"input_tokens": 1_000, "output_tokens": 600, "cache_read": 400, "reasoning": 500},
        600 * 3_000 + 400 * 750 + 600 * 15_000,
    ),
    "together": Case(
        client("langchain_together", "ChatTogether", model=LLAMA, base_url="{url}/v1", api_key="x"),
        chat(LLAMA, PLAIN), COUNTED, 1_100 * 880,
    ),
    "fireworks": Case(
        client("langchain_fireworks", "ChatFireworks", model=FIREWORKS, base_url="{url}/v1", api_key="x",
               max_retries=0),
        chat(FIREWORKS, PLAIN), COUNTED, 1_000 * 140 + 100 * 280,
    ),
    "openrouter, by its bill": Case(
        client("langchain_openrouter", "ChatOpenRouter", model="some-lab/new", base_url="{url}/api/v1", api_key="x"),
        chat("some-lab/new", {**PLAIN, "cost": 0.000123, "is_byok": False}, **OPENROUTER), COUNTED, 123_000,
    ),
    "openrouter, with a key of one's own": Case(
        client("langchain_openrouter", "ChatOpenRouter", model="openai/gpt-4o", base_url="{url}/api/v1", api_key="x"),
        chat("openai/gpt-4o", {**PLAIN, "cost": 0.0001, "is_byok": True, "cost_details": {
            "upstream_inference_cost": 0.002, "upstream_inference_prompt_cost": 0.001,
            "upstream_inference_completions_cost": 0.001,
        }}, **OPENROUTER),
        COUNTED, 100_000 + 2_000_000,
    ),
    "openrouter's auto": Case(
        client("langchain_openrouter", "ChatOpenRouter", model="openrouter/auto", base_url="{url}/api/v1",
               api_key="x"),
        chat("openai/gpt-4o-mini", PLAIN, **OPENROUTER), COUNTED, 1_000 * 150 + 100 * 600,
    ),
    "perplexity, by its bill": Case(
        perplexity,
        chat("sonar", {**PLAIN, "search_context_size": "low", "cost": {"total_cost": 0.0061}}, with_the_end=True,
             citations=[], search_results=[]),
        {**COUNTED, "search_context": "low"}, 6_100_000,
    ),
    "perplexity, by its prices": Case(
        perplexity,
        chat("sonar", {**PLAIN, "search_context_size": "low"}, with_the_end=True, citations=[], search_results=[]),
        {**COUNTED, "search_context": "low"}, 1_100 * 1_000 + 5_000_000,
    ),
    "litellm": Case(
        client("langchain_litellm", "ChatLiteLLM", model="groq/llama-3.3-70b-versatile", api_base="{url}",
               api_key="x"),
        chat("llama-3.3-70b-versatile", PLAIN, service_tier="on_demand"), COUNTED, 1_000 * 590 + 100 * 790,
    ),
}  # fmt: skip
