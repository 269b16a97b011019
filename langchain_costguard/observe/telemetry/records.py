"""Refusals as log records: no sampler drops those."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

from langchain_costguard.events.metered import Refused
from langchain_costguard.observe.telemetry.describing import Describing

_EVENT = "costguard.refused"


class Records:
    """Log records of one ``Telemetry``; none where OpenTelemetry has no logs (before 1.15)."""

    def __init__(self, provider: Any, describing: Describing) -> None:
        self._describe = describing
        try:
            from opentelemetry import _logs
        except ImportError:  # pragma: no cover - very old
            self._logger: Any = None
            return
        self._logger = _logs.get_logger("langchain_costguard", logger_provider=provider)

    def refused(self, event: Refused) -> None:
        """A call was not made."""
        if self._logger is None:
            return
        from opentelemetry._logs import SeverityNumber

        attributes = {**self._describe.who(event.scope), **self._describe.refusal(event, ())}
        body = f"costguard refused {event.kind} {self._describe.safe(event.name)}"
        record = _record(self._logger)
        named = {"event_name": _EVENT} if "event_name" in signature(record).parameters else {}
        self._logger.emit(
            record(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.WARN,
                severity_text="WARN",
                body=body,
                attributes=attributes if named else {**attributes, "event.name": _EVENT},
                **named,
            )
        )


def _record(logger: Any) -> Callable[..., Any]:
    """What makes a record: the API's class, or where the SDK does not wrap those yet, its own, with resource and span.

    https://github.com/open-telemetry/opentelemetry-python/blob/v1.30.0/opentelemetry-sdk/src/opentelemetry/sdk/_logs/_internal/__init__.py
    """
    from opentelemetry._logs import LogRecord

    resource = getattr(getattr(logger, "_logger", logger), "resource", None)
    if resource is None:
        return LogRecord
    from opentelemetry.sdk import _logs

    own = None if hasattr(_logs, "ReadWriteLogRecord") else getattr(_logs, "LogRecord", None)
    if own is None:
        return LogRecord
    from opentelemetry.trace import get_current_span

    here = get_current_span().get_span_context()
    return partial(own, resource=resource, trace_id=here.trace_id, span_id=here.span_id, trace_flags=here.trace_flags)
