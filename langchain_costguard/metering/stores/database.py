"""One SQLite file: opened once per process, one transaction at a time, and never waited for longer than agreed."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Lock, RLock, get_ident
from typing import Any, Generic, TypeVar

from langchain_costguard.metering.stores.base import StoreError

T = TypeVar("T")

OPENING_TIMEOUT = 5.0
"""Seconds to wait for other processes that create the same file at the same moment."""

PAUSE = (0.0001, 0.0006)
"""Shortest and longest pause before asking for the write lock again. SQLite's own busy handler sleeps up to 100 ms at
a time, so that under contention some callers starve past any short timeout."""

JOBS_AT_ONCE = 64
PATIENCE = 20
"""Timeouts for which a thread waits its turn as long as no other gets an error: that is a busy process, no outage."""

_inherited: list[sqlite3.Connection] = []
"""A parent process' connections, kept so that they are never closed here:
https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_across_a_fork_"""

_leaving = Lock()


class Database:
    """A file with these tables, created where missing; whoever creates it first, the others find it.

    Raises:
        ValueError: the path cannot be opened as a database.
        StoreError: another process keeps the new file locked.
    """

    def __init__(self, path: str, schema: tuple[str, ...], *, timeout: float) -> None:
        self.path = path
        self.timeout = timeout
        self._schema = schema
        self._pid, self._failures = 0, 0
        self._leader: int | None = None
        self._start()

    def run(self, work: Callable[[sqlite3.Connection], T], *, write: bool = True) -> T:
        """Do the work in one transaction, from the start again when another process was in the way.

        What threads ask for meanwhile is done together, in one transaction of the first of them: 50 threads take
        the write lock a few times, not 50 times, in the order they came, and do not starve other processes.

        Raises:
            StoreError: the file stayed locked for the whole timeout, or SQLite failed.
        """
        if self._pid != os.getpid():
            self._leave_parent()
        job = _Job(work, write)
        with self._queue:
            if self._leader == job.thread:
                # The garbage collector closed an abandoned stream, which settles, in the middle of a transaction.
                raise StoreError(f"SQLite at {self.path}: this very thread is using it")
            leads = self._leader is None
            if leads:
                self._leader = job.thread
            else:
                self._waiting.append(job)
        if leads or self._wait(job):
            self._lead(job)
        return job.result()

    def close(self) -> None:
        """Close the file in this process; what is asked afterwards is a `StoreError`."""
        if self._pid == os.getpid():
            self._connection.close()

    def _start(self) -> None:
        self._queue = RLock()
        self._leader = None
        self._waiting: deque[_Job[Any]] = deque()
        self._connection = _open(self.path, self._schema)
        self._pid = os.getpid()

    def _leave_parent(self) -> None:
        with _leaving:
            if self._pid == os.getpid():
                return
            _inherited.append(self._connection)
            try:
                self._start()
            except ValueError as error:
                raise StoreError(str(error)) from error

    def _wait(self, job: _Job[Any]) -> bool:
        """Wait until the job is over, or until it is its turn to lead: then true."""
        try:
            failures, waits = self._failures, 1
            while not job.woken.acquire(timeout=self.timeout):
                if (self._failures != failures or waits >= PATIENCE) and self._withdraw(job):
                    raise StoreError(f"SQLite at {self.path}: the threads before this one did not get through")
                waits += 1  # where it is not to be withdrawn, its transaction has begun, and ends in time
        except KeyboardInterrupt:
            if not self._withdraw(job) and job.woken.acquire() and not job.over:
                self._pass_on()
            raise
        return not job.over

    def _withdraw(self, job: _Job[Any]) -> bool:
        with self._queue:
            waiting = job in self._waiting
            if waiting:
                self._waiting.remove(job)
        return waiting

    def _lead(self, job: _Job[Any]) -> None:
        jobs = [job]
        try:
            with self._queue:
                while self._waiting and len(jobs) < JOBS_AT_ONCE:
                    jobs.append(self._waiting.popleft())
            self._run_together(jobs)
        finally:
            self._pass_on()
            for done in jobs:
                done.over = True
                done.woken.release()

    def _pass_on(self) -> None:
        with self._queue:
            if self._waiting:
                first = self._waiting.popleft()
                self._leader = first.thread
                first.woken.release()
            else:
                self._leader = None

    def _run_together(self, jobs: list[_Job[Any]]) -> None:
        write = any(job.write for job in jobs)
        deadline = time.monotonic() + self.timeout
        try:
            _attempt(lambda: _transaction(self._connection, partial(_do, jobs), write), deadline)
        except sqlite3.Error as error:
            self._failures += 1
            for job in jobs:
                job.error = job.error or StoreError(f"SQLite at {self.path}: {error}")


class _Job(Generic[T]):
    """Work that waits for its transaction, and what became of it."""

    def __init__(self, work: Callable[[sqlite3.Connection], T], write: bool) -> None:
        self.work = work
        self.write = write
        self.values: list[T] = []
        self.error: Exception | None = None
        self.over = False
        self.thread = get_ident()
        self.woken = Lock()
        self.woken.acquire()

    def result(self) -> T:
        """What the work returned; raises what it raised."""
        if self.error is not None:
            raise self.error
        if not self.values:
            raise StoreError("SQLite: the thread that was at it was interrupted")
        return self.values[0]


class _WorkFailedError(Exception):
    """One job raised: the transaction begins again without it."""


def _do(jobs: list[_Job[Any]], connection: sqlite3.Connection) -> None:
    for job in jobs:
        if job.error is not None:
            continue
        try:
            job.values = [job.work(connection)]
        except sqlite3.Error:
            raise
        except Exception as error:
            job.error = error
            raise _WorkFailedError from error


def _transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], None], write: bool) -> None:
    # IMMEDIATE takes the write lock first: a transaction that read before it cannot be upgraded, only repeated.
    connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    try:
        work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _attempt(action: Callable[[], None], deadline: float) -> None:
    while True:
        try:
            return action()
        except _WorkFailedError:
            continue
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() >= deadline:
                raise
        time.sleep(random.uniform(*PAUSE))


def _is_busy(error: sqlite3.Error) -> bool:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _open(path: str, schema: tuple[str, ...]) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        _attempt(lambda: _prepare(connection, schema), time.monotonic() + OPENING_TIMEOUT)
    except sqlite3.Error as error:
        if _is_busy(error):
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
