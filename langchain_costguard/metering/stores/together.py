"""One queue for what several threads ask of one place: the first of them does it for those who came meanwhile.

50 threads so take a file's lock, or cross a network, a few times and not 50 times; in the order in which they came; and
do not starve other processes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from langchain_costguard.metering.stores.base import StoreBusyError, StoreError

W = TypeVar("W")

AT_ONCE = 64
QUEUEING = 5.0
"""Seconds to wait for one's turn behind others of the same process who do get through: a busy process, no outage."""


class Job(Generic[W]):
    """Something asked for, and what became of it: a ``value``, or an ``error``."""

    __slots__ = ("error", "kind", "over", "parts", "taken", "thread", "value", "wanted", "woken")

    def __init__(self, wanted: W, kind: object = None, parts: int = 0) -> None:
        self.wanted = wanted
        self.parts = parts
        """How many things are wanted, one after the other; the ``value`` is then a list. 0: one thing, for itself."""
        self.kind = kind
        """Only jobs of one kind are done together."""
        self.value: object = None
        self.error: BaseException | None = None
        self.over = False
        self.taken: list[Job[W]] = []
        """Others' jobs, which are done with this one."""
        self.thread = threading.get_ident()
        self.woken = threading.Lock()
        self.woken.acquire()


class Together(Generic[W]):
    """Does jobs by ``work``, which is given a list of them and says in each what became of it.

    At most ``leaders`` threads work at a time; each takes with it up to ``AT_ONCE`` of those who wait. ``patience``:
    seconds after which a thread that waits leaves, if others got an error meanwhile.

    The main thread may be interrupted after any call (Ctrl-C, a signal's handler that raises). So whatever is changed
    here is changed in an order in which it can be changed again, and who leaves puts right what it left behind.
    """

    def __init__(self, work: Callable[[list[Job[W]]], None], *, leaders: int, patience: float, where: str) -> None:
        self._work = work
        self._most = leaders
        self._patience = patience
        self._where = where
        self._queue = threading.RLock()  # the garbage collector may settle inside it
        self._waiting: deque[Job[W]] = deque()
        self._leading: dict[int, Job[W]] = {}
        self._failures = 0

    def do(self, job: Job[W]) -> object:
        """Have the job done, by this thread or by another; returns its value, or raises its error.

        Raises:
            StoreError: those who came before got no answer, or this very thread is in the middle of a job.
        """
        if job.thread in self._leading:
            # The garbage collector closed an abandoned stream, which settles, in the middle of a job.
            raise StoreError(f"{self._where}: this very thread is using it")
        try:
            with self._queue:
                if len(self._leading) < self._most:
                    self._leading[job.thread] = job
                else:
                    self._waiting.append(job)
            if self._leads(job) or self._wait(job):
                self._do_with_others(job)
        finally:
            try:
                self._leave(job)
            except BaseException:
                self._leave(job, again=True)
                raise
        if job.error is not None:
            raise job.error
        if not job.over:
            raise StoreError(f"{self._where}: the thread that was at it was interrupted")
        return job.value

    def _leads(self, job: Job[W]) -> bool:
        return self._leading.get(job.thread) is job

    def _wait(self, job: Job[W]) -> bool:
        """Wait until the job is over, or until it is its turn to lead: then true."""
        failures, until = self._failures, time.monotonic() + QUEUEING
        while not job.woken.acquire(timeout=self._patience):
            late = time.monotonic() >= until
            if (late or self._failures != failures) and self._withdraw(job):
                kind = StoreBusyError if late else StoreError
                raise kind(f"{self._where}: the threads before this one did not get through")
        return self._leads(job)

    def _withdraw(self, job: Job[W]) -> bool:
        with self._queue:
            waiting = job in self._waiting
            if waiting:
                self._waiting.remove(job)
        return waiting

    def _do_with_others(self, job: Job[W]) -> None:
        with self._queue:
            while self._waiting and len(job.taken) < AT_ONCE - 1 and self._waiting[0].kind == job.kind:
                if self._waiting[0] is not job:  # it is, where who handed on the lead was interrupted
                    job.taken.append(self._waiting[0])
                self._waiting.popleft()
        jobs = [job, *job.taken]
        self._work(jobs)
        for done in jobs:
            done.over = True
            self._failures += isinstance(done.error, StoreError) and not isinstance(done.error, StoreBusyError)

    def _leave(self, job: Job[W], *, again: bool = False) -> None:
        """Whatever became of the job: wake those who were done with it, and hand on the lead. ``again``: this was begun
        and interrupted."""
        for done in job.taken:
            _wake(done)
        if not (again or self._leads(job) or job in self._waiting):
            return
        with self._queue:
            if job in self._waiting:
                self._waiting.remove(job)
            if self._leads(job):
                del self._leading[job.thread]
            while self._waiting:
                first = self._waiting[0]
                if not self._leads(first):
                    if len(self._leading) >= self._most:
                        break
                    self._leading[first.thread] = first
                _wake(first)
                self._waiting.popleft()


def _wake(job: Job[Any]) -> None:
    with suppress(RuntimeError):  # it is awake
        job.woken.release()
