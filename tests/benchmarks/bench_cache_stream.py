"""The three layers of caching together, on a stream with repeats and paraphrases.

    COSTGUARD_DATA=path/to/data python tests/benchmarks/bench_cache_stream.py [dev|heldout] [requests]

Questions are those of Quora's labelled pairs: what was labelled a duplicate, directly or by way of others, is one
question in several wordings. Which question comes next follows Zipf's law, in which wording is chance, and when is as
in Azure's trace of conversations. Each request goes through a ``SteeredModel`` and a real client to a provider on
loopback, which keeps prompts as Anthropic does. The semantic cache is as it comes, or fitted to other clusters.

A hit is wrong where the remembered question is not labelled a duplicate of the one asked. Quora's labels are noisy:
several per cent of those that were labelled are disputed, and most pairs in the stream were never labelled at all.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_costguard import CostGuard
from langchain_costguard.caching import MemoryCache, PromptCache, SemanticCache
from langchain_costguard.events import Recalled
from langchain_costguard.observe.tables import table
from langchain_costguard.steering import SteeredModel, steer
from langchain_costguard.testing import FakeProvider, ManualClock, Recorder, Reply, Request
from langchain_costguard.testing.prefixes import PrefixCache

DATA = Path(os.environ.get("COSTGUARD_DATA", ""))
RUNS = ((0.8, None, 1), (1.0, None, 1), (0.8, 0.85, 1), (1.0, 0.85, 1), (1.0, 0.85, 2))
"""Zipf's exponent, the precision that the semantic cache is fitted to (None: it comes with a threshold of 0.92), and
how many wordings a question has at the least."""
INSTRUCTIONS = "You answer questions of a public forum, briefly and kindly. " * 120
Pair = tuple[str, str, bool, str]


class Given(Embeddings):
    """Vectors that were computed before, by text."""

    def __init__(self, vectors: dict[str, Any]) -> None:
        self.vectors = vectors

    def embed_documents(self, texts: list[str]) -> list[Any]:
        return [self.vectors[text] for text in texts]

    def embed_query(self, text: str) -> Any:
        return self.vectors[text]

    async def aembed_query(self, text: str) -> Any:
        return self.vectors[text]


def pairs(part: str) -> tuple[list[Pair], Given]:
    """The labelled pairs with their clusters, and the vectors of their texts."""
    import pyarrow.parquet as pq

    folder = DATA / "embeddings"
    rows = pq.read_table(folder / f"cache_qqp_pairs.{part}.sample.parquet").to_pylist()
    vectors: dict[str, Any] = {}
    for side in ("text_a", "text_b"):
        found = np.load(folder / f"cache_qqp_pairs.{part}.{side}.f16.npy").astype(np.float32)
        vectors |= {as_sent(row[side]): vector for row, vector in zip(rows, found, strict=True)}
    labelled = [
        (as_sent(row["text_a"]), as_sent(row["text_b"]), bool(row["label"]), row["cluster"])
        for row in rows
    ]  # fmt: skip
    return [pair for pair in labelled if pair[0] and pair[1]], Given(vectors)


def as_sent(text: str | None) -> str:
    """A text as it arrives at the provider and comes back: clients trim it, and send none that is empty."""
    return " ".join((text or "").split())


def questions(labelled: Sequence[Pair]) -> list[list[str]]:
    """Questions, each in all its wordings: the duplicates, and the duplicates of these."""
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        while parent.setdefault(text, text) != text:
            text = parent[text]
        return text

    for one, other, same, _ in labelled:
        first, second = root(one), root(other)
        if same:
            parent[first] = second
    groups: dict[str, list[str]] = {}
    for text in parent:
        groups.setdefault(root(text), []).append(text)
    return [sorted(group) for group in groups.values()]


def arrivals(part: str, most: int) -> list[float]:
    """Seconds from the first request to each."""
    import pyarrow.parquet as pq

    column = pq.read_table(DATA / "traffic_azure_llm_2023" / f"{part}.conv.parquet")["TIMESTAMP"].to_pylist()
    times = [np.datetime64(str(each)).astype("datetime64[ms]").astype(float) / 1_000 for each in column[:most]]
    return [each - times[0] for each in times]


def stream(groups: Sequence[Sequence[str]], count: int, zipf: float) -> list[str]:
    """What is asked, in order."""
    dice = random.Random(7)
    ranked = dice.sample(list(groups), len(groups))
    weights = list(accumulate(1 / rank**zipf for rank in range(1, len(ranked) + 1)))
    return [dice.choice(group) for group in dice.choices(ranked, cum_weights=weights, k=count)]


async def replay(
    asked: Sequence[str], times: Sequence[float], given: Given, fit: Any, labelled: Sequence[Pair]
) -> list[str]:
    """One row: what each layer did with the stream."""
    clock, recorder = ManualClock(), Recorder()
    groups = questions(labelled)
    group_of = {text: number for number, group in enumerate(groups) for text in group}
    apart = {frozenset(pair[:2]) for pair in labelled if not pair[2]}
    semantic = SemanticCache(given, deterministic=True)
    if fit is not None:
        semantic.use(fit)

    texts = list(group_of)
    places = {text: place for place, text in enumerate(texts)}

    def answer(request: Request) -> Reply:
        """Which question it was: a text would come back trimmed, or cut at ``max_tokens``."""
        return Reply(f"{places[as_sent(_last(request))]}")

    caching = PrefixCache(answer, clock=clock)
    with FakeProvider(caching) as provider:
        guard = CostGuard(clock=clock, sinks=[recorder])
        caches = [MemoryCache(deterministic=True), semantic]
        policies = steer(guard, cache=caches, prompt_cache=PromptCache(), loops=None)
        model = SteeredModel(provider.anthropic(max_tokens=64), policies)
        wrong: Counter[str] = Counter()
        for text, after in zip(asked, times, strict=True):
            clock.advance(max(0.0, after - (clock() - 1_735_689_600.0)))
            reply = await model.ainvoke([SystemMessage(INSTRUCTIONS), HumanMessage(text)])
            answered = texts[int(reply.text)]
            if group_of[answered] != group_of[text]:
                wrong["labelled" if frozenset((answered, text)) in apart else "unlabelled"] += 1
        hits = Counter(event.kind for event in recorder.events if isinstance(event, Recalled))
        served = provider.usage()
        cached = guard.report().total.cache_read
    every = hits["exact"] + hits["semantic"]
    return [
        f"{len(asked):,}",
        f"{100 * (1 - len({group_of[text] for text in asked}) / len(asked)):.1f} %",
        f"{100 * hits['exact'] / len(asked):.1f} %",
        f"{100 * hits['semantic'] / len(asked):.1f} %",
        f"{100 * every / len(asked):.1f} %",
        f"{100 * sum(wrong.values()) / every:.2f} %",
        f"{wrong['labelled']} + {wrong['unlabelled']}",
        f"{100 * cached / served.input_tokens:.0f} %",
    ]


def _last(request: Request) -> str:
    content = request.body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


def main() -> None:
    part = sys.argv[1] if len(sys.argv) > 1 else "dev"
    most = int(sys.argv[2]) if len(sys.argv) > 2 else 4_000
    if not (DATA / "embeddings" / f"cache_qqp_pairs.{part}.sample.parquet").exists():
        raise SystemExit("COSTGUARD_DATA names no folder with cache_qqp_pairs and its embeddings: nothing to measure")
    labelled, given = pairs(part)
    half = [pair for pair in labelled if int(pair[3][1:], 16) % 2]
    rest = [pair for pair in labelled if not int(pair[3][1:], 16) % 2]
    times = arrivals(part, most)
    body = []
    for zipf, precision, wordings in RUNS:
        fit = SemanticCache(given).fit([pair[:3] for pair in half], precision=precision) if precision else None
        groups = [group for group in questions(rest) if len(group) >= wordings]
        asked = stream(groups, len(times), zipf)
        row = asyncio.run(replay(asked, times, given, fit, rest))
        body.append([f"{zipf}", str(precision or "-"), f"{wordings}+", *row])
    header = [
        "Zipf",
        "fitted to",
        "wordings",
        "requests",
        "asked before",
        "exact",
        "semantic",
        "hits",
        "wrong",
        "labelled + not",
        "cached",
    ]
    print(table(header, body, left=0))
    print("Targets: hits >= 50 %, wrong <= 2 % of hits. Cached: of the misses' input tokens, by the provider.")


if __name__ == "__main__":
    main()
