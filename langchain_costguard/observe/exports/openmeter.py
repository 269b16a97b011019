"""OpenMeter: each charge is one CloudEvent with an id of its own; a correction is another, of the difference.

https://openmeter.io/docs/metering/events/overview
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from langchain_costguard.events.metered import CallSettled, Event, ToolSettled
from langchain_costguard.observe.exports.sending import Sender
from langchain_costguard.observe.telemetry.content import redacted
from langchain_costguard.vocabulary.checks import called, is_text
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.urls import without_password
from langchain_costguard.vocabulary.usage import Usage

TYPE = "costguard.charge"
METERS: list[dict[str, Any]] = [
    {
        "slug": slug,
        "description": text,
        "eventType": TYPE,
        "aggregation": "SUM",
        "valueProperty": f"$.{field}",
        "groupBy": {name: f"$.{name}" for name in ("model", "feature", "agent", "kind")},
    }
    for slug, text, field in (
        ("llm_cost_nano_usd", "Money charged, in billionths of a USD", "cost_nano_usd"),
        ("llm_input_tokens", "Tokens sent", "input_tokens"),
        ("llm_output_tokens", "Tokens answered", "output_tokens"),
    )
]
"""What OpenMeter is configured with (``meters:`` of its ``config.yaml``): ``costguard export --meters`` prints it."""


class OpenMeter:
    """A sink: ``OpenMeter("https://openmeter.cloud", token=...)``.

    Args:
        url: The server; events go to ``/api/v1/events``.
        token: Bearer token, where it wants one.
        subject: Who pays for a call. Default: its user, else its session.
        source: Part of what makes an event's id unique, besides the run.
        redact: What is done to names. Default: keys, cards and e-mail addresses are taken out, but for the subject.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        subject: Callable[[Scope], str] | None = None,
        source: str = "costguard",
        redact: Callable[[str], str] = redacted,
    ) -> None:
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise ValueError(f"url: {without_password(url)!r} must begin with http:// or https://")
        if subject is not None:
            called("subject", subject, "a function that takes a Scope and returns a text")
        called("redact", redact, "a function that takes and returns a text")
        headers = {"content-type": "application/cloudevents-batch+json"}
        if token is not None and not is_text(token):
            raise ValueError(f"token: {token!r} must be a text, or None")
        if token:
            headers["authorization"] = f"Bearer {token}"
        self._sender = Sender("openmeter", f"{url.rstrip('/')}/api/v1/events", headers)
        self._subject = subject or (lambda scope: scope.user or scope.session or "unknown")
        self._source, self._redact = source, redact

    def __call__(self, event: Event) -> None:
        """Send what was charged."""
        if isinstance(event, (CallSettled, ToolSettled)):
            self._sender.put(self._event(event))

    def close(self) -> None:
        """Send what is left, within two seconds."""
        self._sender.close()

    def _event(self, event: CallSettled | ToolSettled) -> dict[str, Any]:
        before = event.charged_before
        scope, redact = event.scope, self._redact
        usage, used = Usage(), Usage()
        if isinstance(event, CallSettled):
            usage, used = event.usage, event.usage_before or Usage()
        name = event.tool if isinstance(event, ToolSettled) else event.answered or event.model.name
        return {
            "specversion": "1.0",
            "id": f"{event.run_id}:{'settled' if before is None else 'corrected'}",
            "source": self._source,
            "type": TYPE,
            "subject": self._subject(scope),
            "time": datetime.fromtimestamp(event.at, UTC).isoformat(),
            "datacontenttype": "application/json",
            "data": {
                "cost_nano_usd": event.charge - (before or 0),
                "input_tokens": usage.input_tokens - used.input_tokens,
                "output_tokens": usage.output_tokens - used.output_tokens,
                "kind": "tool" if isinstance(event, ToolSettled) else "model",
                "model": redact(name),
                "feature": redact(scope.feature),
                "agent": redact(scope.agent),
            },
        }
