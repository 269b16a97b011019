"""A spend log in a database: rows are written in batches, added up as they are written, and asked for by any name."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from langchain_costguard.observe.log import schema
from langchain_costguard.observe.log.entry import ACTION, NAMES, Entry
from langchain_costguard.observe.log.schema import DIMENSIONS, SHIFT, SLOT, SUMS, columns, sum_of, sums_of

_AT_ONCE = 500
"""Values in one statement, of those SQLite takes 999 at the least."""
_TRIES = 16


class LogError(Exception):
    """The log's file or server did not answer, or holds no log."""


class Cursor(Protocol):
    """What both databases' cursors do."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Any: ...
    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> Any: ...


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


class SQLLog(ABC):
    """A spend log in a database of SQL; one connection, used by one thread at a time."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], int] = {}
        self._epoch = -1
        self._sequence = itertools.count(random.randrange(1 << SHIFT))

    @abstractmethod
    def transaction(self, *, write: bool = True) -> AbstractContextManager[Cursor]:
        """One transaction, committed at the block's end; raises LogError where the database does not answer."""

    @abstractmethod
    def duplicate(self, error: BaseException) -> bool:
        """Whether an error says that a row with this id is there."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection."""

    # Writing

    def write(self, entries: Sequence[Entry]) -> None:
        """Write rows, all or none.

        Raises:
            LogError: the database does not answer.
        """
        for attempt in range(_TRIES):
            try:
                with self.transaction() as cursor:
                    self._write(cursor, entries, attempt)
            except LogError as error:
                self._ids.clear()
                if attempt + 1 < _TRIES and error.__cause__ is not None and self.duplicate(error.__cause__):
                    continue  # another process took one of the ids in the same microsecond
                raise
            return

    def _write(self, cursor: Cursor, entries: Sequence[Entry], attempt: int) -> None:
        ids = self._ids_of(cursor, entries)
        rows, slots, standings = [], {}, {}
        for entry in entries:
            names = [ids[dim, text] if text else 0 for dim, text in zip(NAMES, entry.names, strict=True)]
            rows.append(self._row(entry, names, attempt))
            added = sums_of(entry)
            if any(added):
                key = _slot_key(entry, names)
                before = slots.get(key)
                slots[key] = added if before is None else tuple(map(sum, zip(before, added, strict=True)))
            for account, spent, cap in entry.balances:
                standings[account] = (account, spent, cap, entry.at)
        cursor.executemany(schema.INSERT, rows)
        # In one order, so that two processes do not wait for each other.
        cursor.executemany(schema.ADD, [(*key, *slots[key]) for key in sorted(slots)])
        if standings:
            cursor.executemany(schema.STAND, [standings[name] for name in sorted(standings)])

    def _row(self, entry: Entry, names: Sequence[int], attempt: int) -> tuple[Any, ...]:
        key = (int(entry.at * 1e6) << SHIFT) + next(self._sequence) % (1 << (SHIFT + attempt))
        run = None if entry.run is None else entry.run.bytes
        trace = _packed(entry.trace)
        parent = None if entry.parent is None else entry.parent.bytes
        extra = json.dumps(entry.extra, separators=(",", ":")) if entry.extra else None
        # What is the same is kept once: most calls' traces are their own, and the parent of many is their trace.
        return (
            key, entry.kind, run, None if parent == trace else parent, None if trace == run else trace, *names,
            *entry.counts, entry.micros, entry.first_micros, extra,
        )  # fmt: skip

    def _ids_of(self, cursor: Cursor, entries: Iterable[Entry]) -> Mapping[tuple[str, str], int]:
        cursor.execute("SELECT value FROM meta WHERE key = 'epoch'")
        epoch = _first(cursor)
        if epoch != self._epoch:  # names were forgotten meanwhile
            self._ids, self._epoch = {}, epoch
        wanted = {(dim, text) for entry in entries for dim, text in zip(NAMES, entry.names, strict=True) if text}
        new = sorted(wanted - self._ids.keys())
        if new:
            cursor.executemany("INSERT INTO names (dim, text) VALUES (?, ?) ON CONFLICT DO NOTHING", new)
            for dim in NAMES:
                texts = [text for known, text in new if known == dim]
                self._ids.update({(dim, text): number for number, text in _named(cursor, dim, texts)})
        return self._ids

    # Reading

    def sums(self, wanted: Wanted, dimensions: Sequence[str], *, by_time: bool) -> list[Sums]:
        """Calls, tool calls, refusals and actions added up by these dimensions and, ``by_time``, by slots."""
        with self.transaction(write=False) as cursor:
            conditions = self._conditions(cursor, wanted)
            if conditions is None:
                return []
            parts: list[tuple[int, Any]] = []
            if {*dimensions, *wanted.names} <= set(DIMENSIONS):
                first, last = _slots_inside(wanted)
                parts.append(self._slots(cursor, conditions, first, last, dimensions, by_time))
                edges = _edges(wanted, first, last)
            else:
                edges = [(wanted.since, wanted.until)]
            for since, until in edges:
                parts.append(self._rows(cursor, conditions, Wanted(since, until), dimensions, by_time))
            return self._joined(cursor, itertools.chain(*parts), dimensions, by_time)

    def entries(
        self, wanted: Wanted, *, dearest: bool = False, limit: int | None = None, last: bool = False
    ) -> list[Entry]:
        """Single rows, in time's order; with ``dearest`` those that cost most first, with ``last`` the last ones."""
        with self.transaction(write=False) as cursor:
            conditions = self._conditions(cursor, wanted)
            if conditions is None:
                return []
            where, values = _where(conditions, wanted)
            order = "charge DESC, id" if dearest else "id DESC" if last else "id"
            sql = f"SELECT {columns(schema.ROW)} FROM entries{where} ORDER BY {order}"
            cursor.execute(sql + (f" LIMIT {int(limit)}" if limit is not None else ""), values)
            rows = _all(cursor)
            texts = self._texts(cursor, {row[5 + i] for row in rows for i in range(len(NAMES))})
            found = [_entry(row, texts) for row in rows]
            return found[::-1] if last and not dearest else found

    def traces(self, wanted: Wanted, limit: int) -> list[tuple[str, int, int]]:
        """The dearest traces: id, what they cost (nano-USD), and how many calls were in them."""
        with self.transaction(write=False) as cursor:
            conditions = self._conditions(cursor, wanted)
            if conditions is None:
                return []
            where, values = _where([*conditions, ("kind IN (0, 1)", ())], wanted)
            sql = f"SELECT COALESCE(trace, run), SUM(charge), SUM(calls) FROM entries{where} GROUP BY 1"
            cursor.execute(f"{sql} ORDER BY 2 DESC, 1 LIMIT {int(limit)}", values)
            return [(_unpacked(row[0]), int(row[1]), int(row[2])) for row in _all(cursor)]

    def each(self, wanted: Wanted, column: str, per: Sequence[str]) -> list[tuple[tuple[str, ...], int]]:
        """A column's sum by these names (``trace`` among them, if need be), each combination of which is one."""
        with self.transaction(write=False) as cursor:
            conditions = self._conditions(cursor, wanted)
            if conditions is None:
                return []
            where, values = _where(conditions, wanted)
            keys = ", ".join("COALESCE(trace, run)" if name == "trace" else columns([name]) for name in per)
            groups = ", ".join(str(i + 1) for i in range(len(per)))
            cursor.execute(f"SELECT {keys}, {sum_of(column)} FROM entries{where} GROUP BY {groups}", values)
            rows = _all(cursor)
            texts = self._texts(cursor, {row[i] for row in rows for i, name in enumerate(per) if name != "trace"})
            return [
                (
                    tuple(
                        _unpacked(row[i]) if name == "trace" else texts.get(row[i], "") for i, name in enumerate(per)
                    ),
                    int(row[len(per)]),
                )
                for row in rows
            ]

    def standings(self) -> list[tuple[str, int, int, float]]:
        """The accounts of budgets as they stood last: name, spent, cap, and when that was."""
        with self.transaction(write=False) as cursor:
            cursor.execute("SELECT account, spent, cap, at FROM accounts ORDER BY account")
            return [(row[0], int(row[1]), int(row[2]), float(row[3])) for row in _all(cursor)]

    def period(self) -> tuple[float, float] | None:
        """When the first and the last row were written; None of an empty log."""
        with self.transaction(write=False) as cursor:
            cursor.execute("SELECT MIN(id), MAX(id) FROM entries")
            first, last = _all(cursor)[0]
            return None if first is None else ((first >> SHIFT) / 1e6, (last >> SHIFT) / 1e6)

    # Keeping

    def drop(self, before: float) -> int:
        """Drop what is older, by whole slots; returns how many rows."""
        slot = int(before // SLOT)
        with self.transaction() as cursor:
            cursor.execute("DELETE FROM slots WHERE slot < ?", (slot,))
            cursor.execute("DELETE FROM accounts WHERE at < ?", (slot * SLOT,))
            gone = cursor.execute("DELETE FROM entries WHERE id < ?", ((slot * SLOT * 1_000_000) << SHIFT,))
            used = " UNION ".join(f"SELECT {columns([name])} FROM entries" for name in NAMES)
            cursor.execute(f"DELETE FROM names WHERE id NOT IN ({used} UNION SELECT action FROM slots)")
            self._new_epoch(cursor)
            return int(gone.rowcount)

    def forget(self, dim: str, name: str, key: bytes) -> int:
        """Put a keyed hash in the place of a name, in every row that has it; returns how many.

        Raises:
            ValueError: there is no such dimension.
        """
        if dim not in ("user", "session", "agent", "feature", "task"):
            raise ValueError(f"forget: {dim!r} is not one of user, session, agent, feature, task")
        alias = hmac.new(key, f"{dim}={name}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:16]
        with self.transaction() as cursor:
            found = _named(cursor, dim, [name])
            if not found:
                return 0
            number, after = found[0][0], f"forgotten-{alias}"
            self._forget_said(cursor, dim, number, name, after)
            known = _named(cursor, dim, [after])
            if known:
                cursor.execute(f"UPDATE entries SET {columns([dim])} = ? WHERE {columns([dim])} = ?", (known[0][0], number))
                if dim in DIMENSIONS:
                    self._join_slots(cursor, dim, number, known[0][0])
                cursor.execute("DELETE FROM names WHERE id = ?", (number,))
                number = known[0][0]
            else:
                cursor.execute("UPDATE names SET text = ? WHERE id = ?", (after, number))
            self._new_epoch(cursor)
            cursor.execute(f"SELECT COUNT(*) FROM entries WHERE {columns([dim])} = ?", (number,))
            return _first(cursor)

    def _forget_said(self, cursor: Cursor, dim: str, number: int, name: str, after: str) -> None:
        """A name is in the accounts of budgets, too, and in what refusals and alerts say."""
        cursor.execute("SELECT account FROM accounts")
        for (account,) in _all(cursor):
            if (renamed := _renamed(account, name, after)) != account:
                cursor.execute("DELETE FROM accounts WHERE account = ?", (renamed,))
                cursor.execute("UPDATE accounts SET account = ? WHERE account = ?", (renamed, account))
        cursor.execute(f"SELECT id, extra FROM entries WHERE {columns([dim])} = ? AND extra IS NOT NULL", (number,))
        for row, extra in _all(cursor):
            said = {
                what: _renamed(value, name, after) if isinstance(value, str) else value
                for what, value in json.loads(extra).items()
            }
            cursor.execute("UPDATE entries SET extra = ? WHERE id = ?", (json.dumps(said), row))

    def _join_slots(self, cursor: Cursor, dim: str, old: int, new: int) -> None:
        keys = ("slot", *DIMENSIONS, "action", "name")
        cursor.execute(f"SELECT {columns((*keys, *SUMS))} FROM slots WHERE {columns([dim])} = ?", (old,))
        at = keys.index(dim)
        rows = [(*row[:at], new, *row[at + 1 :]) for row in _all(cursor)]
        cursor.execute(f"DELETE FROM slots WHERE {columns([dim])} = ?", (old,))
        cursor.executemany(schema.ADD, rows)

    def _new_epoch(self, cursor: Cursor) -> None:
        cursor.execute("UPDATE meta SET value = value + 1 WHERE key = 'epoch'")

    # What both share

    def migrate(self, cursor: Cursor, where: str) -> None:
        """Make the tables, or make those of an older version today's.

        Raises:
            LogError: the log is of a version to come.
        """
        cursor.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL)")
        cursor.execute("SELECT value FROM meta WHERE key = 'version'")
        found = _all(cursor)
        version = int(found[0][0]) if found else 0
        if version > schema.VERSION:
            raise LogError(f"{where} is a spend log of version {version}, and this costguard knows {schema.VERSION}")
        for statements in schema.MIGRATIONS[version:]:
            for statement in statements:
                cursor.execute(self.dialect(statement))
        values = [("version", schema.VERSION), *([] if found else [("epoch", 0)])]
        upsert = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        cursor.executemany(upsert, values)

    def dialect(self, statement: str) -> str:
        """A statement that makes tables, in this database's own words."""
        return statement

    def _conditions(self, cursor: Cursor, wanted: Wanted) -> list[tuple[str, Sequence[Any]]] | None:
        """What the names ask for; None where no row can be meant."""
        conditions: list[tuple[str, Sequence[Any]]] = []
        for dim, texts in wanted.names.items():
            if dim == "trace":
                ids = [_packed(text) for text in texts]
                marks = ", ".join("?" * len(ids))
                conditions.append((f"COALESCE(trace, run) IN ({marks})", ids))
                continue
            numbers = [number for number, _ in _named(cursor, dim, sorted(texts))] + ([0] if "" in texts else [])
            if not numbers:
                return None
            conditions.append((f"{columns([dim])} IN ({', '.join(map(str, numbers))})", ()))
        if wanted.kinds:
            conditions.append((f"kind IN ({', '.join(map(str, wanted.kinds))})", ()))
        return conditions

    def _slots(
        self, cursor: Cursor, conditions: Any, first: int | None, last: int | None, dims: Sequence[str], by_time: bool
    ) -> list[Any]:
        bounds = [(f"slot >= {first}", ())] if first is not None else []
        bounds += [(f"slot < {last}", ())] if last is not None else []
        keys = [*(["slot"] if by_time else []), *dims, "action", "name"]
        where, values = _where([*conditions, *bounds], Wanted())
        sums = ", ".join(f"SUM({columns([name])})" for name in SUMS)
        cursor.execute(f"SELECT {columns(keys)}, {sums} FROM slots{where} GROUP BY {columns(keys)}", values)
        return _all(cursor)

    def _rows(
        self, cursor: Cursor, conditions: Any, wanted: Wanted, dims: Sequence[str], by_time: bool
    ) -> list[Any]:
        where, values = _where([*conditions, ("kind IN (0, 1, 2, 3, 4)", ())], wanted)
        keys = [f"(id >> {SHIFT}) / {SLOT * 1_000_000}"] if by_time else []
        keys += ["COALESCE(trace, run)" if name == "trace" else columns([name]) for name in dims]
        keys += [f'CASE WHEN kind = {ACTION} THEN {column} ELSE 0 END' for column in ('"status"', '"name"')]
        groups = ", ".join(str(i + 1) for i in range(len(keys)))
        sums = ", ".join(map(sum_of, SUMS))
        cursor.execute(f"SELECT {', '.join(keys)}, {sums} FROM entries{where} GROUP BY {groups}", values)
        return _all(cursor)

    def _joined(self, cursor: Cursor, rows: Iterable[Any], dims: Sequence[str], by_time: bool) -> list[Sums]:
        first = int(by_time)
        keys = first + len(dims) + 2
        added: dict[tuple[Any, ...], tuple[int, ...]] = {}
        for row in rows:
            key, counts = tuple(map(_plain, row[:keys])), tuple(map(int, row[keys:]))
            before = added.get(key)
            added[key] = counts if before is None else tuple(map(sum, zip(before, counts, strict=True)))
        named = [i + first for i, name in enumerate(dims) if name != "trace"] + [keys - 2, keys - 1]
        texts = self._texts(cursor, {key[i] for key in added for i in named})
        texts[0] = ""
        found = []
        for key, counts in added.items():
            names = tuple(
                _unpacked(value) if name == "trace" else texts[value]
                for name, value in zip(dims, key[first:], strict=False)
            )
            action = (texts[key[-2]], texts[key[-1]])
            found.append(Sums(key[0] if by_time else None, names, action, counts))
        return found

    def _texts(self, cursor: Cursor, numbers: set[int]) -> dict[int, str]:
        """Names by their numbers."""
        texts: dict[int, str] = {0: ""}
        wanted = sorted(numbers - {0})
        for start in range(0, len(wanted), _AT_ONCE):
            part = ", ".join(map(str, wanted[start : start + _AT_ONCE]))
            cursor.execute(f"SELECT id, text FROM names WHERE id IN ({part})")
            texts.update({int(number): text for number, text in _all(cursor)})
        return texts


def new_key() -> bytes:
    """The key by which names are forgotten: ``COSTGUARD_LOG_KEY``, or one that nobody keeps."""
    given = os.environ.get("COSTGUARD_LOG_KEY")
    return given.encode() if given else os.urandom(32)


def _slot_key(entry: Entry, names: Sequence[int]) -> tuple[int, ...]:
    at = dict(zip(NAMES, names, strict=True))
    action = (at["status"], at["name"]) if entry.kind == ACTION else (0, 0)
    return (int(entry.at // SLOT), *(at[name] for name in DIMENSIONS), *action)


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


def _named(cursor: Cursor, dim: str, texts: Sequence[str]) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for start in range(0, len(texts), _AT_ONCE):
        part = texts[start : start + _AT_ONCE]
        marks = ", ".join("?" * len(part))
        cursor.execute(f"SELECT id, text FROM names WHERE dim = ? AND text IN ({marks})", (dim, *part))
        found += [(int(number), text) for number, text in _all(cursor)]
    return found


def _entry(row: Sequence[Any], texts: Mapping[int, str]) -> Entry:
    key, kind, run, parent, trace, *rest = row
    names = tuple(texts.get(number, "") for number in rest[: len(NAMES)])
    *counts, micros, first, extra = rest[len(NAMES) :]
    whole = bytes(trace) if trace is not None else bytes(run) if run is not None else b""
    above = bytes(parent) if parent is not None else whole if trace is not None and len(whole) == 16 else None
    return Entry(
        at=(key >> SHIFT) / 1e6,
        kind=kind,
        run=None if run is None else UUID(bytes=bytes(run)),
        parent=None if above is None else UUID(bytes=above),
        trace=_unpacked(whole),
        names=names,
        counts=tuple(map(int, counts)),
        micros=micros,
        first_micros=first,
        extra=json.loads(extra) if extra else {},
    )


def _packed(trace: str) -> bytes | None:
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


def _unpacked(trace: Any) -> str:
    if not trace:
        return ""
    packed = bytes(trace)
    if len(packed) == 16:
        return str(UUID(bytes=packed))
    return packed.removeprefix(b"text:").removesuffix(b"\0").decode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, (memoryview, bytearray)) else value


def _renamed(text: str, name: str, after: str) -> str:
    """A text with ``after`` where ``name`` stands by itself, as it is or as accounts' names write it."""
    import re
    from urllib.parse import quote

    said = {name, quote(name, safe="-_.~: /", errors="surrogatepass")}
    pattern = "|".join(map(re.escape, sorted(said, key=len, reverse=True)))
    return re.sub(rf"(?<![\w-])(?:{pattern})(?![\w-])", after, text)


def _all(cursor: Any) -> list[Any]:
    return list(cursor.fetchall())


def _first(cursor: Any) -> int:
    return int(cursor.fetchone()[0])


def _iterate(cursor: Any) -> Iterator[Any]:
    yield from cursor
