"""What ``Telemetry`` costs a call, in processor time of the call's own thread: with the SDK's batching processors as a
program sets them up, and switched off. Exporting is left to threads of the SDK's own, to nobody.

Run it with ``python tests/benchmarks/bench_telemetry.py``. Blocks with and without it are timed in random order.
"""

from __future__ import annotations

import sys
import time
import timeit
from collections.abc import Callable, Sequence
from typing import Any

from bench_overhead import guard, measured, model, p10, replayed
from langchain_core.language_models import BaseChatModel
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from langchain_costguard import CostGuard
from langchain_costguard.observe.tables import table
from langchain_costguard.observe.telemetry import Telemetry

N = 50


class Nobody(SpanExporter):
    """Takes spans and throws them away."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Done."""
        return SpanExportResult.SUCCESS


class Counted(list[Any]):
    """Nobody, who counts how often it is asked whether somebody is there."""

    asked = 0

    def __bool__(self) -> bool:
        self.asked += 1
        return False


def telemetry(**options: Any) -> Telemetry:
    """As a program sets it up."""
    traces = TracerProvider()
    traces.add_span_processor(BatchSpanProcessor(Nobody(), max_queue_size=100_000))
    return Telemetry(traces=traces, meters=MeterProvider([InMemoryMetricReader()]), **options)


def block(bare: BaseChatModel, watching: CostGuard) -> Callable[[], float]:
    """Seconds of this thread's processor time a call."""
    config: Any = {"callbacks": [watching]}

    def run() -> float:
        start = time.thread_time()
        for _ in range(N):
            bare.invoke("hello", config)
        return (time.thread_time() - start) / N

    return run


def on_row(name: str, bare: BaseChatModel, blocks: int, **options: Any) -> list[str]:
    """What it adds, at the 10th percentile of the blocks."""
    watched = guard()
    watched.add_sink(telemetry(**options))
    times = measured({"off": block(bare, guard()), "on": block(bare, watched)}, blocks)
    off, on = p10(times["off"]), p10(times["on"])
    return [name, f"{off * 1e6:.0f} us", f"+{(on - off) * 1e6:.0f} us", "<= 100 us"]


def off_row(bare: BaseChatModel) -> list[str]:
    """As often as a call asks whether somebody is told of it, at what that takes."""
    alone = guard()
    nobody = alone.voice.witnesses = Counted()
    bare.invoke("hello", {"callbacks": [alone]})
    once = min(timeit.repeat("if voice.witnesses: pass", globals={"voice": guard().voice}, number=100_000)) / 100_000
    return [f"off: asked {nobody.asked} times", "", f"+{once * nobody.asked * 1e6:.2f} us", "<= 0.5 us"]


def main() -> None:
    """Print the table."""
    blocks = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    rows = [off_row(model()), on_row("on, invoke", model(), blocks)]
    for name, client in replayed().items():
        rows.append(on_row(f"on, {name}'s reply", client, blocks))
    rows.append(on_row("on, what was said on spans", model(), blocks, content=True))
    print(table(["what", "a guarded call", "added", "target"], rows, left=1))


if __name__ == "__main__":
    main()
