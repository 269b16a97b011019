"""How a row lies in the database: names as numbers, ids as bytes, and what is the same kept once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from langchain_costguard.observe.log.entry import ACTION, NAMES, Entry
from langchain_costguard.observe.log.schema import DIMENSIONS, SHIFT, SLOT


def packed_row(entry: Entry, names: Sequence[int], key: int) -> tuple[Any, ...]:
    """A row's values, in the order of ``schema.ROW``."""
    run = None if entry.run is None else entry.run.bytes
    trace = packed(entry.trace)
    parent = None if entry.parent is None else entry.parent.bytes
    extra = json.dumps(entry.extra, separators=(",", ":")) if entry.extra else None
    # Most calls' traces are their own, and the parent of many is their trace.
    return (
        key, entry.kind, run, None if parent == trace else parent, None if trace == run else trace, *names,
        *entry.counts, entry.millis, entry.first_millis, extra,
    )  # fmt: skip


def unpacked_row(row: Sequence[Any], texts: Mapping[int, str]) -> Entry:
    """The row of such values; ``texts`` are the names by their numbers."""
    key, kind, run, parent, trace, *rest = row
    names = tuple(texts.get(number, "") for number in rest[: len(NAMES)])
    *counts, millis, first, extra = rest[len(NAMES) :]
    whole = bytes(trace) if trace is not None else bytes(run) if run is not None else b""
    above = bytes(parent) if parent is not None else None
    if parent is None and run is not None and trace is not None and len(whole) == 16:
        above = whole
    return Entry(
        at=(key >> SHIFT) / 1e6,
        kind=kind,
        run=None if run is None else UUID(bytes=bytes(run)),
        parent=None if above is None else UUID(bytes=above),
        trace=unpacked(whole),
        names=names,
        counts=tuple(map(int, counts)),
        millis=millis,
        first_millis=first,
        extra=json.loads(extra) if extra else {},
    )


def slot_keys(entry: Entry, names: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The slots that a row is added to."""
    at = dict(zip(NAMES, names, strict=True))
    action = (at["status"], at["name"]) if entry.kind == ACTION else (0, 0)
    slot = int(entry.at // SLOT)
    for number, name in enumerate(DIMENSIONS):
        yield (number, at[name], slot, *action)


def packed(trace: str) -> bytes | None:
    """A trace's id: the sixteen bytes of a UUID, or a text that is not sixteen bytes long."""
    if not trace:
        return None
    try:
        found = UUID(trace)
    except ValueError:
        found = None
    if found is not None and str(found) == trace:
        return found.bytes
    text = b"text:" + trace.encode("utf-8", "surrogatepass")
    return text + b"\0" if len(text) == 16 else text


def unpacked(trace: Any) -> str:
    """The trace's id as text."""
    if not trace:
        return ""
    packed = bytes(trace)
    if len(packed) == 16:
        return str(UUID(bytes=packed))
    return packed.removeprefix(b"text:").removesuffix(b"\0").decode("utf-8", "surrogatepass")
