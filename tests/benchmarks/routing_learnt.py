"""How well the learnt routers choose, on real results of other people's models.

Five-fold cross-validation: every score is of a model that had not seen the prompt; plus or minus is the spread over
seeds. One configuration for all of it, that of the package. APGR is RouteLLM's: the share of the gap between weak and
strong model that is recovered, averaged over all shares of calls to the strong one; 0.5 is what chance recovers.
"""

from __future__ import annotations

import json
import os
import random
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage

from langchain_costguard.routing.choice import ChoiceRouter
from langchain_costguard.routing.classifier import ClassifierRouter
from langchain_costguard.routing.records import Record
from langchain_costguard.routing.route import RouteRequest
from langchain_costguard.routing.training import Table, crossfit, fit, worth

DATA = Path(os.environ.get("COSTGUARD_DATA", ""))
SEEDS = range(3)
SPLITS = 20
KNOWN = {
    "routing_routellm_gsm8k": (("length .592, n-gram ridge .642", ">= .62"), ("MiniLM .571", "no worse")),
    "routing_routellm_mmlu": (("length .594, n-gram ridge .653", ">= .66"), ("MiniLM kNN .621", "no worse")),
}
Aim = tuple[str, str, str, dict[str, float]]
BFCL: Sequence[Aim] = (
    ("quality and cost of the best's, calibrated to 25 % of the cost", "", ">= .98 at <= .25", {"target_spend": 0.25}),
    ("  calibrated to 98 % of the quality, at 95 % confidence", "", "", {"target_quality": 0.98}),
)
ARENA: Sequence[Aim] = (
    ("quality and cost of the best's, calibrated to 100 %", "", ">= 1 at <= 1", {"target_quality": 1.0}),
    ("  calibrated to 100 % of the cost", "", ">= 1 at <= 1", {"target_spend": 1.0}),
)

Row = dict[str, Any]
Cells = tuple[str, str, str, str, str]

PRICES = {
    # openai.com/api/pricing, August 2024
    "gpt-4o-2024-05-13": (5, 15),
    "gpt-4o-2024-08-06": (2.5, 10),
    "gpt-4o-mini-2024-07-18": (0.15, 0.6),
    "gpt-4-turbo-2024-04-09": (10, 30),
    "gpt-4-0125-preview": (10, 30),
    "gpt-4-1106-preview": (10, 30),
    "gpt-4-0613": (30, 60),
    "gpt-3.5-turbo-0125": (0.5, 1.5),
    # anthropic.com/pricing, August 2024
    "claude-3-5-sonnet-20240620": (3, 15),
    "claude-3-opus-20240229": (15, 75),
    "claude-3-sonnet-20240229": (3, 15),
    "claude-3-haiku-20240307": (0.25, 1.25),
    "claude-2.1": (8, 24),
    "claude-instant-1.2": (0.8, 2.4),
    # ai.google.dev/pricing on the day of the results, 11 August 2024: before the cut of Flash on the 12th
    "gemini-1.5-pro-preview-0514": (3.5, 10.5),
    "gemini-1.5-pro-preview-0409": (3.5, 10.5),
    "gemini-1.5-flash-preview-0514": (0.35, 1.05),
    "gemini-1.0-pro": (0.5, 1.5),
    # mistral.ai/technology/#pricing, August 2024
    "mistral-large-2407": (3, 9),
    "mistral-medium-2312": (2.7, 8.1),
    "mistral-small-2402": (1, 3),
    "mistral-tiny-2312": (0.25, 0.25),
    "open-mistral-nemo-2407": (0.3, 0.3),
    "open-mixtral-8x22b": (2, 6),
    "open-mixtral-8x7b": (0.7, 0.7),
    # cohere.com/pricing, August 2024, before the price of 30 August
    "command-r-plus": (3, 15),
}
"""Dollars for a million tokens in and out. The others of the leaderboard had no public list price, or none that is
sure (hosted by several, or by the hour): dbrx, arctic, nemotron, functionary, firefunction, gorilla, yi."""


def stored(name: str, part: str) -> list[Row]:
    import pyarrow.parquet as pq

    found: list[Row] = pq.read_table(DATA / name / f"{part}.parquet").to_pylist()
    return found


