"""How well the learnt routers choose, on real results of other people's models; and how fast.

    COSTGUARD_DATA=path/to/data python tests/benchmarks/bench_routing_classifier.py [dev|heldout]

Five-fold cross-validation: every score is of a model that had not seen the prompt; plus or minus is the spread over
seeds. One configuration for all of it, that of the package. APGR is RouteLLM's: the share of the gap between weak and
strong model that is recovered, averaged over all shares of calls to the strong one; 0.5 is what chance recovers.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from langchain_core.messages import HumanMessage  # noqa: E402

from langchain_costguard.routing.choice import MARGINS, SINGLE, ChoiceRouter, choose  # noqa: E402
from langchain_costguard.routing.classifier import ClassifierRouter  # noqa: E402
from langchain_costguard.routing.route import RouteRequest  # noqa: E402
from langchain_costguard.routing.training import Record, Table, crossfit  # noqa: E402

DATA = Path(os.environ.get("COSTGUARD_DATA", ""))
SEEDS = range(3)
SPLITS = 20

Row = dict[str, Any]

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


def rows(name: str, part: str) -> list[Row]:
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
    found = rows(name, part)
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


def two_tiers(name: str, part: str) -> list[tuple[str, ...]]:
    records, vectors = pairs(name, part)
    gains = [record.quality["strong"] - record.quality["weak"] for record in records]
    short = name.removeprefix("routing_")
    targets = {"routing_routellm_gsm8k": (".65", ""), "routing_routellm_mmlu": (".66", ".68")}[name]
    lengths = apgr([len(record.prompt) for record in records], gains)
    table = [(short, f"{len(records)}", "APGR, length of the prompt", f"{lengths:.3f}", "")]
    for title, given, target in (("APGR", [], targets[0]), ("APGR with MiniLM", vectors, targets[1])):
        if given or title == "APGR":
            found = [apgr(crossfit(Table.of(records, given), [gains], seed=s)[0], gains) for s in SEEDS]
            table.append((short, f"{len(records)}", title, spread(found), target and f">= {target}"))
    kept = promise(records, 0.95)
    quality = [q for q, _ in kept]
    held = sum(q >= 0.94 for q in quality)
    table.append((short, f"{len(records) // 2} each", "quality at target .95, other half, mean",
                  f"{spread(quality)}, least {min(quality):.3f}", f">= .94: {held} of {len(kept)}"))  # fmt: skip
    strong = [share for _, share in kept]
    table.append((short, f"{len(records) // 2} each", "calls to the strong model there", spread(strong), ""))
    return table


# Any number of models ---------------------------------------------------------------------------------------------


def bfcl(part: str) -> tuple[list[Record], list[dict[str, float]]]:
    """Records, and each model's seconds."""
    found = rows("routing_bfcl_aug2024", part)
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
    found = rows("routing_routerarena_sub10", part)
    records = [
        Record(
            prompt=row["question"],
            quality={name: max(0.0, row[f"{name}_score"] or 0.0) for name in ("haiku", "gemini")},
            cost={name: float(row[f"{name}_cost"] or 0) for name in ("haiku", "gemini")},
        )
        for row in found
    ]
    return records, []


