"""What a page shows, as plain values: everything is asked of the log here, and nothing in the browser."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from langchain_costguard.observe.log.entry import COUNTS, KINDS, NAMES, Entry
from langchain_costguard.observe.log.schema import DIMENSIONS
from langchain_costguard.observe.page.trees import tree_of
from langchain_costguard.observe.report import Report, Tally
from langchain_costguard.observe.spend import Spend
from langchain_costguard.vocabulary.calendar import zone
from langchain_costguard.vocabulary.money import show

SERIES = 8
"""Names that are told apart in a chart; the rest are one."""
ROWS = 12
_ACCOUNTS = 4
"""Accounts of one budget that are shown: the fullest."""
_DAY = 86_400
_UNITS = (("hour", 2), ("day", 92), ("week", 730))
"""How fine time is shown, up to how many days."""
_TOKENS = ("fresh input", "from cache", "to cache", "output", "reasoning")


def facts(spend: Spend) -> dict[str, Any]:
    """Everything a page shows of a log."""
    period = spend.period
    unit = _unit(period)
    timed = {dim: spend.by(unit, dim) for dim in DIMENSIONS if dim != "step"}
    total = timed["model"].total
    return {
        "made": _said(time.time(), spend.tz),
        "tz": spend.tz,
        "period": [] if period is None else [_said(at, spend.tz) for at in period],
        "unit": unit,
        "filters": {name: sorted(values) for name, values in spend.wanted.names.items()},
        "total": _total(total, spend.hits()),
        "before": _before(spend),
        "over_time": {dim: _stacked(report, 1, "spent") for dim, report in timed.items()},
        "tokens": _tokens(timed["model"]),
        "refused": _refused(spend, timed["model"]),
        "budgets": _budgets(spend),
        "savings": _savings(timed["model"], total, spend),
        "first_token": _first_tokens(spend),
        "tables": {dim: _table(timed[dim].by(dim)) for dim in timed} | {"user": _table(spend.by("user"))},
        "traces": [
            {"tree": tree_of(trace.id, trace.rows).as_dict(), "at": _said(trace.rows[0].at, spend.tz)}
            for trace in spend.traces()
            if trace.rows and trace.spent
        ],
        "calls": [_call(row, spend.tz) for row in spend.calls() if row.counts[COUNTS.index("charge")]],
    }  # fmt: skip


def _unit(period: tuple[float, float] | None) -> str:
    length = 0.0 if period is None else period[1] - period[0]
    return next((unit for unit, days in _UNITS if length <= days * _DAY), "month")


def _said(at: float, tz: str) -> str:
    return datetime.fromtimestamp(at, zone(tz)).strftime("%Y-%m-%d %H:%M")


def _total(total: Tally, hits: int) -> dict[str, Any]:
    return {
        "spent": total.spent, "usd": show(total.spent), "calls": total.calls, "tool_calls": total.tool_calls,
        "refused": total.refused, "saved": total.saved, "saved_usd": show(total.saved), "hits": hits,
        "hit_rate": total.hit_rate, "estimated": total.estimated, "overrun_usd": show(total.overrun),
        "input": total.input_tokens, "output": total.output_tokens,
    }  # fmt: skip


def _before(spend: Spend) -> dict[str, Any] | None:
    if spend.wanted.since is None:
        return None
    total = spend.before().total
    return {"spent": total.spent, "usd": show(total.spent), "calls": total.calls, "refused": total.refused}


def _stacked(report: Report, column: int, measure: str) -> dict[str, Any]:
    """A chart's series: one for each of the largest names, over the same labels."""
    labels = sorted({key[0] for key, _ in report.rows})
    sums: dict[str, int] = {}
    for key, row in report.rows:
        sums[key[column]] = sums.get(key[column], 0) + getattr(row, measure)
    ranked = sorted((name for name in sums if sums[name]), key=lambda name: (-sums[name], name))
    shown = ranked if len(ranked) <= SERIES else ranked[: SERIES - 1]
    at = {label: i for i, label in enumerate(labels)}
    series = {name: [0] * len(labels) for name in shown}
    rest = [0] * len(labels)
    for key, row in report.rows:
        series.get(key[column], rest)[at[key[0]]] += getattr(row, measure)
    found = [{"name": name or "unnamed", "values": values} for name, values in series.items()]
    found += [{"name": f"{len(ranked) - len(shown)} others", "values": rest}] if any(rest) else []
    return {"labels": labels, "series": found}


