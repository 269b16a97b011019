"""How fast and how surely the nearest remembered prompt is found, by each index there is on this machine.

    COSTGUARD_DATA=path/to/data OMP_NUM_THREADS=1 python tests/benchmarks/bench_cache_index.py [count ...]

The vectors are those of real prompts (``embeddings/``, all-MiniLM-L6-v2, 384 numbers); where more are wanted than there
are (44,066 of the development parts), copies of them with noise are added. Asked for are other real prompts: the second
questions of each pair. ``X @ q`` is numpy's product of all vectors with the one asked for, measured in turns with the
others in the same run; recall is how often what it finds nearest is found first. Redis 8: ``COSTGUARD_TEST_REDIS8``;
Redis Search: ``COSTGUARD_TEST_REDIS_SEARCH_URL``.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from langchain_costguard.caching.entry import Entry, Wanted  # noqa: E402
from langchain_costguard.caching.index.base import VectorIndex  # noqa: E402
from langchain_costguard.caching.index.memory import MemoryIndex  # noqa: E402
from langchain_costguard.caching.index.redis_search import RedisSearchIndex  # noqa: E402
from langchain_costguard.caching.index.redis_sets import RedisVectorSetIndex  # noqa: E402
from langchain_costguard.caching.index.sqlite import SQLiteIndex  # noqa: E402
from langchain_costguard.observe.tables import table  # noqa: E402
from tests.caching.index_servers import NO_REDIS8, NO_SEARCH, SEARCH_URL, redis8  # noqa: E402

DATA = Path(os.environ.get("COSTGUARD_DATA", ""))
COUNTS = (1_000, 10_000, 100_000)
ASKED = 400
SIZE = 384
NOISE = 0.3
"""The length of the noise beside a vector of length 1: its copy is then at a cosine of .96."""
NEAR = 0.8
SLOW_MOST = 10_000
"""Above it, all but the memory are left out unless the count is given: adding so many takes them minutes."""
NOW = 1_000_000.0
ANSWER = Entry(reply='{"content":"yes"}', model="gpt-5-mini", feature="bench", created=NOW, expires=NOW + 86_400)

Array = Any
Search = Callable[[list[float]], tuple[str, float]]


def unit(rows: Array) -> Array:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def prompts() -> tuple[Array, Array]:
    """The vectors to remember and those to ask for."""
    files = sorted((DATA / "embeddings").glob("*.npy")) if os.environ.get("COSTGUARD_DATA") else []
    if not files:
        print(
            "COSTGUARD_DATA names no folder with embeddings: these are random vectors, about which recall says little"
        )
        middles = np.random.default_rng(0).normal(size=(5_000, SIZE))
        rows = np.repeat(middles, 8, axis=0) + np.random.default_rng(1).normal(size=(40_000, SIZE))
        return unit(rows[1::2]), unit(rows[::2])
    second = [file for file in files if "similar" in file.name or "text_b" in file.name]
    first = [file for file in files if file not in second]
    return tuple(unit(np.concatenate([np.load(file) for file in part]).astype(np.float32)) for part in (first, second))  # type: ignore[return-value]


def tiled(rows: Array, count: int) -> Array:
    """So many vectors: the given ones, then copies of them with noise."""
    chance = np.random.default_rng(count)
    if count <= len(rows):
        return rows[chance.permutation(len(rows))[:count]]
    copied = rows[chance.integers(0, len(rows), count - len(rows))]
    noise = chance.normal(0, NOISE / np.sqrt(rows.shape[1]), copied.shape)
    return np.concatenate([rows, unit(copied + noise)])[chance.permutation(count)]


def product(rows: Array) -> Search:
    def search(vector: list[float]) -> tuple[str, float]:
        scores = rows @ np.array(vector, np.float32)
        best = int(scores.argmax())
        return str(best), float(scores[best])

    return search


def lookup(index: VectorIndex) -> Search:
    def search(vector: list[float]) -> tuple[str, float]:
        near = index.search("a", vector, 2, now=NOW)[0]
        return near.id, near.score

    return search


def filled(index: VectorIndex, rows: Array) -> tuple[VectorIndex, float]:
    """The index with all of them, and the seconds that took for each."""
    start = time.perf_counter()
    for i, vector in enumerate(rows.tolist()):
        index.add(str(i), "a", vector, ANSWER, now=NOW)
    return index, (time.perf_counter() - start) / len(rows)


def indexes(count: int, folder: Path, stack: ExitStack, forced: bool) -> dict[str, VectorIndex]:
    made: dict[str, VectorIndex] = {"MemoryIndex": MemoryIndex(max_entries=count)}
    if count > SLOW_MOST and not forced:
        return made
    sqlite = SQLiteIndex(folder / f"{count}.db", max_entries=count, timeout=5)
    stack.callback(sqlite.close)
    made["SQLiteIndex"] = sqlite
    url = stack.enter_context(redis8())
    if url:
        for name, options in {"": {}, ", quantized": {"quantized": True}, ", exact": {"exact": True}}.items():
            prefix = f"bench-{os.getpid()}-{count}{name.replace(', ', '-')}"
            made[f"RedisVectorSetIndex{name}"] = RedisVectorSetIndex(url, prefix=prefix, timeout=5, **options)
    if SEARCH_URL:
        made["RedisSearchIndex"] = RedisSearchIndex(SEARCH_URL, prefix=f"bench-{os.getpid()}-{count}", timeout=5)
    return made


def measured(searches: dict[str, Search], queries: Array) -> tuple[dict[str, list[float]], dict[str, list[Any]]]:
    """Seconds and answers of each, taking turns, so that noise hits all alike and no cache stays warm."""
    times: dict[str, list[float]] = {name: [] for name in searches}
    found: dict[str, list[Any]] = {name: [] for name in searches}
    for search in searches.values():
        search(queries[0].tolist())
    for query in queries:
        vector = query.tolist()
        for name, search in searches.items():
            start = time.perf_counter()
            answer = search(vector)
            times[name].append(time.perf_counter() - start)
            found[name].append(answer)
    return times, found


def bench(count: int, known: Array, queries: Array, forced: bool) -> list[list[str]]:
    rows = tiled(known, count)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        made = {name: filled(index, rows) for name, index in indexes(count, Path(folder), stack, forced).items()}
        searches: dict[str, Search] = {"numpy X @ q": product(rows)}
        searches |= {name: lookup(index) for name, (index, _) in made.items()}
        times, found = measured(searches, queries)
        for index, _ in made.values():
            index.forget(Wanted())
    exact = found["numpy X @ q"]
    base = times["numpy X @ q"]
    body = []
    for name, taken in times.items():
        # Another vector that is as near is as good.
        right = [got[1] >= best[1] - 1e-5 or got[0] == best[0] for got, best in zip(found[name], exact, strict=True)]
        near = [ok for ok, best in zip(right, exact, strict=True) if best[1] >= NEAR]
        off = max(abs(got[1] - best[1]) for got, best in zip(found[name], exact, strict=True) if got[0] == best[0])
        quick, middle = statistics.quantiles(taken, n=10)[0], statistics.median(taken)
        ratios = [quick / statistics.quantiles(base, n=10)[0], middle / statistics.median(base)]
        body.append([f"{count:,}", name, f"{quick * 1e3:.2f}", f"{middle * 1e3:.2f}", *(f"{r:.3f}" for r in ratios)])
        body[-1] += [f"{sum(right) / len(right):.4f}", f"{sum(near) / len(near):.4f}" if near else "-", f"{off:.4f}"]
        body[-1].append(f"{made[name][1] * 1e6:.0f}" if name in made else "")
    return body


def main(counts: list[int]) -> None:
    known, queries = prompts()
    chosen = np.random.default_rng(7).permutation(len(queries))[:ASKED]
    body = [row for count in counts or COUNTS for row in bench(count, known, queries[chosen], bool(counts))]
    header = ["vectors", "", "p10 ms", "med ms", "p10 ratio", "med ratio", "recall@1", f"of cos >= {NEAR}", "score off"]
    print(table([*header, "add us"], body, left=2))
    print(f"\n{len(known):,} real vectors; above that, copies with noise. {ASKED} lookups. Ratios are to numpy X @ q.")
    print("Targets: at 100,000 a ratio of at most 0.15 and recall@1 of at least .99; at 1,000 at most 1 ms.")
    with redis8() as url:
        missing = [*([] if url else [NO_REDIS8]), *([] if SEARCH_URL else [NO_SEARCH])]
    print("\n".join(f"Not measured: {why}." for why in missing))


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