def is_there(name: str, part: str) -> bool:
    return bool(os.environ.get("COSTGUARD_DATA")) and (DATA / name / f"{part}.parquet").is_file()


def spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3f} +- {statistics.pstdev(values):.3f}"


# Two tiers --------------------------------------------------------------------------------------------------------


def pairs(name: str, part: str) -> tuple[list[Record], list[list[float]]]:
    """Records, and their embeddings where those are given."""
    found = stored(name, part)
    kept = [i for i, row in enumerate(found) if not row["contaminated"]]
    records = [
        Record(prompt=r["question"], quality={"weak": bool(r["weak_correct"]), "strong": bool(r["strong_correct"])})
        for r in (found[i] for i in kept)
    ]
    path = DATA / "embeddings" / f"{name}.{part}.question.f16.npy"
    if not path.is_file():
        return records, []
    import numpy as np

    return records, np.load(path).astype(float)[kept].tolist()


def apgr(scores: Sequence[float], gains: Sequence[float]) -> float:
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    area = got = 0.0
    for i in order:
        area += got + gains[i] / 2
        got += gains[i]
    return area / (len(gains) * got)


def outer(table: Table, gains: list[float], *, seed: int) -> tuple[list[float], int]:
    """Scores in outer folds, and in how many of them the embeddings were used: that is decided inside the others."""
    order = random.Random(seed).sample(range(len(gains)), len(gains))
    found, used = [0.0] * len(gains), 0
    for fold in range(5):
        tested = order[fold::5]
        known = sorted(set(order) - set(tested))
        chosen, _ = worth(table.take(known), [[gains[i] for i in known]], seed=seed)
        model = fit(chosen, [[gains[i] for i in known]])[0]
        used += bool(len(chosen.vectors))
        part = table.take(tested) if len(chosen.vectors) else Table([table.looks[i] for i in tested])
        for i, score in zip(tested, part.scores(model), strict=True):
            found[i] = score
    return found, used


def promise(records: Sequence[Record], target: float) -> list[tuple[float, float]]:
    """Quality and share of calls to the strong model on one half, trained and calibrated on the other."""
    kept = []
    for seed in range(SPLITS if len(records) < 2000 else 4):
        shuffled = list(records)
        random.Random(seed).shuffle(shuffled)
        half = len(records) // 2
        router = ClassifierRouter.train(shuffled[:half], weak="weak", strong="strong")
        router = router.calibrate(target_quality=target)
        other = shuffled[half:]
        dear = [router.score(record.prompt) >= router.threshold for record in other]
        got = sum(r.quality["strong" if d else "weak"] for r, d in zip(other, dear, strict=True))
        kept.append((got / sum(r.quality["strong"] for r in other), sum(dear) / len(other)))
    return kept


def two_tiers(name: str, part: str) -> Iterator[Cells]:
    records, vectors = pairs(name, part)
    gains = [record.quality["strong"] - record.quality["weak"] for record in records]
    short = f"{name.removeprefix('routing_')}, {len(records)}"
    known, with_vectors = KNOWN[name]
    lengths = apgr([len(record.prompt) for record in records], gains)
    yield short, "APGR of the prompt's length", "random .500", f"{lengths:.3f}", ""
    found = [apgr(crossfit(Table.of(records), [gains], seed=s)[0], gains) for s in SEEDS]
    yield short, "APGR, words alone", known[0], spread(found), known[1]
    if vectors:
        kept = [outer(Table.of(records, vectors), gains, seed=s) for s in (SEEDS if len(records) < 2000 else SEEDS[:1])]
        used = sum(folds for _, folds in kept)
        measure = f"APGR, MiniLM where it is found to be worth it: in {used} of {5 * len(kept)} folds"
        yield short, measure, with_vectors[0], spread([apgr(scores, gains) for scores, _ in kept]), with_vectors[1]
    kept = promise(records, 0.95)
    quality, strong = zip(*kept, strict=True)
    held = f">= .94: in {sum(q >= 0.94 for q in quality)} of {len(kept)}, least {min(quality):.3f}"
    yield short, "quality on one half, calibrated to .95 on the other", "", spread(quality), held
    yield short, "  calls to the strong model there", "", spread(strong), "<= .75" if "mmlu" in name else ""


