"""What the spend log keeps of an event: one row, of numbers and names. There is no text of prompts or replies."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple
from uuid import UUID

from langchain_costguard.events import metered as events
from langchain_costguard.events.steered import Steered
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import Usage

KINDS = ("model", "tool", "hit", "refused", "action", "alert", "expired", "voided", "note")
"""What a row is about: calls that were paid, tool calls, answers of LangChain's cache, refusals, what steering did,
alerts, holds that ran out, calls that failed unbilled, and all else a sink is told."""
MODEL, TOOL, HIT, REFUSED, ACTION, ALERT, EXPIRED, VOIDED, NOTE = range(len(KINDS))

NAMES = (
    "user", "session", "agent", "step", "feature", "task", "model", "provider", "answered", "name", "status", "source",
)  # fmt: skip
"""The columns of a row that are names, each kept once. ``model`` is the one asked for and ``answered`` the one that
answered, where that is another; ``name`` is the tool, or what an action was about; ``source`` is where a price is from.
Of an action, ``status`` is the event's class."""
COUNTS = (
    "calls", "input", "output", "cache_read", "cache_write", "reasoning", "cacheable", "held", "charge", "saved",
    "estimated", "overrun",
)  # fmt: skip
"""The columns that are added up. ``calls`` is 0 in a correction of a row before it."""

_NO_USAGE = Usage()
_RARE = ("cache_write_1h", "input_audio", "output_audio", "output_image", "web_searches", "tier")


class Entry(NamedTuple):
    """One row. Money is nano-USD, times are milliseconds; ``extra`` is what few rows have."""

    at: float
    kind: int
    run: UUID | None
    parent: UUID | None
    trace: str
    names: tuple[str, ...]
    counts: tuple[int, ...]
    millis: int
    first_millis: int | None
    extra: Mapping[str, Any]
    balances: tuple[events.Standing, ...] = ()


def entry_of(event: events.Event) -> Entry | None:
    """The row of an event; None of one that adds nothing to those of others."""
    if type(event) in SILENT:
        return None
    known = _READERS.get(type(event))
    if known is not None:
        return known(event)
    if isinstance(event, Steered):
        return _action(event)
    extra = {field.name: _plain(getattr(event, field.name)) for field in fields(event) if field.name not in _KNOWN}
    return _entry(event, NOTE, None, None, status=type(event).__name__, extra=extra)


def _entry(
    event: events.Event,
    kind: int,
    run: UUID | None,
    parent: UUID | None,
    *,
    provider: str = "",
    answered: str = "",
    name: str = "",
    status: str = "ok",
    source: str = "",
    counts: tuple[int, ...] = (0,) * len(COUNTS),
    seconds: float = 0.0,
    first: float | None = None,
    extra: Mapping[str, Any] | None = None,
    balances: tuple[events.Standing, ...] = (),
) -> Entry:
    user, session, agent, step, feature, task, trace, model = event.scope
    names = (user, session, agent, step, feature, task, model, provider, answered, name, status, source)
    first_millis = None if first is None else round(first * 1000)
    return Entry(
        event.at, kind, run, parent, trace, names, counts, round(seconds * 1000), first_millis, extra or {}, balances
    )


def _settled(event: events.CallSettled) -> Entry:
    usage, before, told = event.usage, event.usage_before or _NO_USAGE, event.charged_before
    corrects = told is not None
    extra = {name: value for name in _RARE if (value := getattr(usage, name))}
    read, write = usage.cache_read - before.cache_read, usage.cache_write - before.cache_write
    counts = (
        0 if corrects else 1,
        usage.input_tokens - before.input_tokens,
        usage.output_tokens - before.output_tokens,
        read,
        write,
        usage.reasoning - before.reasoning,
        event.cacheable,
        0 if corrects else event.held,
        event.charge - (told or 0),
        event.saved,
        int(event.estimated) - int(corrects),
        max(0, event.charge - event.held) - max(0, (told or 0) - event.held),
    )
    answered = event.answered if event.answered != event.scope.model else ""
    if event.requested and event.requested != event.scope.model:
        extra["requested"] = event.requested
    return _entry(
        event, MODEL, event.run_id, event.parent, provider=event.model.provider, answered=answered,
        status=event.status, source=event.source, counts=counts, seconds=event.seconds,
        first=event.first_token_seconds, extra=extra, balances=event.balances,
    )  # fmt: skip


