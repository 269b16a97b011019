"""What a cascade saves at the strong model's accuracy, on other people's runs: its plan chosen by ``calibrate``.

    COSTGUARD_DATA=path/to/data python tests/benchmarks/bench_routing_cascade.py [dev|heldout]

Short final answers and token counts of 16 to 24 samples of a weak model by four prompts, GPT-4 as the strong one (Yue
et al., ICLR 2024). On ``dev``: cross-validation, each question judged by a plan it had no part in. Any other part is
judged by the plan calibrated on all of ``dev``. Costs are output tokens at list prices of 2023, USD per million.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from langchain_costguard.routing.agreement import normal  # noqa: E402
from langchain_costguard.routing.cascade import Agreement, Cascade  # noqa: E402
from langchain_costguard.routing.cascade_runs import Calibration, LabelledRun, Try, calibrate, cross_validate, replay  # noqa: E402

SET = "routing_mot_cascade_derived"
DATA = Path(os.environ.get("COSTGUARD_DATA", "")) / SET
PROMPTS = ("cot1", "cot2", "pot1", "pot2")
PRICES = {"gpt-4": 60.0, "gpt-3.5-turbo": 2.0, "llama-2-13b": 0.25}
"""OpenAI's prices of gpt-4 (8k) and gpt-3.5-turbo (0301, 0613), and what hosts such as Anyscale asked for
Llama-2-13b-chat."""
CASCADE = Cascade(tiers=["weak", "gpt-4"], confidence=Agreement(variants=PROMPTS))
TASKS = (("bigbench_date", "gpt-3.5-turbo"), ("bigbench_date", "llama-2-13b"), ("gsm8k_test", "llama-2-13b"))
STRONG = ("greedy_pot2", "greedy_pot1", "greedy_cot1", "greedy_cot2", "cot1")
FOLDS, SEEDS = 5, 10

Row = dict[str, Any]


class Result(NamedTuple):
    """On questions that the plan was not chosen by; cost as a share of the strong model's."""

    accuracy: float
    strong: float
    cost: float


def rows(part: str) -> list[Row]:
    import pyarrow.parquet as pq

    return pq.read_table(DATA / f"{part}.parquet").to_pylist()


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
    return f"{100 * quality / len(all_runs):.1f} at {100 * cost / dear:.0f} %"


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


def figures(part: str) -> list[tuple[str, ...]]:
    table = [
        ("task", "weak", "GPT-4 by", "runs", "GPT-4 %", "two samples", "cascade %", "points", "cost %", "plan of dev")
    ]
    dev = rows("dev")
    other = dev if part == "dev" else rows(part)
    for task, weak in TASKS:
        for strong in STRONG:
            known, new = runs(dev, task, weak, strong), runs(other, task, weak, strong)
            calibration = calibrate(CASCADE, known)
            results = crossed(known) if part == "dev" else [judged(calibration, new)]
            gains = [result.accuracy - result.strong for result in results]
            cells = (f"{len(new)}", f"{100 * results[0].strong:.1f}", baseline(new))
            shares = spread([r.accuracy for r in results]), spread(gains, sign="+"), spread([r.cost for r in results])
            table.append((task, weak, strong, *cells, *shares, plan(calibration)))
            print(f"{task} {weak} {strong}", file=sys.stderr)
    return table


def show(table: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def main() -> int:
    part = sys.argv[1] if len(sys.argv) > 1 else "dev"
    if not os.environ.get("COSTGUARD_DATA") or not (DATA / f"{part}.parquet").is_file():
        print("The public data are not here: set COSTGUARD_DATA to their folder. Nothing was measured.")
        return 0
    start = time.perf_counter()
    how = f"{FOLDS}-fold cross-validation, {SEEDS} times: mean (lowest..highest)" if part == "dev" else "plan of dev"
    print(f"Accuracy, and share of GPT-4's output cost ({part} part; {how}); USD per million: {PRICES}\n")
    show(figures(part))
    print("\nTargets: gpt-3.5-turbo at most 42 % at GPT-4's accuracy; llama-2-13b within 1 point, at most 105 %.")
    print(f"It took {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
