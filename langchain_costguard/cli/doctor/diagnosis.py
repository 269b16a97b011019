"""From the records of the trials to what a person wants to know: what was refused, what was not, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from langchain_costguard.cli.doctor import cures
from langchain_costguard.cli.doctor.records import CALL, GUARD, MISSED, REFUSED, SEEN, STRICT, WIRE, Record
from langchain_costguard.cli.words import count

_STAGES = ("model", "tool", "through")


@dataclass(frozen=True, slots=True)
class Line:
    """One call site: ``mark`` is ``ok``, ``no`` or (not tried) nothing."""

    mark: str
    kind: str
    site: str
    what: str
    verdict: str


@dataclass(slots=True)
class Diagnosis:
    """What is printed."""

    guard: str
    lines: list[Line] = field(default_factory=list)
    cures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bad: int = 0
    verdict: str = ""


def diagnose(records: Sequence[Record]) -> Diagnosis:
    """Judge the trials of one program."""
    guards = sorted({record.site for record in records if record.what == GUARD and record.site})
    own = any(record.what == GUARD for record in records)
    found = Diagnosis(_guard(own, guards))
    for group in _groups(records):
        line = _call(group, own) if group[0].what == CALL else _wire(group)
        if line is not None:
            found.lines.append(line)
    if not found.lines:
        return found
    kinds = {record.kind for record in records if record.what == CALL}
    if kinds and "tool" not in kinds:
        found.lines.append(Line("", "tool call", "", "", "not reached: " + _why_no_tool(records)))
    found.cures, streams = cures.cures(records, own=own)
    found.notes = cures.notes(records, own=own)
    found.bad = sum(line.mark == "no" for line in found.lines) + streams
    found.verdict = _verdict(found, own)
    return found


def _guard(own: bool, sites: Sequence[str]) -> str:
    if not own:
        return "Your program makes no guard of its own: judged as it would run under `costguard run`."
    return f"Your guard: made at {', '.join(sites)}." if sites else "Your program makes a guard of its own."


def _groups(records: Sequence[Record]) -> list[list[Record]]:
    """Records of one call site, in the order the trials came upon them."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        if record.what == CALL and record.kind in ("model", "embedding", "tool", "chain"):
            groups.setdefault((CALL, record.kind, record.site, record.name, record.where), []).append(record)
        elif record.what == WIRE and record.kind != "guarded" and (record.kind != "model" or record.stage == "model"):
            groups.setdefault((WIRE, record.kind, record.site, record.name), []).append(record)
    return list(groups.values())


def _call(group: Sequence[Record], own: bool) -> Line | None:
    """A model or tool call: the worst that was seen of it counts, and a refusal before a mere sight."""
    first = group[0]
    states = {record.state for record in group}
    refused = "refused before it ran" if first.kind == "tool" else "refused before anything left the process"
    if MISSED in states and own:
        mark, verdict = "no", "your guard never saw it"
    elif REFUSED in states:
        error = next(record.facts.get("error", "") for record in group if record.state == REFUSED)
        mark, verdict = "ok", refused + ("" if error == "BudgetExceededError" else f" ({error})")
    elif MISSED in states:
        stopped = any(record.stage == record.kind for record in group)
        mark, verdict = "ok", refused if stopped else "metered, and refused where it does not fit"
    elif SEEN in states:
        mark, verdict = "ok", "your guard saw it, and admitted it"
    elif any(record.stage == "model" for record in group if record.state == STRICT):
        mark, verdict = "no", "left to guard.wrap, which did not refuse it"
    else:
        return None
    return Line(
        mark, "embeddings" if first.kind == "embedding" else f"{first.kind} call", first.site, _what(first), verdict
    )


def _wire(group: Sequence[Record]) -> Line:
    first = group[0]
    kind = {"sdk": "raw SDK call", "embeddings": "embeddings", "model": "model call"}[first.kind]
    return Line(
        "no", kind, first.site, _what(first), f"no guard saw it, on its way to {first.facts.get('to', 'a server')}"
    )


def _what(record: Record) -> str:
    return ", ".join(part for part in (record.name, record.where) if part)


def _why_no_tool(records: Sequence[Record]) -> str:
    offers = any(record.what == CALL and record.facts.get("offers_tools") for record in records)
    if not offers:
        return "no model call offered a tool"
    if any(record.what == WIRE and record.kind == "model" and record.stage == "tool" for record in records):
        return "a model call could not be answered without its provider (it streams, from an address of its own)"
    return "the program did not run the tool that the model's answer asked for"


def _verdict(found: Diagnosis, own: bool) -> str:
    leaks = sum(line.mark == "no" for line in found.lines)
    if leaks:
        passed = f"{count(leaks, 'call site')} got past {'your guard' if own else 'the guard'}."
        return passed[0].upper() + passed[1:]
    if found.bad:
        return "Every call was refused, but what your streams cost can only be estimated."
    tried = all(line.mark for line in found.lines)
    binds = "the guard binds in your program" if own else "`costguard run` binds in your program"
    return f"Every call {'' if tried else 'that was reached '}was stopped before anything left the process: {binds}."
