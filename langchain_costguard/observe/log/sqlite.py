"""A spend log in a SQLite file, in WAL: any number of processes write to it, and readers wait for none of them."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from langchain_costguard.observe.files import made
from langchain_costguard.observe.log.names import Cursor
from langchain_costguard.observe.log.schema import VERSION
from langchain_costguard.observe.log.sql import LogError, SQLLog

BUSY = 15.0
"""Seconds to wait for other processes that write; nothing but the log's own thread waits."""
_inherited: list[sqlite3.Connection] = []
"""A parent process' connections, kept so that they are never closed here:
https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_across_a_fork_"""


class SQLiteLog(SQLLog):
    """A log in a file, made where there is none.

    Args:
        path: The file; ``:memory:`` is this process' own.
        create: With False, a file that is not there is an error.

    Raises:
        LogError: it is no such file, or one of a version to come.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        super().__init__()
        self.path = str(path)
        if not create and self.path != ":memory:" and not os.path.exists(self.path):
            raise LogError(f"there is no file {self.path!r}")
        self._lock = threading.RLock()
        self._open()

    def _open(self) -> None:
        try:
            if self.path != ":memory:":
                made(self.path)
            self._connection = sqlite3.connect(self.path, timeout=BUSY, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL").fetchone()
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute("PRAGMA secure_delete=ON")  # what was forgotten is not left in the file's gaps
        except (sqlite3.Error, OSError) as error:
            raise LogError(f"{self.path} cannot be used as a spend log: {error}") from error
        self._pid = os.getpid()
        if self._version() != VERSION:
            with self.transaction() as cursor:
                self.migrate(cursor, self.path)

    def _version(self) -> int:
        try:
            found = self._connection.execute("SELECT value FROM spend_meta WHERE key = 'version'").fetchone()
        except sqlite3.Error:
            return 0
        return int(found[0]) if found else 0

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Cursor]:
        """One transaction; one that writes waits for others that do."""
        with self._lock:
            if self._pid != os.getpid():
                _inherited.append(self._connection)
                self._ids.clear()
                self._open()
            cursor = self._connection.cursor()
            try:
                # IMMEDIATE takes the write lock first: a transaction that read before it cannot be upgraded.
                cursor.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield cursor
                cursor.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.rollback()
                if isinstance(error, sqlite3.Error):
                    raise LogError(f"the spend log {self.path}: {error}") from error
                raise
            finally:
                cursor.close()

    def duplicate(self, error: BaseException) -> bool:
        """Whether an error says that a row with this id is there."""
        return isinstance(error, sqlite3.IntegrityError) and "spend_entries.id" in str(error)

    def shrink(self) -> None:
        """Give the room of dropped rows back to the disk."""
        try:
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise LogError(f"the spend log {self.path}: {error}") from error

    def close(self) -> None:
        """Close the file in this process."""
        if self._pid == os.getpid():
            self._connection.close()
