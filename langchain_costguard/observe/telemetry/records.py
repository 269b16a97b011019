"""Refusals as log records: no sampler drops those."""

from __future__ import annotations

import time
from typing import Any

from langchain_costguard.events.metered import Refused
from langchain_costguard.observe.telemetry.describing import Describing


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
        from opentelemetry._logs import LogRecord, SeverityNumber

        attributes = {**self._describe.who(event.scope), **self._describe.refusal(event, ())}
        body = f"costguard refused {event.kind} {self._describe.safe(event.name)}"
        self._logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.WARN,
                severity_text="WARN",
                body=body,
                attributes=attributes,
                event_name="costguard.refused",
            )
        )
