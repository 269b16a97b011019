"""``Telemetry``: what a guard decides, told to OpenTelemetry."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any
from uuid import UUID

from langchain_costguard.events.metered import (
    CacheHit,
    CallSettled,
    CallStarted,
    CallVoided,
    Event,
    Refused,
    ToolSettled,
)
from langchain_costguard.observe.exports.langsmith import LangSmith
from langchain_costguard.observe.telemetry import beside, naming
from langchain_costguard.observe.telemetry.content import Redact, redacted, wanted
from langchain_costguard.observe.telemetry.describing import Describing, Identify, identifying
from langchain_costguard.observe.telemetry.exporters import pipes
from langchain_costguard.observe.telemetry.presets import PRESETS
from langchain_costguard.observe.telemetry.prompts import PromptLog
from langchain_costguard.observe.witness import Began, Source
from langchain_costguard.vocabulary.checks import called, mapped
from langchain_costguard.vocabulary.scope import Scope

_SCOPE = "langchain_costguard"
_MONEY = (CallSettled, ToolSettled, CacheHit, CallVoided)


class Telemetry:
    """Spans, metrics and log records of every decision; give it to a guard: ``CostGuard(telemetry=Telemetry())``.

    Without ``otlp`` and ``prometheus`` it uses the providers that the program has set up, and replaces none of them.
    Where another instrumentation of LangChain makes a span of each call, that one is annotated and none of ours made.

    Args:
        otlp: The collector's base URL (``http://127.0.0.1:4318``); exporters are made for it, which wait 2 s at exit. A
            URL that ends in ``/traces`` is taken as it is, and sent spans alone (Langfuse, MLflow, Phoenix, Galileo);
            one that ends in ``/metrics``, metrics alone (VictoriaMetrics).
        headers: Headers of what is sent there.
        prometheus: Where ``/metrics`` is served (``127.0.0.1:9464``).
        service: The resource's name; ``OTEL_SERVICE_NAME`` wins.
        preset: Whose keys a cost has besides ``costguard.cost.*``: ``generic``, ``langfuse``, ``mlflow``, ``logfire``,
            ``phoenix``, or None.
        semconv: The GenAI conventions' version: ``"1.41"`` (what backends read), or ``"0.1"``.
        identify: Whether users and sessions are named: True, False, ``"hash"``, or a callable. True hashes a name that
            is an e-mail address.
        content: Whether prompts and replies are on spans. None asks the conventions' variable,
            ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT``.
        redact: What is done to every text that leaves. Default: keys, card numbers and e-mail addresses are taken out.
        prompts: A file, or a ``PromptLog``, for what was said in each call.
        annotate: Whether other instrumentations are looked for.
        traces, meters, logs: Providers of your own, instead of the global ones.

    Raises:
        ValueError: names the field and the value.
        ImportError: OpenTelemetry is not installed; says which extra has it.
    """

    def __init__(
        self,
        *,
        otlp: str | None = None,
        headers: Mapping[str, str] | None = None,
        prometheus: str | None = None,
        service: str = "langchain-costguard",
        preset: str | None = "generic",
        semconv: naming.Semconv = "1.41",
        identify: Identify = True,
        content: bool | None = None,
        redact: Redact = redacted,
        prompts: str | os.PathLike[str] | PromptLog | None = None,
        annotate: bool = True,
        traces: Any = None,
        meters: Any = None,
        logs: Any = None,
    ) -> None:
        names = naming.names_of(semconv)
        if preset is not None and not (isinstance(preset, str) and preset in PRESETS):
            raise ValueError(f"preset: {preset!r} is not one of {', '.join(map(repr, PRESETS))}, nor None")
        called("redact", redact, "a function that takes and returns a text")
        mapped("headers", {} if headers is None else headers, '{"authorization": "Bearer ..."}')
        for field, provider, verb in (
            ("traces", traces, "tracer"),
            ("meters", meters, "meter"),
            ("logs", logs, "logger"),
        ):
            if provider is not None and not hasattr(provider, f"get_{verb}"):
                raise ValueError(f"{field}: {provider!r} is no provider of OpenTelemetry: it has no get_{verb}()")
        if not isinstance(annotate, bool):
            raise ValueError(f"annotate: {annotate!r} must be True or False")
        said = wanted(content)
        self._describe = Describing(names, preset, identifying(identify), redact, said=said)
        made = pipes(otlp, prometheus, service, dict(headers) if headers else None)
        self._close = made.close
        self._langsmith = LangSmith() if annotate and beside.by_langsmith() else None
        self._prompts = (
            prompts if isinstance(prompts, PromptLog) or prompts is None else PromptLog(prompts, redact=redact)
        )
        self._talks = said or self._prompts is not None
        self._connect(made.traces or traces, made.meters or meters, made.logs or logs, annotate=annotate)

    def _connect(self, traces: Any, meters: Any, logs: Any, *, annotate: bool) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError:
            raise ImportError("telemetry needs OpenTelemetry: pip install 'langchain-costguard[otel]'") from None
        from langchain_costguard.observe.telemetry.metrics import Metrics
        from langchain_costguard.observe.telemetry.records import Records
        from langchain_costguard.observe.telemetry.spans import Spans

        tracer = trace.get_tracer(_SCOPE, tracer_provider=traces)
        self.spans = Spans(tracer, _always(traces, tracer), self._describe, annotate=annotate)
        meter = metrics.get_meter(_SCOPE, meter_provider=meters)
        conventional = (lambda: not beside.emits_metrics()) if annotate else (lambda: True)
        self.metrics = Metrics(meter, self._describe.names, self._describe.safe, conventional=conventional)
        self._records = Records(logs, self._describe)

    # A sink

    def __call__(self, event: Event) -> None:
        """Tell of an event."""
        spans = self.spans
        if self._langsmith is not None:
            self._langsmith(event)
        if isinstance(event, CallStarted):
            spans.started(event)
        elif isinstance(event, _MONEY):
            spans.money(event)
        elif isinstance(event, Refused):
            spans.refused(event)
            self._records.refused(event)
        self.metrics(event)

    # A witness

    def bind(self, source: Source) -> None:
        """Read the accounts of this guard."""
        self.metrics.bind(source)

    def began(self, run: Began) -> None:
        """A run begins."""
        if not self._talks and run.said is not None:
            run = run._replace(said=None)
        if self._langsmith is not None:
            self._langsmith.began(run)
        self.spans.began(run)

    def whose(self, run_id: UUID, scope: Scope) -> None:
        """Its events say so."""
        if self._langsmith is not None:
            self._langsmith.whose(run_id, scope)

    def ended(self, run_id: UUID, outcome: Any, error: BaseException | None) -> None:
        """A run is over."""
        if self._langsmith is not None:
            self._langsmith.ended(run_id, outcome, error)
        run = self.spans.ended(run_id, outcome, error)
        if run is None:
            return
        if run.error and run.kind != "chain":
            self.metrics.failed(run.kind, run.scope, run.error)
        if self._prompts is not None and run.kind == "model" and run.run is not None:
            self._log(run, run_id, outcome, error)

    def beside(self, run_id: UUID, handlers: Sequence[Any]) -> None:
        """Others find their spans by themselves."""
        if self._langsmith is not None:
            self._langsmith.beside(run_id, handlers)

    def within(self, kind: str, run_id: UUID | None, name: str) -> AbstractContextManager[None]:
        """Around a run whose frame is ours."""
        return self.spans.within(kind, run_id, name)

    def flush(self) -> None:
        """Bring what was told so far into the metrics, which are counted behind the calls."""
        self.metrics.flush()

    def close(self) -> None:
        """Send what is left (2 s at the most), and end the exporters that were made here."""
        self.flush()
        self._close()

    def _log(self, run: Any, run_id: UUID, outcome: Any, error: BaseException | None) -> None:
        log, scope = self._prompts, run.scope
        if log is None or not log.takes(scope, run_id):
            return
        who: dict[str, Any] = dict(self._describe.who(scope))
        facts = {"run_id": str(run_id), "model": run.name, **who, "error": type(error).__name__ if error else None}
        log.write(facts, run.run.said, run.run.params, outcome)


def _always(traces: Any, tracer: Any) -> Any:
    """A tracer whose spans are kept whatever is sampled, on the same exporters, where the SDK's provider is at hand."""
    from opentelemetry import trace

    provider = traces or trace.get_tracer_provider()
    processor, resource = getattr(provider, "_active_span_processor", None), getattr(provider, "resource", None)
    if processor is None or resource is None:
        return tracer
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    kept = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
    kept.add_span_processor(processor)
    return kept.get_tracer(_SCOPE)


@cache
def from_environment() -> Telemetry | None:
    """What the environment asks for, once for all guards of a process; None where it asks for nothing.

    ``COSTGUARD_OTLP`` is a collector's URL, ``COSTGUARD_PROMETHEUS`` an address to serve ``/metrics`` at. With
    ``COSTGUARD_OTEL=1`` alone, ``OTEL_EXPORTER_OTLP_ENDPOINT`` is where it goes, and without that, to the providers
    that the program sets up. ``COSTGUARD_OTEL_PRESET`` names the preset.
    """
    given = os.environ.get
    otlp, prometheus = given("COSTGUARD_OTLP"), given("COSTGUARD_PROMETHEUS")
    if not otlp and not prometheus:
        if given("COSTGUARD_OTEL", "").lower() in ("", "0", "false"):
            return None
        otlp = given("OTEL_EXPORTER_OTLP_ENDPOINT")
    preset = given("COSTGUARD_OTEL_PRESET") or "generic"
    return Telemetry(otlp=otlp or None, prometheus=prometheus or None, preset=preset)
