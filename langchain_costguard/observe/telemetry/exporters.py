"""The SDK, set up for who has none: exporters that give up in time, and never keep a script from ending.

The SDK's own defaults hold a script back for 6 to 12 s where the collector does not answer; these 2 s.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from langchain_costguard.vocabulary.urls import reason, without_password

TIMEOUT = 2.0
"""Seconds an export may take, and all that is done at exit together."""
QUEUE = 2_048
"""Spans that wait for export at the most; what is more is dropped, as the SDK does."""


class Pipes(NamedTuple):
    """What spans, metrics and log records are made with; ``close`` ends what is ours."""

    traces: Any
    meters: Any
    logs: Any
    close: Callable[[], None]


def pipes(otlp: str | None, prometheus: str | None, service: str, headers: dict[str, str] | None) -> Pipes:
    """Providers of our own where an exporter is asked for, else those the program has set up (and nothing to close).

    Raises:
        ImportError: says which extra to install.
        ValueError: an address that is none.
    """
    if otlp is None and prometheus is None:
        return Pipes(None, None, None, lambda: None)
    try:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.resources import Resource
    except ImportError:
        raise ImportError(_needs("otlp" if otlp else "prometheus")) from None
    # `create` adds what OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say, which win.
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    resource = Resource.create(named)
    readers, closing = [], []
    traces = logs = None
    if otlp is not None:
        traces, logs, reader = _otlp(_address(otlp), resource, headers)
        readers += [reader] if reader is not None else []
        closing += [provider for provider in (traces, logs) if provider is not None]
    if prometheus is not None:
        if not isinstance(prometheus, str):
            raise ValueError(f"prometheus: {prometheus!r} must be an address such as 127.0.0.1:9464")
        readers.append(_prometheus(prometheus, closing))
    meters = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
    closing.append(meters)
    ending = _Ending(closing)
    atexit.register(ending)
    return Pipes(traces, meters, logs, ending)


def _address(url: str) -> str:
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise ValueError(f"otlp: {without_password(url)!r} must be a URL such as http://127.0.0.1:4318")
    return url.rstrip("/")


def _needs(extra: str) -> str:
    return f"telemetry needs the OpenTelemetry SDK: pip install 'langchain-costguard[{extra}]'"


def _otlp(base: str, resource: Any, headers: dict[str, str] | None) -> tuple[Any, Any, Any]:
    try:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ImportError(_needs("otlp")) from None
    given: dict[str, Any] = {"timeout": TIMEOUT, "headers": headers}
    traces = logs = reader = None
    if where := _place(base, "traces"):
        traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(where, **given), max_queue_size=QUEUE))
    if where := _place(base, "logs"):
        logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
        records = BatchLogRecordProcessor(OTLPLogExporter(where, **given), max_queue_size=QUEUE)
        logs.add_log_record_processor(records)
    if where := _place(base, "metrics"):
        every = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL") or 15_000)
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(where, **given), every, TIMEOUT * 1000)
    return traces, logs, reader


def _place(base: str, signal: str) -> str | None:
    """Where a signal goes: below the base, or to the very URL where that is of one signal alone."""
    for one in ("traces", "metrics"):
        if base.endswith(f"/{one}"):
            return base if signal == one else None
    return f"{base}/v1/{signal}"


def _prometheus(address: str, closing: list[Any]) -> Any:
    host, _, port = address.rpartition(":")
    shown = without_password(address)
    if not port.isdigit():
        raise ValueError(f"prometheus: {shown!r} must be an address such as 127.0.0.1:9464")
    try:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from prometheus_client import start_http_server
    except ImportError:
        raise ImportError(_needs("prometheus")) from None
    try:
        server, _ = start_http_server(int(port), host or "127.0.0.1")
    except (OSError, OverflowError, UnicodeError) as error:
        said = f"prometheus: {shown!r} cannot be listened on: {reason(error)}; name another port or address"
        raise ValueError(said) from None
    closing.append(_Server(server))
    return PrometheusMetricReader()


class _Server:
    def __init__(self, server: Any) -> None:
        self._server = server

    def shutdown(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Ending:
    """Shuts providers down side by side, and waits no longer than ``TIMEOUT`` for all of them.

    The threads for it wait from the beginning: since Python 3.12 none can be started when the interpreter is ending.
    https://docs.python.org/3/library/atexit.html

    In a forked child the SDK's queues are empty and its threads started anew: what was queued is the parent's to send,
    and what the child does is its own. Children of multiprocessing and of Celery's pool leave without what ``atexit``
    has registered (https://github.com/python/cpython/issues/83856), but run what is registered with their own module.
    """

    def __init__(self, closing: list[Any]) -> None:
        self._closing = closing
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._in_child)

    def _begin(self) -> None:
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=_when, args=(self._over, provider.shutdown), name="costguard-end", daemon=True)
            for provider in self._closing
        ]
        for thread in self._threads:
            thread.start()

    def _in_child(self) -> None:
        self._begin()
        for pool in ("multiprocessing.util", "billiard.util"):
            if self._closing and pool in sys.modules:
                sys.modules[pool].Finalize(None, self, exitpriority=0)

    def __call__(self) -> None:
        self._closing = []
        self._over.set()
        deadline = time.monotonic() + TIMEOUT
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _when(over: threading.Event, shutdown: Callable[[], object]) -> None:
    over.wait()
    shutdown()
