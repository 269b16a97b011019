"""The dashboard and the rules, asked of real servers: see ``.ci/extended metrics``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.tools import tool

from langchain_costguard import Budget, BudgetExceededError, CostGuard
from langchain_costguard.events import CircuitOpened, Routed, StoreFailed, Unpriced
from langchain_costguard.observe.boards.grafana import PANELS
from langchain_costguard.observe.boards.rules import RULES, rules
from langchain_costguard.observe.telemetry import Telemetry
from langchain_costguard.testing import FakeProvider, Reply
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef
from tests.conftest import PRICES
from tests.observe.test_metrics import free_port
from tests.observe.test_notify import Receiver

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


@contextmanager
def running(where: Path, *command: str, healthy: str) -> Iterator[None]:
    """A server, once it is up."""
    with (where / f"{Path(command[0]).name}.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=where)
        try:
            until(lambda: httpx.get(healthy).is_success)
            yield
        finally:
            server.terminate()
            server.wait(10)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """VictoriaMetrics."""
    base = f"127.0.0.1:{free_port()}"
    options = (f"-storageDataPath={tmp_path}/data", f"-httpListenAddr={base}", "-search.latencyOffset=0s")
    command = (program("victoria-metrics"), *options, "-opentelemetry.usePrometheusNaming")
    with running(tmp_path, *command, healthy=f"http://{base}/health"):
        yield f"http://{base}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """What Alertmanager tells."""
    listening = Receiver()
    yield listening
    listening.close()


@pytest.fixture
def alertmanager(tmp_path: Path, receiver: Receiver) -> Iterator[str]:
    """Alertmanager, which tells the receiver at once."""
    base = f"127.0.0.1:{free_port()}"
    config = {
        "route": {"receiver": "us", "group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s"},
        "receivers": [{"name": "us", "webhook_configs": [{"url": f"{receiver.url}/alerts", "send_resolved": True}]}],
    }
    (tmp_path / "alertmanager.yml").write_text(json.dumps(config), "utf-8")  # what is JSON is YAML, too
    options = (f"--config.file={tmp_path}/alertmanager.yml", f"--storage.path={tmp_path}/alerts")
    command = (program("prometheus-alertmanager"), *options, f"--web.listen-address={base}")
    with running(tmp_path, *command, "--cluster.listen-address=", healthy=f"http://{base}/-/ready"):
        yield f"http://{base}"


def firing(receiver: Receiver) -> set[str]:
    """The names of the alerts that the receiver was told of."""
    posted = [alert for one in list(receiver.posted) for alert in one.body["alerts"]]
    return {alert["labels"]["alertname"] for alert in posted if alert["status"] == "firing"}


def test_every_rule_fires_end_to_end(
    database: str, alertmanager: str, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "500")
    now = time.time()
    # Six hours of ten cents each, and then one of a dollar and more: what no test can wait for.
    past = [f"costguard_cost_usd_total 0 {round((now - 7 * 3600) * 1000)}"]
    past += [f"costguard_cost_usd_total {0.1 * n / 12} {round((now - (84 - n) * 300) * 1000)}" for n in range(72)]
    past += [f"costguard_cost_usd_total {0.6 + 0.1 * n} {round((now - (12 - n) * 300) * 1000)}" for n in range(13)]
    httpx.post(f"{database}/api/v1/import/prometheus", content="\n".join(past)).raise_for_status()
    (tmp_path / "rules.yml").write_text(re.sub(r"for: \d+m", "for: 0s", rules()), "utf-8")
    base = f"127.0.0.1:{free_port()}"
    options = (f"-rule={tmp_path}/rules.yml", f"-datasource.url={database}", f"-notifier.url={alertmanager}")
    watching = (program("vmalert"), *options, "-evaluationInterval=1s", "-rule.evalDelay=0s", f"-httpListenAddr={base}")
    telemetry = Telemetry(otlp=f"{database}/opentelemetry/v1/metrics", annotate=False)
    guard = CostGuard(Budget(per="all", usd="0.06", lockout=1.2), prices=PRICES, telemetry=telemetry)
    scope = Scope(feature="search")
    replies = [Reply("It was long.", output_tokens=5_000), Reply("Too long.", output_tokens=2_000)]
    with FakeProvider(replies) as provider, running(tmp_path, *watching, healthy=f"http://{base}/health"):
        streaming = provider.openai(max_tokens=5_000).stream("hello", {"callbacks": [guard]})
        next(streaming)  # a call under way, which holds most of the budget
        for _ in range(60):
            telemetry(CircuitOpened(0.0, scope, "look", "it fails"))
            telemetry(StoreFailed(0.0, scope, "away", "refuse"))
            telemetry(Unpriced(0.0, scope, ModelRef("openai", "gpt-9"), "a guess"))
            with pytest.raises(BudgetExceededError):
                provider.openai(max_tokens=9_000).invoke("hello", {"callbacks": [guard]})
            time.sleep(1.0)
            if "CostguardHoldsStuck" in firing(receiver):
                list(streaming)
            if "CostguardBudgetNearlySpent" in firing(receiver) and len(provider.requests) < 2:
                provider.openai(max_tokens=2_000).invoke("hello", {"callbacks": [guard]})
            if firing(receiver) >= {rule[0] for rule in RULES}:
                break
    telemetry.close()
    assert firing(receiver) == {rule[0] for rule in RULES}
    texts = [alert["annotations"]["summary"] for one in receiver.posted for alert in one.body["alerts"]]
    assert any("Budget all (usd) is at 8" in text for text in texts)


def test_queries_and_rules_are_prometheus_own_too(tmp_path: Path) -> None:
    base = f"127.0.0.1:{free_port()}"
    (tmp_path / "rules.yml").write_text(rules(), "utf-8")
    (tmp_path / "prometheus.yml").write_text(json.dumps({"rule_files": ["rules.yml"]}), "utf-8")
    options = (f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb")
    command = (program("prometheus"), *options, f"--web.listen-address={base}")
    with running(tmp_path, *command, healthy=f"http://{base}/-/ready"):
        (group,) = httpx.get(f"http://{base}/api/v1/rules").json()["data"]["groups"]
        assert [rule["name"] for rule in group["rules"]] == [rule[0] for rule in RULES]
        for query in (*(panel[3] for panel in PANELS), *(rule[1] for rule in RULES)):
            asked = {"query": query.replace("$__rate_interval", "1m")}
            answer = httpx.get(f"http://{base}/api/v1/query", params=asked)
            assert answer.json()["status"] == "success", (query, answer.text)


def test_the_rules_are_rules_to_vmalert(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(rules(), "utf-8")
    subprocess.run([program("vmalert"), "-dryRun", f"-rule={tmp_path}/rules.yml"], check=True, timeout=30)


def test_every_query_is_understood_and_those_of_what_there_is_are_answered(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = database
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "500")
    telemetry = Telemetry(otlp=f"{base}/opentelemetry/v1/metrics", annotate=False)
    guard = CostGuard(Budget(per="all", tool_calls=1, usd="9"), prices=PRICES, telemetry=telemetry)
    scope = Scope(feature="search")
    telemetry(CircuitOpened(0.0, scope, "look", "it fails"))

    @tool
    def look() -> str:
        """Look."""
        raise OSError("no disk")

    def ask(query: str) -> Any:
        query = query.replace("$__rate_interval", "1m")
        answer = httpx.get(f"{base}/api/v1/query", params={"query": query})
        assert answer.is_success, (query, answer.text)
        return answer.json()["data"]["result"]

    unanswered = {panel[0] for panel in PANELS}
    with FakeProvider("four little words") as provider:
        for _ in range(20):  # a rate takes two samples of each
            list(provider.openai().stream("hello", {"callbacks": [guard]}))
            with pytest.raises((OSError, BudgetExceededError)):
                look.invoke({}, {"callbacks": [guard]})
            telemetry(Routed(0.0, scope, "gpt-4o", "cheap", 500))
            telemetry(StoreFailed(0.0, scope, "away", "refuse"))
            telemetry(Unpriced(0.0, scope, ModelRef("openai", "gpt-9"), "a guess"))
            time.sleep(1.0)
            httpx.get(f"{base}/internal/force_flush")
            unanswered = {panel[0] for panel in PANELS if not ask(panel[3])}
            if unanswered <= {"Errors a minute"}:  # there was one, at the beginning
                break
    telemetry.close()
    assert unanswered <= {"Errors a minute"}
    for rule in RULES:
        ask(rule[1])
