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
"""What slots are told apart by, besides an action and what it was about. Whatever is asked by these, and by the time,
needs no look at single rows."""

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


ROW = ("id", "kind", "run", "parent", "trace", *NAMES, *COUNTS, "micros", "first_micros", "extra")
_SLOT_KEY = ("slot", *DIMENSIONS, "action", "name")
_SLOT_OF = {"slot": f"(id >> {SHIFT}) / {SLOT * 1_000_000}"}
_ACTION_OF = {name: f'CASE WHEN kind = {ACTION} THEN "{column}" ELSE 0 END' for name, column in (("action", "status"), ("name", "name"))}  # fmt: skip


def sum_of(name: str) -> str:
    """What adds a column of ``SUMS`` up from rows."""
    column, kinds = SUMS[name]
    return f"SUM(CASE WHEN kind IN ({', '.join(map(str, kinds))}) THEN {_name(column)} ELSE 0 END)"


_FILL = (
    f"INSERT INTO slots SELECT {', '.join([_SLOT_OF['slot'], columns(DIMENSIONS), *_ACTION_OF.values()])}, "
    f"{', '.join(map(sum_of, SUMS))} FROM entries WHERE kind IN ({MODEL}, {TOOL}, {HIT}, {REFUSED}, {ACTION}) "
    f"GROUP BY 1, 2, 3, 4, 5, 6, 7"
)
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE names (id INTEGER PRIMARY KEY, dim TEXT NOT NULL, text TEXT NOT NULL, UNIQUE (dim, text))",
        f"CREATE TABLE entries (id BIGINT PRIMARY KEY, kind SMALLINT NOT NULL, run BLOB, parent BLOB, trace BLOB, "
        f"{', '.join(f'{_name(column)} INTEGER NOT NULL' for column in NAMES)}, "
        f"{', '.join(f'{_name(column)} BIGINT NOT NULL' for column in COUNTS)}, "
        f"micros BIGINT NOT NULL, first_micros BIGINT, extra TEXT)",
        "CREATE TABLE accounts (account TEXT PRIMARY KEY, spent BIGINT NOT NULL, cap BIGINT NOT NULL, "
        "at DOUBLE PRECISION NOT NULL)",
    ),
    (
        f"CREATE TABLE slots ({', '.join(f'{_name(column)} INTEGER NOT NULL' for column in _SLOT_KEY)}, "
        f"{', '.join(f'{_name(column)} BIGINT NOT NULL' for column in SUMS)}, PRIMARY KEY ({columns(_SLOT_KEY)}))",
        _FILL,
    ),
)
"""What makes a log of each version one of the next; the first makes an empty file a log of version 1."""
VERSION = len(MIGRATIONS)

_MARKS = ", ".join("?" * len(ROW))
INSERT = f"INSERT INTO entries ({columns(ROW)}) VALUES ({_MARKS})"
ADD = (
    f"INSERT INTO slots ({columns((*_SLOT_KEY, *SUMS))}) VALUES ({', '.join('?' * (len(_SLOT_KEY) + len(SUMS)))}) "
    f"ON CONFLICT ({columns(_SLOT_KEY)}) DO UPDATE SET "
    f"{', '.join(f'{_name(column)} = slots.{_name(column)} + excluded.{_name(column)}' for column in SUMS)}"
)
STAND = (
    "INSERT INTO accounts (account, spent, cap, at) VALUES (?, ?, ?, ?) ON CONFLICT (account) DO UPDATE SET "
    "spent = excluded.spent, cap = excluded.cap, at = excluded.at WHERE excluded.at >= accounts.at"
)
