"""What the stores cost: ``python tests/benchmarks/bench_stores.py``. Starts its own server."""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
from langchain_core.language_models import FakeListChatModel

sys.path.insert(0, str(Path(__file__).parents[2]))

from langchain_costguard import Budget, CostGuard
from langchain_costguard.metering.stores import Claim, MemoryStore, PostgresStore, RedisStore, SQLiteStore, Store
from tests.benchmarks import leasing
from tests.benchmarks.leasing import CALLS, PROCESSES
from tests.proxy import proxied
from tests.servers import Server, postgres_program, postgres_server, redis_server

BLOCKS = 60
NOW = 1_000_000.0


def claims(count: int) -> list[Claim]:
    return [Claim(f"session=s{i}|usd|2026-11-22", 10**15, 1_000, 10 if i < 2 else 0) for i in range(count)]


def pair(store: Store, count: int) -> Callable[[], None]:
    """One reservation of so many accounts and its settlement, at a time that moves on."""
    asked = claims(count)
    held = [claim.fixed + claim.per_unit * 500 for claim in asked]
    actual = [amount // 2 for amount in held]
    now = NOW

    def once() -> None:
        nonlocal now
        now += 0.01
        until = int(now) + 60
        store.reserve(asked, units=(1, 500), until=until, now=now)
        store.settle(asked, held, actual, until=until, now=now)

    return once


def measure(actions: dict[str, Callable[[], None]], calls: int) -> dict[str, list[float]]:
    """Microseconds a call, block by block, the actions taking turns so that noise hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(BLOCKS):
        for name, action in actions.items():
            start = time.perf_counter()
            for _ in range(calls):
                action()
            times[name].append((time.perf_counter() - start) / calls * 1e6)
    return times


def low(times: list[float]) -> float:
    return sorted(times)[len(times) // 10]


def show(times: dict[str, list[float]], base: str | None = None) -> None:
    for name, values in times.items():
        line = f"{name:52} {low(values):8.1f} {statistics.median(values):8.1f}"
        if base and name != base:
            ratios = low(values) / low(times[base]), statistics.median(values) / statistics.median(times[base])
            line += f"   {ratios[0]:5.2f} {ratios[1]:5.2f} of the bare pair"
        print(line)


def in_postgres(away: float) -> tuple[dict[str, list[float]], str]:
    """Beside two bare trips to the same server, so many seconds away; on a connection of its own."""
    import psycopg

    with postgres_server() as here, proxied(urlsplit(here).port or 0, away) as proxy:
        url = here.replace(f":{urlsplit(here).port}", f":{proxy.port}") if away else here
        store = PostgresStore(url, timeout=5)
        with psycopg.connect(url, autocommit=True) as connection:

            def bare() -> None:
                connection.execute("SELECT 1")
                connection.execute("SELECT 1")

            where = f"postgres{f' {away * 1e3:.0f} ms away' if away else ''}"
            base = f"{where}, two bare SELECT 1, psycopg"
            actions = {base: bare, f"{where}, 5 accounts": pair(store, 5), f"{where}, 1 account": pair(store, 1)}
            times = measure(actions, 4 if away else 20)
        store.close()
        return times, base


def in_invoke(server: Server, client: redis.Redis, script: str) -> None:
    """What a guarded ``invoke`` on Redis takes more than the same in memory, beside two bare trips."""
    model, budgets = FakeListChatModel(responses=["fine"]), [Budget(per="session", usd=10**6, model_calls=10**6)]

    def asking(store: Store) -> Callable[[], None]:
        guard = CostGuard(*budgets, store=store, aliases={"unknown": "openai:gpt-4o-mini"})
        config: Any = {"callbacks": [guard]}
        return lambda: model.invoke("hi", config) and None  # type: ignore[func-returns-value]

    far, leased = RedisStore(server.url, namespace="invoke"), RedisStore(server.url, namespace="leased", lease="2%")
    here = asking(MemoryStore())

    def with_trips() -> None:  # where the store's would be: a server that had time to fall asleep answers later
        client.evalsha(script, 0)
        here()
        client.evalsha(script, 0)

    actions = {"memory": here, "memory, and two bare EVALSHA": with_trips, "redis": asking(far)}
    times = measure(actions | {"redis, leased": asking(leased)}, 60)
    base = low(times["memory"])
    two = low(times["memory, and two bare EVALSHA"]) - base
    print(f"\n{'guarded invoke':52} {'p10 us':>8} {'more us':>8}")
    for name, values in times.items():
        more = low(values) - base
        print(f"{name:52} {low(values):8.1f} {more:8.1f}   {more / two:5.2f} of two bare EVALSHA")


def together(store: Store, threads: int, calls: int = 200) -> float:
    """Pairs a second, all threads on the same five accounts."""
    once = [pair(store, 5) for _ in range(threads)]
    workers = [threading.Thread(target=lambda f=f: [f() for _ in range(calls)]) for f in once]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return threads * calls / (time.perf_counter() - start)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, redis_server() as server:
        sqlite, remote = SQLiteStore(Path(folder) / "budgets.db"), RedisStore(server.url)
        client = redis.Redis.from_url(server.url)
        given = RedisStore(client)
        script = client.script_load("return 1")

        def bare() -> None:
            client.evalsha(script, 0)
            client.evalsha(script, 0)

        print(f"{'reserve + settle':52} {'p10 us':>8} {'med us':>8}")
        memory = {f"memory, {n} accounts": pair(MemoryStore(), n) for n in (5, 10)}
        show(measure(memory, 500))
        show(measure({"sqlite, 5 accounts": pair(sqlite, 5)}, 50))
        base = "redis, two bare EVALSHA (return 1), redis-py client"
        actions = {base: bare, "redis, 5 accounts, from a URL": pair(remote, 5)}
        actions |= {"redis, 5 accounts, from that client": pair(given, 5), "redis, 1 account": pair(remote, 1)}
        show(measure(actions, 100), base)
        if postgres_program():
            show(*in_postgres(0.0))
            show(*in_postgres(0.001))
        print(f"\n{'pairs a second, 5 accounts':52} {'1 thread':>8} {'8':>8} {'64':>8}")
        stores: dict[str, Store] = {"memory": MemoryStore(), "sqlite": sqlite, "redis": remote}
        for name, store in stores.items():
            print(f"{name:52}", *(f"{together(store, threads, 800 // threads):8.0f}" for threads in (1, 8, 64)))
        sqlite.close()
        in_invoke(server, client, script)
        print(f"\n{f'{PROCESSES} processes, one budget of {CALLS:,} calls':52} {'used':>8} {'trips':>8} {'calls/s':>8}")
        for lease in (None, "2%"):
            used, trips, rate = leasing.run(server, lease)
            name = f"redis, lease={lease!r}"
            print(f"{name:52} {used / CALLS:8.1%} {trips:8} {rate:8.0f}   {used / trips:.1f} calls a trip")


if __name__ == "__main__":
    main()
