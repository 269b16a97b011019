"""LangSmith's real client and tracer, before an API of ours: what each call cost is on its run, by no more requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.tracers import LangChainTracer
from langchain_core.tracers.context import tracing_v2_enabled
from langsmith import Client

from langchain_costguard import Budget, BudgetExceededError, CostGuard
from langchain_costguard.observe.exports.langsmith import LangSmith
from langchain_costguard.steering import steer
from langchain_costguard.testing import FakeProvider
from tests.conftest import PRICES
from tests.loopback import Answering, Listener
from tests.observe.test_spans import ask


class Runs(Listener):
    """What a LangSmith API was sent."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, str, bytes]] = []
        runs = self

        class Handler(Answering):
            def do_GET(self) -> None:
                self.answer({"version": "0.11"})

            def do_POST(self) -> None:
                runs.posts.append((self.command, self.path, self.body()))
                self.answer({})

            do_PATCH = do_POST

        super().__init__(Handler)

    def llm(self) -> list[dict[str, Any]]:
        """The runs of models, their start and their end put together."""
        found: dict[str, dict[str, Any]] = {}
        for _, _, body in self.posts:
            run = json.loads(body)
            kept = {key: value for key, value in run.items() if value is not None}
            found[run["id"]] = found.get(run["id"], {}) | kept
        return [run for run in found.values() if run.get("run_type") == "llm"]


@pytest.fixture
def api() -> Iterator[Runs]:
    """One that takes all it is sent."""
    with Runs() as runs:
        yield runs


SEAMS = ("config", "wrap", "steer", "watched agent", "watched and traced", "wrapped and traced", "wrapped in an agent")


@pytest.mark.parametrize("way", ["sync", "async", "stream", "astream"])
@pytest.mark.parametrize("seam", SEAMS)
def test_cost_and_tags_land_on_the_runs_and_nothing_else_breaks(
    seam: str, way: str, api: Runs, provider: FakeProvider
) -> None:
    guard = CostGuard(prices=PRICES, sinks=[LangSmith()])
    client = Client(api_url=api.url, api_key="none", auto_batch_tracing=False)
    usage, tracer = UsageMetadataCallbackHandler(), LangChainTracer(client=client)
    model: Any = provider.openai()
    value: Any = "hello"
    # A wrapped model that is streamed is not told who else listens: there the guard goes into the config, too.
    first = seam == "config" or (seam == "wrap" and "stream" in way)
    callbacks: list[Any] = [guard, usage] if first else [usage]
    if "wrap" in seam:
        model = guard.wrap(model)
    if seam == "steer" or "agent" in seam:
        middleware = steer(guard) if seam == "steer" else []
        model, value = create_agent(model, [], middleware=middleware, name="helper"), {"messages": [("user", "hello")]}
    traced = tracing_v2_enabled(client=client) if "traced" in seam else nullcontext()
    if "traced" not in seam:
        callbacks.append(tracer)
    watched = guard.watch() if "watched" in seam else nullcontext()
    with traced, watched, guard.scope(user="u1", session="s1", feature="search", task="t", agent="helper"):
        ask(model, value, {"callbacks": callbacks}, way)
    (run,) = api.llm()
    metadata = run["extra"]["metadata"]
    assert metadata["usage_metadata"]["total_cost"] * 1e9 == pytest.approx(guard.report().total.spent)
    assert metadata["usage_metadata"]["output_tokens"] == provider.usage().output_tokens
    tags = {"model": "gpt-4o", "agent": "helper", "feature": "search", "user": "u1", "session": "s1", "task": "t"}
    assert {tag: metadata.get(f"costguard_{tag}") for tag in tags} == tags
    assert metadata["session_id"] == "s1"
    assert run["outputs"]
    assert run["end_time"]
    assert usage.usage_metadata["gpt-4o"]["output_tokens"] == provider.usage().output_tokens
    assert "total_cost" not in usage.usage_metadata["gpt-4o"]


def test_what_is_told_late_takes_no_operation_more(api: Runs, provider: FakeProvider) -> None:
    sent = []
    for seam in ("config", "watch"):
        guard = CostGuard(prices=PRICES, sinks=[LangSmith()])
        client = Client(api_url=api.url, api_key="none", auto_batch_tracing=False)
        callbacks: list[Any] = [*([guard] if seam == "config" else []), LangChainTracer(client=client)]
        with guard.watch() if seam == "watch" else nullcontext():
            agent = create_agent(provider.openai(), [])
            agent.invoke({"messages": [("user", "hello")]}, {"callbacks": callbacks})
        sent.append([method for method, _, _ in api.posts])
        api.posts.clear()
    assert sent[0] == sent[1] == ["POST"] * 3 + ["PATCH"] * 3


def test_the_users_own_message_is_what_it_was(provider: FakeProvider, api: Runs) -> None:
    guard = CostGuard(prices=PRICES, sinks=[LangSmith()])
    client = Client(api_url=api.url, api_key="none", auto_batch_tracing=False)
    config: Any = {"callbacks": [guard, LangChainTracer(client=client)]}
    message = provider.openai().invoke("hello", config)
    pieces = list(provider.openai().stream("hello", config))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    for found in (message, whole):
        assert type(found).__module__.startswith("langchain_core.messages")
        assert "total_cost" not in found.usage_metadata
        assert "total_cost" not in json.dumps(found.to_json(), default=str)


def test_a_refusal_is_on_the_run_that_asked_for_it(provider: FakeProvider, api: Runs) -> None:
    guard = CostGuard(Budget(per="session", usd="0.000001"), prices=PRICES, sinks=[LangSmith()])
    client = Client(api_url=api.url, api_key="none", auto_batch_tracing=False)
    agent = create_agent(provider.openai(), [])
    with pytest.raises(BudgetExceededError):
        agent.invoke({"messages": [("user", "hello")]}, {"callbacks": [guard, LangChainTracer(client=client)]})
    assert any(b"BudgetExceededError" in body and b"Budget 'session' refused" in body for _, _, body in api.posts)
