"""What is written behind the calls that caused it: settlements that wait for their store, logs, exports, alerts.

A `Writer` is a bounded queue and one thread, started by the first item and gone when it has been idle. At the end of
the process all the writers together have ``EXIT_SECONDS`` to bring what they have left; what is still there then is
handed to ``lost``, for whoever queued it to say so.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")

EXIT_SECONDS = 2.0
"""For all the writers of the process together, at its end."""
IDLE_SECONDS = 5.0
"""After which a thread with nothing to do ends; the next item starts another."""
PAUSES = (0.1, 30.0)
"""Seconds before a failed delivery is tried again: at first, and at the most; each pause is twice the one before."""
_HURRIED = 0.1
"""At most so long when the process is ending, or somebody waits in ``flush``."""
log = logging.getLogger("langchain_costguard")


class Writer(Generic[T]):
    """Brings items to ``deliver`` on a thread of its own, in the order in which they came: ``Writer(send, name="x")``.

    ``deliver`` gets up to ``batch`` items at a time. When it raises, the same items are brought again after a pause;
    what it has dealt with nevertheless it may remove from the list it was given. It should give up within
    ``seconds_left``. In a forked child the queue is empty: what was in it is the parent's to bring.

    Args:
        deliver: Called with a list of items, never at the same time as itself.
        name: Of the thread, and in the log.
        capacity: Items that may wait; one more is refused and counted in ``dropped``.
        batch: Items a delivery gets at the most.
        gather: Seconds to wait for more items before a delivery that is not full.
        lost: Called with what could not be brought before the end. Default: an error in the log.
        pauses: Seconds before the first repetition of a failed delivery, and at the most before a later one.
    """

    def __init__(
        self,
        deliver: Callable[[list[T]], object],
        *,
        name: str,
        capacity: int = 10_000,
        batch: int = 512,
        gather: float = 0.0,
        lost: Callable[[list[T]], object] | None = None,
        pauses: tuple[float, float] = PAUSES,
    ) -> None:
        self.name = name
        self.dropped = 0
        self._said = False
        self.failures = 0
        """Deliveries that failed one after another, up to now."""
        self._deliver = deliver
        self._capacity, self._batch, self._gather, self._pauses = capacity, batch, gather, pauses
        self._lost = lost or self._say_lost
        self._start_afresh()
        _writers.add(self)

    def put(self, item: T) -> bool:
        """Queue an item, without waiting for anything; false where the queue is full, or was closed.

        The first that finds it full is told of in the program's log.
        """
        with self._changed:
            if self._take(item):
                return True
            self.dropped += 1
            say = not self._closed and not self._said
            self._said = self._said or say
        if say:
            log.warning("%s: more is told than can be delivered, and some is lost (said once)", self.name)
        return False

    def wake(self, item: T) -> None:
        """Have ``deliver`` called soon, with an item that says no more than that: a full queue has enough of them."""
        with self._changed:
            self._take(item)

    def _take(self, item: T) -> bool:
        if self._closed or len(self._queue) >= self._capacity:
            return False
        self._queue.append(item)
        if self._thread is None:
            self._begin()
        elif self._gather <= 0 or len(self._queue) >= self._batch:
            self._changed.notify_all()
        return True

    def __len__(self) -> int:
        """Items that are not delivered, those under way included."""
        return len(self._queue)

    @property
    def seconds_left(self) -> float:
        """What a delivery has before somebody stops waiting for it; infinite in the middle of a process' life."""
        return max(0.0, self._until - time.monotonic())

    def flush(self, timeout: float = EXIT_SECONDS) -> bool:
        """Deliver now what is queued, and wait for it, ``timeout`` seconds at most; whether all of it was."""
        return self._wait_empty(time.monotonic() + timeout, closing=False)

    def close(self, timeout: float = EXIT_SECONDS) -> bool:
        """As ``flush``; then the rest is given up as ``lost``, and nothing is taken any more."""
        done = self._wait_empty(time.monotonic() + timeout, closing=True)
        self._give_up()
        return done

    # The thread

    def _start_afresh(self) -> None:
        self._changed = threading.Condition()  # of a reentrant lock: the garbage collector may settle inside it
        self._delivering = threading.Lock()
        self._queue: deque[T] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._hurried = 0
        self._until = float("inf")

    def _begin(self) -> None:
        _exit_with_multiprocessing()
        thread = threading.Thread(target=self._run, name=f"costguard-{self.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread to be had, or the interpreter is ending: `_wait_empty` delivers
            return
        self._thread = thread

    def _run(self) -> None:
        try:
            while self._wait_for_items():
                self._deliver_some()
        finally:
            with self._changed:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _wait_for_items(self) -> bool:
        """Wait for the next delivery's time; false when the thread is to end."""
        with self._changed:
            if not self._queue and not self._changed.wait_for(lambda: self._queue or self._closed, IDLE_SECONDS):
                self._thread = None
                return False
            if not self._queue:
                self._thread = None
                return False
            pause = self._gather if not self.failures else self._pause()
            if pause > 0:
                full = self._batch if not self.failures else sys.maxsize
                self._changed.wait_for(lambda: self._hurried or len(self._queue) >= full, pause)
            if self.failures and self._hurried:
                self._changed.wait(min(pause, _HURRIED))
            return True

    def _pause(self) -> float:
        return float(min(self._pauses[0] * 2 ** min(self.failures - 1, 20), self._pauses[1]))

    def _deliver_some(self) -> None:
        with self._delivering:
            self._deliver_first()

    def _deliver_first(self) -> None:
        with self._changed:
            items = list(islice(self._queue, self._batch))
        count = len(items)
        try:
            if items:
                self._deliver(items)
        except BaseException as error:
            self.failures += 1
            log.debug("%s: a delivery failed: %r", self.name, error)
            if not isinstance(error, Exception):
                raise
        else:
            items, self.failures = [], 0
        with self._changed:
            if len(items) < count:
                for _ in range(min(count, len(self._queue))):
                    self._queue.popleft()
                self._queue.extendleft(reversed(items))
            self._changed.notify_all()

    # The end

    def _hurry(self, until: float, *, closing: bool) -> None:
        with self._changed:
            self._hurried += 1
            self._closed = self._closed or closing
            self._until = min(self._until, until) if closing else self._until
            if self._queue and self._thread is None:
                self._begin()
            self._changed.notify_all()

    def _wait_empty(self, until: float, *, closing: bool) -> bool:
        self._hurry(until, closing=closing)
        try:
            while self._queue and time.monotonic() < until:
                with self._changed:
                    if self._thread is not None:
                        self._changed.wait_for(lambda: not self._queue, max(0.0, until - time.monotonic()))
                        continue
                self._deliver_some()
                if self.failures:
                    time.sleep(min(_HURRIED, max(0.0, until - time.monotonic())))
        finally:
            with self._changed:
                self._hurried -= 1
        return not self._queue

    def _give_up(self) -> None:
        with self._changed:
            items = list(self._queue)
            self._queue.clear()
        if items:
            try:
                self._lost(items)
            except Exception as error:
                log.warning("%s: %r", self.name, error)

    def _say_lost(self, items: list[T]) -> None:
        log.error("%s: %s not delivered", self.name, "1 item was" if len(items) == 1 else f"{len(items):,} items were")


_writers: WeakSet[Writer[Any]] = WeakSet()
_before_fork: list[Writer[Any]] = []
_exit_pid = 0


def close_all(timeout: float = EXIT_SECONDS) -> bool:
    """Close every writer of the process, all of them within ``timeout`` seconds; whether all was delivered."""
    until = time.monotonic() + timeout
    busy = [writer for writer in list(_writers) if len(writer)]
    for writer in busy:
        writer._hurry(until, closing=True)
    done = [writer.close(max(0.0, until - time.monotonic())) for writer in busy]
    return all(done)


def _exit_with_multiprocessing() -> None:
    """A child of multiprocessing leaves without what ``atexit`` has registered:
    https://github.com/python/cpython/issues/83856"""
    global _exit_pid
    if _exit_pid != os.getpid() and "multiprocessing.util" in sys.modules:
        _exit_pid = os.getpid()
        sys.modules["multiprocessing.util"].Finalize(None, close_all, exitpriority=0)


def _lock_before_fork() -> None:
    _before_fork[:] = sorted(_writers, key=id)
    for writer in _before_fork:
        writer._changed.acquire()


def _unlock_in_parent() -> None:
    while _before_fork:
        _before_fork.pop()._changed.release()


def _start_afresh_in_child() -> None:
    _before_fork.clear()
    for writer in list(_writers):
        writer._start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock_before_fork, after_in_parent=_unlock_in_parent, after_in_child=_start_afresh_in_child
    )
atexit.register(close_all)
