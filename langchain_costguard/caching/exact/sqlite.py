"""Answers in a SQLite file: several processes on one machine, and the next run of a program."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, Unpack

from langchain_costguard.caching.base import CacheError, checked_most
from langchain_costguard.caching.entry import Entry, Stock, Wanted
from langchain_costguard.caching.exact.cache import ExactCache
from langchain_costguard.caching.outage import Outage
from langchain_costguard.caching.rules import Options
from langchain_costguard.metering.stores.base import StoreError, checked_timeout
from langchain_costguard.metering.stores.database import Database
from langchain_costguard.vocabulary.checks import filed

T = TypeVar("T")

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS costguard_answer (key TEXT PRIMARY KEY, entry BLOB NOT NULL, feature TEXT NOT NULL,"
    " model TEXT NOT NULL, tenant TEXT NOT NULL, tags TEXT NOT NULL, cost INTEGER NOT NULL, created REAL NOT NULL,"
    " expires REAL NOT NULL, used REAL NOT NULL, UNIQUE (used, key), UNIQUE (expires, key))",
    "CREATE TABLE IF NOT EXISTS costguard_claim (key TEXT PRIMARY KEY, holder TEXT NOT NULL, until REAL NOT NULL)"
    " WITHOUT ROWID",
)
"""``tags`` are each between two line feeds. The unique pairs are there for the indexes they bring."""

UPSERT = (
    "INSERT INTO costguard_answer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
    " entry = excluded.entry, feature = excluded.feature, model = excluded.model, tenant = excluded.tenant,"
    " tags = excluded.tags, cost = excluded.cost, created = excluded.created, expires = excluded.expires,"
    " used = excluded.used"
)
OLDEST = "DELETE FROM costguard_answer WHERE key IN (SELECT key FROM costguard_answer ORDER BY used, key LIMIT ?)"
EXPIRED = (
    "DELETE FROM costguard_answer WHERE key IN"
    " (SELECT key FROM costguard_answer WHERE expires <= ? ORDER BY expires LIMIT 16)"
)
CLAIM = (
    "INSERT INTO costguard_claim VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE"
    " SET holder = excluded.holder, until = excluded.until"
)
TOUCH = 60.0
"""Seconds. When an answer was asked for last is written down no more often, so that most reads stay reads."""

COUNTS = 64
"""Answers are counted each time a process has added a 64th of ``max_entries``: counting 100,000 takes a millisecond."""


class SQLiteCache(ExactCache):
    """Answers for the processes of one machine, and for its next start: ``SQLiteCache("answers.db")``.

    The file may be that of a ``SQLiteStore``, too. It holds about ``max_entries`` answers; beyond them, those not asked
    for longest go (to the minute, and a 64th more for each process that adds). A call waits at most ``timeout`` seconds
    for other threads, and as long for other processes. Not for network drives: SQLite's locks do not hold there. The
    other arguments are those of ``Rules``: ``ttl``, ``share``, ``deterministic``, ``tool_calls``, ``cache_if``,
    ``no_cache``.

    Raises:
        ValueError: the path cannot be opened as a database, or an argument cannot be.
        CacheError: another process keeps the new file locked.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_entries: int = 100_000,
        timeout: float = 0.5,
        clock: Callable[[], float] = time.time,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(clock=clock, **options)
        self.path = _checked_path(path)
        self.max_entries = checked_most(max_entries)
        self.timeout = checked_timeout(timeout)
        self._options = options
        self._added = 0
        self._outage = Outage(clock)
        try:
            self._database = Database(self.path, SCHEMA, timeout=self.timeout)
        except StoreError as error:
            raise CacheError(str(error)) from error

    def __repr__(self) -> str:
        return f"SQLiteCache({self.path!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        made = partial(SQLiteCache, max_entries=self.max_entries, timeout=self.timeout, **self._options)
        return made, (self.path,)

    def close(self) -> None:
        """Close the file in this process."""
        self._database.close()

    def get(self, key: str, *, now: float) -> Entry | None:
        """The answer, if there is one and it has not expired."""
        row = self._run(partial(_read, key), write=False)
        if row is None or row[1] <= now:
            return None
        if now - row[2] > TOUCH:
            touch = partial(_execute, "UPDATE costguard_answer SET used = ? WHERE key = ?", (now, key))
            with suppress(StoreError):  # others write at the moment: no reason to do without the answer
                self._database.run(touch)
        return self._read_entry(row[0])

    def put(self, key: str, entry: Entry, *, now: float) -> None:
        """Remember an answer."""
        text = entry.to_json().encode("utf-8", "surrogatepass")
        tags = "\n" + "".join(f"{tag}\n" for tag in entry.tags)
        told = entry.feature, entry.model, entry.tenant, tags, entry.cost, entry.created, entry.expires
        counts = self._added % max(1, self.max_entries // COUNTS) == 0
        self._added += 1
        self._run(partial(_put, (key, text, *told, now), now, self.max_entries if counts else 0))

    def claim(self, key: str, holder: str, *, until: float, now: float) -> bool:
        """Take it upon oneself to get the answer, until then at the longest; false while another has."""
        return self._run(partial(_claim, key, holder, until, now))

    def release(self, key: str, holder: str) -> None:
        """Let others have a try."""
        statement = "DELETE FROM costguard_claim WHERE key = ? AND holder = ?"
        self._run(partial(_execute, statement, (key, holder)))

    def forget(self, wanted: Wanted) -> int:
        """Forget these answers; returns how many."""
        tag = None if wanted.tag is None else f"\n{wanted.tag}\n"
        tests = {
            "instr(tags, ?)": tag,
            "feature = ?": wanted.feature,
            "model = ?": wanted.model,
            "tenant = ?": wanted.tenant,
            "created < ?": wanted.before,
        }
        given = {test: value for test, value in tests.items() if value is not None}
        where = f" WHERE {' AND '.join(given)}" if given else ""
        return self._run(partial(_execute, f"DELETE FROM costguard_answer{where}", tuple(given.values())))

    def stock(self, *, now: float) -> Iterable[Stock]:
        """What is held, by feature and model."""
        query = (
            "SELECT feature, model, count(*), sum(length(entry)), sum(cost) FROM costguard_answer"
            " WHERE expires > ? GROUP BY feature, model ORDER BY feature, model"
        )
        rows = self._run(lambda connection: connection.execute(query, (now,)).fetchall(), write=False)
        return [Stock(*row) for row in rows]

    def _run(self, work: Callable[[sqlite3.Connection], T], *, write: bool = True) -> T:
        self._outage.check()
        try:
            done = self._database.run(work, write=write)
        except StoreError as error:
            raise self._outage.failed(str(error)) from error
        except UnicodeError as error:
            raise CacheError(f"{self!r}: {error}") from error
        self._outage.over()
        return done


def _checked_path(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(filed("path", path, "in memory, use MemoryCache()"))


def _read(key: str, connection: sqlite3.Connection) -> tuple[bytes, float, float] | None:
    query = "SELECT entry, expires, used FROM costguard_answer WHERE key = ?"
    found: tuple[bytes, float, float] | None = connection.execute(query, (key,)).fetchone()
    return found


def _put(row: tuple[Any, ...], now: float, most: int, connection: sqlite3.Connection) -> None:
    connection.execute(EXPIRED, (now,))
    connection.execute(UPSERT, row)
    if most:
        (count,) = connection.execute("SELECT count(*) FROM costguard_answer").fetchone()
        if count > most:
            connection.execute(OLDEST, (count - most,))


def _claim(key: str, holder: str, until: float, now: float, connection: sqlite3.Connection) -> bool:
    row = connection.execute("SELECT holder, until FROM costguard_claim WHERE key = ?", (key,)).fetchone()
    if row is not None and row[0] != holder and row[1] > now:
        return False
    connection.execute("DELETE FROM costguard_claim WHERE until <= ?", (now,))
    connection.execute(CLAIM, (key, holder, until))
    return True


def _execute(statement: str, values: tuple[Any, ...], connection: sqlite3.Connection) -> int:
    return connection.execute(statement, values).rowcount