def _tool(event: events.ToolSettled) -> Entry:
    told = event.charged_before
    counts = _counts(calls=int(told is None), charge=event.charge - (told or 0))
    status = "failed" if event.failed else "ok"
    return _entry(
        event, TOOL, event.run_id, event.parent, name=event.tool, status=status, counts=counts, seconds=event.seconds,
        balances=event.balances,
    )  # fmt: skip


def _hit(event: events.CacheHit) -> Entry:
    extra = {"input": event.usage.input_tokens, "output": event.usage.output_tokens}
    counts = _counts(calls=1, saved=event.saved)
    return _entry(
        event, HIT, event.run_id, event.parent, provider=event.model.provider, counts=counts, seconds=event.seconds,
        extra=extra,
    )  # fmt: skip


def _refused(event: events.Refused) -> Entry:
    extra = {
        name: value
        for name in ("kind", "message", "midway", "budget", "measure", "account", "asked", "left")
        if (value := getattr(event, name))
    }
    counts = _counts(calls=1)
    return _entry(
        event, REFUSED, event.run_id, event.parent, name=event.name, status=event.error, counts=counts, extra=extra
    )


def _action(event: Steered) -> Entry:
    extra = {field.name: _plain(getattr(event, field.name)) for field in fields(event) if field.name not in _KNOWN}
    extra = {name: value for name, value in extra.items() if value not in (None, "", 0, [])}
    counts = _counts(calls=1, saved=event.saved)
    return _entry(event, ACTION, None, None, name=event.name, status=type(event).__name__, counts=counts, extra=extra)


def _alert(event: events.Alert) -> Entry:
    extra = {name: getattr(event, name) for name in ("account", "threshold", "spent", "cap")}
    return _entry(
        event, ALERT, None, None, name=event.budget, status=event.measure, counts=_counts(calls=1), extra=extra
    )


def _expired(event: events.HoldExpired) -> Entry:
    counts = _counts(calls=1, held=event.held)
    return _entry(event, EXPIRED, event.run_id, None, name=event.name, status="expired", counts=counts)


def _voided(event: events.CallVoided) -> Entry:
    counts = _counts(calls=1, held=event.held)
    return _entry(
        event, VOIDED, event.run_id, event.parent, name=event.name, status="failed", counts=counts,
        seconds=event.seconds, extra={"kind": event.kind},
    )  # fmt: skip


def _counts(**given: int) -> tuple[int, ...]:
    return tuple(given.get(name, 0) for name in COUNTS)


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return list(value) if isinstance(value, tuple) and not isinstance(value, Scope) else str(value)


_KNOWN = {"at", "scope", "run_id", "saved", "name"}
_READERS: dict[type[events.Event], Callable[[Any], Entry]] = {
    events.CallSettled: _settled,
    events.ToolSettled: _tool,
    events.CacheHit: _hit,
    events.Refused: _refused,
    events.Alert: _alert,
    events.HoldExpired: _expired,
    events.CallVoided: _voided,
}
SILENT = frozenset([events.CallStarted, events.Overrun, events.UsageMissing, events.Unpriced])
"""What has no row: its facts are in that of the call that it is about."""


def to_json(entry: Entry) -> str:
    """A row as one line, for a log that keeps lines."""
    run, parent = (None if each is None else each.hex for each in (entry.run, entry.parent))
    return json.dumps(
        [entry.at, entry.kind, run, parent, *entry[4:9], dict(entry.extra), entry.balances], separators=(",", ":")
    )


def from_json(line: str | bytes) -> Entry:
    """The row of such a line."""
    at, kind, run, parent, trace, names, counts, millis, first, extra, balances = json.loads(line)
    above, of = (None if each is None else UUID(hex=each) for each in (parent, run))
    standings = tuple((name, spent, cap) for name, spent, cap in balances)
    return Entry(at, kind, of, above, trace, tuple(names), tuple(counts), millis, first, extra, standings)
