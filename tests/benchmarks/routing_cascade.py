"""What a cascade saves at the strong model's accuracy, on other people's runs: its plan chosen by ``calibrate``.

Short final answers and token counts of 16 to 24 samples of a weak model by four prompts, GPT-4 as the strong one (Yue
et al., ICLR 2024). On ``dev``: cross-validation, each question judged by a plan it had no part in. Any other part is
judged by the plan calibrated on all of ``dev``. Costs are output tokens at list prices of 2023, USD per million.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from langchain_costguard.routing.agreement import normal
from langchain_costguard.routing.cascade import Agreement, Cascade
from langchain_costguard.routing.cascade_runs import Calibration, LabelledRun, Try, calibrate, cross_validate, replay

SET = "routing_mot_cascade_derived"
DATA = Path(os.environ.get("COSTGUARD_DATA", ""))
PROMPTS = ("cot1", "cot2", "pot1", "pot2")
PRICES = {"gpt-4": 60.0, "gpt-3.5-turbo": 2.0, "llama-2-13b": 0.25}
"""OpenAI's prices of gpt-4 (8k) and gpt-3.5-turbo (0301, 0613), and what hosts such as Anyscale asked for
Llama-2-13b-chat."""
CASCADE = Cascade(tiers=["weak", "gpt-4"], confidence=Agreement(variants=PROMPTS))
TASKS = (("bigbench_date", "gpt-3.5-turbo"), ("bigbench_date", "llama-2-13b"), ("gsm8k_test", "llama-2-13b"))
STRONG = ("greedy_pot2", "greedy_pot1", "greedy_cot1", "greedy_cot2", "cot1")
FOLDS, SEEDS = 5, 10
AIMS = {"gpt-3.5-turbo": ">= 0 at <= 42", "llama-2-13b": ">= -1 at <= 105"}

Row = dict[str, Any]
Cells = tuple[str, str, str, str, str]


class Result(NamedTuple):
    """On questions that the plan was not chosen by; cost as a share of the strong model's."""

    accuracy: float
    strong: float
    cost: float


def stored(part: str) -> list[Row]:
    import pyarrow.parquet as pq

    return pq.read_table(DATA / SET / f"{part}.parquet").to_pylist()


def runs(part: Sequence[Row], task: str, weak: str, strong: str) -> list[LabelledRun]:
    found = []
    for row in part:
        if row["task"] == task and row["weak_model"].startswith(weak) and row[f"strong_{strong}_answers"]:
            dear = row[f"strong_{strong}_out_tok_cl100k"][0] * PRICES["gpt-4"]
            right = float(bool(row[f"strong_{strong}_first_correct"]))
            cheap = {prompt: tries(row, prompt, PRICES[weak]) for prompt in PROMPTS if row[f"weak_{prompt}_answers"]}
            found.append(LabelledRun(cheap, Try(None, right, dear)))
    return found


def tries(row: Row, prompt: str, price: float) -> list[Try]:
    """Answers that could not be parsed are left out of some lists, and their tokens are not: the mean stands in."""
    answers, tokens = row[f"weak_{prompt}_answers"], row[f"weak_{prompt}_out_tok_cl100k"]
    mean, gold = statistics.fmean(tokens), normal(row["gold"])
    lengths = tokens if len(tokens) == len(answers) else [mean] * len(answers)
    read = [None if text.strip() in ("", "None") else normal(text) for text in answers]
    return [Try(a, float(a == gold), n * price) for a, n in zip(read, lengths, strict=True)]


def judged(calibration: Calibration, test: Sequence[LabelledRun]) -> Result:
    quality, cost = replay(calibration.cascade, test)
    strong = statistics.fmean(run.strong.quality for run in test)
    return Result(quality, strong, cost / sum(run.strong.cost for run in test))


def crossed(known: Sequence[LabelledRun]) -> list[Result]:
    strong = statistics.fmean(run.strong.quality for run in known)
    dear = sum(run.strong.cost for run in known)
    found = [cross_validate(CASCADE, known, folds=FOLDS, seed=seed) for seed in range(SEEDS)]
    return [Result(quality, strong, cost / dear) for quality, cost in found]


def spread(values: Sequence[float], scale: float = 100, sign: str = "") -> str:
    low, mean, high = (f"{scale * v:{sign}.1f}" for v in (min(values), statistics.fmean(values), max(values)))
    return mean if low == high else f"{mean} ({low}..{high})"


def baseline(all_runs: Sequence[LabelledRun]) -> str:
    """One CoT and one PoT sample, escalated where they differ: no calibration."""
    quality = cost = 0.0
    for run in all_runs:
        pair = [run.cheap[prompt][0] for prompt in ("cot1", "pot1") if prompt in run.cheap]
        agree = len(pair) == 2 and pair[0].answer is not None and pair[0].answer == pair[1].answer
        quality += pair[0].quality if agree else run.strong.quality
        cost += sum(one.cost for one in pair) + (0 if agree else run.strong.cost)
    dear = sum(run.strong.cost for run in all_runs)
    gain = quality / len(all_runs) - statistics.fmean(run.strong.quality for run in all_runs)
    return f"two samples: {100 * gain:+.1f} at {100 * cost / dear:.0f}"


def plan(calibration: Calibration) -> str:
    if not calibration.pays:
        return "the strong model alone"
    confidence = calibration.cascade.confidence
    assert isinstance(confidence, Agreement)
    needed = confidence.needed(calibration.cascade.least)
    gain = calibration.gain
    bounds = f"{100 * gain.estimate:+.1f} ({100 * gain.low:+.1f}..{100 * gain.high:+.1f}) points"
    mix = "+".join(confidence.variants)
    return f"{needed} of {confidence.samples}, {mix}; {100 * calibration.cost:.0f} %, {bounds}"


def rows(part: str) -> Iterator[Cells]:
    if not (DATA / SET / f"{part}.parquet").is_file():
        return
    dev = stored("dev")
    other = dev if part == "dev" else stored(part)
    for task, weak in TASKS:
        means = []
        aim = AIMS[weak]
        for strong in STRONG:
            known, new = runs(dev, task, weak, strong), runs(other, task, weak, strong)
            calibration = calibrate(CASCADE, known)
            results = crossed(known) if part == "dev" else [judged(calibration, new)]
            gains, costs = [one.accuracy - one.strong for one in results], [one.cost for one in results]
            means.append((statistics.fmean(gains), statistics.fmean(costs)))
            measure = f"points over GPT-4's ({strong}, {100 * results[0].strong:.1f} %) at % of its cost"
            figures = f"{spread(gains, sign='+')} at {spread(costs)}"
            yield f"mot, {task}, {weak}", measure, baseline(new), figures, aim
            yield "", f"  plan of dev: {plan(calibration)}", "", "", ""
        gain, cost = (statistics.fmean(column) for column in zip(*means, strict=True))
        yield f"mot, {task}, {weak}", "the mean of these", "", f"{100 * gain:+.1f} at {100 * cost:.1f}", aim
