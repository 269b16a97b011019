"""Other instrumentations of LangChain in this process: their span of a call is annotated, and none of ours is made.

Each is looked for where it is loaded already; what is private to it is asked for with care, and where it is not there
(another version), our own span of the cost alone is made instead.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

Find = Callable[[UUID], Any]


def _openinference(run_id: UUID) -> Any:
    """Public: https://github.com/Arize-ai/openinference/tree/main/python/instrumentation/openinference-instrumentation-langchain"""
    return _instance("openinference.instrumentation.langchain").get_span(run_id)


def _official(run_id: UUID) -> Any:
    """Private, as of opentelemetry-instrumentation-genai-langchain 1.3b0."""
    handler = _instance("opentelemetry.instrumentation.genai.langchain")._callback_handler
    return handler._invocation_manager.get_invocation(run_id).span


def _traceloop(run_id: UUID) -> Any:
    """Private, as of opentelemetry-instrumentation-langchain 0.62: its handler is what it adds to each manager."""
    from langchain_core.callbacks import CallbackManager

    for handler in CallbackManager(handlers=[]).inheritable_handlers:
        spans = getattr(handler, "spans", None)
        if isinstance(spans, dict) and run_id in spans:
            return spans[run_id].span
    return None


_MODULES: dict[str, Find] = {
    "openinference.instrumentation.langchain": _openinference,
    "opentelemetry.instrumentation.genai.langchain": _official,
    "opentelemetry.instrumentation.langchain": _traceloop,
}


def _instance(module: str) -> Any:
    home = sys.modules[module]
    made = getattr(home, "LangChainInstrumentor", None) or home.LangchainInstrumentor
    return made()


def active() -> str | None:
    """The other instrumentation that makes a span of each call; None where there is none."""
    for module in _MODULES:
        if module in sys.modules and _is_on(module):
            return module
    return "langsmith" if by_langsmith() else None


def by_langsmith() -> bool:
    """Whether LangSmith's client exports its runs as spans: in the background, made from finished runs."""
    given = os.environ.get
    if not any(given(f"LANGSMITH_{name}", "").lower() == "true" for name in ("OTEL_ENABLED", "OTEL_ONLY")):
        return False
    return any(given(name, "").lower() == "true" for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"))


def _is_on(module: str) -> bool:
    try:
        return bool(_instance(module).is_instrumented_by_opentelemetry)
    except Exception:
        return False


def emits_metrics() -> bool:
    """Whether somebody else makes the conventions' metrics of model calls."""
    return any(name in sys.modules and _is_on(name) for name in tuple(_MODULES)[1:])


def span_of(run_id: UUID) -> Any:
    """Their open span of a run; None where there is none (any more)."""
    for module, find in _MODULES.items():
        if module not in sys.modules or not _is_on(module):
            continue
        try:
            span = find(run_id)
        except Exception:
            continue
        if span is not None and span.is_recording():
            return span
    return None
