"""How well a few utterances a route tell prompts apart, and tell what belongs to no route.

    COSTGUARD_DATA=path/to/data python tests/benchmarks/bench_routing_semantic.py [dev|heldout]

One configuration for all: ``SemanticRouter`` as it is by default, which sees no utterance out of scope. The utterances
are drawn anew ten times; of everything else, 3,000 prompts in scope and all out of scope are asked. Where a part says
which of its rows are for training, utterances come from these. The embeddings are given (all-MiniLM-L6-v2): a look-up
stands in for the embedding model.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

# One vector is no work for several threads: where the machine is busy, they wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402
from langchain_core.embeddings import Embeddings  # noqa: E402
from langchain_core.messages import HumanMessage  # noqa: E402

from langchain_costguard.budgets.headroom import Headroom, Room  # noqa: E402
from langchain_costguard.routing.budget import BudgetRouter  # noqa: E402
from langchain_costguard.routing.route import RouteRequest  # noqa: E402
from langchain_costguard.routing.semantic import Examples, SemanticRouter  # noqa: E402
from langchain_costguard.routing.static import StaticRouter  # noqa: E402
from langchain_costguard.scope import Scope  # noqa: E402

DATA = Path(os.environ.get("COSTGUARD_DATA", ""))
SEEDS = 10
MOST = 3_000
"""Prompts in scope asked after each draw; out of scope, all there are."""

OUTSIDE = "oos"

Figures = dict[str, float]


class Given(Embeddings):
    """Vectors that were computed before, by text."""

    def __init__(self, texts: Sequence[str], vectors: Any) -> None:
        self.vectors = dict(zip(texts, vectors, strict=True))

    def embed_documents(self, texts: list[str]) -> list[Any]:
        return [self.vectors[text] for text in texts]

    def embed_query(self, text: str) -> Any:
        return self.vectors[text]


class Rows:
    """One part of a data set: texts, their intents, their vectors, and which of them utterances are drawn from."""

    def __init__(self, name: str, part: str) -> None:
        import pyarrow.parquet as parquet

        columns = parquet.read_table(DATA / name / f"{part}.parquet").to_pydict()
        vectors = np.load(DATA / "embeddings" / f"{name}.{part}.text.f16.npy").astype(np.float32)
        self.texts, self.intents = columns["text"], np.array(columns["intent"])
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        split = np.array(columns.get("orig_split", [""] * len(self.texts)))
        self.draws = split == "train" if (split == "train").any() else np.ones(len(split), bool)
        self.routes = sorted(set(self.intents) - {OUTSIDE})

    def draw(self, seed: int, each: int) -> dict[str, list[int]]:
        """Rows of some utterances of each route."""
        draw = np.random.default_rng(seed)
        return {
            route: list(draw.choice(np.flatnonzero((self.intents == route) & self.draws), each, replace=False))
            for route in self.routes
        }


def measured(rows: Rows, seed: int, each: int) -> Figures:
    drawn = rows.draw(seed, each)
    given = Given([f"{i}" for i in range(len(rows.texts))], rows.vectors)
    routes = {r: Examples(model=f"of:{r}", utterances=[f"{i}" for i in chosen]) for r, chosen in drawn.items()}
    router = SemanticRouter(routes, embeddings=given, default="of:nothing")
    used = {i for chosen in drawn.values() for i in chosen}
    rest = np.array([i for i in range(len(rows.texts)) if i not in used])
    outside = rows.intents[rest] == OUTSIDE
    some = np.random.default_rng(seed).permutation(rest[~outside])[:MOST]
    asked = [*some, *rest[outside]]
    inside = np.array([rows.intents[i] != OUTSIDE for i in asked])
    right, kept = [], []
    for i in asked:
        route = router.choose(rows.vectors[i])
        right.append(route.model == f"of:{rows.intents[i]}")
        kept.append(route.model != router.default)
    right, kept = np.array(right), np.array(kept)
    nearest = centroids(rows, drawn, asked)
    return {
        "in scope, right": right[inside].mean(),
        "of them sent to the default": 1 - kept[inside].mean(),
        "out of scope, rejected": (1 - kept[~inside].mean()) if (~inside).any() else float("nan"),
        "centroid, no rejection": nearest[inside].mean(),
    }


def centroids(rows: Rows, drawn: dict[str, list[int]], asked: list[int]) -> Any:
    """The base rule: the nearest mean by cosine, nothing rejected."""
    means = np.stack([rows.vectors[chosen].mean(axis=0) for chosen in drawn.values()])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    names = np.array(list(drawn))
    return names[(rows.vectors[asked] @ means.T).argmax(axis=1)] == rows.intents[asked]


def line(rows: Rows, name: str, each: int) -> tuple[str, ...]:
    found = [measured(rows, seed, each) for seed in range(SEEDS)]
    cells = []
    for measure in found[0]:
        values = np.array([100 * figures[measure] for figures in found])
        told = f"{values.mean():.1f} +- {values.std(ddof=1):.1f} ({values.min():.1f}..{values.max():.1f})"
        cells.append("-" if np.isnan(values[0]) else told)
    return name, str(each), *cells


# Speed ------------------------------------------------------------------------------------------------------------


def micros(decide: Callable[[Any], Any], given: Any, times: int = 300) -> str:
    """Microseconds: the median and the slowest but one in a hundred."""
    decide(given)
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        decide(given)
        taken.append((time.perf_counter() - start) * 1e6)
    return f"{statistics.median(taken):7.1f} us, 99 of 100 under {sorted(taken)[int(times * 0.99) - 1]:.1f} us"


def filled(share: float) -> Headroom:
    return Headroom((Room("day", "usd", int(share * 1e9), 0, 10**9, 0, 0, "", 10**9),))


def speed() -> None:
    draw = np.random.default_rng(0)
    print("One decision")
    for size in (384, 1536, 3072):
        vectors = draw.normal(size=(1500, size)).astype(np.float32)
        given = Given([f"{i}" for i in range(1500)], vectors)
        routes = {f"r{r}": Examples(model="m", utterances=[f"{10 * r + i}" for i in range(10)]) for r in range(150)}
        start = time.perf_counter()
        router = SemanticRouter(routes, embeddings=given, default="m")
        fitted = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as folder:
            router.save(Path(folder, "index"))
            start = time.perf_counter()
            SemanticRouter.load(Path(folder, "index"), embeddings=given)
            loaded = 1000 * (time.perf_counter() - start)
            size_kb = Path(folder, "index").stat().st_size / 1000
        print(f"  semantic, 150 routes, a vector of {size:4}: {micros(router.choose, vectors[7])}"
              f"; fitted in {fitted:.2f} s, loaded in {loaded:.0f} ms from {size_kb:,.0f} KB")  # fmt: skip
    print("  (no embedding model is here: what it takes for one text comes on top, 7 ms with ONNX on two cores)")
    given = Given([f"{i}" for i in range(1500)], vectors)
    print(f"  the look-up that stands in for it here:     {micros(given.embed_query, '7')}")
    table = StaticRouter({f"step{i}": "openai:gpt-4o-mini" for i in range(100)}, default="openai:gpt-4o")
    budget = BudgetRouter({0.7: "openai:gpt-4o-mini", 0.9: "openai:gpt-4.1-nano"}, router=table)
    for length in (10, 10_000):
        asked = RouteRequest(
            messages=[HumanMessage("word " * 400)] * length,
            scope=Scope(step="step7"),
            headroom=lambda: filled(0.95),
        )
        print(f"  static, {length:6,} messages:                   {micros(table, asked)}")
        print(f"  budget around static, {length:6,} messages:     {micros(budget, asked)}")


def show(table: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def main() -> int:
    part = sys.argv[1] if len(sys.argv) > 1 else "dev"
    names = ("intent_clinc150", "intent_banking77")
    here = [n for n in names if (DATA / "embeddings" / f"{n}.{part}.text.f16.npy").is_file()]
    if not os.environ.get("COSTGUARD_DATA") or not here:
        print("The public data are not here: set COSTGUARD_DATA to their folder. No prompt was routed.\n")
    else:
        head = ("data set", "utterances", "in scope, right", "sent to the default", "out of scope, rejected",
                "centroid, no rejection")  # fmt: skip
        print(f"Percent ({part} part), mean +- spread (range) over {SEEDS} draws; no example out of scope was used\n")
        table = [head]
        for name in here:
            rows = Rows(name, part)
            table += [line(rows, name, each) for each in (5, 10, 20)]
        show(table)
        print("\nTarget for 10 utterances of intent_clinc150: >= 85 right, at >= 80 rejected\n")
    speed()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
