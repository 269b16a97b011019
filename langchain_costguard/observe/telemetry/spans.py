"""Spans of agents, models, tools and refusals: made by the guard's own decisions, ended when the money is known.

Parents follow LangChain's ``parent_run_id``. Nothing is attached to a context in one callback and detached in another:
under ``ainvoke`` that fails. A span is the current one only within a frame of ours (``within``).
https://github.com/open-telemetry/opentelemetry-python-genai/issues/513
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from opentelemetry import context as contexts
from opentelemetry import trace

from langchain_costguard.events.metered import CallSettled, CallStarted, CallVoided, Refused, ToolSettled
from langchain_costguard.observe.telemetry import beside, naming
from langchain_costguard.observe.telemetry.describing import Describing
from langchain_costguard.observe.telemetry.run import Run
from langchain_costguard.observe.witness import Began

_KEPT = 50_000
_FRAME = contexts.create_key("costguard-frame")
_OURS = ("costguard.", "session.", "user.")


class _Frame:
    """A span that is current while a tool runs in a frame of ours, until the tool's run takes it up."""

    __slots__ = ("name", "outside", "span")

    def __init__(self, name: str, span: Any, outside: Any) -> None:
        self.name, self.span, self.outside = name, span, outside


_frame: ContextVar[_Frame | None] = ContextVar("costguard_frame", default=None)


