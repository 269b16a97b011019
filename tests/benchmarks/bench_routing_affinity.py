"""How much of the prompts workers have in their caches already, and how evenly they are used, by way of routing.

    COSTGUARD_DATA=path/to/data python tests/benchmarks/bench_routing_affinity.py [dev|heldout]

The requests of the Mooncake traces are sent to 8 simulated workers in the order and at the times they came, each of
which has a cache of its own (least recently used blocks of 512 tokens go first). The hit rate is the share of all
input tokens that were in the chosen worker's cache as the longest prefix. The imbalance is the tokens sent to the
worker that got most, by the mean: over the whole trace, and in each minute (the median and the 95th percentile of
them; a minute is uneven with few large prompts whatever one does). "computed" counts only what was not cached.
The held-out part begins with cold caches.
"""

from __future__ import annotations

import gzip
import json
import os
import statistics
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from langchain_core.messages import AIMessage, HumanMessage  # noqa: E402

from langchain_costguard.routing.affinity import PrefixRouter  # noqa: E402
from langchain_costguard.routing.route import RouteRequest  # noqa: E402

DATA = Path(os.environ.get("COSTGUARD_DATA", ""))
TRACES = ("conversation", "synthetic")
WORKERS = tuple(f"gpu-{i}" for i in range(8))
BLOCK = 512
UNLIMITED = 10**7
SMALL = 4_000
"""Blocks, 2 million tokens: the memory of one machine rather than of one card."""

Row = dict[str, Any]
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
    minutes: tuple[float, float]
    computed: float
    placed: list[str]


def replay(rows: Sequence[Row], choose: Chooser, most: int) -> Outcome:
    caches = {worker: Cache(most) for worker in WORKERS}
    sent, computed, minutes = Counter[str](), Counter[str](), dict[int, Counter[str]]()
    placed, hits = [], 0
    for row in rows:
        worker = choose(row)
        cached = caches[worker].serve(row)
        hits += cached
        sent[worker] += row["input_length"]
        computed[worker] += row["input_length"] - cached
        minutes.setdefault(row["timestamp"] // 60_000, Counter())[worker] += row["input_length"]
        placed.append(worker)
    each = sorted(map(uneven, minutes.values()))
    apart = (statistics.median(each), each[int(0.95 * (len(each) - 1))])
    return Outcome(hits / sent.total(), uneven(sent), apart, uneven(computed), placed)


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


def prefixed(most: int, block: int = BLOCK) -> tuple[PrefixRouter, Chooser]:
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


def quality(part: str) -> None:
    table = [("trace", "cache", "routing", "hit rate", "of one unlimited", "imbalance: all", "minutes 50 % / 95 %",
              "computed")]  # fmt: skip
    for trace in TRACES:
        with gzip.open(DATA / "traffic_mooncake" / f"{part}.{trace}.jsonl.gz", "rt") as lines:
            rows = [json.loads(line) for line in lines]
        best = unlimited(rows)
        for most in (UNLIMITED, SMALL):
            size = "unlimited" if most == UNLIMITED else f"{most:,} blocks"
            choosers = {"in turn": in_turn(), "least tokens": least_sent(), "PrefixRouter": prefixed(most)[1]}
            for name, choose in choosers.items():
                found = replay(rows, choose, most)
                cells = (f"{found.hit:.1%}", f"{found.hit / best:.1%}", f"{found.sent:.3f}",
                         f"{found.minutes[0]:.2f} / {found.minutes[1]:.2f}", f"{found.computed:.3f}")  # fmt: skip
                table.append((trace, size, name, *cells))
        table.append((trace, "unlimited", "(one cache)", f"{best:.1%}", "", "", "", ""))
        for what, lost in changes(rows):
            print(f"{trace}: {what}, {lost}")
    print("\nTarget: >= 90 % of the unlimited cache's rate, at an imbalance of at most 1.25\n")
    show(table)
    print()


def changes(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """What happens to the hit rate when workers come and go halfway, against that of the same half undisturbed."""
    half = len(rows) // 2
    told = []
    rates = {}
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
        rates[what] = hits / total
        spread = max(moved.values()) * len(moved) / moved.total()
        told.append((what, f"the second half's hit rate is {rates[what]:.1%}, its imbalance {spread:.2f}"))
    return told


def micros(router: PrefixRouter, length: int) -> str:
    """Microseconds of one decision for a conversation of so many characters that goes on turn by turn."""
    text = "The quick brown fox jumps over the lazy dog. " * 40
    messages: list[Any] = [HumanMessage(text) for _ in range(max(1, length // len(text)))]
    taken = []
    for turn in range(100):
        messages += [AIMessage(f"Answer {turn}."), HumanMessage(f"Question {turn}?")]
        asked = RouteRequest(messages=messages)
        start = time.perf_counter()
        router(asked)
        taken.append((time.perf_counter() - start) * 1e6)
    return f"{statistics.median(taken):8.0f} us (99 of 100 under {sorted(taken)[98]:.0f} us)"


def show(table: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def main() -> int:
    part = sys.argv[1] if len(sys.argv) > 1 else "dev"
    if os.environ.get("COSTGUARD_DATA") and (DATA / "traffic_mooncake" / f"{part}.{TRACES[0]}.jsonl.gz").is_file():
        quality(part)
    else:
        print("The public data are not here: set COSTGUARD_DATA to their folder. No request was routed.\n")
    router = PrefixRouter({worker: f"at:{worker}" for worker in WORKERS})
    print("One decision among 8 workers, the prompt's hashing included")
    for length in (2_000, 40_000, 500_000):
        print(f"  {length:8,} characters: {micros(router, length)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
