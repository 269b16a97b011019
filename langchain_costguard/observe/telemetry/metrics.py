"""Counters, histograms and gauges. No user, session or trace is a label, and no label has more than 100 values."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from langchain_costguard.events.metered import (
    CacheHit,
    CallSettled,
    CallStarted,
    CallVoided,
    Event,
    HoldExpired,
    Refused,
    StoreFailed,
    ToolSettled,
    Unpriced,
)
from langchain_costguard.events.steered import CircuitClosed, CircuitOpened, Steered
from langchain_costguard.observe.background import Writer
from langchain_costguard.observe.telemetry.labels import Labels
from langchain_costguard.observe.telemetry.naming import SECONDS, TOKENS, Names, operation_of, provider_of
from langchain_costguard.observe.witness import AccountLine, Source
from langchain_costguard.vocabulary.money import NANO
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import Usage

_KINDS = (
    ("input", "input_tokens"), ("output", "output_tokens"), ("cache_read", "cache_read"),
    ("cache_write", "cache_write"), ("reasoning", "reasoning"),
)  # fmt: skip
_OWN = "{own}"  # the account's own unit, which its measure names
_USD = "{USD}"  # "USD" would end a Prometheus name in upper case


class Metrics:
    """The instruments of one ``Telemetry``, and what each event adds to them: behind the call, for a dozen instruments
    take twice as long as all else.

    ``conventional`` are the metrics of the GenAI conventions, which another instrumentation may make already.
    """

    def __init__(
        self, meter: Any, names: Names, safe: Callable[[str], str], *, conventional: Callable[[], bool]
    ) -> None:
        self._later: Writer[Event | tuple[str, Scope, str]] = Writer(self._count, name="metrics", gather=0.05)
        atexit.register(self.flush)
        self._names, self._safe, self._conventional = names, safe, conventional
        self._labels = Labels()
        self._open: dict[str, int] = {}
        self._held: dict[int, int] = {}
        self._sources: list[Source] = []
        self._cost = meter.create_counter("costguard.cost.usd", _USD, "Money charged.")
        self._requests = meter.create_counter("costguard.requests", "{request}", "Calls that ended, by status.")
        self._errors = meter.create_counter("costguard.errors", "{error}", "Calls that failed, by the error's class.")
        self._tokens = meter.create_counter(
            "costguard.tokens", "{token}", "Tokens by type; input and output are all, the others are parts of them."
        )
        self._refused = meter.create_counter("costguard.refused", "{call}", "Calls that were not made, or stopped.")
        self._saved = meter.create_counter("costguard.saved.usd", _USD, "Money that was not spent, by policy.")
        self._lost = meter.create_counter("costguard.steering_loss.usd", _USD, "Money that a policy took more.")
        self._actions = meter.create_counter("costguard.actions", "{action}", "What steering did.")
        self._doubt = meter.create_counter("costguard.cost.estimated.usd", _USD, "Money charged by estimate.")
        self._unpriced = meter.create_counter("costguard.unpriced", "{call}", "Calls of models of unknown price.")
        self._trouble = meter.create_counter("costguard.store.failures", "{failure}", "Times the store did not answer.")
        self._expired = meter.create_counter("costguard.holds.expired.usd", _USD, "Held for calls never heard of.")
        self._holding = meter.create_up_down_counter("costguard.calls.held.usd", _USD, "Held by calls under way here.")
        self._duration = _histogram(meter, names.duration, "s", "Duration of a model call.", SECONDS)
        self._first = _histogram(meter, names.first_chunk, "s", "Time to the first token of a stream.", SECONDS)
        self._tool_duration = _histogram(meter, "gen_ai.execute_tool.duration", "s", "Duration of a tool.", SECONDS)
        self._usage = (
            _histogram(meter, names.token_histogram, "{token}", "Tokens of a call.", TOKENS)
            if names.token_histogram
            else None
        )
        self._counters = {} if names.token_histogram else _token_counters(meter, names)
        self._observe(meter)
        self._told: dict[type[Event], Callable[[Any], None]] = {
            CallStarted: self._started, CallSettled: self._settled, ToolSettled: self._tool, CacheHit: self._hit,
            CallVoided: self._voided, Refused: self._refusal, Unpriced: self._no_price, StoreFailed: self._store,
            HoldExpired: self._hold_expired,
        }  # fmt: skip
        for status in ("ok", "failed"):  # a counter born at its first increment loses it to `increase()`
            self._requests.add(0, {"status": status, "kind": "model"})

    def bind(self, source: Source) -> None:
        """Read this guard's accounts, too."""
        self._sources.append(source)

    def __call__(self, event: Event) -> None:
        """Count an event, soon."""
        if type(event) in self._told or isinstance(event, Steered):
            self._later.put(event)

    def failed(self, kind: str, scope: Scope, error: str) -> None:
        """Count an error by its class, soon."""
        self._later.put((kind, scope, error))

    def flush(self) -> None:
        """Count what has been told so far."""
        self._later.flush()

    def _count(self, events: list[Event | tuple[str, Scope, str]]) -> None:
        for event in events:
            if isinstance(event, tuple):
                self._failed(*event)
            else:
                self._tell(event)

    def _tell(self, event: Event) -> None:
        told = self._told.get(type(event))
        if told is not None:
            told(event)
        elif isinstance(event, Steered):
            self._steered(event)

    def _failed(self, kind: str, scope: Scope, error: str) -> None:
        self._errors.add(1, {**self._whom(scope), "kind": kind, "error.type": self._labels("error", error)})

    def _who(self, event: Event) -> dict[str, str]:
        return self._whom(event.scope)

    def _whom(self, scope: Scope) -> dict[str, str]:
        safe, labels = self._safe, self._labels
        return {
            "feature": labels("feature", safe(scope.feature)) if scope.feature else "",
            "agent": labels("agent", safe(scope.agent)) if scope.agent else "",
        }

    def _model(self, event: Any) -> dict[str, str]:
        labels, safe, ref = self._labels, self._safe, event.model
        return {
            "gen_ai.provider.name": labels("provider", provider_of(safe(ref.provider), safe(ref.name))),
            "gen_ai.request.model": labels("model", safe(ref.name)),
        }

    def _started(self, event: CallStarted) -> None:
        self._held[event.run_id.int] = event.held
        self._holding.add(event.held / NANO)

    def _free(self, event: Any) -> None:
        held = self._held.pop(event.run_id.int, 0)
        if held:
            self._holding.add(-held / NANO)

    def _settled(self, event: CallSettled) -> None:
        model, who = self._model(event), self._who(event)
        labels = {**model, **who}
        again = event.charged_before is not None
        charge = event.charge - (event.charged_before or 0)
        before = event.usage_before or Usage()
        if charge > 0:
            self._cost.add(charge / NANO, labels)
            if event.estimated:
                self._doubt.add(charge / NANO, labels)
        for kind, field in _KINDS:
            count = getattr(event.usage, field) - getattr(before, field)
            if count > 0:
                self._tokens.add(count, {**labels, "type": kind})
        if event.saved > 0:
            self._saved.add(event.saved / NANO, {**labels, "policy": "prompt_cache"})
        if again:
            return
        self._free(event)
        self._requests.add(1, {**labels, "kind": "model", "status": event.status})
        if event.first_token_seconds is not None:
            self._first.record(event.first_token_seconds, self._conventions(event, who))
        if self._conventional():
            self._by_the_conventions(event, who)

    def _conventions(self, event: CallSettled, who: dict[str, str]) -> dict[str, str]:
        answered = event.answered or event.model.name
        return {
            "gen_ai.operation.name": operation_of("model"),
            **self._model(event),
            "gen_ai.response.model": self._labels("model", self._safe(answered)),
            **who,
        }

    def _by_the_conventions(self, event: CallSettled, who: dict[str, str]) -> None:
        labels, usage = self._conventions(event, who), event.usage
        self._duration.record(event.seconds, labels)
        if self._usage is not None:
            for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                self._usage.record(count, {**labels, "gen_ai.token.type": kind})
        for field, counter in self._counters.items():
            counter.add(getattr(usage, field), {**labels, "gen_ai.token.modality": "unknown"})

    def _tool(self, event: ToolSettled) -> None:
        tool = {"gen_ai.tool.name": self._labels("tool", self._safe(event.tool))}
        charge = event.charge - (event.charged_before or 0)
        who = self._who(event)
        if charge > 0:
            self._cost.add(charge / NANO, {**who, **tool})
        if event.charged_before is not None:
            return
        self._free(event)
        self._requests.add(1, {**who, **tool, "kind": "tool", "status": "failed" if event.failed else "ok"})
        self._tool_duration.record(event.seconds, {**who, **tool})

    def _hit(self, event: CacheHit) -> None:
        labels = {**self._model(event), **self._who(event)}
        self._free(event)
        self._requests.add(1, {**labels, "kind": "model", "status": "cached"})
        if event.saved:
            self._saved.add(event.saved / NANO, {**labels, "policy": "cache"})

    def _voided(self, event: CallVoided) -> None:
        self._free(event)
        self._requests.add(1, {**self._who(event), "kind": event.kind, "status": "failed"})

    def _refusal(self, event: Refused) -> None:
        self._refused.add(
            1,
            {
                **self._who(event),
                "kind": event.kind,
                "budget": self._labels("budget", self._safe(event.budget)),
                "measure": event.measure,
                "error.type": event.error,
            },
        )

    def _no_price(self, event: Unpriced) -> None:
        self._unpriced.add(1, {**self._model(event), **self._who(event)})

    def _store(self, event: StoreFailed) -> None:
        self._trouble.add(1, {"policy": event.policy})

    def _hold_expired(self, event: HoldExpired) -> None:
        self._free(event)
        self._expired.add(event.held / NANO, self._who(event))

    def _steered(self, event: Steered) -> None:
        policy = {**self._who(event), "policy": type(event).__name__}
        self._actions.add(1, policy)
        if event.saved > 0:
            self._saved.add(event.saved / NANO, policy)
        elif event.saved < 0:
            self._lost.add(-event.saved / NANO, policy)
        if isinstance(event, (CircuitOpened, CircuitClosed)):
            self._open[self._labels("circuit", self._safe(event.name))] = int(isinstance(event, CircuitOpened))

    def _observe(self, meter: Any) -> None:
        from opentelemetry.metrics import Observation

        def gauge(measure: Callable[[list[AccountLine]], float]) -> Callable[[Any], Iterator[Any]]:
            def read(_: Any) -> Iterator[Any]:
                for (budget, unit), lines in self._accounts().items():
                    yield Observation(measure(lines), {"budget": budget, "measure": unit})

            return read

        # A unit of "1" is a ratio to whoever names metrics by the rules, and ends a gauge's name in "_ratio".
        # https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#metric-metadata-1
        for name, unit, measure, text in (
            ("spent", _OWN, _sum("spent"), "Exact, of a budget's accounts, from the store; in nano-USD, ms, counts."),
            ("held", _OWN, _sum("held"), "The same, reserved by calls under way."),
            ("cap", _OWN, _sum("cap"), "The same, what may be spent."),
            ("headroom.ratio", "1", _fullest, "The share left of a budget's fullest account."),
        ):
            meter.create_observable_gauge(f"costguard.budget.{name}", [gauge(measure)], unit, text)

        def circuits(_: Any) -> Iterable[Any]:
            return [Observation(value, {"name": name}) for name, value in list(self._open.items())]

        meter.create_observable_gauge("costguard.circuits.open", [circuits], "{circuit}", "1 while a circuit is open.")

    def _accounts(self) -> dict[tuple[str, str], list[AccountLine]]:
        found: dict[tuple[str, str], list[AccountLine]] = {}
        for source in self._sources:
            for line in source.accounts():
                budget = self._labels("budget", self._safe(line.budget))
                found.setdefault((budget, line.measure), []).append(line)
        return found


def _sum(field: str) -> Callable[[list[AccountLine]], float]:
    return lambda lines: sum(getattr(line, field) for line in lines)


def _fullest(lines: list[AccountLine]) -> float:
    return min((1 - (line.spent + line.held) / line.cap for line in lines if line.cap), default=1.0)


def _token_counters(meter: Any, names: Names) -> dict[str, Any]:
    return {
        field: meter.create_counter(f"{names.token_counters}.{key}", "{token}", "Tokens of calls, in all.")
        for field, key in (
            ("input_tokens", "input_tokens"),
            ("output_tokens", "output_tokens"),
            ("cache_read", "cache_read.input_tokens"),
            ("cache_write", "cache_write.input_tokens"),
            ("reasoning", "reasoning.output_tokens"),
        )
    }


def _histogram(meter: Any, name: str, unit: str, text: str, buckets: tuple[float, ...]) -> Any:
    try:
        return meter.create_histogram(name, unit, text, explicit_bucket_boundaries_advisory=list(buckets))
    except TypeError:  # opentelemetry-api < 1.30
        return meter.create_histogram(name, unit, text)
