"""One SQLite file: opened once per process, one transaction at a time, and never waited for longer than agreed."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast
from weakref import WeakSet

from langchain_costguard.metering.stores.base import ITS_OWN, StoreBusyError, StoreError
from langchain_costguard.metering.stores.together import Job, Together
from langchain_costguard.observe.files import made

log = logging.getLogger("langchain_costguard")
T = TypeVar("T")
Work = Callable[[sqlite3.Connection], object]

OPENING_TIMEOUT = 5.0
"""Seconds to wait for other processes that create the same file at the same moment."""

QUEUEING = 1.0
"""Seconds to wait for the write lock while other processes commit: that is contention, no outage."""

PAUSE = (0.0002, 0.004)
"""Shortest and longest pause before asking for the write lock again. SQLite's own busy handler sleeps up to 100 ms at
a time, so that under contention some callers starve past any short timeout."""

_LOOK = 2 * PAUSE[1]
"""What of the time between two looks counts as waiting: on a calm machine all of it."""

CROWDED = 0.1
"""Seconds for which a process makes way for others that were seen to commit between two transactions of its own."""

LOOKS = 1.0
"""Seconds between two looks whether the file is still the one at its path."""

_inherited: list[sqlite3.Connection] = []
"""A parent process' connections, kept so that they are never closed here:
https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_across_a_fork_"""


class Database:
    """A file with these tables, created where missing; whoever creates it first, the others find it.

    A new file is for its owner alone, unless ``mode`` says otherwise; one that is there keeps its permissions.

    Raises:
        ValueError: the path cannot be opened as a database.
        StoreError: another process keeps the new file locked.
    """

    def __init__(self, path: str, schema: tuple[str, ...], *, timeout: float, mode: int = 0o600) -> None:
        self.path = path
        self.timeout = timeout
        self._schema = schema
        self._mode = mode
        self._leaving = threading.Lock()
        self._pid: int
        self._connection: sqlite3.Connection
        self._look_at: float
        self._start()
        _databases.add(self)

    def run(self, work: Callable[[sqlite3.Connection], T], *, write: bool = True) -> T:
        """Do the work in one transaction, from the start again when another process was in the way.

        What threads ask for meanwhile is done together, in one transaction of the first of them.

        Raises:
            StoreBusyError: other processes went on committing for a second, and this one had no turn.
            StoreError: the file stayed locked, and nobody committed, for the whole timeout; or SQLite failed.
        """
        if self._pid != os.getpid():
            self._leave_parent()
        return cast("T", self._together.do(Job((work, write))))

    def close(self) -> None:
        """Close the file in this process; what is asked afterwards is a `StoreError`."""
        if self._pid == os.getpid():
            with self._busy:  # SQLite itself crashes where a connection is closed under a transaction
                self._closed = True
                self._connection.close()

    def gone(self) -> bool:
        """Whether the file that was opened is no longer at its path: deleted, or another in its place."""
        return _inode(self.path) != self._inode

    def _look(self) -> None:
        """A file that was deleted, or replaced, still takes what is written to it, and nobody else ever reads it."""
        now = time.monotonic()
        if now < self._look_at or self._closed:
            return
        self._look_at = now + LOOKS
        if not self.gone():
            return
        log.error(
            "SQLite at %s: the file was deleted or replaced while in use; the one that is there now is used", self.path
        )
        # Not closed: SQLite would take away the side files by their names, which may be those of the new file.
        _inherited.append(self._connection)
        try:
            self._connection = _open(self.path, self._schema, self._mode)
        except ValueError as error:
            self._look_at = now
            raise StoreError(str(error)) from error
        self._inode = _inode(self.path)

    def _start(self) -> None:
        where = f"SQLite at {self.path}"
        self._together: Together[tuple[Work, bool]] = Together(
            self._run_together, leaders=1, patience=self.timeout, where=where
        )
        self._busy = threading.Lock()  # while a transaction runs: a fork waits for its end
        self._connection = _open(self.path, self._schema, self._mode)
        self._inode, self._look_at = _inode(self.path), time.monotonic() + LOOKS
        self._ended = self._contended = 0.0
        self._seen = -1
        self._closed = False
        self._pid = os.getpid()

    def _leave_parent(self) -> None:
        with self._leaving:
            if self._pid == os.getpid():
                return
            _inherited.append(self._connection)
            try:
                self._start()
            except ValueError as error:
                raise StoreError(str(error)) from error

    def _let_others(self) -> None:
        """Who has just committed, and takes the lock again at once, has better odds than all who wait for it."""
        pause = random.uniform(*PAUSE)
        if time.monotonic() - self._ended < pause and _version(self._connection) != self._seen:
            self._contended = time.monotonic() + CROWDED
        if time.monotonic() < self._contended:
            time.sleep(pause)

    def _run_together(self, jobs: list[Job[tuple[Work, bool]]]) -> None:
        write = any(job.wanted[1] for job in jobs)
        try:
            with self._busy:
                self._look()
                connection = self._connection
                self._let_others()
                _attempt(
                    lambda: _transaction(connection, partial(_do, jobs), write), connection, self.timeout, QUEUEING
                )
                self._ended, self._seen = time.monotonic(), _version(connection)
        except sqlite3.Error as error:
            busy = _is_busy(error) and getattr(error, "others_commit", False)
            kind = StoreBusyError if busy else StoreError
            for job in jobs:
                job.error = job.error or kind(f"SQLite at {self.path}: {error}")


class _WorkFailedError(Exception):
    """One job raised: the transaction begins again without it."""


def _do(jobs: list[Job[tuple[Work, bool]]], connection: sqlite3.Connection) -> None:
    for job in jobs:
        if job.error is not None:
            continue
        try:
            job.value = job.wanted[0](connection)
        except (StoreError, *ITS_OWN) as error:  # else it is SQLite's, or from outside: the job may be another thread's
            job.error = error
            raise _WorkFailedError from error


def _transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], None], write: bool) -> None:
    # IMMEDIATE takes the write lock first: a transaction that read before it cannot be upgraded, only repeated.
    try:  # around it all: where an interrupt comes as it has begun, nobody else would end it
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _attempt(action: Callable[[], None], connection: sqlite3.Connection, timeout: float, queueing: float) -> None:
    """Do it as soon as the lock is to be had; give up when nobody commits for ``timeout`` seconds, or after
    ``queueing``.

    Seconds in which this process was not given the processor to look do not count: on a machine that is too busy,
    whoever holds the lock is not given it either.
    """
    last = time.monotonic()
    version, still, waited, others_commit = -1, 0.0, 0.0, False
    while True:
        try:
            return action()
        except _WorkFailedError:
            continue
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
            now, seen = time.monotonic(), _version(connection)
            look, last = min(now - last, _LOOK), now
            still, waited = still + look, waited + look
            if version not in (-1, seen):
                still, others_commit = 0.0, True
            version = seen
            error.others_commit = others_commit  # type: ignore[attr-defined]
            if still >= timeout or waited >= max(queueing, timeout):
                raise
        time.sleep(random.uniform(*PAUSE))


def _inode(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def _version(connection: sqlite3.Connection) -> int:
    """Changes whenever somebody else commits."""
    try:
        return int(connection.execute("PRAGMA data_version").fetchone()[0])
    except sqlite3.OperationalError:
        return -1


def _is_busy(error: sqlite3.Error) -> bool:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _open(path: str, schema: tuple[str, ...], mode: int) -> sqlite3.Connection:
    try:
        made(path, mode)  # SQLite gives its side files the permissions of the file
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        _attempt(lambda: _prepare(connection, schema), connection, OPENING_TIMEOUT, OPENING_TIMEOUT)
    except (sqlite3.Error, OSError, UnicodeError) as error:
        if isinstance(error, sqlite3.Error) and _is_busy(error):
            raise StoreError(f"SQLite at {path}: {error}") from error
        raise ValueError(f"path {path!r} cannot be used as a SQLite database: {error}") from error
    return connection


def _prepare(connection: sqlite3.Connection, schema: tuple[str, ...]) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    # CREATE TABLE IF NOT EXISTS name: what else the file holds is others'.
    if not {statement.split()[5] for statement in schema} <= found:
        _transaction(connection, partial(_create, schema), write=True)


def _create(schema: tuple[str, ...], connection: sqlite3.Connection) -> None:
    for table in schema:
        connection.execute(table)


_databases: WeakSet[Database] = WeakSet()
_forking: list[threading.Lock] = []


def _wait_before_fork() -> None:
    """SQLite remembers in the process what it has locked: a child forked in the middle of a transaction would wait for
    ever for a lock that it believes is its own."""
    for database in sorted(_databases, key=id):
        if database._pid == os.getpid() and database._busy.acquire(timeout=2 * QUEUEING):
            _forking.append(database._busy)  # noqa: PERF401 - one that was taken is given back even if the next is not


def _go_on() -> None:
    while _forking:
        _forking.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_before_fork, after_in_parent=_go_on, after_in_child=_go_on)