def _tokens(report: Report) -> dict[str, Any]:
    labels = sorted({key[0] for key, _ in report.rows})
    at = {label: i for i, label in enumerate(labels)}
    values = {name: [0] * len(labels) for name in _TOKENS}
    for key, row in report.rows:
        fresh = row.input_tokens - row.cache_read - row.cache_write
        parts = (fresh, row.cache_read, row.cache_write, row.output_tokens - row.reasoning, row.reasoning)
        for name, amount in zip(_TOKENS, parts, strict=True):
            values[name][at[key[0]]] += max(0, amount)
    return {"labels": labels, "series": [{"name": n, "values": v} for n, v in values.items() if any(v)]}


def _refused(spend: Spend, report: Report) -> dict[str, Any]:
    counted: dict[str, int] = {}
    for key, row in report.rows:
        counted[key[0]] = counted.get(key[0], 0) + row.refused
    return {
        "labels": list(counted),
        "series": [{"name": "refused", "values": list(counted.values())}],
        "why": [{"error": e, "budget": b, "times": n} for e, b, n in spend.refusals()[:ROWS]],
    }


def _budgets(spend: Spend) -> list[dict[str, Any]]:
    """The fullest accounts, as they stood last."""
    found: list[dict[str, Any]] = []
    for standing in spend.standings():
        key, *middle, measure = standing.account.split("|")
        if not standing.cap or measure == "seconds":
            continue
        found.append({
            "budget": unquote(key), "scope": " ".join(map(unquote, middle)), "measure": measure,
            "share": standing.spent / standing.cap, "spent": _amount(measure, standing.spent),
            "cap": _amount(measure, standing.cap), "at": _said(standing.at, spend.tz),
        })  # fmt: skip
    shown: list[dict[str, Any]] = []
    for row in sorted(found, key=lambda row: -row["share"]):
        if sum(other["budget"] == row["budget"] for other in shown) < _ACCOUNTS:
            shown.append(row)
    return shown[:ROWS]


def _amount(measure: str, value: int) -> str:
    return show(value) if measure == "usd" else f"{value:,}"


def _savings(report: Report, total: Tally, spend: Spend) -> list[dict[str, Any]]:
    found: dict[str, list[int]] = {}
    for key, times, saved in report.actions.rows:
        before = found.setdefault(key[-2], [0, 0])
        before[0], before[1] = before[0] + times, before[1] + saved
    if total.saved:
        found["caches of providers and LangChain"] = [spend.hits(), total.saved]
    ranked = sorted(found.items(), key=lambda item: (-item[1][1], item[0]))
    return [{"policy": name, "times": times, "usd": show(saved)} for name, (times, saved) in ranked]


def _first_tokens(spend: Spend) -> list[dict[str, Any]]:
    found: dict[str, list[int]] = {}
    for model, millis in spend.first_tokens():
        found.setdefault(model, []).append(millis)
    ranked = sorted(((model, sorted(each)) for model, each in found.items()), key=lambda item: -len(item[1]))
    return [
        {"model": model, "calls": len(each), "p50": _at(each, 0.5), "p95": _at(each, 0.95)}
        for model, each in ranked[:SERIES]
    ]


def _at(ordered: Sequence[int], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1000


def _table(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "name": key[0] or "unnamed", "usd": show(row.spent), "spent": row.spent, "calls": row.calls,
            "tools": row.tool_calls, "input": row.input_tokens, "output": row.output_tokens,
            "hit_rate": row.hit_rate, "refused": row.refused, "saved_usd": show(row.saved) if row.saved else "",
        }
        for key, row in report.rows[:ROWS]
    ]  # fmt: skip


def _call(row: Entry, tz: str) -> dict[str, Any]:
    names = dict(zip(NAMES, row.names, strict=True))
    counts = dict(zip(COUNTS, row.counts, strict=True))
    return {
        "at": _said(row.at, tz), "what": names["name"] or names["model"], "kind": KINDS[row.kind],
        "agent": names["agent"], "feature": names["feature"], "user": names["user"], "usd": show(counts["charge"]),
        "input": counts["input"], "output": counts["output"], "seconds": row.millis / 1000, "trace": row.trace,
    }  # fmt: skip
