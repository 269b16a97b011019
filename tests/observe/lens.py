"""What OpenTelemetry was told, read in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langchain_costguard.observe.telemetry import Telemetry


class Lens:
    """Providers whose exports stay here, and a ``Telemetry`` that uses them."""

    def __init__(self, sampler: Any = None) -> None:
        self.traces = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self._made: list[Telemetry] = []
        self._spans = InMemorySpanExporter()
        self.traces.add_span_processor(SimpleSpanProcessor(self._spans))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.logs = LoggerProvider(shutdown_on_exit=False)
        self._records = InMemoryLogRecordExporter()
        self.logs.add_log_record_processor(SimpleLogRecordProcessor(self._records))

    def telemetry(self, **options: Any) -> Telemetry:
        """A sink that tells this lens."""
        self._made.append(Telemetry(traces=self.traces, meters=self.meters, logs=self.logs, **options))
        return self._made[-1]

    def spans(self) -> list[Any]:
        """The spans that have ended, in the order in which they did."""
        return list(self._spans.get_finished_spans())

    def named(self, name: str) -> Any:
        """The one span of this name."""
        (span,) = (span for span in self.spans() if span.name == name)
        return span

    def parent(self, span: Any) -> str | None:
        """The name of the span above."""
        names = {one.context.span_id: one.name for one in self.spans()}
        return names.get(span.parent.span_id) if span.parent else None

    def records(self) -> list[Any]:
        """The log records."""
        return [record.log_record for record in self._records.get_finished_logs()]

    def metrics(self) -> dict[str, dict[tuple[tuple[str, str], ...], Any]]:
        """By name and labels, the value of counters and gauges, and (count, sum) of histograms."""
        found: dict[str, dict[tuple[tuple[str, str], ...], Any]] = {}
        for telemetry in self._made:
            telemetry.flush()
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in (data.resource_metrics if data else ()) for scope in resource.scope_metrics]
        for metric in (metric for scope in scopes for metric in scope.metrics):
            points = found.setdefault(metric.name, {})
            for point in metric.data.data_points:
                labels = tuple(sorted((key, str(value)) for key, value in point.attributes.items()))
                points[labels] = point.value if hasattr(point, "value") else (point.count, point.sum)
        return found

    def total(self, name: str, **labels: str) -> float:
        """A counter's sum over the labels that are given."""
        return sum(value for key, value in self.metrics()[name].items() if labels.items() <= dict(key).items())

    def everything(self) -> str:
        """All that left the process, as text."""
        spans = [span.to_json() for span in self.spans()]
        return "\n".join([*spans, *(repr(record) for record in self.records()), repr(self.metrics())])


def attributes(span: Any) -> Mapping[str, Any]:
    """A span's attributes."""
    found: Mapping[str, Any] = span.attributes
    return found
