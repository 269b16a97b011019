"""How well a few utterances a route tell prompts apart, and tell what belongs to no route.

One configuration for all: ``SemanticRouter`` as it is by default, which sees no utterance out of scope. The utterances
are drawn anew ten times; of everything else, 3,000 prompts in scope and all out of scope are asked. Where a part says
which of its rows are for training, utterances come from these. The embeddings are given (all-MiniLM-L6-v2): a look-up
stands in for the embedding model.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_costguard.routing.semantic import Examples, SemanticRouter

DATA = Path(os.environ.get("COSTGUARD_DATA", ""))
SEEDS = 10
MOST = 3_000
"""Prompts in scope asked after each draw; out of scope, all there are."""

OUTSIDE = "oos"

Figures = dict[str, float]
Cells = tuple[str, str, str, str, str]


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

    def first(self, each: int) -> dict[str, list[int]]:
        """Rows of the first utterances of each route, as somebody wrote them down: more alike than drawn ones."""
        return {route: np.flatnonzero((self.intents == route) & self.draws)[:each].tolist() for route in self.routes}

    def draw(self, seed: int, each: int) -> dict[str, list[int]]:
        """Rows of some utterances of each route."""
        draw = np.random.default_rng(seed)
        return {
            route: list(draw.choice(np.flatnonzero((self.intents == route) & self.draws), each, replace=False))
            for route in self.routes
        }


def measured(rows: Rows, seed: int, drawn: dict[str, list[int]]) -> Figures:
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


def rows(part: str) -> Iterator[Cells]:
    for name in ("intent_clinc150", "intent_banking77"):
        if not (DATA / "embeddings" / f"{name}.{part}.text.f16.npy").is_file():
            continue
        given = Rows(name, part)
        for each in (5, 10, 20):
            yield line(name, f"{each} drawn", [measured(given, seed, given.draw(seed, each)) for seed in range(SEEDS)])
        yield line(name, "the first 10", [measured(given, seed, given.first(10)) for seed in range(2)])


AIMS = {"10 drawn": ">= 88, >= 80", "the first 10": ">= 82, >= 80"}


def line(name: str, which: str, found: list[Figures]) -> Cells:
    told = {}
    for measure in found[0]:
        values = np.array([100 * figures[measure] for figures in found])
        told[measure] = f"{values.mean():.1f} +- {values.std(ddof=1):.1f}" if values[0] == values[0] else "-"
    right, _, rejected, nearest = told.values()
    measure = f"{which} utterances a route: % right in scope, out of scope rejected"
    aim = AIMS.get(which, "") if name == "intent_clinc150" else ""
    return name, measure, f"centroid, none rejected: {nearest}", f"{right}, {rejected}", aim
