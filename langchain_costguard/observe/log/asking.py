"""What a spend log is asked for: sums by any name and time, single rows, traces and accounts."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Any, NamedTuple

from langchain_costguard.observe.log import schema
from langchain_costguard.observe.log.entry import MODEL, NAMES, TOOL, Entry
from langchain_costguard.observe.log.names import Cursor, named, texts
from langchain_costguard.observe.log.rows import packed, unpacked, unpacked_row
from langchain_costguard.observe.log.schema import DIMENSIONS, SHIFT, SLOT, SUMS, columns, sum_of


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows: from ``since`` until before ``until`` (epoch seconds), and of each column named one of the values."""

    since: float | None = None
    until: float | None = None
    names: Mapping[str, frozenset[str]] = field(default_factory=dict)
    kinds: tuple[int, ...] = ()


class Sums(NamedTuple):
    """Added up: of one slot (None where time was not asked for), for these names."""

    slot: int | None
    names: tuple[str, ...]
    action: tuple[str, str]
    counts: tuple[int, ...]


class Standing(NamedTuple):
    """An account of a budget as it stood ``at`` (epoch seconds), in its own unit."""

    account: str
    spent: int
    cap: int
    at: float


def sums(cursor: Cursor, wanted: Wanted, dimensions: Sequence[str], unit: int | None = None) -> list[Sums]:
    """Calls, tool calls, refusals and actions added up by these dimensions and, with a ``unit``, by so many slots."""
    conditions = _conditions(cursor, wanted)
    if conditions is None:
        return []
    parts: list[list[Any]] = []
    edges: list[tuple[float | None, float | None]] = [(wanted.since, wanted.until)]
    asked = {*dimensions, *wanted.names}
    if len(asked) < 2 and asked <= set(DIMENSIONS):
        first, last = _slots_inside(wanted)
        parts.append(_slots(cursor, wanted, dimensions, unit, first, last))
        edges = _edges(wanted, first, last)
    for since, until in edges:
        parts.append(_rows(cursor, conditions, Wanted(since, until), dimensions, unit))
    return _joined(cursor, itertools.chain(*parts), dimensions, unit)


def entries(
    cursor: Cursor, wanted: Wanted, *, dearest: bool = False, limit: int | None = None, last: bool = False
) -> list[Entry]:
    """Single rows, in time's order; with ``dearest`` those that cost most first, with ``last`` the last ones."""
    conditions = _conditions(cursor, wanted)
    if conditions is None:
        return []
    where, values = _where(conditions, wanted)
    order = "charge DESC, id" if dearest else "id DESC" if last else "id"
    sql = f"SELECT {columns(schema.ROW)} FROM spend_entries{where} ORDER BY {order}"
    cursor.execute(sql + (f" LIMIT {int(limit)}" if limit is not None else ""), values)
    rows = cursor.fetchall()
    known = texts(cursor, {row[5 + i] for row in rows for i in range(len(NAMES))})
    found = [unpacked_row(row, known) for row in rows]
    return found[::-1] if last and not dearest else found


def traces(cursor: Cursor, wanted: Wanted, limit: int) -> list[tuple[str, int, int]]:
    """The dearest traces: id, what they cost (nano-USD), and how many calls were in them."""
    conditions = _conditions(cursor, wanted)
    if conditions is None:
        return []
    where, values = _where([*conditions, ("kind IN (0, 1)", ())], wanted)
    sql = f"SELECT COALESCE(trace, run), SUM(charge), SUM(calls) FROM spend_entries{where} GROUP BY 1"
    cursor.execute(f"{sql} ORDER BY 2 DESC, 1 LIMIT {int(limit)}", values)
    return [(unpacked(row[0]), int(row[1]), int(row[2])) for row in cursor.fetchall()]


def course(cursor: Cursor, wanted: Wanted, dim: str) -> list[tuple[str, str, int, int]]:
    """Each call and tool call in time's order: a name, the session, what was held and what was charged (nano-USD)."""
    conditions = _conditions(cursor, wanted)
    if conditions is None:
        return []
    where, values = _where([*conditions, (f"kind IN ({MODEL}, {TOOL})", ())], wanted)
    sql = f"SELECT {columns([dim])}, session, held, charge FROM spend_entries{where} ORDER BY id"
    cursor.execute(sql, values)
    rows = cursor.fetchall()
    known = texts(cursor, {number for row in rows for number in row[:2]})
    return [(known[name], known[session], int(held), int(charge)) for name, session, held, charge in rows]


def first_tokens(cursor: Cursor, wanted: Wanted, limit: int) -> list[tuple[str, int]]:
    """Of the last streamed calls, the model and the milliseconds until something came."""
    conditions = _conditions(cursor, wanted)
    if conditions is None:
        return []
    where, values = _where([*conditions, ("first_millis IS NOT NULL", ())], wanted)
    cursor.execute(f"SELECT model, first_millis FROM spend_entries{where} ORDER BY id DESC LIMIT {limit}", values)
    rows = cursor.fetchall()
    known = texts(cursor, {row[0] for row in rows})
    return [(known[row[0]], int(row[1])) for row in rows]


def standings(cursor: Cursor) -> list[Standing]:
    """The accounts of budgets as they stood last: name, spent, cap, and when that was."""
    cursor.execute("SELECT account, spent, cap, at FROM spend_accounts ORDER BY account")
    return [Standing(row[0], int(row[1]), int(row[2]), float(row[3])) for row in cursor.fetchall()]


