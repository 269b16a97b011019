"""OpenTelemetry: every decision of the guard as spans, metrics and log records, in the tools that are there."""

from langchain_costguard.observe.telemetry.content import redacted
from langchain_costguard.observe.telemetry.telemetry import Telemetry

__all__ = ["Telemetry", "redacted"]
