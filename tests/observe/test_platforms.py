"""What platforms make of what they are told, by their documented rules; and models that choose a model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI

from langchain_costguard import CostGuard, Price
from langchain_costguard.events import CallSettled, CallStarted, Routed
from langchain_costguard.observe.spend import Spend
from langchain_costguard.steering import steer
from langchain_costguard.testing import FakeProvider, Recorder, Reply, ScriptedChatModel
from tests.conftest import PRICES, Caller
from tests.observe.lens import Lens
from tests.observe.test_notify import Receiver

GUIDE = Path(__file__).parents[2] / "notebooks" / "guide" / "telemetry.md"
TYPES = {"chat": "GENERATION", "embeddings": "EMBEDDING", "invoke_agent": "AGENT", "execute_tool": "TOOL"}


def langfuse(found: Mapping[str, Any]) -> dict[str, Any]:
    """What Langfuse makes of a span: https://langfuse.com/integrations/native/opentelemetry#property-mapping"""

    def first(*keys: str) -> Any:
        return next((found[key] for key in keys if key in found), None)

    told = {key.removeprefix("gen_ai.usage."): value for key, value in found.items() if key.startswith("gen_ai.usage.")}
    usage, cost = found.get("langfuse.observation.usage_details"), found.get("langfuse.observation.cost_details")
    return {
        "user": first("langfuse.user.id", "user.id"),
        "session": first("langfuse.session.id", "session.id", "gen_ai.conversation.id"),
        "type": first("langfuse.observation.type") or TYPES.get(found.get("gen_ai.operation.name", ""), "SPAN"),
        "model": first("langfuse.observation.model.name", "gen_ai.response.model", "gen_ai.request.model"),
        "usage": json.loads(usage) if usage else told,
        "cost": json.loads(cost) if cost else {"total": first("gen_ai.usage.cost", "llm.cost.total")},
        "began": first("langfuse.observation.completion_start_time"),
        "tags": json.loads(first("langfuse.trace.tags", "tag.tags") or "[]"),
    }


def test_langfuse_shows_who_what_and_how_much_once(stream: Caller) -> None:
    lens = Lens()
    guard = CostGuard(
        prices={"gpt-4o": Price(input="2.50", cache_read="1.25", output="10")},
        telemetry=lens.telemetry(preset="langfuse"),
    )
    usage = {
        "prompt_tokens": 1_000, "completion_tokens": 50, "total_tokens": 1_050,
        "prompt_tokens_details": {"cached_tokens": 400}, "completion_tokens_details": {"reasoning_tokens": 30},
    }  # fmt: skip
    with FakeProvider(Reply("An answer of ours.", usage=usage)) as provider:
        agent = create_agent(provider.openai(), [], name="helper")
        with guard.scope(user="u1", session="s1", feature="search", task="t"):
            stream(agent, {"messages": [("user", "hello")]}, {"callbacks": [guard]})
    shown = {span.name: langfuse(span.attributes) for span in lens.spans()}
    call, run = shown["chat gpt-4o"], shown["invoke_agent helper"]
    assert (call["type"], run["type"], call["model"]) == ("GENERATION", "AGENT", "gpt-4o")
    kinds = {"input": 600, "input_cached_tokens": 400, "output": 20, "output_reasoning_tokens": 30}
    assert call["usage"] == kinds
    assert sum(call["usage"].values()) == 1_050
    assert round(call["cost"]["total"] * 1e9) == guard.report().total.spent
    assert (run["usage"], run["cost"]) == ({}, {"total": None})
    assert call["tags"] == ["feature:search", "agent:helper", "task:t"]
    assert {(one["user"], one["session"]) for one in shown.values()} == {("u1", "s1")}


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("router", "gpt-4o-mini"), ("model-router", "gpt-4o-mini-2024-07-18")],
)
def test_a_model_that_chooses_a_model_is_priced_by_what_it_says_answered(
    asked: str, answered: str, call: Caller, tmp_path: Path
) -> None:
    lens, recorder, path = Lens(), Recorder(), str(tmp_path / "spend.db")
    # Of a gateway that nobody knows it is said what its router may choose at the dearest.
    guard = CostGuard(aliases={asked: "openai:gpt-4o"}, sinks=[recorder], telemetry=lens.telemetry(), log=path)
    with FakeProvider(Reply("hi", model=answered, input_tokens=500, output_tokens=100)) as provider:
        model = ChatOpenAI(model=asked, base_url=provider.url, api_key="x", max_tokens=200, max_retries=0)
        call(model, "hello", {"callbacks": [guard]})
    assert guard.log is not None
    guard.log.flush()
    (event,), (started,) = recorder.of(CallSettled), recorder.of(CallStarted)
    assert event.charge == 500 * 150 + 100 * 600
    assert started.held >= 200 * 10_000  # as the dearest
    (row,) = Spend(path).by("model", "answered").rows
    (span,) = lens.spans()
    assert event.answered == span.attributes["gen_ai.response.model"] == row[0][1] == answered
    assert span.attributes["gen_ai.request.model"] == asked


