"""Counters that agree with the bill, labels that stay few, names as Prometheus has them, and an end in time."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import pytest
from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

from langchain_costguard import Budget, BudgetExceededError, CostGuard, SQLiteStore
from langchain_costguard.events import CallSettled
from langchain_costguard.observe.background import EXIT_SECONDS
from langchain_costguard.observe.telemetry import Telemetry
from langchain_costguard.testing import FakeProvider, ScriptedChatModel
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef, Usage
from tests.conftest import PRICES, Caller
from tests.observe.lens import Lens


@pytest.fixture
def lens() -> Lens:
    """An empty one."""
    return Lens()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_counters_agree_with_the_bill_and_gauges_with_the_store(
    lens: Lens, provider: FakeProvider, stream: Caller, tmp_path: Path
) -> None:
    store = SQLiteStore(str(tmp_path / "budgets.db"))
    budget = Budget(per="user", usd="1", lockout=1.2)
    guard = CostGuard(budget, prices=PRICES, store=store, telemetry=lens.telemetry())
    with guard.scope(user="u1", feature="search", agent="research"):
        for _ in range(3):
            stream(provider.openai(), "hello", {"callbacks": [guard]})
    spent, billed = guard.report().total.spent, provider.usage()
    assert lens.total("costguard.cost.usd", feature="search", agent="research") * 1e9 == pytest.approx(spent)
    assert lens.total("costguard.tokens", type="input") == billed.input_tokens
    assert lens.total("costguard.tokens", type="output") == billed.output_tokens
    assert lens.total("costguard.requests", status="ok") == 3
    assert lens.total("costguard.calls.held.usd") == pytest.approx(0)
    metrics = lens.metrics()
    whose = ("budget", "user"), ("measure", "usd")
    assert metrics["costguard.budget.spent"] == {whose: spent}
    assert metrics["costguard.budget.cap"] == {whose: 1_000_000_000}
    assert metrics["costguard.budget.headroom.ratio"][("budget", "user"), ("measure", "usd")] == pytest.approx(
        1, abs=0.01
    )
    ((first, _),) = metrics["gen_ai.client.operation.time_to_first_chunk"].values()
    ((whole, _),) = metrics["gen_ai.client.operation.duration"].values()
    assert first == whole == 3


@pytest.mark.parametrize(
    ("semconv", "there", "gone"),
    [
        ("1.41", "gen_ai.client.token.usage", "gen_ai.client.inference.usage.input_tokens"),
        ("0.1", "gen_ai.client.inference.usage.input_tokens", "gen_ai.client.token.usage"),
    ],
)
def test_metrics_have_the_names_of_the_version_that_is_asked_for(
    semconv: Any, there: str, gone: str, lens: Lens, provider: FakeProvider
) -> None:
    guard = CostGuard(prices=PRICES, telemetry=lens.telemetry(semconv=semconv))
    provider.openai().invoke("hello", {"callbacks": [guard]})
    assert there in lens.metrics()
    assert gone not in lens.metrics()


def test_ten_thousand_users_make_as_few_series_as_ten(lens: Lens) -> None:
    guard = CostGuard(Budget(per="user", usd="1"), telemetry=lens.telemetry(annotate=False))
    model = ScriptedChatModel()
    for n in range(200):
        with guard.scope(user=f"u{n}", session=f"s{n}", feature=f"feature {n}", agent=f"agent {n % 7}"):
            model.invoke("hello", {"callbacks": [guard]})
    sink = guard.voice.sinks[0]
    for n in range(9_800):
        scope = Scope(user=f"v{n}", session=f"t{n}", feature=f"other {n}", trace=str(n))
        sink(CallSettled(0.0, scope, uuid4(), ModelRef("openai", f"m{n}"), Usage(1, 1), 1, 1, 0, False, 0.1, None))
        if n % 1_000 == 0:  # no program makes so many calls at once that the counting falls behind
            lens.metrics()
    for name, series in lens.metrics().items():
        assert len(series) <= 1_000, name
        values: dict[str, set[str]] = {}
        for labels in series:
            for label, value in labels:
                values.setdefault(label, set()).add(value)
        assert {"user", "session", "trace", "user.id", "session.id"}.isdisjoint(values)
        assert max(map(len, values.values()), default=0) <= 102, name
    assert lens.total("costguard.requests", kind="model") == 10_000


def test_prometheus_is_served_the_names_it_expects(provider: FakeProvider) -> None:
    port = free_port()
    telemetry = Telemetry(prometheus=f"127.0.0.1:{port}", annotate=False)
    guard = CostGuard(Budget(per="user", usd="1"), prices=PRICES, telemetry=telemetry)
    try:
        provider.openai().invoke("hello", {"callbacks": [guard]})
        telemetry.flush()
        with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
    finally:
        telemetry.close()
    names = {line.split("{")[0] for line in text.splitlines() if not line.startswith("#")}
    assert {
        "costguard_cost_usd_total",
        "costguard_requests_total",
        "costguard_tokens_total",
        "costguard_budget_spent",
        "costguard_budget_cap",
        "costguard_budget_headroom_ratio",
        "gen_ai_client_operation_duration_seconds_bucket",
    } <= names


@asynccontextmanager
async def receiver() -> Any:
    port = free_port()
    async with OtelTapHttpProtobufReceiver(OtelTapHttpProtobufReceiverSettings(http_port=port)) as tap:
        yield tap, f"http://127.0.0.1:{port}"


def test_spans_metrics_and_records_arrive_over_otlp(provider: FakeProvider) -> None:
    async def check() -> None:
        async with receiver() as (tap, url):
            telemetry = Telemetry(otlp=url, service="shop", annotate=False)
            guard = CostGuard(Budget(per="user", usd="0.05", model_calls=1), prices=PRICES, telemetry=telemetry)
            model = provider.openai(max_tokens=100)
            waiting = asyncio.gather(
                tap.await_trace(lambda span: span.name == "chat gpt-4o", 10),
                tap.await_trace(lambda span: span.name == "refused model gpt-4o", 10),
                tap.await_metric(lambda metric: metric.name == "costguard.cost.usd", 10),
                tap.await_log(lambda log: True, 10),
            )
            await asyncio.sleep(0)  # it hears of what comes after it has begun to wait
            await model.ainvoke("hello", {"callbacks": [guard]})
            with pytest.raises(BudgetExceededError):
                await model.ainvoke("hello", {"callbacks": [guard]})
            await asyncio.to_thread(telemetry.close)
            span, refused, metric, record = await waiting
            assert "costguard.cost.nano_usd" in str(span)
            assert "costguard.refusal.budget" in str(refused)
            assert "{USD}" in str(metric)
            assert "refused model gpt-4o" in str(record)

    asyncio.run(check())


ENDING = """
import atexit, os, sys, time
asked = []
atexit.register(lambda: print(time.time() - asked[0], flush=True))  # the last to run
from langchain_costguard import CostGuard
from langchain_costguard.events import CallSettled
from langchain_costguard.observe.telemetry import Telemetry
from langchain_costguard.testing import ScriptedChatModel
guard = CostGuard(telemetry=Telemetry(otlp=sys.argv[1], annotate=False))
ScriptedChatModel().invoke("hello", {"callbacks": [guard]})
if sys.argv[2] == "fork" and not os.fork():
    ScriptedChatModel().invoke("hello", {"callbacks": [guard]})
    asked.append(time.time())
    sys.exit(0)