class Spans:
    """The spans of one ``Telemetry``. ``annotate`` is whether other instrumentations' spans are looked for."""

    def __init__(self, tracer: Any, always: Any, describing: Describing, *, annotate: bool) -> None:
        self._tracer, self._always = tracer, always
        self._describe = describing
        self._annotate = annotate
        self._runs: dict[int, Run] = {}
        self._lock = threading.Lock()

    # Runs

    def began(self, run: Began) -> None:
        """Note a run; a chain that is an agent, or the outermost graph, gets its span here."""
        if run.run_id.int in self._runs:  # the guard is attached twice
            return
        noted = Run(run.kind, run.name, run.parent, run)
        self._note(run.run_id, noted)
        above = self._runs.get(run.parent.int) if run.parent is not None else None
        if above is not None:
            above.children.append(run.run_id)
        if run.kind != "chain":
            return
        noted.agent = str(run.metadata.get("lc_agent_name") or "")
        within = above.agent if above is not None else ""
        noted.theirs = self._annotate and beside.active() is not None
        if noted.theirs or (above is not None and (not noted.agent or noted.agent == within)):
            noted.agent = noted.agent or within
            return
        kind = "invoke_agent" if noted.agent else "invoke_workflow"
        name = noted.agent or run.name or "workflow"
        noted.span = self._tracer.start_span(f"{kind} {name}", self._context(run.parent))
        noted.span.set_attributes(self._describe.agent(kind, name, run.metadata))

    def ended(self, run_id: UUID, outcome: Any, error: BaseException | None) -> Run | None:
        """A run is over: its span ends, and those of runs below it that are paid but were not heard of."""
        noted = self._runs.pop(run_id.int, None)
        if noted is None:
            return None
        for child in noted.children:
            below = self._runs.get(child.int)
            if below is not None and below.ready:
                self.ended(child, None, None)
        span = noted.span
        if span is None:
            return noted
        attributes = self._describe.outcome(noted, outcome)
        if error is not None:
            noted.error = type(error).__name__
        if noted.error:
            attributes["error.type"] = noted.error
            span.set_status(trace.Status(trace.StatusCode.ERROR))
        span.set_attributes(attributes)
        span.end()
        return noted

    # Money

    def started(self, event: CallStarted) -> None:
        """A call was admitted: its span starts."""
        noted = self._runs.get(event.run_id.int)
        if noted is None:
            noted = Run(event.kind, event.name, event.parent, None)
            self._note(event.run_id, noted)
        noted.scope, noted.held, noted.kind = event.scope, event.held, event.kind
        noted.theirs = self._annotate and beside.active() is not None and event.kind != "embedding"
        if noted.theirs:
            return
        self._name_above(noted)
        frame = _frame.get()
        if event.kind == "tool" and frame is not None and frame.name == event.name:
            noted.span, frame.span = frame.span, None
        else:
            noted.span = self._start(noted)
        noted.span.set_attributes(self._describe.start(noted, event.run_id))

    def money(self, event: Any) -> None:
        """A call was paid, freed, or answered by a cache."""
        noted = self._runs.get(event.run_id.int)
        if noted is None:
            return
        again = getattr(event, "charged_before", None) is not None
        noted.ready, noted.charge = True, getattr(event, "charge", 0)
        noted.error = noted.error or _failure(event)
        noted.scope, noted.answered = event.scope, getattr(event, "answered", "")
        if noted.span is None and not noted.theirs:  # an answer of a cache in front of a wrapped model
            noted.span = self._start(noted)
        attributes = self._describe.money(noted, event, event.run_id)
        if noted.theirs:
            self._beside(noted, event, attributes)
        else:
            noted.span.set_attributes(attributes)
        if noted.run is None or again:  # nobody will tell of its end
            self.ended(event.run_id, None, None)

    def refused(self, event: Refused) -> None:
        """A call that was not made is a span of its own, sampled or not; a stream that was stopped, an event in its."""
        noted = self._runs.get(event.run_id.int) if event.run_id is not None else None
        attributes = self._describe.refusal(event, self._holders(event))
        if event.midway and noted is not None and noted.span is not None:
            noted.error = event.error
            noted.span.add_event("costguard.refused", attributes)
            return
        if noted is not None and event.run_id is not None and not event.midway and noted.kind != "chain":
            self._runs.pop(event.run_id.int, None)
        frame, parent = _frame.get(), event.parent or (noted.parent if noted is not None else None)
        unclaimed = frame is not None and frame.span is not None and event.kind == "tool"
        context = frame.outside if unclaimed and frame is not None else self._context(parent)
        span = self._always.start_span(f"refused {event.kind} {self._describe.safe(event.name)}", context)
        span.set_attributes({**self._describe.who(event.scope), **attributes})
        span.add_event("costguard.refused", attributes)
        span.set_status(trace.Status(trace.StatusCode.ERROR, event.error))
        span.end()

    # Frames

    @contextmanager
    def within(self, kind: str, run_id: UUID | None, name: str) -> Iterator[None]:
        """Make the span of a run whose frame is ours the current one, for what the run itself traces."""
        if self._annotate and beside.active() is not None:
            yield
            return
        noted = self._runs.get(run_id.int) if run_id is not None else None
        frame = None
        if noted is not None and noted.span is not None:
            span = noted.span
        elif kind == "tool":
            outside = self._context(run_id)
            span = self._tracer.start_span(f"execute_tool {self._describe.safe(name)}", outside)
            frame = _Frame(name, span, outside)
        else:
            yield
            return
        context = contexts.set_value(_FRAME, span, trace.set_span_in_context(span))
        token, mark = contexts.attach(context), _frame.set(frame)
        try:
            yield
        finally:
            # A frame's span that no run took up was refused: what never ends is never exported.
            _frame.reset(mark)
            contexts.detach(token)

    def _name_above(self, noted: Run) -> None:
        """Who is spending in an agent or a graph is known at the first call in it."""
        above = self._runs.get(noted.parent.int) if noted.parent is not None else None
        while above is not None and not above.named:
            above.named = True
            if above.span is not None:
                above.span.set_attributes(self._describe.who(noted.scope._replace(agent="", step="")))
            above = self._runs.get(above.parent.int) if above.parent is not None else None

    def _start(self, noted: Run) -> Any:
        name = f"{naming.operation_of(noted.kind)} {self._describe.safe(noted.name)}"
        kind = trace.SpanKind.INTERNAL if noted.kind == "tool" else trace.SpanKind.CLIENT
        return self._tracer.start_span(name, self._context(noted.parent), kind=kind)

    def _beside(self, noted: Run, event: Any, attributes: Mapping[str, Any]) -> None:
        span = beside.span_of(event.run_id)
        if span is not None:
            span.set_attributes(_without_usage(attributes))
            return
        if beside.by_langsmith() or not getattr(event, "charge", 0):
            return
        # Theirs has ended, for its handler came before ours: the cost alone, by keys of ours that no backend adds up.
        name = f"costguard.cost {self._describe.safe(noted.name)}"
        with_parent = self._parent_of_theirs(noted)
        span = self._tracer.start_span(name, with_parent)
        span.set_attributes({k: v for k, v in attributes.items() if k.startswith(_OURS)})
        span.end()

    def _parent_of_theirs(self, noted: Run) -> Any:
        above = noted.parent
        while above is not None:
            span = beside.span_of(above)
            if span is not None:
                return trace.set_span_in_context(span)
            run = self._runs.get(above.int)
            above = run.parent if run is not None else None
        return None

    def _context(self, parent: UUID | None) -> Any:
        """The nearest span above, unless the program has opened one of its own inside it; else what is current."""
        while parent is not None:
            above = self._runs.get(parent.int)
            if above is None:
                break
            if above.span is not None:
                inside = contexts.get_value(_FRAME)
                return None if inside is above.span else trace.set_span_in_context(above.span)
            parent = above.parent
        return None

    def _holders(self, event: Refused) -> list[str]:
        """Who in this process holds the most, by agent and name."""
        with self._lock:
            held = [run for run in self._runs.values() if run.held and not run.ready]
        held.sort(key=lambda run: -run.held)
        safe = self._describe.safe
        return [f"{safe(run.scope.agent) or '-'}/{safe(run.name)}: {run.held}" for run in held[:5]]

    def _note(self, run_id: UUID, noted: Run) -> None:
        with self._lock:
            self._runs[run_id.int] = noted
            if len(self._runs) > _KEPT:  # runs that never ended
                for key in list(self._runs)[: _KEPT // 2]:
                    self._runs.pop(key, None)


def _failure(event: Any) -> str:
    if isinstance(event, CallSettled):
        return "" if event.status == "ok" else event.status
    if isinstance(event, ToolSettled):
        return "tool_failed" if event.failed else ""
    return "failed" if isinstance(event, CallVoided) else ""


def _without_usage(attributes: Mapping[str, Any]) -> dict[str, Any]:
    kept = (*_OURS, "gen_ai.usage.cost", "llm.cost", "operation.cost", "mlflow.", "langfuse.")
    left_out = ("langfuse.observation.usage_details", "langfuse.observation.completion_start_time")
    return {key: value for key, value in attributes.items() if key.startswith(kept) and key not in left_out}
