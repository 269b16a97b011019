"""Alerting rules over the metrics of ``Telemetry``, for Prometheus and vmalert."""

from __future__ import annotations

RULES: tuple[tuple[str, str, str, str, str], ...] = (
    ("CostguardBudgetNearlySpent", "max by (budget, measure) (costguard_budget_spent / costguard_budget_cap) > 0.8",
     "0m", "warning", "Budget {{ $labels.budget }} ({{ $labels.measure }}) is at {{ $value | humanizePercentage }}."),
    ("CostguardBudgetSpent", "max by (budget, measure) (costguard_budget_spent / costguard_budget_cap) >= 1", "0m",
     "critical", "Budget {{ $labels.budget }} ({{ $labels.measure }}) is spent."),
    ("CostguardRefusing", "sum by (budget, kind) (increase(costguard_refused_total[5m])) > 0", "0m", "warning",
     "Calls are refused by budget {{ $labels.budget }}."),
    ("CostguardSpike",
     # The hours of the day before, as far as there were any: in its first hour nothing is a spike.
     "sum(increase(costguard_cost_usd_total[1h])) > "
     "3 * avg_over_time(sum(increase(costguard_cost_usd_total[1h]))[1d:5m] offset 1h) "
     "and sum(increase(costguard_cost_usd_total[1h])) > 1", "0m", "critical",
     "The last hour cost more than three times an average hour."),
    ("CostguardHoldsStuck", "max by (budget) (costguard_budget_held / costguard_budget_cap) > 0.5", "10m", "warning",
     "Half of budget {{ $labels.budget }} is held by calls under way."),
    ("CostguardUnpriced", "sum by (gen_ai_request_model) (increase(costguard_unpriced_total[1h])) > 0", "0m", "warning",
     "Nobody knows the price of {{ $labels.gen_ai_request_model }}."),
    ("CostguardStoreDown", "sum(increase(costguard_store_failures_total[5m])) > 0", "0m", "critical",
     "The store of balances does not answer."),
    ("CostguardCircuitOpen", "max by (name) (costguard_circuits_open) > 0", "5m", "warning",
     "The circuit of {{ $labels.name }} is open."),
)  # fmt: skip
"""Name, query, how long it must hold, severity, and what is said."""


def rules() -> str:
    """The rules, as a file for Prometheus."""
    lines = ["groups:", "  - name: costguard", "    rules:"]
    for name, query, wait, severity, text in RULES:
        lines += [
            f"      - alert: {name}",
            f"        expr: {_quoted(query)}",
            f"        for: {wait}",
            "        labels:",
            f"          severity: {severity}",
            "        annotations:",
            f"          summary: {_quoted(text)}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
