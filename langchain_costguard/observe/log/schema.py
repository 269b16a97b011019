"""The spend log's tables, in the SQL that SQLite and PostgreSQL share, and how an older log becomes one of today."""

from __future__ import annotations

from dataclasses import fields

from langchain_costguard.observe.log.entry import ACTION, COUNTS, HIT, MODEL, NAMES, REFUSED, TOOL, Entry
from langchain_costguard.observe.report import Tally

SLOT = 900
"""Seconds of a slot: the calls of a quarter of an hour are added up once, as they are written. The offset of every time
zone is a whole number of them, so that days of any zone are made of slots."""
SHIFT = 10
"""A row's id is its microsecond and, below that, ten bits that tell it from others: time's order needs no index."""
DIMENSIONS = ("agent", "step", "feature", "model")
"""What calls are added up by: for each of these a sum of its own. What is asked by one of them, and by the time, needs
no look at single rows."""

SUMS: dict[str, tuple[str, tuple[int, ...]]] = {
    "calls": ("calls", (MODEL,)),
    "tool_calls": ("calls", (TOOL,)),
    "input_tokens": ("input", (MODEL,)),
    "cache_read": ("cache_read", (MODEL,)),
    "cache_write": ("cache_write", (MODEL,)),
    "output_tokens": ("output", (MODEL,)),
    "reasoning": ("reasoning", (MODEL,)),
    "spent": ("charge", (MODEL, TOOL)),
    "saved": ("saved", (MODEL, HIT)),
    "refused": ("calls", (REFUSED,)),
    "estimated": ("estimated", (MODEL,)),
    "overrun": ("overrun", (MODEL,)),
    "cacheable": ("cacheable", (MODEL,)),
    "hits": ("calls", (HIT,)),
    "actions": ("calls", (ACTION,)),
    "spared": ("saved", (ACTION,)),
}
"""What is added up: of which column, and of rows of which kinds. First the counts of a ``Tally``, in its order."""
TALLY = tuple(field.name for field in fields(Tally))
assert tuple(SUMS)[: len(TALLY)] == TALLY

_SUMS = [(COUNTS.index(column), kinds) for column, kinds in SUMS.values()]


def sums_of(entry: Entry) -> tuple[int, ...]:
    """What one row adds."""
    kind, counts = entry.kind, entry.counts
    return tuple(counts[column] if kind in kinds else 0 for column, kinds in _SUMS)


def _name(column: str) -> str:
    return f'"{column}"'  # "user" is a word of SQL's own


def columns(names: tuple[str, ...] | list[str]) -> str:
    """Columns for a statement."""
    return ", ".join(map(_name, names))


ROW = ("id", "kind", "run", "parent", "trace", *NAMES, *COUNTS, "millis", "first_millis", "extra")
SLOT_KEY = ("dim", "name", "slot", "action", "about")
ACTION_OF = [f"CASE WHEN kind = {ACTION} THEN {_name(column)} ELSE 0 END" for column in ("status", "name")]
"""An action's class and what it was about; 0 of all else."""


def slot_of(unit: int = 1) -> str:
    """What says in which slot, or ``unit`` of slots, a row is."""
    return f"(id >> {SHIFT}) / {SLOT * 1_000_000 * unit}"


def sum_of(name: str) -> str:
    """What adds a column of ``SUMS`` up from rows."""
    column, kinds = SUMS[name]
    return f"CAST(SUM(CASE WHEN kind IN ({', '.join(map(str, kinds))}) THEN {_name(column)} ELSE 0 END) AS BIGINT)"


_FILL = tuple(
    f"INSERT INTO spend_slots SELECT {number}, {_name(dim)}, {', '.join([slot_of(), *ACTION_OF])}, "
    f"{', '.join(map(sum_of, SUMS))} FROM spend_entries WHERE kind IN ({MODEL}, {TOOL}, {HIT}, {REFUSED}, {ACTION}) "
    f"GROUP BY 1, 2, 3, 4, 5"
    for number, dim in enumerate(DIMENSIONS)
)
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE spend_names (id INTEGER PRIMARY KEY, dim SMALLINT NOT NULL, text TEXT NOT NULL, "
        "UNIQUE (dim, text))",
        f"CREATE TABLE spend_entries (id INTEGER PRIMARY KEY, kind SMALLINT NOT NULL, "
        f"run BLOB, parent BLOB, trace BLOB, "
        f"{', '.join(f'{_name(column)} INTEGER NOT NULL' for column in NAMES)}, "
        f"{', '.join(f'{_name(column)} BIGINT NOT NULL' for column in COUNTS)}, "
        f"millis BIGINT NOT NULL, first_millis BIGINT, extra TEXT)",
        "CREATE TABLE spend_accounts (account TEXT PRIMARY KEY, spent BIGINT NOT NULL, cap BIGINT NOT NULL, "
        "at DOUBLE PRECISION NOT NULL)",
    ),
    (
        f"CREATE TABLE spend_slots ({', '.join(f'{_name(column)} INTEGER NOT NULL' for column in SLOT_KEY)}, "
        f"{', '.join(f'{_name(column)} BIGINT NOT NULL' for column in SUMS)}, "
        f"PRIMARY KEY ({columns(SLOT_KEY)})) WITHOUT ROWID",
        *_FILL,
    ),
)
"""What makes a log of each version one of the next; the first makes an empty file a log of version 1."""
VERSION = len(MIGRATIONS)

_MARKS = ", ".join("?" * len(ROW))
INSERT = f"INSERT INTO spend_entries ({columns(ROW)}) VALUES ({_MARKS})"
ADD = (
    f"INSERT INTO spend_slots ({columns((*SLOT_KEY, *SUMS))}) "
    f"VALUES ({', '.join('?' * (len(SLOT_KEY) + len(SUMS)))}) "
    f"ON CONFLICT ({columns(SLOT_KEY)}) DO UPDATE SET "
    f"{', '.join(f'{_name(column)} = spend_slots.{_name(column)} + excluded.{_name(column)}' for column in SUMS)}"
)
STAND = (
    "INSERT INTO spend_accounts (account, spent, cap, at) VALUES (?, ?, ?, ?) ON CONFLICT (account) DO UPDATE SET "
    "spent = excluded.spent, cap = excluded.cap, at = excluded.at WHERE excluded.at >= spend_accounts.at"
)
