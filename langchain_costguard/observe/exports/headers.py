"""What gateways and platforms are told in headers, and what they say in theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from langchain_costguard.vocabulary.scope import Scope

_TAGS = ("user", "session", "agent", "feature", "task")


def helicone_headers(scope: Scope, *, key: str | None = None) -> dict[str, str]:
    """Headers for a client whose ``base_url`` is Helicone's: ``ChatOpenAI(default_headers=helicone_headers(scope))``.

    https://docs.helicone.ai/helicone-headers/header-directory
    """
    found = {"Helicone-Auth": f"Bearer {key}"} if key else {}
    if scope.user:
        found["Helicone-User-Id"] = scope.user
    if scope.session:
        found["Helicone-Session-Id"] = scope.session
        path = [part for part in (scope.feature, scope.agent, scope.step) if part]
        found["Helicone-Session-Path"] = f"/{'/'.join(path)}"
    for name in ("agent", "feature", "task"):
        if value := getattr(scope, name):
            found[f"Helicone-Property-{name.title()}"] = value
    return {name: _one_line(value) for name, value in found.items()}


def portkey_headers(scope: Scope, *, key: str | None = None, provider: str | None = None) -> dict[str, str]:
    """Headers for a client whose ``base_url`` is a Portkey gateway's; ``_user`` is Portkey's own name for it.

    https://portkey.ai/docs/api-reference/inference-api/headers
    """
    told = {"_user" if name == "user" else name: value for name in _TAGS if (value := getattr(scope, name))}
    found = {"x-portkey-metadata": json.dumps(told), "x-portkey-trace-id": scope.trace}
    found |= {"x-portkey-api-key": key or "", "x-portkey-provider": provider or ""}
    return {name: _one_line(value) for name, value in found.items() if value}


def litellm_body(scope: Scope) -> dict[str, Any]:
    """What a LiteLLM proxy is told of who spends: ``ChatOpenAI(extra_body=litellm_body(scope))``. Its budgets and logs
    are by user and by tag.

    https://docs.litellm.ai/docs/proxy/request_headers
    """
    tags = [f"{name}:{value}" for name in ("agent", "feature", "task") if (value := getattr(scope, name))]
    metadata = {"tags": tags, "session_id": scope.session, "trace_id": scope.trace}
    told = {"user": scope.user, "metadata": {name: value for name, value in metadata.items() if value}}
    return {name: value for name, value in told.items() if value}


def galileo_otlp(base: str, *, key: str, project: str, log_stream: str) -> dict[str, Any]:
    """The arguments of a ``Telemetry`` whose spans go to Galileo: ``Telemetry(**galileo_otlp(...))``.

    https://v2docs.galileo.ai/how-to-guides/third-party-integrations/otel
    """
    headers = {"Galileo-API-Key": key, "project": project, "logstream": log_stream}
    return {"otlp": f"{base.rstrip('/')}/otel/traces", "headers": headers}


def requests_made(headers: Mapping[str, Any]) -> int:
    """How many requests a gateway made of the one that was admitted: by its count of tries again (Portkey, LiteLLM)."""
    told = {str(name).lower(): value for name, value in headers.items()}
    for name in ("x-portkey-retry-attempt-count", "x-litellm-attempted-retries"):
        text = str(told.get(name, ""))
        if text.lstrip("-").isdigit():
            return 1 + max(0, int(text))  # Portkey says -1 where all tries failed
    return 1


def answered_by_cache(headers: Mapping[str, Any]) -> bool:
    """Whether a proxy's own cache answered: nothing was paid to the provider (Helicone, Portkey, LiteLLM)."""
    told = {str(name).lower(): str(value).upper() for name, value in headers.items()}
    if "HIT" in (told.get("helicone-cache"), told.get("x-portkey-cache-status")):
        return True
    return told.get("x-litellm-cache-hit") == "TRUE"


def _one_line(value: str) -> str:
    """A header's value holds no line's end, and only what Latin-1 has."""
    return " ".join(value.split()).encode("latin-1", "replace").decode("latin-1")
