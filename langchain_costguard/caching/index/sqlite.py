"""Neighbours that outlive the process: kept in a SQLite file, looked up in memory. Needs numpy."""

from __future__ import annotations

import os
import sqlite3
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from threading import RLock
from typing import Any, TypeVar

from langchain_costguard.caching.base import CacheError
from langchain_costguard.caching.entry import Entry, Stock, Wanted
from langchain_costguard.caching.index.base import Neighbour, entry_in, stocked, unit
from langchain_costguard.caching.index.memory import MemoryIndex, Place
from langchain_costguard.metering.stores.base import StoreError, checked_timeout
from langchain_costguard.metering.stores.database import Database
from langchain_costguard.vocabulary.checks import filed

T = TypeVar("T")

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS costguard_vector (change INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL,"
    " setting TEXT NOT NULL, vector BLOB NOT NULL, entry TEXT NOT NULL, expires REAL NOT NULL,"
    " UNIQUE (setting, id), UNIQUE (expires, change))",
    "CREATE TABLE IF NOT EXISTS costguard_vector_forgotten (times INTEGER NOT NULL)",
)
"""A row that is added or replaced has a ``change`` above all others; how often rows were forgotten is counted, for that
leaves no trace in the others. Little-endian single precision."""

NEWS = "SELECT change, id, setting, vector, entry FROM costguard_vector WHERE change > ? ORDER BY change LIMIT ?"
AT_ONCE = 2_000
SWEEP = 16
"""Expired rows deleted, at most, when one is added."""
CHECKED_EVERY = 64
"""Rows added between two looks at how many there are: counting them reads a whole index."""


class VectorFile:
    """The answers in the file of a ``SQLiteIndex``, to be counted and forgotten: without numpy.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 0.5) -> None:
        self.path = os.path.abspath(filed("path", path, "in memory, use MemoryIndex()"))
        self._database = Database(self.path, SCHEMA, timeout=checked_timeout(timeout))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    def close(self) -> None:
        """Close the file in this process."""
        self._database.close()

    def forget(self, wanted: Wanted) -> int:
        """Forget these answers; returns how many.

        Raises:
            CacheError: the file stayed locked, or SQLite failed.
        """
        return self._run(partial(_forget, wanted))

    def stock(self, *, now: float) -> Iterable[Stock]:
        """What is held, by feature and model; the bytes are those of the vectors and the entries."""
        query = "SELECT entry, length(vector) FROM costguard_vector WHERE expires > ?"
        rows = self._run(lambda connection: connection.execute(query, (now,)).fetchall(), write=False)
        return stocked((entry, size) for text, size in rows if (entry := entry_in(text)) is not None)

    def _run(self, work: Callable[[sqlite3.Connection], T], *, write: bool = True) -> T:
        try:
            return self._database.run(work, write=write)
        except StoreError as error:
            raise CacheError(str(error)) from error


class SQLiteIndex(VectorFile):
    """The nearest answers, in a file for the processes of one machine: ``SQLiteIndex("answers.db")``.

    Each process keeps a copy in memory, read when first used, and looks for what others added or forgot at each lookup
    (tens of microseconds). May be the same file as a ``SQLiteCache`` or ``SQLiteStore``. Not for network drives.

    Args:
        path: The file, created where missing.
        max_entries: Answers remembered at most, give or take 64 in the file; then those added first make room.
        timeout: Seconds a call waits for other threads and processes at most; then it raises ``CacheError``.

    Raises:
        ValueError: names the field and the value.
        ImportError: numpy is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_entries: int = 100_000, timeout: float = 0.5) -> None:
        self._near = MemoryIndex(max_entries=max_entries)
        self.max_entries = max_entries
        self._lock = RLock()
        self._seen, self._forgotten = 0, 0
        super().__init__(path, timeout=timeout)

    def add(self, id: str, setting: str, vector: Sequence[float], entry: Entry, *, now: float) -> None:
        """Remember an answer; an earlier one of this id and setting is replaced.

        Raises:
            ValueError: the vector is of another size than the setting's others, or has no direction.
            CacheError: the file stayed locked, or SQLite failed.
        """
        direction = unit(vector)
        row = (id, setting, _blob(direction), entry.to_json(), entry.expires)
        with self._lock:
            self._catch_up()
            self._near.add(id, setting, direction, entry, now=now)
            change = self._run(partial(_insert, row, now, self.max_entries))
            if change == self._seen + 1:
                self._seen = change

    def search(self, setting: str, vector: Sequence[float], k: int, *, now: float) -> list[Neighbour]:
        """The nearest answers of this setting that have not expired, at most ``k``, the nearest first.

        Raises:
            ValueError: the vector is of another size than the setting's, or has no direction.
            CacheError: the file stayed locked, or SQLite failed.
        """
        with self._lock:
            self._catch_up()
        return self._near.search(setting, vector, k, now=now)

    def _catch_up(self) -> None:
        """Take in what was added and forgotten since the last look."""
        while True:
            rows, forgotten, left = self._run(partial(_news, self._seen, self._forgotten), write=False)
            for change, id, setting, blob, text in rows:
                entry, vector = entry_in(text), _vector(blob)
                if entry is not None and vector is not None:
                    with suppress(ValueError):  # of another model of embeddings, from a process with other settings
                        self._near.place(id, setting, vector, entry)
                self._seen = change
            if left is not None:
                self._near.keep_only(left)
                self._forgotten = forgotten
            if len(rows) < AT_ONCE:
                return