def many(name: str, load: Callable[[str], Any], part: str, target: str, least: float) -> list[tuple[str, ...]]:
    """The frontier over margins by cross-validation, and what a calibration on other folds comes to."""
    records, seconds = load(part)
    names = sorted(records[0].quality)
    mean = {n: statistics.mean(r.cost[n] for r in records) for n in names}
    best = max(names, key=lambda n: (sum(r.quality[n] for r in records), -mean[n]))
    targets = [[record.quality[n] for record in records] for n in names]
    expected = [list(zip(*crossfit(Table.of(records), targets, seed=s), strict=True)) for s in SEEDS]
    prices = [mean[n] for n in names]

    def came_to(picks: Sequence[str]) -> tuple[float, float, float]:
        quality = sum(r.quality[n] for r, n in zip(records, picks, strict=True)) / sum(r.quality[best] for r in records)
        cost = sum(r.cost[n] for r, n in zip(records, picks, strict=True)) / sum(r.cost[best] for r in records)
        return quality, cost, statistics.median(s[n] for s, n in zip(seconds, picks, strict=True)) if seconds else 0.0

    short, size = name.removeprefix("routing_"), f"{len(records)}"
    single = came_to([best] * len(records))
    alone = sum(r.quality[best] for r in records) / len(records)
    table = [
        (
            short,
            size,
            f"best of {len(names)}: {best}",
            f"{alone:.3f}",
            "1.000 of cost" + (f", {single[2]:.2f} s" if seconds else ""),
        )
    ]
    frontier = []
    for margin in MARGINS:
        found = [came_to([names[choose(row, prices, margin)] for row in seed]) for seed in expected]
        frontier.append((margin, *map(statistics.mean, zip(*found, strict=True))))
    reach = [point for point in frontier if point[1] >= least]
    shown = {"cheapest margin that keeps it": min(reach, key=lambda p: p[2]) if reach else (SINGLE, *single)}
    within = [point for point in frontier if point[2] <= 0.25]
    if within and seconds:
        shown["best margin at a quarter of the cost"] = max(within, key=lambda p: p[1])
    for title, (margin, quality, cost, median) in shown.items():
        label = "no choice" if margin == SINGLE else f"margin {margin}"
        figures = f"{quality:.3f} of its quality at {cost:.3f} of its cost"
        table.append((short, size, f"{title} ({label})", figures + (f", {median:.2f} s" if seconds else ""), target))
    picks = calibrated(records, least)
    quality, cost, median = came_to(picks)
    figures = f"{quality:.3f} of its quality at {cost:.3f} of its cost" + (f", {median:.2f} s" if seconds else "")
    table.append((short, size, f"calibrated to {least} on the other folds", figures, target))
    return table


def calibrated(records: Sequence[Record], target: float) -> list[str]:
    """The choice for each record of a router trained and calibrated on the other four fifths."""
    order = list(range(len(records)))
    random.Random(0).shuffle(order)
    picks = [""] * len(records)
    for fold in range(5):
        tested = order[fold::5]
        router = ChoiceRouter.train([records[i] for i in order if i not in set(tested)], target_quality=target)
        for i in tested:
            message = HumanMessage(records[i].prompt)
            picks[i] = str(router(RouteRequest(messages=[message], tools=records[i].tools)).model)
    return picks


# Speed ------------------------------------------------------------------------------------------------------------


def speed() -> None:
    draw = random.Random(0)
    words = [f"word{i}" for i in range(3000)]
    records = [
        Record(prompt=" ".join(draw.sample(words, 80)), quality={"weak": draw.random(), "strong": draw.random()})
        for _ in range(400)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "router.json"
        ClassifierRouter.train(records, weak="weak", strong="strong").save(path)
        loads = []
        for _ in range(20):
            start = time.perf_counter()
            router = ClassifierRouter.load(path)
            loads.append(time.perf_counter() - start)
        print(f"Loading a classifier of {path.stat().st_size / 1024:.0f} KB: {statistics.median(loads) * 1e3:.1f} ms")
    for length in (10, 100, 1_000, 100_000):
        requests = [RouteRequest(messages=[HumanMessage(" ".join(draw.choices(words, k=length)))]) for _ in range(50)]
        times = []
        for request in requests * 4:
            start = time.perf_counter()
            router(request)
            times.append(time.perf_counter() - start)
        middle, worst = statistics.median(times) * 1e3, statistics.quantiles(times, n=20)[-1] * 1e3
        print(f"A decision on a prompt of {length:,} words: {middle:.3f} ms (19 of 20 within {worst:.3f} ms)")


def show(table: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)


def main() -> int:
    part = sys.argv[1] if len(sys.argv) > 1 else "dev"
    table: list[tuple[str, ...]] = []
    for name in ("routing_routellm_gsm8k", "routing_routellm_mmlu"):
        if is_there(name, part):
            table += two_tiers(name, part)
    if is_there("routing_bfcl_aug2024", part):
        table += many("routing_bfcl_aug2024", bfcl, part, ">= .98 at <= .25", 0.98)
    if is_there("routing_routerarena_sub10", part):
        table += many("routing_routerarena_sub10", arena, part, ">= 1 at <= 1", 1.0)
    if table:
        print(f"Learnt routers, {part} part\n")
        show([("data set", "prompts", "measure", "figure", "target"), *table])
        print()
    else:
        print("The public data are not here: set COSTGUARD_DATA to their folder. No router was measured.\n")
    speed()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
