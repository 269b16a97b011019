"""What observers may look at and do in a guard's store: accounts, the ends of windows, and texts that wait there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from langchain_costguard.metering.budgets.lines import account_lines
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.stores.base import Claim, Refusal, StoreError
from langchain_costguard.observe.witness import AccountLine, Bound
from langchain_costguard.vocabulary.calendar import window_at
from langchain_costguard.vocabulary.checks import called
from langchain_costguard.vocabulary.usage import ModelRef, Usage

_TEXT = "observed:"
_TELLING = 600
"""Seconds after which another may tell what one began to."""
_ONCE = "grant-key:|observed:"
"""A kind of key that is no budget's account: whoever lists accounts passes it over."""
_KEPT = 400 * 86_400


def asked_for(telemetry: Any, notify: Any) -> list[Any]:
    """The sinks that a guard is given by name; telemetry, too, where only the environment asks for it."""
    if notify is not None and not hasattr(notify, "shares"):
        raise ValueError(f"notify: {notify!r} is no Notify, such as Notify({{0.7: Slack(url)}})")
    if telemetry is not None:
        called("telemetry", telemetry, "Telemetry(...)")
    if telemetry is None and any(f"COSTGUARD_{name}" in os.environ for name in ("OTEL", "OTLP", "PROMETHEUS")):
        from langchain_costguard.observe.telemetry.telemetry import from_environment

        telemetry = from_environment()
    return [sink for sink in (telemetry, notify) if sink is not None]


def show(sinks: Iterable[Any], meter: Meter, log: Any = None) -> None:
    """Let those sinks look at the guard that want to."""
    for sink in sinks:
        if isinstance(sink, Bound):
            sink.bind(Desk(meter, meter.clock, log))


def kept_by(guard: Any, since: float, rows: Any) -> Any:
    """What knows the calls of a guard best: an ``Attribution`` of its own, its log, or else its sums."""
    from langchain_costguard.observe.attribution.attribution import Attribution
    from langchain_costguard.observe.attribution.logged import Logged
    from langchain_costguard.observe.attribution.summed import Summed
    from langchain_costguard.observe.spend import Spend

    for sink in guard.voice.sinks:
        if isinstance(sink, Attribution):
            return sink
    now = guard.meter.clock
    desk = Desk(guard.meter, now)
    return Summed(rows, desk, since, now()) if guard.log is None else Logged(Spend(guard.log), desk)


def looked_by(sinks: Iterable[Any]) -> Any:
    """What tells a log more of a call than its event does."""
    return next((row for sink in sinks if callable(row := getattr(sink, "row", None))), None)


class Desk:
    """A guard's ``observe.witness.Source``; nothing it does raises because the store does not answer."""

    def __init__(self, meter: Meter, clock: Callable[[], float], log: Any = None) -> None:
        self._meter, self._clock = meter, clock
        self.log = log if log is not None and log.shared else None
        self.shared = bool(meter.ledger.store.shared)

    def accounts(self) -> list[AccountLine]:
        """Every account of the store; the cap of a budget of this guard is its own, though it refuses above that."""
        try:
            lines = list(account_lines(self._meter.ledger.store.scan(now=self._clock())))
        except StoreError:
            return []
        above = {
            (budget.label, measure): budget.ceiling(cap) - cap
            for budget in self._meter.ledger.budgets
            for measure, cap in (budget.caps().items() if budget.lockout != 1 else ())
        }
        return [line._replace(cap=line.cap - above.get((line.budget, line.measure), 0)) for line in lines]

    def price(self, model: ModelRef, usage: Usage, at: float) -> int | None:
        """What a usage costs of a model at a time."""
        try:
            rates = self._meter.book.quote(model, at, usage.tier)
        except LookupError:
            return None
        return None if rates.estimated else rates.charge(usage)

    def until(self, budget: str, at: float) -> float:
        """When the window ends that ``at`` lies in."""
        for known in self._meter.ledger.budgets:
            if known.label == budget and known.window is not None:
                return window_at(known.window, known.tz, at)[1]
        return float("inf")

    def once(self, key: str, at: float) -> bool:
        """Whether this is the first to ask; true, too, where the store does not answer: told twice is not untold."""
        claim = Claim(f"{_ONCE}{key}", 1, 1, ttl=_KEPT)
        try:
            answer = self._meter.ledger.store.reserve([claim], units=(0, 0), until=int(at) + _TELLING, now=at)
            if isinstance(answer, Refusal):
                return False
            self._meter.ledger.store.settle([claim], [1], [1], until=int(at) + _TELLING, now=at)
        except StoreError:
            return True
        return True

    def keep(self, name: str, text: str | None) -> None:
        """Keep a text, or drop it."""
        try:
            self._meter.ledger.store.flag(_TEXT + name, text)
        except StoreError:
            return

    def kept(self) -> Mapping[str, str]:
        """The texts kept."""
        try:
            flags = self._meter.ledger.store.flags()
        except StoreError:
            return {}
        return {name.removeprefix(_TEXT): text for name, text in flags.items() if name.startswith(_TEXT)}
