"""Many callers on one SQLite file: ``python tests/benchmarks/bench_contention.py``.

32 processes with 30 threads each: how many are refused, and the longest wait. And one event loop with 100 callers: how
many transactions a second it brings about, beside one caller who makes them one by one.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from langchain_costguard.metering.aside import Aside
from langchain_costguard.metering.stores import Claim, SQLiteStore, StoreError

PROCESSES, THREADS, CALLS = 32, 30, 6
CALLERS, EACH = 100, 20
NOW, UNTIL = 2_000_000_000.0, 2_000_000_060
CLAIMS = [Claim("all|usd", 10**12, 10, 1), Claim("all|calls", 10**9, 1)]


def reserve(store: SQLiteStore) -> None:
    store.reserve(CLAIMS, units=(3, 3), until=UNTIL, now=NOW)


def settle(store: SQLiteStore) -> None:
    store.settle(CLAIMS, [13, 1], [9, 1], until=UNTIL, now=NOW)


def caller(store: SQLiteStore, waits: list[float], refused: list[int]) -> None:
    for _ in range(CALLS):
        for verb in (reserve, settle):
            began = time.monotonic()
            try:
                verb(store)
            except StoreError:
                refused.append(1)
            waits.append(time.monotonic() - began)


def work(path: str, together: Any, said: Any) -> None:
    store, waits, refused = SQLiteStore(path), [], []  # type: ignore[var-annotated]
    threads = [threading.Thread(target=caller, args=(store, waits, refused)) for _ in range(THREADS)]
    together.wait()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said.put((max(waits), len(refused)))


def crowd(path: str) -> None:
    processes = multiprocessing.get_context("fork")
    together, said = processes.Barrier(PROCESSES + 1), processes.Queue()
    workers = [processes.Process(target=work, args=(path, together, said)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    together.wait()
    began = time.monotonic()
    heard = [said.get() for _ in workers]
    seconds, calls = time.monotonic() - began, PROCESSES * THREADS * CALLS
    refused = sum(count for _, count in heard)
    print(f"{PROCESSES} processes x {THREADS} callers, {calls:,} calls: {refused} refused, ", end="")
    print(f"longest wait {max(wait for wait, _ in heard):.2f} s, {calls / seconds:,.0f} calls/s")


async def on_a_loop(store: SQLiteStore) -> float:
    """Transactions a second."""
    aside = Aside(waits=True)

    async def one() -> None:
        for _ in range(EACH):
            await aside.run(reserve, store)
            await aside.run(settle, store)

    await asyncio.gather(*(one() for _ in range(CALLERS)))  # the threads are there
    began = time.monotonic()
    await asyncio.gather(*(one() for _ in range(CALLERS)))
    return 2 * EACH * CALLERS / (time.monotonic() - began)


def one_by_one(store: SQLiteStore) -> float:
    began = time.monotonic()
    for _ in range(500):
        reserve(store)
        settle(store)
    return 1000 / (time.monotonic() - began)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        crowd(os.path.join(folder, "crowd.db"))
        store = SQLiteStore(os.path.join(folder, "loop.db"))
        alone, loop = one_by_one(store), asyncio.run(on_a_loop(store))
        print(f"one event loop, {CALLERS} callers: {loop:,.0f} transactions/s; one by one: {alone:,.0f}")
        store.close()


if __name__ == "__main__":
    main()
