"""A spend log in a database: rows are written in batches, and added up as they are written."""

from __future__ import annotations

import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from operator import add
from typing import Any, Concatenate, ParamSpec, TypeVar

from langchain_costguard.observe.log import keeping, schema
from langchain_costguard.observe.log.entry import NAMES, Entry
from langchain_costguard.observe.log.names import Cursor, named
from langchain_costguard.observe.log.rows import packed_row, slot_keys
from langchain_costguard.observe.log.schema import SHIFT, sums_of

P = ParamSpec("P")
T = TypeVar("T")
_TRIES = 16
_KEPT = 200_000
"""Names whose numbers are remembered."""


class LogError(Exception):
    """The log's file or server did not answer, or holds no log."""


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
        rows: list[tuple[Any, ...]] = []
        slots: dict[tuple[int, ...], tuple[int, ...]] = {}
        standings: dict[str, tuple[Any, ...]] = {}
        for entry in entries:
            names = [ids[dim, text] if text else 0 for dim, text in zip(NAMES, entry.names, strict=True)]
            rows.append(packed_row(entry, names, self._key(entry.at, attempt)))
            added = sums_of(entry)
            if any(added):
                for key in slot_keys(entry, names):
                    before = slots.get(key)
                    slots[key] = added if before is None else tuple(map(add, before, added))
            for account, spent, cap in entry.balances:
                standings[account] = (account, spent, cap, entry.at)
        cursor.executemany(schema.INSERT, rows)
        # In one order, so that two processes do not wait for each other.
        cursor.executemany(schema.ADD, [(*key, *slots[key]) for key in sorted(slots)])
        if standings:
            cursor.executemany(schema.STAND, [standings[name] for name in sorted(standings)])

    def _key(self, at: float, attempt: int) -> int:
        """A row's id."""
        return (int(at * 1e6) << SHIFT) + next(self._sequence) % (1 << (SHIFT + attempt))

    def _ids_of(self, cursor: Cursor, entries: Iterable[Entry]) -> Mapping[tuple[str, str], int]:
        cursor.execute("SELECT value FROM spend_meta WHERE key = 'epoch'")
        epoch = int(cursor.fetchall()[0][0])
        if epoch != self._epoch or len(self._ids) > _KEPT:  # names were forgotten meanwhile, or are too many
            self._ids, self._epoch = {}, epoch
        wanted = {(dim, text) for entry in entries for dim, text in zip(NAMES, entry.names, strict=True) if text}
        new = sorted(wanted - self._ids.keys())
        if new:
            numbered = [(NAMES.index(dim), text) for dim, text in new]
            cursor.executemany("INSERT INTO spend_names (dim, text) VALUES (?, ?) ON CONFLICT DO NOTHING", numbered)
            for dim in NAMES:
                texts = [text for known, text in new if known == dim]
                self._ids.update({(dim, text): number for number, text in named(cursor, dim, texts)})
        return self._ids

    # Reading and keeping

    def ask(self, question: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask one of the questions of ``asking``.

        Raises:
            LogError: the database does not answer.
        """
        with self.transaction(write=False) as cursor:
            return question(cursor, *args, **kwargs)

    def drop(self, before: float) -> int:
        """Drop the rows that are older (epoch seconds), by whole quarters of an hour; returns how many."""
        with self.transaction() as cursor:
            return keeping.drop(cursor, before)

    def forget(self, dim: str, name: str, key: bytes) -> int:
        """Put a keyed hash in the place of a name, in every row that has it; returns how many.

        Raises:
            ValueError: there is no such dimension.
        """
        with self.transaction() as cursor:
            return keeping.forget(cursor, dim, name, key)

    # Tables

    def migrate(self, cursor: Cursor, where: str) -> None:
        """Make the tables, or make those of an older version today's.

        Raises:
            LogError: the log is of a version to come.
        """
        cursor.execute("CREATE TABLE IF NOT EXISTS spend_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL)")
        cursor.execute("SELECT value FROM spend_meta WHERE key = 'version'")
        found = cursor.fetchall()
        version = int(found[0][0]) if found else 0
        if version > schema.VERSION:
            raise LogError(f"{where} is a spend log of version {version}, and this costguard knows {schema.VERSION}")
        for statements in schema.MIGRATIONS[version:]:
            for statement in statements:
                cursor.execute(self.dialect(statement))
        values = [("version", schema.VERSION), *([] if found else [("epoch", 0)])]
        upsert = (
            "INSERT INTO spend_meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        )
        cursor.executemany(upsert, values)

    def dialect(self, statement: str) -> str:
        """A statement that makes tables, in this database's own words."""
        return statement