def test_not_diamonds_choice_is_a_router_of_ten_lines(call: Caller) -> None:
    (code,) = re.findall(r"```python\n(import httpx.*?def not_diamond.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    chosen = {"providers": [{"provider": "openai", "model": "gpt-4o-mini"}], "session_id": "1-2"}
    receiver, recorder = Receiver(), Recorder()
    receiver.answers_with = json.dumps(chosen)
    try:
        known: dict[str, Any] = {}
        exec(code.replace("https://api.notdiamond.ai", receiver.url), known)
        guard = CostGuard(prices=PRICES, sinks=[recorder])
        with FakeProvider("hi") as provider:
            models = {name: provider.openai(name) for name in ("gpt-4o", "gpt-4o-mini")}
            not_diamond = known["not_diamond"]

            def router(request: Any) -> Any:
                route = not_diamond(request)
                return type(route)(models[route.model], route.why)

            agent = create_agent(models["gpt-4o"], [], middleware=steer(guard, router=router))
            call(agent, {"messages": [("user", "What is a mill?")]})
            assert [request.model for request in provider.requests] == ["gpt-4o-mini"]
    finally:
        receiver.close()
    (posted,) = receiver.posted
    assert posted.path == "/v2/modelRouter/modelSelect"
    assert [one["model"] for one in posted.body["llm_providers"]] == ["gpt-4o", "gpt-4o-mini"]
    assert posted.body["messages"] == [{"role": "user", "content": "What is a mill?"}]
    (routed,) = recorder.of(Routed)
    assert "Not Diamond" in routed.why


def test_a_span_names_the_model_that_a_gateway_says_it_asked(call: Caller) -> None:
    lens = Lens()
    headers = {"x-litellm-response-cost": "0.25", "x-litellm-model-name": "openai/gpt-4o-mini"}
    with FakeProvider(Reply("hi", headers=headers)) as provider:
        guard = CostGuard(trust_cost_from=[provider.url], telemetry=lens.telemetry(annotate=False))
        call(provider.openai("cheap", include_response_headers=True), "hello", {"callbacks": [guard]})
    (span,) = lens.spans()
    told = [span.attributes[f"gen_ai.{key}"] for key in ("request.model", "response.model")]
    assert told == ["cheap", "openai/gpt-4o-mini"]  # the body says "cheap" again


@pytest.mark.parametrize(
    ("model", "provider"),
    [("groq/llama-3.3-70b", "groq"), ("gemini/gemini-2.5-pro", "gcp.gemini"), ("gpt-4o", "litellm")],
)
def test_of_litellms_client_the_provider_is_whom_the_models_name_says(model: str, provider: str) -> None:
    lens = Lens()
    guard = CostGuard(telemetry=lens.telemetry(annotate=False))
    ScriptedChatModel(provider="litellm", model=model).invoke("hello", {"callbacks": [guard]})
    (span,) = lens.spans()
    assert span.attributes["gen_ai.provider.name"] == provider
    (labels,) = lens.metrics()["gen_ai.client.operation.duration"]
    assert dict(labels)["gen_ai.provider.name"] == provider
