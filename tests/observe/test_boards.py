"""The dashboard and the rules ask for metrics that there are, by labels that they have."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from langchain_core.tools import tool
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import generate_latest

from langchain_costguard import Budget, BudgetExceededError, CostGuard
from langchain_costguard.events import CircuitOpened, Routed, StoreFailed, Unpriced
from langchain_costguard.observe.boards.grafana import PANELS, dashboard
from langchain_costguard.observe.boards.rules import RULES, rules
from langchain_costguard.observe.telemetry import Telemetry
from langchain_costguard.testing import FakeProvider, Reply
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef
from tests.conftest import PRICES

KEYWORDS = {
    "sum", "min", "max", "by", "rate", "increase", "histogram_quantile", "or", "and", "vector", "le", "__rate_interval",
    "avg_over_time", "offset",
}  # fmt: skip


@tool
def look() -> str:
    """Look."""
    return "seen"


def exposed() -> dict[str, set[str]]:
    """The names that Prometheus is served after a bit of everything, and the labels of each."""
    meters = MeterProvider([PrometheusMetricReader()], shutdown_on_exit=False)
    telemetry = Telemetry(meters=meters, annotate=False)
    guard = CostGuard(Budget(per="all", usd="1", tool_calls=1), prices=PRICES, telemetry=telemetry)
    with FakeProvider(["four little words", Reply(status=500)]) as provider:
        list(provider.openai().stream("hello", {"callbacks": [guard]}))
        with pytest.raises(Exception, match="500"):
            provider.openai(max_retries=0).invoke("hello", {"callbacks": [guard]})
    look.invoke({}, {"callbacks": [guard]})
    with pytest.raises(BudgetExceededError):
        look.invoke({}, {"callbacks": [guard]})
    scope = Scope(feature="search")
    for event in (
        CircuitOpened(0.0, scope, "look", "it fails"),
        Routed(0.0, scope, "gpt-4o", "cheap", 5),
        StoreFailed(0.0, scope, "away", "refuse"),
        Unpriced(0.0, scope, ModelRef("openai", "gpt-9"), "a guess"),
    ):
        telemetry(event)
    telemetry.flush()
    text = generate_latest().decode()
    meters.shutdown()
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)\{(.*)\} ", text, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r"(\w+)=\"", labels))
    return found


def test_every_query_asks_for_what_there_is() -> None:
    known = exposed()
    queries = [panel[3] for panel in PANELS] + [rule[1] for rule in RULES]
    missing = {}
    for query in queries:
        plain = re.sub(r'"[^"]*"|\[[^\]]*\]', "", query)
        words = {word for word in re.findall(r"[a-z_]{2,}", plain) if word not in KEYWORDS}
        metrics = {word for word in words if word.startswith(("costguard_", "gen_ai_client"))}
        labels = set().union(*(known.get(name, set()) for name in metrics))
        lost = {name for name in metrics if name not in known and name != "costguard_cost_estimated_usd_total"}
        lost |= words - metrics - labels
        if lost:
            missing[query] = lost
    assert missing == {}


def test_the_dashboard_and_the_rules_are_whole() -> None:
    made: Any = json.loads(json.dumps(dashboard()))
    assert len({panel["id"] for panel in made["panels"]}) == len(PANELS)
    text = rules()
    assert text.count("- alert:") == len(RULES)
    assert all(line.count("'") % 2 == 0 for line in text.splitlines())
