"""A Grafana dashboard over the metrics of ``Telemetry``, as they are named in Prometheus."""

from __future__ import annotations

from typing import Any

_DATA = {"type": "prometheus", "uid": "${datasource}"}
_RATE = "[$__rate_interval]"

PANELS: tuple[tuple[str, str, str, str, str], ...] = (
    ("Headroom by budget", "bargauge", "percentunit", "min by (budget, measure) (costguard_budget_headroom_ratio)",
     "{{budget}} {{measure}}"),
    ("Spent against held (USD)", "timeseries", "currencyUSD",
     'sum by (budget) (costguard_budget_spent{measure="usd"}) / 1e9', "{{budget}} spent"),
    ("Held (USD)", "timeseries", "currencyUSD", 'sum by (budget) (costguard_budget_held{measure="usd"}) / 1e9',
     "{{budget}} held"),
    ("Refused by budget", "timeseries", "short", f"sum by (budget, kind) (rate(costguard_refused_total{_RATE})) * 60",
     "{{budget}} {{kind}}"),
    ("Spending by feature (USD an hour)", "timeseries", "currencyUSD",
     f"sum by (feature) (rate(costguard_cost_usd_total{_RATE})) * 3600", "{{feature}}"),
    ("Spending by agent (USD an hour)", "timeseries", "currencyUSD",
     f"sum by (agent) (rate(costguard_cost_usd_total{_RATE})) * 3600", "{{agent}}"),
    ("Saved by policy (USD an hour)", "timeseries", "currencyUSD",
     f"sum by (policy) (rate(costguard_saved_usd_total{_RATE})) * 3600", "{{policy}}"),
    ("USD per million tokens really paid", "timeseries", "currencyUSD",
     f"sum by (gen_ai_request_model) (rate(costguard_cost_usd_total{_RATE})) * 1e6 / sum by (gen_ai_request_model) "
     f'(rate(costguard_tokens_total{{type=~"input|output"}}{_RATE}))', "{{gen_ai_request_model}}"),
    ("Share of input read from providers' caches", "timeseries", "percentunit",
     f'(sum(rate(costguard_tokens_total{{type="cache_read"}}{_RATE})) or vector(0)) / '
     f'sum(rate(costguard_tokens_total{{type="input"}}{_RATE}))', "hit ratio"),
    ("p95 time to first token", "timeseries", "s",
     "histogram_quantile(0.95, sum by (le, gen_ai_request_model) "
     f"(rate(gen_ai_client_operation_time_to_first_chunk_seconds_bucket{_RATE})))", "{{gen_ai_request_model}}"),
    ("p95 latency", "timeseries", "s",
     "histogram_quantile(0.95, sum by (le, gen_ai_request_model) "
     f"(rate(gen_ai_client_operation_duration_seconds_bucket{_RATE})))", "{{gen_ai_request_model}}"),
    ("Requests a minute", "timeseries", "short", f"sum by (kind, status) (rate(costguard_requests_total{_RATE})) * 60",
     "{{kind}} {{status}}"),
    ("Errors a minute", "timeseries", "short", f"sum by (error_type) (rate(costguard_errors_total{_RATE})) * 60",
     "{{error_type}}"),
    ("Tokens a minute", "timeseries", "short", f"sum by (type) (rate(costguard_tokens_total{_RATE})) * 60", "{{type}}"),
    ("Share of spending priced exactly", "stat", "percentunit",
     f"1 - (sum(rate(costguard_cost_estimated_usd_total{_RATE})) or vector(0)) / "
     f"sum(rate(costguard_cost_usd_total{_RATE}))", "exactly"),
    ("Open circuits", "stat", "short", "sum(costguard_circuits_open) or vector(0)", "open"),
    ("The store did not answer", "timeseries", "short", f"sum(rate(costguard_store_failures_total{_RATE})) * 60",
     "failures"),
)  # fmt: skip
"""Title, kind, unit, query, and what a line is called."""


def dashboard() -> dict[str, Any]:
    """The dashboard, to be imported."""
    panels = [
        {
            "id": n + 1,
            "title": title,
            "type": kind,
            "datasource": _DATA,
            "gridPos": {"h": 8, "w": 12, "x": n % 2 * 12, "y": n // 2 * 8},
            "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
            "targets": [{"refId": "A", "datasource": _DATA, "expr": query, "legendFormat": legend}],
        }
        for n, (title, kind, unit, query, legend) in enumerate(PANELS)
    ]
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    return {
        "title": "costguard",
        "uid": "costguard",
        "schemaVersion": 39,
        "editable": True,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [source]},
        "panels": panels,
    }