# Any number of models ---------------------------------------------------------------------------------------------


def bfcl(part: str) -> tuple[list[Record], list[dict[str, float]]]:
    """Records, and each model's seconds."""
    found = stored("routing_bfcl_aug2024", part)
    names = [column.removeprefix("ok|") for column in found[0] if column.startswith("ok|")]
    prices = {name: PRICES[base] for name in names if (base := name.partition("-FC")[0]) in PRICES}
    records = []
    for row in found:
        tools = json.loads(row["functions_json"])
        records.append(
            Record(
                prompt=row["question"],
                quality={name: bool(row[f"ok|{name}"]) for name in prices},
                cost={
                    name: ((row[f"in|{name}"] or 0) * one + (row[f"out|{name}"] or 0) * two) / 1e6
                    for name, (one, two) in prices.items()
                },
                tools=tools if isinstance(tools, list) else [tools],
            )
        )
    return records, [{name: row[f"lat|{name}"] or 0.0 for name in prices} for row in found]


def arena(part: str) -> tuple[list[Record], list[dict[str, float]]]:
    found = stored("routing_routerarena_sub10", part)
    records = [
        Record(
            prompt=row["question"],
            quality={name: max(0.0, row[f"{name}_score"] or 0.0) for name in ("haiku", "gemini")},
            cost={name: float(row[f"{name}_cost"] or 0) for name in ("haiku", "gemini")},
        )
        for row in found
    ]
    return records, []


def many(short: str, loaded: tuple[list[Record], list[dict[str, float]]], aims: Sequence[Aim]) -> Iterator[Cells]:
    """What routers trained and calibrated on other folds come to."""
    records, seconds = loaded
    names = sorted(records[0].quality)
    cost = {n: sum(r.cost[n] for r in records) for n in names}
    best = max(names, key=lambda n: (sum(r.quality[n] for r in records), -cost[n]))

    def came_to(picks: Sequence[str]) -> tuple[float, ...]:
        quality = sum(r.quality[n] for r, n in zip(records, picks, strict=True)) / sum(r.quality[best] for r in records)
        spent = sum(r.cost[n] for r, n in zip(records, picks, strict=True)) / cost[best]
        return quality, spent, statistics.median(s[n] for s, n in zip(seconds, picks, strict=True)) if seconds else 0.0

    alone = sum(r.quality[best] for r in records) / len(records)
    late = f", {came_to([best] * len(records))[2]:.2f} s" if seconds else ""
    title = f"{short}, {len(records)}"
    yield title, f"best of {len(names)}: {best}", "", f"1.000 ({alone:.3f}) at 1.000{late}", ""
    found = list(zip(*(routed(records, seed, aims) for seed in SEEDS), strict=True))
    for (measure, known, aim, _), picks in zip(aims, found, strict=True):
        quality, spent, median = zip(*map(came_to, picks), strict=True)
        late = f", {statistics.mean(median):.2f} s" if seconds else ""
        yield title, measure, known, f"{spread(quality)} at {spread(spent)}{late}", aim


def routed(records: Sequence[Record], seed: int, aims: Sequence[Aim]) -> list[list[str]]:
    """By each target, the choice for each record of a router trained and calibrated on the other four fifths."""
    order = random.Random(seed).sample(range(len(records)), len(records))
    picks = [[""] * len(records) for _ in aims]
    for fold in range(5):
        tested = set(order[fold::5])
        made = ChoiceRouter.train([records[i] for i in order if i not in tested])
        for row, (_, _, _, target) in zip(picks, aims, strict=True):
            router = made.calibrate(**target)
            for i in tested:
                message = HumanMessage(records[i].prompt)
                row[i] = str(router(RouteRequest(messages=[message], tools=records[i].tools)).model)
    return picks


def rows(part: str) -> Iterator[Cells]:
    for name in KNOWN:
        if is_there(name, part):
            yield from two_tiers(name, part)
    if is_there("routing_bfcl_aug2024", part):
        yield from many("bfcl_aug2024", bfcl(part), BFCL)
    if is_there("routing_routerarena_sub10", part):
        yield from many("routerarena_sub10", arena(part), ARENA)
