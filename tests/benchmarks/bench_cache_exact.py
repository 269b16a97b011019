"""What caches of exact answers cost: ``python tests/benchmarks/bench_cache_exact.py``. Starts its own server."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from langchain_core.caches import InMemoryCache
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration

sys.path.insert(0, str(Path(__file__).parents[2]))

from langchain_costguard.caching import Entry, MemoryCache, RedisCache, SQLiteCache
from langchain_costguard.observe.tables import table
from tests.servers import redis_server

BLOCKS = 40
NOW = time.time()
KEYS = [f"{number:064x}" for number in range(200)]
MODEL = '{"id": ["x"], "kwargs": {"model_name": "gpt-4o", "temperature": 0.0}, "lc": 1}---[(\'stop\', None)]'


def entry(size: int) -> Entry:
    return Entry(reply='{"content":"' + "x" * size + '"}', model="gpt-4o", created=NOW, expires=NOW + 86_400)


def timed(actions: dict[str, Callable[[str], Any]], calls: int) -> dict[str, float]:
    """Microseconds a call, the tenth percentile of blocks, the actions taking turns so that noise hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(BLOCKS):
        for name, action in actions.items():
            start = time.perf_counter()
            for number in range(calls):
                action(KEYS[number % len(KEYS)])
            times[name].append((time.perf_counter() - start) / calls * 1e6)
    return {name: sorted(each)[len(each) // 10] for name, each in times.items()}


def verbs(cache: Any) -> dict[str, Callable[[str], Any]]:
    small, large = entry(500), entry(20_000)
    for key in KEYS:
        cache.put(key, small, now=NOW)
        cache.put(f"large {key}", large, now=NOW)

    def claimed(key: str) -> None:
        cache.claim(key, "one", until=NOW + 30, now=NOW)
        cache.release(key, "one")

    return {
        "get, 0.5 KB": lambda key: cache.get(key, now=NOW),
        "get, 20 KB": lambda key: cache.get(f"large {key}", now=NOW),
        "get, a miss": lambda key: cache.get(f"none {key}", now=NOW),
        "put, 0.5 KB": lambda key: cache.put(key, small, now=NOW),
        "claim + release": claimed,
    }


def looked_up(cache: Any, prompt: str) -> Callable[[str], Any]:
    cache.update(prompt, MODEL, [ChatGeneration(message=AIMessage("four little words here"))])
    assert cache.lookup(prompt, MODEL)
    return lambda key: cache.lookup(prompt, MODEL)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, redis_server() as server:
        caches = {
            "memory": MemoryCache(),
            "sqlite": SQLiteCache(os.path.join(folder, "answers.db")),
            "redis": RedisCache(server.url, timeout=5.0),
        }
        client = redis.Redis.from_url(server.url)
        found = {
            name: timed(verbs(cache), 200 if name != "memory" else 2_000) for name, cache in caches.items()
        }  # fmt: skip
        ping = timed({"ping": lambda key: client.execute_command("PING")}, 200)["ping"]
        rows = [[verb, *(f"{found[name][verb]:.1f}" for name in caches)] for verb in found["memory"]]
        print(table(["µs a call", *caches], rows, left=1))
        print(f"\nA PING by redis-py's client: {ping:.1f} µs.\n")
        rows = []
        for label, size in (("0.1 KB prompt", 100), ("48 KB prompt", 48_000)):
            prompt = dumps([HumanMessage("x" * size)])
            told = timed({"core": looked_up(InMemoryCache(), prompt)}, 50)
            told |= {name: timed({name: looked_up(cache, prompt)}, 50)[name] for name, cache in caches.items()}
            rows.append([f"lookup, {label}", *(f"{told[name]:.1f}" for name in ("core", *caches))])
        print(table(["µs a hit of LangChain's face", "InMemoryCache", *caches], rows, left=1))
        print("\nLangChain itself writes prompt and model as text before it asks any cache; that is not in here.")
        caches["sqlite"].close()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
