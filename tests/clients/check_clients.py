"""One dialect for each provider's client, written from the provider's documented wire format: streamed and not.

Not part of the default suite: ``.ci/extended clients`` installs the clients, and runs this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from langchain_costguard import Budget, CostGuard
from langchain_costguard.events import CallSettled
from langchain_costguard.testing import Recorder

Wire = Callable[[dict[str, Any]], tuple[str, str]]
"""Of a request's body, the answer's content type and body."""


@contextmanager
def serving(wire: Wire) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
            if "stream" in self.path:
                body["stream"] = True
            kind, text = wire(body)
            data = text.encode()
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def events(*items: Any) -> tuple[str, str]:
    """Server-sent events; a pair has a name."""
    lines = []
    for item in items:
        name = f"event: {item[0]}\n" if isinstance(item, tuple) else ""
        data = item[1] if isinstance(item, tuple) else item
        lines.append(f"{name}data: {data if isinstance(data, str) else json.dumps(data)}\n\n")
    return "text/event-stream", "".join(lines)


def whole(body: Any) -> tuple[str, str]:
    return "application/json", json.dumps(body)


def chat(model: str, usage: dict[str, Any], **more: Any) -> Wire:
    """Chat completions, as OpenAI and all who follow it write them."""
    head = {"id": "c", "created": 1, "model": model, **more}

    def chunk(**fields: Any) -> dict[str, Any]:
        return {**head, "object": "chat.completion.chunk", **fields}

    def wire(body: dict[str, Any]) -> tuple[str, str]:
        if not body.get("stream"):
            message = {"role": "assistant", "content": "hi"}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            return whole({**head, "object": "chat.completion", "choices": choices, "usage": usage})
        said = [{"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}]
        end = [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]
        return events(chunk(choices=said), chunk(choices=end), chunk(choices=[], usage=usage), "[DONE]")

    return wire


def gemini(usage: dict[str, Any]) -> Wire:
    def wire(body: dict[str, Any]) -> tuple[str, str]:
        parts = {"role": "model", "parts": [{"text": "hi"}]}
        answer = {
            "candidates": [{"content": parts, "index": 0, "finishReason": "STOP"}],
            "usageMetadata": usage, "modelVersion": "gemini-2.5-flash", "responseId": "r",
        }  # fmt: skip
        return events(answer) if body.get("stream") else whole(answer)

    return wire


def mistral(model: str, usage: dict[str, Any]) -> Wire:
    """As OpenAI's, but its last chunk with text has the usage."""

    def wire(body: dict[str, Any]) -> tuple[str, str]:
        if not body.get("stream"):
            return chat(model, usage)(body)
        head = {"id": "c", "created": 1, "model": model, "object": "chat.completion.chunk"}
        said = [{"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}]
        end = [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]
        return events({**head, "choices": said}, {**head, "choices": end, "usage": usage}, "[DONE]")

    return wire


def ollama(body: dict[str, Any]) -> tuple[str, str]:
    head = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z"}
    said = {**head, "message": {"role": "assistant", "content": "hi"}, "done": False}
    counts = {"prompt_eval_count": 1_000, "eval_count": 100, "total_duration": 1, "load_duration": 1,
              "prompt_eval_duration": 1, "eval_duration": 1}  # fmt: skip
    end = {**head, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", **counts}
    return "application/x-ndjson", f"{json.dumps(said)}\n{json.dumps(end)}\n"


def cohere(body: dict[str, Any]) -> tuple[str, str]:
    usage = {
        "billed_units": {"input_tokens": 10, "output_tokens": 20},
        "tokens": {"input_tokens": 10, "output_tokens": 20},
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
    )  # fmt: skip


PLAIN = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}
CACHED = {**PLAIN, "prompt_tokens_details": {"cached_tokens": 400}}


def made(module: str, name: str, **fields: Any) -> Callable[[str], Any]:
    def make(url: str) -> Any:
        given = {key: value.format(url=url) if isinstance(value, str) else value for key, value in fields.items()}
        return getattr(pytest.importorskip(module), name)(**given)

    return make


CLIENTS: dict[str, tuple[Callable[[str], Any], Wire, dict[str, int], int | None]] = {
    "google_genai": (
        made("langchain_google_genai", "ChatGoogleGenerativeAI", model="gemini-2.5-flash", base_url="{url}",
             api_key="x"),
        gemini({"promptTokenCount": 1_000, "cachedContentTokenCount": 400, "candidatesTokenCount": 80,
                "thoughtsTokenCount": 20, "totalTokenCount": 1_100}),
        {"input_tokens": 1_000, "output_tokens": 100, "cache_read": 400, "reasoning": 20}, None,
    ),
    "groq": (
        made("langchain_groq", "ChatGroq", model="llama-3.3-70b-versatile", base_url="{url}", api_key="x"),
        chat("llama-3.3-70b-versatile", PLAIN), {"input_tokens": 1_000, "output_tokens": 100}, None,
    ),
    "deepseek": (
        made("langchain_deepseek", "ChatDeepSeek", model="deepseek-chat", api_base="{url}", api_key="x"),
        chat("deepseek-chat", {**PLAIN, "prompt_cache_hit_tokens": 700, "prompt_cache_miss_tokens": 300,
                               "prompt_tokens_details": {"cached_tokens": 700}}),
        {"input_tokens": 1_000, "output_tokens": 100, "cache_read": 700}, None,
    ),
    "mistral": (
        made("langchain_mistralai", "ChatMistralAI", model="mistral-large-latest", endpoint="{url}/v1", api_key="x"),
        mistral("mistral-large-latest", PLAIN), {"input_tokens": 1_000, "output_tokens": 100}, None,
    ),
    "xai": (
        made("langchain_xai", "ChatXAI", model="grok-4", base_url="{url}/v1", xai_api_base="{url}/v1", api_key="x"),
        chat("grok-4-0709", {**CACHED, "total_tokens": 1_600, "completion_tokens_details": {"reasoning_tokens": 500}}),
        {"input_tokens": 1_000, "output_tokens": 600, "cache_read": 400, "reasoning": 500}, None,
    ),
    "together": (
        made("langchain_together", "ChatTogether", model="meta-llama/Llama-3.3-70B-Instruct-Turbo",
             base_url="{url}/v1", api_key="x"),
        chat("meta-llama/Llama-3.3-70B-Instruct-Turbo", PLAIN), {"input_tokens": 1_000, "output_tokens": 100}, None,
    ),
    "fireworks": (
        made("langchain_fireworks", "ChatFireworks", model="accounts/fireworks/models/llama-v3p3-70b-instruct",
             base_url="{url}/v1", api_key="x", max_retries=0),
        chat("accounts/fireworks/models/llama-v3p3-70b-instruct", PLAIN),
        {"input_tokens": 1_000, "output_tokens": 100}, None,
    ),
    "openrouter": (
        made("langchain_openrouter", "ChatOpenRouter", model="some-lab/new", base_url="{url}/api/v1", api_key="x"),
        chat("some-lab/new", {**PLAIN, "cost": 0.000123, "is_byok": False}, provider="X"),
        {"input_tokens": 1_000, "output_tokens": 100}, 123_000,
    ),
    "ollama": (
        made("langchain_ollama", "ChatOllama", model="qwen3:8b", base_url="{url}"),
        ollama, {"input_tokens": 1_000, "output_tokens": 100}, 0,
    ),
    "cohere": (
        made("langchain_cohere", "ChatCohere", model="command-a-03-2025", base_url="{url}", cohere_api_key="x"),
        cohere, {"input_tokens": 10, "output_tokens": 20}, 225_000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", ["invoke", "stream", "wrapped invoke", "wrapped stream"])
@pytest.mark.parametrize("provider", CLIENTS)
def test_a_clients_reply_is_charged_at_what_its_provider_bills(provider: str, how: str) -> None:
    make, wire, usage, charge = CLIENTS[provider]
    recorder = Recorder()
    guard = CostGuard(Budget(per="session", usd="50"), sinks=[recorder])
    with serving(wire) as url:
        model: Any = make(url)
        config: Any = {"callbacks": [guard]}
        if how.startswith("wrapped"):
            model, config = guard.wrap(model), None
        if how.endswith("stream"):
            list(model.stream("hello", config))
        else:
            model.invoke("hello", config)
    (event,) = recorder.of(CallSettled)
    assert {name: value for name, value in event.usage._asdict().items() if isinstance(value, int) and value} == usage
    assert not event.estimated
    if charge is not None:
        assert event.charge == charge
    else:
        rates = guard.meter.book.rates(event.model, event.at)
        assert rates is not None
        assert event.charge == rates.charge(event.usage)
