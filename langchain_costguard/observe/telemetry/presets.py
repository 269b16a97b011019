"""What one backend or another reads a cost by, besides our own keys.

The conventions have no cost (https://github.com/open-telemetry/semantic-conventions-genai/pull/443 proposes one).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from langchain_costguard.vocabulary.money import NANO
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import Usage

Attributes = dict[str, str | int | float | bool]


class Paid(NamedTuple):
    """What a preset is made from; ``cost`` in nano-USD, ``began`` in epoch seconds, ``first`` seconds after it."""

    cost: int
    usage: Usage
    scope: Scope
    began: float
    first: float | None


def _generic(paid: Paid) -> Attributes:
    # Langfuse and OpenLIT's dashboards read the first, OpenInference's own tools the second.
    return {"gen_ai.usage.cost": paid.cost / NANO, "llm.cost.total": paid.cost / NANO}


def _langfuse(paid: Paid) -> Attributes:
    """https://langfuse.com/integrations/native/opentelemetry#property-mapping; usage details are its own exclusive
    kinds, which add up, and win over all of ``gen_ai.usage``."""
    usage = paid.usage
    details = {
        "input": usage.input_tokens - usage.cache_read - usage.cache_write,
        "input_cached_tokens": usage.cache_read,
        "input_cache_creation": usage.cache_write,
        "output": usage.output_tokens - usage.reasoning,
        "output_reasoning_tokens": usage.reasoning,
    }
    found: Attributes = {
        "langfuse.observation.cost_details": json.dumps({"total": paid.cost / NANO}),
        "langfuse.observation.usage_details": json.dumps({k: v for k, v in details.items() if v}),
    }
    if paid.first is not None:
        at = datetime.fromtimestamp(paid.began + paid.first, UTC)
        found["langfuse.observation.completion_start_time"] = at.isoformat()
    return found


def _mlflow(paid: Paid) -> Attributes:
    return {"mlflow.llm.cost": json.dumps({"total_cost": paid.cost / NANO})}


def _logfire(paid: Paid) -> Attributes:
    return {"operation.cost": paid.cost / NANO}


def _phoenix(paid: Paid) -> Attributes:
    # Phoenix prices by a table of its own and reads no cost; its span kinds and its keys for people are read.
    usage = paid.usage
    return {
        "openinference.span.kind": "LLM",
        "llm.cost.total": paid.cost / NANO,
        "llm.token_count.prompt": usage.input_tokens,
        "llm.token_count.completion": usage.output_tokens,
        "llm.token_count.total": usage.total_tokens,
    }


PRESETS: Mapping[str, Callable[[Paid], Attributes]] = {
    "generic": _generic,
    "langfuse": _langfuse,
    "mlflow": _mlflow,
    "logfire": _logfire,
    "phoenix": _phoenix,
}


def tags_of(scope: Scope, preset: str | None) -> Attributes:
    """What Langfuse wants on every span to filter by; nothing elsewhere."""
    if preset != "langfuse":
        return {}
    tags = [f"{name}:{value}" for name in ("feature", "agent", "task") if (value := getattr(scope, name))]
    return {"langfuse.trace.tags": json.dumps(tags)} if tags else {}
