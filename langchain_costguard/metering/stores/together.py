"""One queue for what several threads ask of one place: the first of them does it for those who came meanwhile.

50 threads so take a file's lock, or cross a network, a few times and not 50 times; in the order in which they came; and
do not starve other processes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from langchain_costguard.metering.stores.base import StoreBusyError, StoreError

W = TypeVar("W")

AT_ONCE = 64
QUEUEING = 5.0
"""Seconds to wait for one's turn behind others of the same process who do get through: a busy process, no outage."""


class Job(Generic[W]):
    """Something asked for, and what became of it: a ``value``, or an ``error``."""

    __slots__ = ("error", "kind", "leads", "over", "parts", "thread", "value", "wanted", "woken")

    def __init__(self, wanted: W, kind: object = None, parts: int = 0) -> None:
        self.wanted = wanted
        self.parts = parts
        """How many things are wanted, one after the other; the ``value`` is then a list. 0: one thing, for itself."""
        self.kind = kind
        """Only jobs of one kind are done together."""
        self.value: object = None
        self.error: BaseException | None = None
        self.leads = self.over = False
        self.thread = threading.get_ident()
        self.woken = threading.Lock()
        self.woken.acquire()


class Together(Generic[W]):
    """Does jobs by ``work``, which is given a list of them and says in each what became of it.

    At most ``leaders`` threads work at a time; each takes with it up to ``AT_ONCE`` of those who wait. ``patience``:
    seconds after which a thread that waits leaves, if others got an error meanwhile.
    """

    def __init__(self, work: Callable[[list[Job[W]]], None], *, leaders: int, patience: float, where: str) -> None:
        self._work = work
        self._free = leaders
        self._patience = patience
        self._where = where
        self._queue = threading.RLock()  # the garbage collector may settle inside it
        self._waiting: deque[Job[W]] = deque()
        self._leading: set[int] = set()
        self._failures = 0

    def do(self, job: Job[W]) -> object:
        """Have the job done, by this thread or by another; returns its value, or raises its error.

        Raises:
            StoreError: those who came before got no answer, or this very thread is in the middle of a job.
        """
        with self._queue:
            if job.thread in self._leading:
                # The garbage collector closed an abandoned stream, which settles, in the middle of a job.
                raise StoreError(f"{self._where}: this very thread is using it")
            if self._free:
                self._lead(job)
            else:
                self._waiting.append(job)
        if job.leads or self._wait(job):
            self._do_with_others(job)
        if job.error is not None:
            raise job.error
        if not job.over:
            raise StoreError(f"{self._where}: the thread that was at it was interrupted")
        return job.value

    def _lead(self, job: Job[W]) -> None:
        job.leads = True
        self._free -= 1
        self._leading.add(job.thread)

    def _wait(self, job: Job[W]) -> bool:
        """Wait until the job is over, or until it is its turn to lead: then true."""
        failures, until = self._failures, time.monotonic() + QUEUEING
        try:
            while not job.woken.acquire(timeout=self._patience):
                late = time.monotonic() >= until
                if (late or self._failures != failures) and self._withdraw(job):
                    kind = StoreBusyError if late else StoreError
                    raise kind(f"{self._where}: the threads before this one did not get through")
        except KeyboardInterrupt:
            if not self._withdraw(job) and job.woken.acquire() and job.leads:
                self._pass_on(job)
            raise
        return job.leads

    def _withdraw(self, job: Job[W]) -> bool:
        with self._queue:
            waiting = job in self._waiting
            if waiting:
                self._waiting.remove(job)
        return waiting

    def _do_with_others(self, job: Job[W]) -> None:
        jobs = [job]
        with self._queue:
            while self._waiting and len(jobs) < AT_ONCE and self._waiting[0].kind == job.kind:
                jobs.append(self._waiting.popleft())
        try:
            self._work(jobs)
            for done in jobs:
                done.over = True
                self._failures += isinstance(done.error, StoreError) and not isinstance(done.error, StoreBusyError)
        finally:
            self._pass_on(job)
            for done in jobs[1:]:
                done.woken.release()

    def _pass_on(self, job: Job[W]) -> None:
        with self._queue:
            self._leading.discard(job.thread)
            self._free += 1
            if self._waiting:
                first = self._waiting.popleft()
                self._lead(first)
                first.woken.release()
