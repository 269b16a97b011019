"""The dashboard and the rules, asked of real servers: see ``.ci/extended metrics``."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from langchain_costguard import Budget, BudgetExceededError, CostGuard
from langchain_costguard.events import CircuitOpened, Routed, StoreFailed, Unpriced
from langchain_costguard.observe.boards.grafana import PANELS
from langchain_costguard.observe.boards.rules import RULES, rules
from langchain_costguard.observe.telemetry import Telemetry
from langchain_costguard.testing import FakeProvider
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef
from tests.conftest import PRICES
from tests.observe.test_metrics import free_port

ROOT = os.environ.get("COSTGUARD_TEST_SERVERS")
pytestmark = pytest.mark.skipif(not ROOT, reason="needs servers: .ci/extended metrics")


def program(name: str) -> str:
    return str(Path(ROOT or "/") / "usr" / "bin" / name)


def until(check: Callable[[], Any], seconds: float = 30.0) -> Any:
    ends = time.monotonic() + seconds
    while True:
        try:
            found = check()
        except httpx.HTTPError:
            found = None
        if found or time.monotonic() > ends:
            assert found
            return found
        time.sleep(0.2)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """VictoriaMetrics."""
    port = free_port()
    command = [
        program("victoria-metrics"), f"-storageDataPath={tmp_path}/data", f"-httpListenAddr=127.0.0.1:{port}",
        "-opentelemetry.usePrometheusNaming", "-search.latencyOffset=0s",
    ]  # fmt: skip
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: httpx.get(f"http://127.0.0.1:{port}/health").is_success)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(10)


def test_the_rules_are_rules_to_vmalert(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(rules(), "utf-8")
    subprocess.run([program("vmalert"), "-dryRun", f"-rule={tmp_path}/rules.yml"], check=True, timeout=30)


def test_every_query_is_understood_and_those_of_what_there_is_are_answered(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = database
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "500")
    telemetry = Telemetry(otlp=f"{base}/opentelemetry", annotate=False)
    guard = CostGuard(Budget(per="all", model_calls=6), prices=PRICES, telemetry=telemetry)
    scope = Scope(feature="search")
    telemetry(CircuitOpened(0.0, scope, "look", "it fails"))
    with FakeProvider("four little words") as provider:
        for _ in range(6):
            list(provider.openai().stream("hello", {"callbacks": [guard]}))
            time.sleep(1.0)
            telemetry(Routed(0.0, scope, "gpt-4o", "cheap", 500))
            telemetry(StoreFailed(0.0, scope, "away", "refuse"))
            telemetry(Unpriced(0.0, scope, ModelRef("openai", "gpt-9"), "a guess"))
        for _ in range(2):
            with pytest.raises(BudgetExceededError):
                provider.openai().invoke("hello", {"callbacks": [guard]})
            time.sleep(1.0)
    telemetry.close()
    httpx.get(f"{base}/internal/force_flush")

    def ask(query: str) -> Any:
        query = query.replace("$__rate_interval", "1m")
        answer = httpx.get(f"{base}/api/v1/query", params={"query": query})
        assert answer.is_success, (query, answer.text)
        return answer.json()["data"]["result"]

    answered = {panel[0] for panel in PANELS if ask(panel[3])}  # a share of nothing yet is no number, and no answer
    assert {
        "Headroom by budget",
        "Requests a minute",
        "Spending by feature (USD an hour)",
        "Tokens a minute",
    } <= answered
    for rule in RULES:
        ask(rule[1])