def _news(seen: int, forgotten: int, connection: sqlite3.Connection) -> tuple[list[Any], int, set[Place] | None]:
    """Rows since the last look, how often rows were forgotten, and where that has changed, what is left."""
    rows = connection.execute(NEWS, (seen, AT_ONCE)).fetchall()
    times = connection.execute("SELECT max(times) FROM costguard_vector_forgotten").fetchone()[0] or 0
    if times == forgotten:
        return rows, times, None
    return rows, times, set(connection.execute("SELECT setting, id FROM costguard_vector"))


def _insert(row: tuple[Any, ...], now: float, most: int, connection: sqlite3.Connection) -> int:
    connection.execute(
        "DELETE FROM costguard_vector WHERE change IN"
        " (SELECT change FROM costguard_vector WHERE expires <= ? ORDER BY expires LIMIT ?)",
        (now, SWEEP),
    )
    insert = "INSERT OR REPLACE INTO costguard_vector (id, setting, vector, entry, expires) VALUES (?, ?, ?, ?, ?)"
    change = connection.execute(insert, row).lastrowid or 0
    if change % CHECKED_EVERY == 0:
        connection.execute(
            "DELETE FROM costguard_vector WHERE change IN (SELECT change FROM costguard_vector ORDER BY change"
            " LIMIT max(0, (SELECT count(*) FROM costguard_vector) - ?))",
            (most,),
        )
    return change


def _forget(wanted: Wanted, connection: sqlite3.Connection) -> int:
    rows = connection.execute("SELECT change, entry FROM costguard_vector").fetchall()
    gone = [(change,) for change, text in rows if (entry := entry_in(text)) is None or wanted.fits(entry)]
    connection.executemany("DELETE FROM costguard_vector WHERE change = ?", gone)
    times = connection.execute("SELECT max(times) FROM costguard_vector_forgotten").fetchone()[0] or 0
    connection.execute("DELETE FROM costguard_vector_forgotten")
    connection.execute("INSERT INTO costguard_vector_forgotten VALUES (?)", (times + 1,))
    return len(gone)


def _blob(vector: array[float]) -> bytes:
    return _swapped(array("f", vector)).tobytes()


def _vector(blob: bytes) -> array[float] | None:
    if not blob or len(blob) % 4:
        return None
    return _swapped(array("f", blob))


def _swapped(vector: array[float]) -> array[float]:
    if sys.byteorder == "big":
        vector.byteswap()
    return vector
