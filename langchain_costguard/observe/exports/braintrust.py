"""Braintrust: a row for each call in its log, through its own SDK (``pip install braintrust``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_costguard.events.metered import CallSettled, Event, Refused
from langchain_costguard.observe.telemetry.content import redacted
from langchain_costguard.vocabulary.money import NANO


class Braintrust:
    """A sink over a Braintrust logger: ``Braintrust(braintrust.init_logger(project="shop"))``.

    Its queue, retries and flush are the SDK's own. What was said is not in the rows.
    """

    def __init__(self, logger: Any, *, redact: Callable[[str], str] = redacted) -> None:
        if not callable(getattr(logger, "start_span", None)):
            raise ValueError(
                f"logger: {type(logger).__name__} is no logger of Braintrust's; init_logger(...) makes one"
            )
        self._logger, self._redact = logger, redact

    def __call__(self, event: Event) -> None:
        """Log a call, or a refusal."""
        if isinstance(event, CallSettled) and event.charged_before is None:
            self._call(event)
        elif isinstance(event, Refused):
            self._refusal(event)

    def _who(self, event: Event) -> dict[str, str]:
        names = ("user", "session", "agent", "step", "feature", "task")
        return {name: self._redact(value) for name in names if (value := getattr(event.scope, name))}

    def _call(self, event: CallSettled) -> None:
        usage, began = event.usage, event.at - event.seconds
        metrics: dict[str, float] = {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "tokens": usage.total_tokens,
            "prompt_cached_tokens": usage.cache_read,
            "completion_reasoning_tokens": usage.reasoning,
            "estimated_cost": event.charge / NANO,
        }
        if event.first_token_seconds is not None:
            metrics["time_to_first_token"] = event.first_token_seconds
        model = self._redact(event.answered or event.model.name)
        metadata = {**self._who(event), "model": model, "cost_nano_usd": event.charge, "estimated": event.estimated}
        span = self._logger.start_span(name=f"chat {model}", type="llm", start_time=began)
        span.log(metadata=metadata, metrics=metrics, tags=self._tags(event))
        span.end(end_time=event.at)

    def _refusal(self, event: Refused) -> None:
        span = self._logger.start_span(name=f"refused {self._redact(event.name)}", type="llm", start_time=event.at)
        facts = {
            "budget": self._redact(event.budget),
            "measure": event.measure,
            "asked": event.asked,
            "left": event.left,
        }
        span.log(error=event.error, metadata={**self._who(event), **facts}, tags=self._tags(event))
        span.end(end_time=event.at)

    def _tags(self, event: Event) -> list[str]:
        return [f"{name}:{value}" for name, value in self._who(event).items() if name in ("feature", "agent")]
