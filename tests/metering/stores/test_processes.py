"""Several processes on one budget."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from langchain_costguard.metering.stores import (
    Balance,
    Claim,
    Grant,
    MemoryStore,
    PostgresStore,
    RedisStore,
    SQLiteStore,
    Store,
)
from tests.metering.stores.conftest import PATIENT, emptied
from tests.servers import Server, postgres_program

PROCESSES = multiprocessing.get_context("forkserver")
NOW, UNTIL = 1_000_000.0, 1_000_060
CLAIMS = [Claim("all|usd", 10_000, 7, 1), Claim("all|calls", 600, 1), Claim("t", 60_000, 0, clock=True)]
UNITS = (3, 3)


@pytest.fixture(params=["sqlite", "redis", *(["postgres"] if postgres_program() else [])])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        sqlite = SQLiteStore(tmp_path / "budgets.db")
        yield sqlite
        sqlite.close()
    elif request.param == "postgres":
        kept = PostgresStore(request.getfixturevalue("postgres"), namespace=request.node.name, timeout=PATIENT)
        yield kept
        kept.close()
    else:
        server: Server = request.getfixturevalue("server")
        remote = RedisStore(emptied(server.url), timeout=PATIENT)
        yield remote
        remote.close()


def spend(store: Store, times: int) -> int:
    """Reserve 10 and settle 8, so often; how often that was granted."""
    admitted = 0
    for _ in range(times):
        if isinstance(store.reserve(CLAIMS, units=UNITS, until=UNTIL, now=NOW), Grant):
            admitted += 1
            store.settle(CLAIMS, [10, 1, 0], [8, 1, 0], until=UNTIL, now=NOW)
    return admitted


def work(store: Store, barrier: Barrier, threads: int, answer: Connection) -> None:
    counts: list[int] = []
    workers = [threading.Thread(target=lambda: counts.append(spend(store, 250 // threads))) for _ in range(threads)]
    barrier.wait()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    answer.send((sum(counts), len(counts)))


def spend_until_killed(store: Store, claims: list[Claim], answer: Connection) -> None:
    while True:
        store.reserve(claims, units=UNITS, until=UNTIL, now=NOW)
        answer.send(store.settle(claims, [10], [8], until=UNTIL, now=NOW))


def hold_and_hang(store: Store, claims: list[Claim], answer: Connection) -> None:
    answer.send(store.reserve(claims, units=UNITS, until=UNTIL, now=NOW))
    signal.pause()


def start(target: Any, *arguments: Any) -> tuple[Any, Connection]:
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=target, args=(*arguments, there), daemon=True)
    process.start()
    there.close()
    return process, here


@pytest.mark.parametrize("threads", [1, 50])
def test_four_processes_are_admitted_exactly_as_often_as_the_budget_allows(shared: Store, threads: int) -> None:
    barrier = PROCESSES.Barrier(4)
    running = [start(work, shared, barrier, threads) for _ in range(4)]
    answers = [answer.recv() for _, answer in running]
    for process, _ in running:
        process.join()
    # 1,000 ask; 600 calls are allowed, and every caller got through without an error.
    assert [finished for _, finished in answers] == [threads] * 4
    assert sum(admitted for admitted, _ in answers) == 600
    assert shared.read(["all|usd", "all|calls"], now=NOW) == [Balance(4_800, 0, 10_000), Balance(600, 0, 600)]


def test_the_hold_of_a_killed_worker_expires_and_all_of_the_budget_is_usable(shared: Store) -> None:
    claims = [Claim("all|usd", 100, 37, 1), Claim("all|calls", 2, 1)]
    process, answer = start(hold_and_hang, shared, claims)
    assert answer.recv() == Grant(3)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    rest = [Claim("all|usd", 100, 100), Claim("all|calls", 2, 2)]
    assert not isinstance(shared.reserve(rest, units=(0, 0), until=UNTIL + 60, now=UNTIL - 1), Grant)
    assert shared.reserve(rest, units=(0, 0), until=UNTIL + 60, now=UNTIL) == Grant(0)
    assert shared.settle(rest, [100, 2], [100, 2], until=UNTIL + 60, now=UNTIL) == [100, 2]


def test_a_worker_killed_in_the_middle_of_its_calls_breaks_nothing(shared: Store) -> None:
    claims = [Claim("all|usd", 10**9, 7, 1)]
    process, answer = start(spend_until_killed, shared, claims)
    told = [answer.recv() for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert told == [[8 * n] for n in range(1, 21)]
    (balance,) = shared.read(["all|usd"], now=UNTIL)
    assert balance.spent >= 160
    assert balance.spent % 8 == balance.held == 0
    # Its last settlement may have been on its way to the server, and arrive only now.
    rest = [Claim("all|usd", balance.spent + 100, 92)]
    assert shared.reserve(rest, units=(0, 0), until=UNTIL + 9, now=UNTIL) == Grant(0)


def test_a_memory_store_is_of_one_process_and_says_so() -> None:
    assert not MemoryStore.shared
    assert SQLiteStore.shared
    assert RedisStore.shared
