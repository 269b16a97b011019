"""Every key, name and unit that leaves this process, once.

GenAI conventions: https://github.com/open-telemetry/semantic-conventions/tree/v1.41.0/docs/gen-ai up to 1.41, and
https://github.com/open-telemetry/semantic-conventions-genai from 0.1 on, which renamed some.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import Usage

Semconv = Literal["1.41", "0.1"]

PROVIDERS = MappingProxyType(
    {
        "google_genai": "gcp.gemini", "google_vertexai": "gcp.vertex_ai", "bedrock": "aws.bedrock",
        "gemini": "gcp.gemini", "vertex_ai": "gcp.vertex_ai",
        "amazon_bedrock": "aws.bedrock", "bedrock_converse": "aws.bedrock", "azure": "azure.ai.openai",
        "azure_openai": "azure.ai.openai", "azure_ai": "azure.ai.inference", "mistralai": "mistral_ai",
        "mistral": "mistral_ai", "xai": "x_ai", "moonshot": "moonshot_ai", "watsonx": "ibm.watsonx.ai",
        "ibm": "ibm.watsonx.ai",
    }
)  # fmt: skip
"""LangChain's ``ls_provider`` where the conventions have another word for it."""

SECONDS = tuple(0.01 * 2**n for n in range(14))
TOKENS = tuple(float(4**n) for n in range(14))
"""Buckets of the conventions' histograms."""

COST_USD, COST_NANO = "costguard.cost.usd", "costguard.cost.nano_usd"
SOURCE, ESTIMATED = "costguard.cost.source", "costguard.cost.estimated"
HELD, SAVED = "costguard.held.nano_usd", "costguard.saved.nano_usd"
RUN = "costguard.run_id"
CONTENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@dataclass(frozen=True, slots=True)
class Names:
    """What the two versions call differently."""

    cache_write: str
    duration: str
    first_chunk: str
    token_histogram: str | None
    """None where tokens are counters, one a kind, under ``token_counters``."""
    token_counters: str
    workflow: str


_NAMES: dict[str, Names] = {
    "1.41": Names(
        cache_write="gen_ai.usage.cache_creation.input_tokens",
        duration="gen_ai.client.operation.duration",
        first_chunk="gen_ai.client.operation.time_to_first_chunk",
        token_histogram="gen_ai.client.token.usage",
        token_counters="",
        workflow="gen_ai.workflow.name",
    ),
    "0.1": Names(
        cache_write="gen_ai.usage.cache_write.input_tokens",
        duration="gen_ai.client.inference.duration",
        first_chunk="gen_ai.client.inference.time_to_first_chunk",
        token_histogram=None,
        token_counters="gen_ai.client.inference.usage",
        workflow="gen_ai.agent.name",
    ),
}


def names_of(semconv: str) -> Names:
    """The names of one version of the conventions.

    Raises:
        ValueError: there is no such version.
    """
    if not isinstance(semconv, str) or semconv not in _NAMES:
        raise ValueError(f"semconv: {semconv!r} is not one of {', '.join(map(repr, _NAMES))}")
    return _NAMES[semconv]


def provider_of(name: str, model: str) -> str:
    """The conventions' word for a provider of LangChain's. LiteLLM's client says in a model's name whose it is.

    https://docs.litellm.ai/docs/providers
    """
    head, mark, _ = model.partition("/")
    name = head if mark and name == "litellm" else name
    return PROVIDERS.get(name, name) or "unknown"


def operation_of(kind: str) -> str:
    """The conventions' ``gen_ai.operation.name`` of a call's kind."""
    return {"embedding": "embeddings", "tool": "execute_tool"}.get(kind, "chat")


def usage_attributes(usage: Usage, names: Names) -> dict[str, int]:
    """Token counts as an inference span has them; kinds that are zero are left out.

    Only names that the conventions know: Langfuse makes a usage type of every number under ``gen_ai.usage``.
    """
    parts = {
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read,
        names.cache_write: usage.cache_write,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
        "costguard.usage.cache_write_1h": usage.cache_write_1h,
        "costguard.usage.web_searches": usage.web_searches,
    }
    totals = {"gen_ai.usage.input_tokens": usage.input_tokens, "gen_ai.usage.output_tokens": usage.output_tokens}
    return totals | {key: value for key, value in parts.items() if value}


def scope_attributes(scope: Scope) -> dict[str, str]:
    """Who is spending, without user and session, which a caller adds as it may."""
    return {
        f"costguard.{name}": value for name in ("agent", "step", "feature", "task") if (value := getattr(scope, name))
    }
