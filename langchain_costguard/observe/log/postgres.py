"""A spend log in PostgreSQL, for the processes of many machines; needs the extra ``postgres`` (psycopg)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_costguard.observe.log.names import Cursor
from langchain_costguard.observe.log.sql import LogError, SQLLog
from langchain_costguard.vocabulary.urls import without_password

SCHEMA = "costguard"
_LOCK = 7_226_317_041_180_211_001
"""Any number, for the advisory lock under which one process at a time makes the tables."""

_WORDS = {
    "(id INTEGER PRIMARY KEY, dim": "(id SERIAL PRIMARY KEY, dim",
    "(id INTEGER PRIMARY KEY, kind": "(id BIGINT PRIMARY KEY, kind",
    " BLOB": " BYTEA",
    " WITHOUT ROWID": "",
}


class PostgresLog(SQLLog):
    """A log in a database's schema ``costguard``, made where there is none.

    Args:
        url: ``postgresql://user:password@host:port/database``.
        timeout: Seconds to wait for the server.

    Raises:
        LogError: the server does not answer, psycopg is not installed, or the log is of a version to come.
    """

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        super().__init__()
        try:
            from langchain_costguard.vocabulary.driver import psycopg
        except ImportError as error:
            raise LogError(str(error)) from None
        self._psycopg = psycopg
        self.path = url
        self._timeout = timeout
        self._lock = threading.RLock()
        self._connection: Any = None
        self._pid = 0
        with self.transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
            cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            self.migrate(cursor, "the database")

    def _connected(self) -> Any:
        if self._pid != os.getpid():
            self._connection = None  # a parent process' connection is not ours to close
        if self._connection is None or self._connection.closed:
            self._connection = self._psycopg.connect(
                self.path, connect_timeout=int(self._timeout), options=f"-c search_path={SCHEMA}"
            )
            self._pid = os.getpid()
            self._ids.clear()
        return self._connection

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Cursor]:
        """One transaction."""
        with self._lock:
            try:
                connection = self._connected()
                with connection.transaction(), connection.cursor() as cursor:
                    yield _Cursor(cursor)
            except self._psycopg.Error as error:
                if isinstance(error, self._psycopg.OperationalError) and self._connection is not None:
                    self._connection.close()
                raise LogError(f"the spend log {without_password(self.path)}: {str(error).strip()}") from error

    def duplicate(self, error: BaseException) -> bool:
        """Whether an error says that a row with this id is there."""
        return isinstance(error, self._psycopg.errors.UniqueViolation) and "spend_entries_pkey" in str(error)

    def dialect(self, statement: str) -> str:
        """A statement that makes tables, in PostgreSQL's own words."""
        for ours, theirs in _WORDS.items():
            statement = statement.replace(ours, theirs)
        return statement

    def shrink(self) -> None:
        """The server gives room back by itself."""

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None and self._pid == os.getpid():
            self._connection.close()


class _Cursor:
    """psycopg's cursor, with the marks of SQLite's."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def rowcount(self) -> int:
        return int(self._inner.rowcount)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Any:
        self._inner.execute(sql.replace("?", "%s"), values)
        return self

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> Any:
        self._inner.executemany(sql.replace("?", "%s"), rows)
        return self

    def fetchall(self) -> list[Any]:
        return list(self._inner.fetchall())
