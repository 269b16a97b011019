"""From the records of the trials to what a person wants to know: what was refused, what was not, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from langchain_costguard.cli.doctor import cures
from langchain_costguard.cli.doctor.records import (
    CALL,
    CHILD,
    END,
    GUARD,
    MISSED,
    REFUSED,
    SEEN,
    STRICT,
    WIRE,
    Record,
)
from langchain_costguard.cli.words import count


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
    found.lines += _children(records)
    if not found.lines:
        return found
    if (not_run := _not_run(records)) is not None:
        found.lines.append(not_run)
    found.cures, streams = cures.cures(records, own=own)
    found.notes = [*cures.notes(records, own=own), *_cut_short(records)]
    found.bad = sum(line.mark == "no" for line in found.lines) + streams
    found.verdict = _verdict(found, own)
    return found


def _children(records: Sequence[Record]) -> list[Line]:
    """Python that the program starts so that nobody can look into it."""
    started = {(record.site, record.name): None for record in records if record.what == CHILD}
    return [Line("no", "child process", site, words, "starts without the guard") for site, words in started]


def _not_run(records: Sequence[Record]) -> Line | None:
    """The tools that were offered and not run: whatever they call themselves is not judged."""
    calls = [record for record in records if record.what == CALL]
    offered = {name: None for record in calls for name in record.facts.get("tools", ())}
    run = {record.name for record in calls if record.kind == "tool" and record.stage == "tools"}
    left = [name for name in offered if name not in run]
    if left:
        return Line("", "inside tools", "", ", ".join(left), "not judged: they were not run (--tools runs them)")
    if not any(record.kind == "tool" for record in calls):
        return Line("", "tool call", "", "", "not reached: no model call offered a tool")
    return None


def _cut_short(records: Sequence[Record]) -> list[str]:
    """Where the program did not get to its end though its calls were answered."""
    ended = next((record for record in records if record.what == END and record.stage == "text"), None)
    if ended is not None and ended.name:
        return [f"The program ended with {ended.name.rstrip('.')}. What it would do after that is not judged."]
    return []


def _guard(own: bool, sites: Sequence[str]) -> str:
    if not own:
        return "Your program makes no guard of its own: judged as it would run under `costguard run`."
    return f"Your guard: made at {', '.join(sites)}." if sites else "Your program makes a guard of its own."


def _groups(records: Sequence[Record]) -> list[list[Record]]:
    """Records of one call site, in the order the trials came upon them."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        if record.what == CALL and record.kind in ("model", "embedding", "tool", "chain"):
            groups.setdefault((CALL, record.kind, record.site, _what(record)), []).append(record)
        elif record.what == WIRE and record.kind != "guarded" and (record.kind != "model" or record.stage == "model"):
            groups.setdefault((WIRE, record.kind, record.site, _what(record)), []).append(record)
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
        mark, verdict = "ok", "your guard saw it, and refuses it where it does not fit"
    elif any(record.stage == "model" for record in group if record.state == STRICT):
        mark, verdict = "no", "left to guard.wrap, which did not refuse it"
    else:
        return None
    return Line(
        mark, "embeddings" if first.kind == "embedding" else f"{first.kind} call", first.site, _what(first), verdict
    )


def _wire(group: Sequence[Record]) -> Line:
    first = max(group, key=lambda record: record.facts.get("to") != "its provider")
    kind = {"sdk": "raw SDK call", "embeddings": "embeddings", "model": "model call"}[first.kind]
    return Line(
        "no", kind, first.site, _what(first), f"no guard saw it, on its way to {first.facts.get('to', 'a server')}"
    )


def _what(record: Record) -> str:
    child = "in a child process" if record.child else ""
    return ", ".join(part for part in (record.name, record.where, child) if part)


def _verdict(found: Diagnosis, own: bool) -> str:
    leaks = sum(line.mark == "no" for line in found.lines)
    if leaks:
        passed = f"{count(leaks, 'call site')} got past {'your guard' if own else 'the guard'}."
        return passed[0].upper() + passed[1:]
    if found.bad:
        return "Every call was refused, but what your streams cost can only be estimated."
    tried = all(line.mark for line in found.lines) and not any("not judged" in note for note in found.notes)
    binds = "the guard binds in your program" if own else "`costguard run` binds in your program"
    return f"Every call {'' if tried else 'that was reached '}is stopped before anything leaves the process: {binds}."