def period(cursor: Cursor) -> tuple[float, float] | None:
    """When the first and the last row were written; None of an empty log."""
    cursor.execute("SELECT MIN(id), MAX(id) FROM spend_entries")
    first, last = cursor.fetchall()[0]
    return None if first is None else ((first >> SHIFT) / 1e6, (last >> SHIFT) / 1e6)


def _conditions(cursor: Cursor, wanted: Wanted) -> list[tuple[str, Sequence[Any]]] | None:
    """What the names ask for; None where no row can be meant."""
    conditions: list[tuple[str, Sequence[Any]]] = []
    for dim, members in wanted.names.items():
        if dim == "trace":
            ids = [packed(text) for text in members]
            marks = ", ".join("?" * len(ids))
            conditions.append((f"COALESCE(trace, run) IN ({marks})", ids))
            continue
        among = _among(cursor, dim, members)
        if not among:
            return None
        conditions.append((f"{columns([dim])} {among}", ()))
    if wanted.kinds:
        conditions.append((f"kind IN ({', '.join(map(str, wanted.kinds))})", ()))
    return conditions


def _among(cursor: Cursor, dim: str, members: Collection[str]) -> str:
    """What says that a column is one of these names; empty where none is known."""
    numbers = [number for number, _ in named(cursor, dim, sorted(members))] + ([0] if "" in members else [])
    return f"IN ({', '.join(map(str, numbers))})" if numbers else ""


def _slots(
    cursor: Cursor, wanted: Wanted, dims: Sequence[str], unit: int | None, first: int | None, last: int | None
) -> list[Any]:
    dim = next(iter((*dims, *wanted.names)), DIMENSIONS[-1])
    conditions: list[tuple[str, Sequence[Any]]] = [("dim = ?", (DIMENSIONS.index(dim),))]
    if wanted.names:
        conditions += [(f"name {_among(cursor, dim, wanted.names[dim])}", ())]
    conditions += [(f"slot >= {first}", ())] if first is not None else []
    conditions += [(f"slot < {last}", ())] if last is not None else []
    keys = [f"slot / {unit}"] if unit else []
    keys += ["name" for _ in dims] + ["action", "about"]
    where, values = _where(conditions, Wanted())
    added = ", ".join(f"CAST(SUM({columns([name])}) AS BIGINT)" for name in SUMS)
    cursor.execute(f"SELECT {', '.join(keys)}, {added} FROM spend_slots{where} GROUP BY {_first(keys)}", values)
    return cursor.fetchall()


def _rows(cursor: Cursor, conditions: Any, wanted: Wanted, dims: Sequence[str], unit: int | None) -> list[Any]:
    where, values = _where([*conditions, ("kind IN (0, 1, 2, 3, 4)", ())], wanted)
    keys = [schema.slot_of(unit)] if unit else []
    keys += ["COALESCE(trace, run)" if name == "trace" else columns([name]) for name in dims]
    keys += schema.ACTION_OF
    added = ", ".join(map(sum_of, SUMS))
    cursor.execute(f"SELECT {', '.join(keys)}, {added} FROM spend_entries{where} GROUP BY {_first(keys)}", values)
    return cursor.fetchall()


def _first(keys: Sequence[str]) -> str:
    """The first columns, as many as there are keys."""
    return ", ".join(str(i + 1) for i in range(len(keys)))


def _joined(cursor: Cursor, rows: Iterable[Any], dims: Sequence[str], unit: int | None) -> list[Sums]:
    first = int(unit is not None)
    keys = first + len(dims) + 2
    added: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for row in rows:
        key, counts = tuple(map(_plain, row[:keys])), row[keys:]
        before = added.get(key)
        added[key] = counts if before is None else tuple(map(add, before, counts))
    numbers = [i + first for i, name in enumerate(dims) if name != "trace"] + [keys - 2, keys - 1]
    known = texts(cursor, {key[i] for key in added for i in numbers})
    found = []
    for key, counts in added.items():
        names = tuple(
            unpacked(value) if name == "trace" else known[value] for name, value in zip(dims, key[first:], strict=False)
        )
        slot = key[0] * unit if unit else None
        found.append(Sums(slot, names, (known[key[-2]], known[key[-1]]), tuple(counts)))
    return found


def _slots_inside(wanted: Wanted) -> tuple[int | None, int | None]:
    """The slots that lie in the period as a whole: the first of them, and the first after them."""
    first = None if wanted.since is None else -int(-wanted.since // SLOT)
    last = None if wanted.until is None else int(wanted.until // SLOT)
    if first is not None and last is not None and last < first:
        last = first
    return first, last


def _edges(wanted: Wanted, first: int | None, last: int | None) -> list[tuple[float | None, float | None]]:
    """What is left of a period on both sides of its slots."""
    since, until = wanted.since, wanted.until
    if first is not None and first == last and until is not None and until < (first + 1) * SLOT:
        return [(since, until)]
    edges: list[tuple[float | None, float | None]] = []
    if since is not None and first is not None and since < first * SLOT:
        edges.append((since, first * SLOT))
    if until is not None and last is not None and last * SLOT < until:
        edges.append((last * SLOT, until))
    return edges


def _where(conditions: Sequence[tuple[str, Sequence[Any]]], wanted: Wanted) -> tuple[str, list[Any]]:
    parts = list(conditions)
    if wanted.since is not None:
        parts.append(("id >= ?", (_micros(wanted.since) << SHIFT,)))
    if wanted.until is not None:
        parts.append(("id < ?", (_micros(wanted.until) << SHIFT,)))
    values = [value for _, given in parts for value in given]
    return (f" WHERE {' AND '.join(text for text, _ in parts)}" if parts else ""), values


def _micros(at: float) -> int:
    return -int(-at * 1e6 // 1)


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, (memoryview, bytearray)) else value