asked.append(time.time())
"""


@pytest.fixture
def silent() -> Iterator[str]:
    """A collector that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_script_ends_in_time_whatever_the_collector_does(silent: str) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", ENDING, url, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for how, url in (("plain", silent), ("fork", f"http://127.0.0.1:{free_port()}"))
    ]
    for process in started:
        printed, said = process.communicate(timeout=60)
        assert process.returncode == 0
        assert float(printed.split()[-1]) < 3 * EXIT_SECONDS  # a collector is given ten by its exporter
        assert "Traceback" not in said


def test_arguments_that_cannot_be_are_named(silent: str) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"semconv": "2"}, "semconv: '2'"),
        ({"preset": "datadog"}, "preset: 'datadog'"),
        ({"identify": 3}, "identify: 3"),
        ({"redact": "all"}, "redact: 'all'"),
        ({"otlp": "127.0.0.1:4318"}, "otlp: '127.0.0.1:4318'"),
        ({"prometheus": "nowhere"}, "prometheus: 'nowhere'"),
        (
            {"prometheus": silent.removeprefix("http://")},
            "prometheus: '127.0.0.1:.*Address already in use; name another",
        ),
        ({"prometheus": "u:secret@h h:1"}, "prometheus: '[^s]*h h:1' cannot be listened on"),
        ({"prometheus": "127.0.0.1:70000"}, "prometheus: '127.0.0.1:70000' cannot be listened on"),
    ]
    for options, said in cases:
        with pytest.raises(ValueError, match=said):
            Telemetry(**options)
