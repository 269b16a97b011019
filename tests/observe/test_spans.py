"""One priced span a call, whoever else traces; where each lies; refusals; what is not said unless asked."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import copy_context
from importlib import import_module
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableLambda
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from langchain_costguard import Budget, BudgetExceededError, CostGuard, Price
from langchain_costguard.steering import steer
from langchain_costguard.testing import FakeProvider, Reply, Request
from tests.conftest import PRICES, Caller
from tests.observe.lens import Lens

INSTRUMENTATIONS = {
    "openinference": ("openinference.instrumentation.langchain", "LangChainInstrumentor"),
    "official": ("opentelemetry.instrumentation.genai.langchain", "LangChainInstrumentor"),
}
if os.environ.get("COSTGUARD_TEST_TRACELOOP"):  # a check of its own: its wrappers outlive their removal
    INSTRUMENTATIONS = {"traceloop": ("opentelemetry.instrumentation.langchain", "LangchainInstrumentor")}
SECRET = "sk-canary-0123456789abcdef"
CANARIES = ("pelican-in-the-prompt", SECRET, "canary@example.com", "4111 1111 1111 1111")


@pytest.fixture
def lens() -> Lens:
    """An empty one."""
    return Lens()


@contextmanager
def instrumented(by: str, lens: Lens) -> Iterator[None]:
    if by == "none":
        yield
        return
    module, name = INSTRUMENTATIONS[by]
    instrumentor = getattr(import_module(module), name)()
    instrumentor.instrument(tracer_provider=lens.traces)
    try:
        yield
    finally:
        instrumentor.uninstrument()


def tokens_in(span: Any) -> bool:
    return any("input_tokens" in key or key == "llm.token_count.prompt" for key in span.attributes)


def ask(runnable: Any, value: Any, config: Any, way: str) -> None:
    async def astream() -> list[Any]:
        return [chunk async for chunk in runnable.astream(value, config)]

    if way == "sync":
        runnable.invoke(value, config)
    elif way == "async":
        asyncio.run(runnable.ainvoke(value, config))
    elif way == "stream":
        list(runnable.stream(value, config))
    else:
        asyncio.run(astream())


def once(guard: CostGuard, model: Any, seam: str, way: str) -> None:
    """One call through a seam."""
    value: Any = "hello" if isinstance(model, BaseChatModel) else {"messages": [("user", "hello")]}
    config: dict[str, Any] = {"callbacks": [guard]} if seam == "config" else {}
    if seam == "wrap":
        model = guard.wrap(model)
    elif seam == "steer":
        model, value = create_agent(model, [], middleware=steer(guard)), {"messages": [("user", "hello")]}
    with guard.watch() if seam == "watch" else nullcontext():
        ask(model, value, config, way)


@pytest.mark.parametrize("by", sorted({"none", *INSTRUMENTATIONS}))
def test_a_call_has_one_priced_span_whoever_else_traces_it(
    by: str, provider: FakeProvider, lens: Lens, caplog: pytest.LogCaptureFixture
) -> None:
    copy_context().run(check_one_priced_span, by, provider, lens)  # Traceloop leaves its own spans attached
    assert "Failed to detach" not in caplog.text


def check_one_priced_span(by: str, provider: FakeProvider, lens: Lens) -> None:
    guard = CostGuard(prices=PRICES, telemetry=lens.telemetry())
    told = 0
    with instrumented(by, lens):
        for seam in ("config", "watch", "wrap", "steer"):
            for way in ("sync", "async", "stream", "astream"):
                once(guard, provider.openai(), seam, way)
                spans = lens.spans()[told:]
                told += len(spans)
                counted = [span.name for span in spans if tokens_in(span)]
                priced = [span for span in spans if "costguard.cost.usd" in span.attributes]
                assert len(counted) == 1, (seam, way, counted)
                assert len(priced) == 1, (seam, way)
                if priced[0].name not in counted:  # their handler was first: ours has nothing that is added up again
                    assert (seam, by != "none") == ("watch", True)
                    assert not any(key.startswith(("gen_ai.usage", "llm.")) for key in priced[0].attributes)
    assert sum(span.attributes.get("costguard.cost.nano_usd", 0) for span in lens.spans()) == guard.report().total.spent


LANGSMITH = """
import asyncio, json, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from langchain.agents import create_agent
from langchain_core.tracers.langchain import wait_for_all_tracers
from langchain_costguard import CostGuard, Price
from langchain_costguard.observe.telemetry import Telemetry
from langchain_costguard.testing import FakeProvider
from tests.observe.test_spans import once

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
guard = CostGuard(prices={"gpt-4o": Price(input="2.50", output="10.00")}, telemetry=Telemetry())
with FakeProvider("four little words here") as fake:
    for seam in ("config", "wrap", "steer", "watch"):
        for way in ("sync", "async", "stream", "astream"):
            # Of a single call that is watched, nobody can say who traces it.
            model = create_agent(fake.openai(), []) if seam == "watch" else fake.openai()
            once(guard, model, seam, way)
