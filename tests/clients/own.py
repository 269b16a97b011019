"""Providers who write in a manner of their own: Anthropic, Google, Amazon, Cohere, and Ollama."""

from __future__ import annotations

import json
from typing import Any

from tests.clients.case import Case, client
from tests.clients.serving import Answer, Body, Wire, events, frames, whole

GEMINI = {
    "promptTokenCount": 1_000, "cachedContentTokenCount": 400, "candidatesTokenCount": 80, "thoughtsTokenCount": 20,
    "totalTokenCount": 1_100,
}  # fmt: skip
THOUGHT = {"input_tokens": 1_000, "output_tokens": 100, "cache_read": 400, "reasoning": 20}
GEMINI_BILL = 600 * 300 + 400 * 30 + 100 * 2_500
SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
ROUTER = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1"


def anthropic(body: Body) -> Answer:
    """https://docs.anthropic.com/en/docs/build-with-claude/streaming"""
    usage = {
        "input_tokens": 100, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 3_000,
        "cache_creation": {"ephemeral_5m_input_tokens": 3_000, "ephemeral_1h_input_tokens": 0}, "output_tokens": 50,
        "server_tool_use": {"web_search_requests": 1}, "service_tier": "standard",
    }  # fmt: skip
    head = {"id": "m", "type": "message", "role": "assistant", "model": body["model"], "stop_sequence": None}
    if not body.get("stream"):
        content = [{"type": "text", "text": "hi"}]
        return whole({**head, "content": content, "stop_reason": "end_turn", "usage": usage})
    sought = [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    ]
    start = {**head, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    parts: list[Any] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(sought):
        parts += [{"type": "content_block_start", "index": index, "content_block": block},
                  {"type": "content_block_stop", "index": index}]  # fmt: skip
    at_the_end = {key: value for key, value in usage.items() if key not in ("cache_creation", "service_tier")}
    parts += [
        {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "content_block_stop", "index": 2},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": at_the_end},
        {"type": "message_stop"},
    ]
    return events(*((part["type"], part) for part in parts))


def gemini(*, listed: bool = False) -> Wire:
    """https://ai.google.dev/api/generate-content; without ``alt=sse`` a stream is a list in JSON (``listed``)."""

    def wire(body: Body) -> Answer:
        content = {"role": "model", "parts": [{"text": "hi"}]}
        answer = {
            "candidates": [{"content": content, "index": 0, "finishReason": "STOP"}],
            "usageMetadata": GEMINI, "modelVersion": "gemini-2.5-flash", "responseId": "r",
        }  # fmt: skip
        if not body.get("stream"):
            return whole(answer)
        return whole([answer]) if listed else events(answer)

    return wire


def converse(body: Body) -> Answer:
    """https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html"""
    usage = {"inputTokens": 600, "outputTokens": 100, "totalTokens": 1_100, "cacheReadInputTokens": 400,
             "cacheWriteInputTokens": 0}  # fmt: skip
    trace = {"promptRouter": {"invokedModelId": f"arn:aws:bedrock:us-east-1::foundation-model/{HAIKU}"}}
    facts: Body = {"usage": usage, "metrics": {"latencyMs": 1}}
    if "prompt-router" in body["path"]:
        facts["trace"] = trace
    if not body.get("stream"):
        message = {"role": "assistant", "content": [{"text": "hi"}]}
        return whole({"output": {"message": message}, "stopReason": "end_turn", **facts})
    return frames(
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"delta": {"text": "hi"}, "contentBlockIndex": 0}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", facts),
    )


def cohere(body: Body) -> Answer:
    """https://docs.cohere.com/reference/chat: its bill leaves out the template that its model reads."""
    usage = {
        "billed_units": {"input_tokens": 10, "output_tokens": 20},
        "tokens": {"input_tokens": 512, "output_tokens": 22},
    }
    if not body.get("stream"):
        message = {"role": "assistant", "content": [{"type": "text", "text": "hi"}]}
        return whole({"id": "c", "finish_reason": "COMPLETE", "message": message, "usage": usage})
    start = {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}
    empty = {"type": "text", "text": ""}
    return events(
        ("message-start", {"type": "message-start", "id": "c", "delta": start}),
        ("content-start", {"type": "content-start", "index": 0, "delta": {"message": {"content": empty}}}),
        ("content-delta", {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "hi"}}}}),
        ("content-end", {"type": "content-end", "index": 0}),
        ("message-end", {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}}),
    )


def ollama(body: Body) -> Answer:
    """https://github.com/ollama/ollama/blob/main/docs/api.md"""
    head = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z"}
    said = {**head, "message": {"role": "assistant", "content": "hi"}, "done": False}
    counts = {"prompt_eval_count": 1_000, "eval_count": 100, "total_duration": 1, "load_duration": 1,
              "prompt_eval_duration": 1, "eval_duration": 1}  # fmt: skip
    end = {**head, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", **counts}
    return "application/x-ndjson", f"{json.dumps(said)}\n{json.dumps(end)}\n"


def bedrock(model: str, **more: Any) -> Any:
    return client(
        "langchain_aws", "ChatBedrockConverse", model=model, region_name="us-east-1", endpoint_url="{url}",
        aws_access_key_id="x", aws_secret_access_key="x", **more,
    )  # fmt: skip


CASES = {
    "anthropic": Case(
        client("langchain_anthropic", "ChatAnthropic", model="claude-opus-4-6", base_url="{url}", api_key="x",
               max_tokens=500),
        anthropic,
        {"input_tokens": 4_000, "output_tokens": 50, "cache_read": 900, "cache_write": 3_000, "web_searches": 1},
        100 * 5_000 + 900 * 500 + 3_000 * 6_250 + 50 * 25_000 + 10_000_000,
    ),
    "google_genai": Case(
        client("langchain_google_genai", "ChatGoogleGenerativeAI", model="gemini-2.5-flash", base_url="{url}",
               api_key="x"),
        gemini(), THOUGHT, GEMINI_BILL,
    ),
    "aws": Case(
        bedrock(SONNET), converse, {"input_tokens": 1_000, "output_tokens": 100, "cache_read": 400},
        600 * 3_300 + 400 * 330 + 100 * 16_500,
    ),
    "aws, a prompt router": Case(
        bedrock(ROUTER, provider="anthropic", disable_streaming=False), converse,
        {"input_tokens": 1_000, "output_tokens": 100, "cache_read": 400}, 1_000 * 250 + 100 * 1_250,
    ),
    "cohere": Case(
        client("langchain_cohere", "ChatCohere", model="command-a-03-2025", base_url="{url}", cohere_api_key="x"),
        cohere, {"input_tokens": 10, "output_tokens": 20}, 10 * 2_500 + 20 * 10_000,
        unheard=frozenset({"invoke", "ainvoke"}),
    ),
    "ollama": Case(
        client("langchain_ollama", "ChatOllama", model="qwen3:8b", base_url="{url}"),
        ollama, {"input_tokens": 1_000, "output_tokens": 100}, 0,
    ),
}  # fmt: skip
