"""How much of the prompts workers have in their caches already, and how evenly they are used, by way of routing.

The requests of the Mooncake traces are sent to 8 simulated workers in the order and at the times they came, each of
which has a cache of its own (least recently used blocks of 512 tokens go first). The hit rate is the share of all
input tokens that were in the chosen worker's cache as the longest prefix, here as a share of that of one cache of all
that never forgets. The imbalance is the tokens sent to the worker that got most, by the mean; "computed" counts only
what was not cached. The held-out part begins with cold caches.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from langchain_costguard.routing.affinity import PrefixRouter

DATA = Path(os.environ.get("COSTGUARD_DATA", ""))
TRACES = ("conversation", "synthetic")
WORKERS = tuple(f"gpu-{i}" for i in range(8))
BLOCK = 512
UNLIMITED = 10**7
SMALL = 4_000
"""Blocks, 2 million tokens: the memory of one machine rather than of one card."""

Row = dict[str, Any]
Cells = tuple[str, str, str, str, str]
Chooser = Callable[[Row], str]


class Cache:
    """One worker's prefix cache."""

    def __init__(self, most: int) -> None:
        self.blocks: OrderedDict[int, None] = OrderedDict()
        self.most = most

    def serve(self, row: Row) -> int:
        """Tokens that were cached; the prompt is cached afterwards."""
        known = 0
        for block in row["hash_ids"]:
            if block not in self.blocks:
                break
            known += 1
        for block in reversed(row["hash_ids"]):
            self.blocks[block] = None
            self.blocks.move_to_end(block)
        while len(self.blocks) > self.most:
            self.blocks.popitem(last=False)
        return min(known * BLOCK, row["input_length"])


class Outcome(NamedTuple):
    hit: float
    sent: float
    computed: float
    placed: list[str]


def replay(rows: Sequence[Row], choose: Chooser, most: int) -> Outcome:
    caches = {worker: Cache(most) for worker in WORKERS}
    sent, computed = Counter[str](), Counter[str]()
    placed, hits = [], 0
    for row in rows:
        worker = choose(row)
        cached = caches[worker].serve(row)
        hits += cached
        sent[worker] += row["input_length"]
        computed[worker] += row["input_length"] - cached
        placed.append(worker)
    return Outcome(hits / sent.total(), uneven(sent), uneven(computed), placed)


def uneven(counts: Counter[str]) -> float:
    return max(counts.values()) * len(WORKERS) / counts.total()


def unlimited(rows: Sequence[Row]) -> float:
    """The hit rate of one cache of all requests that never forgets."""
    cache = Cache(UNLIMITED)
    return sum(map(cache.serve, rows)) / sum(row["input_length"] for row in rows)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def prefixed(most: int) -> tuple[PrefixRouter, Chooser]:
    clock = Clock()
    router = PrefixRouter({worker: f"at:{worker}" for worker in WORKERS}, worker_blocks=most, clock=clock)

    def choose(row: Row) -> str:
        clock.now = row["timestamp"] / 1000
        return router.place(row["hash_ids"], row["input_length"])

    return router, choose


def in_turn() -> Chooser:
    turn = iter(range(10**9))
    return lambda row: WORKERS[next(turn) % len(WORKERS)]


def least_sent() -> Chooser:
    sent = dict.fromkeys(WORKERS, 0)

    def choose(row: Row) -> str:
        worker = min(sent, key=sent.__getitem__)
        sent[worker] += row["input_length"]
        return worker

    return choose


def rows(part: str) -> Iterator[Cells]:
    for trace in TRACES:
        path = DATA / "traffic_mooncake" / f"{part}.{trace}.jsonl.gz"
        if not path.is_file():
            continue
        with gzip.open(path, "rt") as lines:
            asked = [json.loads(line) for line in lines]
        name, best = f"traffic_mooncake, {trace}", unlimited(asked)
        for most in (UNLIMITED, SMALL):
            size = "unlimited" if most == UNLIMITED else f"{most:,} blocks"
            choosers = {"in turn": in_turn(), "least tokens": least_sent(), "PrefixRouter": prefixed(most)[1]}
            for how, choose in choosers.items():
                found = replay(asked, choose, most)
                figures = f"{found.hit / best:.1%} at {found.sent:.2f} (computed tokens: {found.computed:.2f})"
                aim = ">= 90 % at <= 1.25" if how == "PrefixRouter" else ""
                yield (
                    name,
                    f"{how}, caches of {size}: of its hit rate, at imbalance",
                    f"one cache {best:.1%}",
                    figures,
                    aim,
                )
        for what, told in changes(asked):
            yield name, what, "", told, ""


def changes(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """What happens to the hit rate when workers come and go halfway: of the second half."""
    half = len(rows) // 2
    told = []
    for what in ("nothing changes", "one of 8 workers leaves", "one joins 7"):
        router, choose = prefixed(UNLIMITED)
        if what == "one joins 7":
            router.remove(WORKERS[-1])
        caches = {worker: Cache(UNLIMITED) for worker in WORKERS}
        hits = total = 0
        moved = Counter[str]()
        for i, row in enumerate(rows):
            if i == half and what == "one of 8 workers leaves":
                router.remove(WORKERS[0])
            if i == half and what == "one joins 7":
                router.add(WORKERS[-1], f"at:{WORKERS[-1]}")
            worker = choose(row)
            cached = caches[worker].serve(row)
            if i >= half:
                hits, total = hits + cached, total + row["input_length"]
                moved[worker] += row["input_length"]
        spread = max(moved.values()) * len(moved) / moved.total()
        told.append((f"{what}, second half: hit rate", f"{hits / total:.1%} at {spread:.2f}"))
    return told