wait_for_all_tracers()
print(json.dumps([dict(span.attributes) for span in exporter.get_finished_spans()], default=str))
"""


def test_the_spans_that_langsmith_makes_of_its_runs_have_our_cost_and_none_are_ours() -> None:
    asked = {"LANGSMITH_OTEL_ENABLED": "true", "LANGSMITH_OTEL_ONLY": "true", "LANGSMITH_TRACING": "true"}
    asked |= {"LANGSMITH_API_KEY": "none", "LANGSMITH_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", LANGSMITH],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    spans = json.loads(done.stdout.splitlines()[-1])
    calls = [span for span in spans if span.get("gen_ai.operation.name") == "chat"]
    assert len(calls) == 16
    cost = [json.loads(span["langsmith.metadata.usage_metadata"])["total_cost"] for span in calls]
    assert len(set(cost)) == 1
    assert cost[0] > 0
    assert not any("costguard.cost.usd" in span for span in spans)


def searching(request: Request) -> Reply | str:
    """Looks something up, and then answers."""
    if request.tools and not any(message.get("role") == "tool" for message in request.messages):
        return Reply(tool_calls=[("look_up", {"query": "May"})])
    return "We decided nothing."


@pytest.mark.parametrize("by", ["config", "steering alone"])
def test_spans_lie_where_their_runs_do_and_the_programs_own_below_them(
    by: str, call: Caller, lens: Lens, caplog: pytest.LogCaptureFixture
) -> None:
    mine = lens.traces.get_tracer("mine")

    def look_up(query: str) -> str:
        """Look it up."""
        with mine.start_as_current_span("database"):
            return query

    guard = CostGuard(
        Budget(per="user", usd="1"), prices=PRICES, tool_prices={"look_up": "0.01"}, telemetry=lens.telemetry()
    )
    with FakeProvider(searching) as provider:
        agent = create_agent(provider.openai(), [look_up], name="helper", middleware=steer(guard))
        with mine.start_as_current_span("request"), guard.scope(user="u1", session="s1", feature="minutes"):
            call(agent, {"messages": [("user", "?")]}, {"callbacks": [guard]} if by == "config" else {})
    above = {span.name: lens.parent(span) for span in lens.spans()}
    assert above == {
        "chat gpt-4o": "invoke_agent helper",
        "execute_tool look_up": "invoke_agent helper",
        "database": "execute_tool look_up",
        "invoke_agent helper": "request",
        "request": None,
    }
    assert len({span.context.trace_id for span in lens.spans()}) == 1
    tool = lens.named("execute_tool look_up").attributes
    assert (tool["costguard.cost.usd"], tool["gen_ai.tool.name"]) == (0.01, "look_up")
    ours = [span.attributes for span in lens.spans() if span.name not in ("database", "request")]
    assert len(ours) == 4
    assert all((one["user.id"], one["session.id"], one["costguard.feature"]) == ("u1", "s1", "minutes") for one in ours)
    assert "gen_ai.usage.input_tokens" not in lens.named("invoke_agent helper").attributes
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("ends", ["well", "left midway", "refused", "broken"])
def test_an_agent_that_is_steered_alone_has_a_span_however_its_run_ends(ends: str, stream: Caller, lens: Lens) -> None:
    def look_up(query: str) -> str:
        """Look it up."""
        if ends == "broken":
            raise OSError("no disk")
        return query

    budget = Budget(per="session", usd="1", **({"model_calls": 1} if ends == "refused" else {}))
    guard = CostGuard(budget, prices=PRICES, telemetry=lens.telemetry())
    with FakeProvider(searching) as provider:
        middleware = steer(guard, on_exceeded="raise")
        agent = create_agent(provider.openai(), [look_up], name="helper", middleware=middleware)
        for _ in range(2):
            with suppress(OSError, BudgetExceededError):
                stream(agent, {"messages": [("user", "?")]}, most=1 if ends == "left midway" else None)
            if ends == "refused":
                guard.grant("session", model_calls=1)
    gc.collect()  # a traceback may keep the run
    agents = [span for span in lens.spans() if span.name == "invoke_agent helper"]
    assert len(agents) == 2
    assert {lens.parent(span) for span in lens.spans() if span not in agents} == {"invoke_agent helper"}
    assert len({span.context.trace_id for span in lens.spans()}) == 2


@pytest.mark.parametrize(("semconv", "written"), [("1.41", "cache_creation"), ("0.1", "cache_write")])
def test_names_and_units_are_those_of_the_conventions(semconv: Any, written: str, lens: Lens, call: Caller) -> None:
    reply = Reply("Hello there.", usage={"input_tokens": 2000, "cache_creation_input_tokens": 1000, "output_tokens": 5})
    guard = CostGuard(
        prices={"claude-sonnet-4-6": Price(input="3", output="15")}, telemetry=lens.telemetry(semconv=semconv)
    )
    with FakeProvider(lambda request: reply) as provider:
        model = provider.anthropic()
        call(model, "hello", {"callbacks": [guard]}, temperature=0.5)
    (span,) = lens.spans()
    found = dict(span.attributes)
    assert (span.name, span.kind.name) == ("chat claude-sonnet-4-6", "CLIENT")
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.provider.name"] == "anthropic"
    assert found["gen_ai.request.model"] == "claude-sonnet-4-6"
    assert found["gen_ai.request.temperature"] == 0.5
    assert found["gen_ai.usage.output_tokens"] == 5
    assert found["gen_ai.response.finish_reasons"] == ("end_turn",)
    assert found[f"gen_ai.usage.{written}.input_tokens"] == 1000
    assert not any(key.startswith("gen_ai.usage.cost.") for key in found)


def test_presets_add_the_keys_that_backends_read(provider: FakeProvider, call: Caller) -> None:
    keys = {
        "generic": "gen_ai.usage.cost",
        "langfuse": "langfuse.observation.cost_details",
        "mlflow": "mlflow.llm.cost",
        "logfire": "operation.cost",
        "phoenix": "llm.cost.total",
        None: "",
    }
    for preset, key in keys.items():
        lens = Lens()
        guard = CostGuard(prices=PRICES, telemetry=lens.telemetry(preset=preset))
        call(provider.openai(), "hello", {"callbacks": [guard]})
        (span,) = lens.spans()
        assert {one for one in keys.values() if one and one in span.attributes} >= ({key} if key else set())
        cost = span.attributes["costguard.cost.usd"]
        if key:
            told = span.attributes[key]
            assert (json.loads(told).popitem()[1] if isinstance(told, str) else told) == cost


@pytest.mark.parametrize("seam", ["config", "wrap", "steer"])
def test_a_refusal_is_a_span_an_event_a_record_and_a_counter_and_no_sampler_drops_it(
    seam: str, provider: FakeProvider
) -> None:
    lens = Lens(sampler=ALWAYS_OFF)
    guard = CostGuard(Budget(per="session", usd="0.000001"), prices=PRICES, session="s1", telemetry=lens.telemetry())
    try:
        once(guard, provider.openai(), seam, "sync")
    except BudgetExceededError:
        assert seam != "steer"
    (span,) = lens.spans()
    (record,) = lens.records()
    assert (span.name, span.status.status_code.name) == ("refused model gpt-4o", "ERROR")
    for found in (span.attributes, span.events[0].attributes, record.attributes):
        assert found["costguard.refusal.budget"] == "session"
        assert found["costguard.refusal.measure"] == "usd"
        assert found["costguard.refusal.asked"] > found["costguard.refusal.left"] == 1_000
    assert span.attributes["session.id"] == "s1"
    assert lens.total("costguard.refused", budget="session", kind="model") == 1
    assert provider.requests == []


def test_a_refusal_says_who_holds_the_rest(provider: FakeProvider, lens: Lens) -> None:
    guard = CostGuard(Budget(per="all", usd="0.15"), prices=PRICES, telemetry=lens.telemetry())
    inner = provider.openai(max_tokens=9_000)

    def calling_another(_: Any) -> Any:
        return inner.invoke("hello", {"callbacks": [guard]})

    with FakeProvider(searching) as other:

        def look_up(query: str) -> str:
            """Look it up."""
            return query

        with guard.scope(agent="first"):
            streaming = other.openai(max_tokens=9_000).stream("hello", {"callbacks": [guard]})
            next(streaming)
            with pytest.raises(BudgetExceededError):
                RunnableLambda(calling_another).invoke(0)
            list(streaming)
    (refusal,) = (span for span in lens.spans() if span.name.startswith("refused"))
    assert refusal.attributes["costguard.refusal.holders"].startswith("first/gpt-4o: 9")


def test_a_call_that_failed_is_a_span_with_its_error(lens: Lens, call: Caller) -> None:
    guard = CostGuard(prices=PRICES, telemetry=lens.telemetry())
    with FakeProvider(Reply(status=500)) as provider, pytest.raises(Exception, match="500"):
        call(provider.openai(max_retries=0), "hello", {"callbacks": [guard]})
    (span,) = lens.spans()
    assert span.attributes["error.type"] == "OpenAIInternalServerError" or "Error" in span.attributes["error.type"]
    assert lens.total("costguard.errors", kind="model") == 1


@pytest.mark.parametrize("identify", [True, False, "hash"])
def test_nothing_that_was_said_leaves_unless_it_is_asked_for(identify: Any, lens: Lens, call: Caller) -> None:
    def look_up(query: str) -> str:
        """Look it up."""
        return " ".join(CANARIES)

    guard = CostGuard(
        Budget(per="user", usd="1", tool_calls=1), prices=PRICES, telemetry=lens.telemetry(identify=identify)
    )
    reply = Reply(" ".join(CANARIES), tool_calls=[("look_up", {"query": " ".join(CANARIES)})])
    with FakeProvider([reply, reply, "done"]) as provider:
        agent = create_agent(provider.openai(), [look_up], middleware=steer(guard))
        with guard.scope(user="canary@example.com", feature=SECRET, session="pelican-in-the-prompt-not"):
            call(agent, {"messages": [("user", " ".join(CANARIES))]}, {"callbacks": [guard]})
    text = lens.everything().replace("pelican-in-the-prompt-not", "")
    assert len(lens.spans()) > 4
    assert [canary for canary in CANARIES if canary in text] == []


def test_content_that_is_asked_for_is_redacted(call: Caller, lens: Lens) -> None:
    guard = CostGuard(prices=PRICES, telemetry=lens.telemetry(content=True))
    with FakeProvider("Call canary@example.com about the pelican.") as provider:
        messages = [("system", "Be brief."), ("user", f"My key is {SECRET}, my card 4111 1111 1111 1111; a pelican?")]
        call(provider.openai(), messages, {"callbacks": [guard]})
    (span,) = lens.spans()
    assert json.loads(span.attributes["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be brief."}]
    (asked,) = json.loads(span.attributes["gen_ai.input.messages"])
    assert asked["parts"][0]["content"] == "My key is [key], my card [card]; a pelican?"
    (said,) = json.loads(span.attributes["gen_ai.output.messages"])
    assert said == {"role": "assistant", "parts": [{"type": "text", "content": "Call [e-mail] about the pelican."}]}
