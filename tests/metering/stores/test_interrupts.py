"""Ctrl-C, or a worker's time limit (a signal's handler that raises): the store goes on, and counts everything once."""

from __future__ import annotations

import inspect
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from langchain_costguard import RedisStore, SQLiteStore
from langchain_costguard.metering.stores import Claim, StoreError, together
from langchain_costguard.metering.stores.failover import FailoverStore
from langchain_costguard.metering.stores.together import Job, Together
from langchain_costguard.stores import PostgresStore
from tests.servers import Server, postgres_program

WHERE = os.path.dirname(together.__file__)
CLAIM = Claim("all|usd", 10**12, 1)


class TimeLimit(Exception):
    """What Celery's soft limit is: no `BaseException`."""


class Interrupt:
    """Raises in this thread after the call of that number in files of these names, as signals' handlers do."""

    def __init__(self, number: int, error: type[BaseException], *names: str) -> None:
        self._left = number
        self._error = error
        self._names = names

    def __call__(self, frame: FrameType, event: str, called: Any) -> None:
        folder, name = os.path.split(frame.f_code.co_filename)
        generator = frame.f_code.co_flags & inspect.CO_GENERATOR  # the collector, which closes it, swallows errors
        within = folder == WHERE and name in self._names and not generator
        # Of a `with` statement itself only 3.14 tells, which has a bug there that no library can make good:
        # https://github.com/python/cpython/issues/148874
        entering = event == "c_return" and called.__name__ == "__enter__"
        if within and event in ("call", "c_return") and not entering:
            self._left -= 1
            if not self._left:
                sys.setprofile(None)
                raise self._error

    def __enter__(self) -> None:
        sys.setprofile(self)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, TimeLimit])
def test_whoever_waits_or_leads_may_be_interrupted_and_the_others_go_on(error: type[BaseException]) -> None:
    def work(jobs: list[Job[int]]) -> None:
        time.sleep(0.0005)
        for job in jobs:
            job.value = job.wanted

    queue, ended, done = Together(work, leaders=1, patience=5.0, where="here"), threading.Event(), [0, 0, 0]

    def other(number: int) -> None:
        while not ended.is_set():
            with suppress(StoreError):  # the thread that was at it was interrupted
                done[number] += queue.do(Job(1)) == 1

    threads = [threading.Thread(target=other, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 60):
            with suppress(error), Interrupt(number, error, "together.py"):
                for _ in range(6):
                    with suppress(StoreError):
                        queue.do(Job(1))
            before, until = list(done), time.monotonic() + 30
            while any(now == then for now, then in zip(done, before, strict=True)):
                assert time.monotonic() < until, f"interrupted after {number} calls, somebody waits for ever"
                time.sleep(0.001)
    finally:
        ended.set()
    for thread in threads:
        thread.join(5)
    assert queue.do(Job(2)) == 2


@pytest.fixture(params=["sqlite", "redis", *(["postgres"] if postgres_program() else [])])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made: dict[str, Callable[[], Any]] = {
        "sqlite": lambda: SQLiteStore(tmp_path / "b.db", timeout=2),
        "redis": lambda: RedisStore(_server(request).url, namespace=tmp_path.name, timeout=2),
        "postgres": lambda: PostgresStore(request.getfixturevalue("postgres"), namespace=tmp_path.name, timeout=2),
    }
    with closing(made[request.param]()) as found:
        yield found


def _server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue("server")
    return found


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeLimit])
def test_a_settlement_that_is_interrupted_is_counted_once_and_the_next_is_made(
    store: Any, error: type[BaseException]
) -> None:
    watched, now, settled = FailoverStore(store, "refuse", lambda why: None), time.time(), 0
    files = ("database.py", "sqlite.py", "redis.py", "wire.py", "postgres.py", "pool.py", "session.py", "together.py")
    for number in range(1, 150):
        with suppress(error), Interrupt(number, error, *files):
            watched.settle([CLAIM], [0], [1], until=int(now) + 600, now=now)
        settled += 1
        grant = store.reserve([CLAIM], units=(0, 0), until=int(now) + 600, now=now)
        assert grant.units == 0
    assert watched.close(5)
    assert store.read([CLAIM.account], now=now)[0].spent == settled
