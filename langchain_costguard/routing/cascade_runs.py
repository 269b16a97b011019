"""A cascade's threshold, number of samples and choice of prompts, from runs of which the outcome is known."""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

from langchain_costguard.routing.cascade import Agreement, Cascade
from langchain_costguard.routing.cascade_play import (
    End,
    LabelledRun,
    Plan,
    Try,
    ended,
    escalated_at_once,
    plans_of,
    played,
)
from langchain_costguard.vocabulary.intervals import wilson

__all__ = ["Calibration", "Interval", "LabelledRun", "Try", "calibrate", "cross_validate", "replay"]

_NEAR = 0.1
"""Of plans that save as much as the cheapest but for this share of it, the surest is chosen: among more of them the
luckiest is. On bigbench_date (gpt-3.5 before GPT-4), in outer folds, 0.05, 0.1 and 0.175 cost 34, 36 and 42 % for
qualities that do not differ by a standard error."""


class Interval(NamedTuple):
    """An estimate, and what it lies between at the confidence it was calibrated at."""

    low: float
    estimate: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What came of it: ``cascade`` is ready to use; it has the strong tier alone where a cascade does not pay.

    ``gain`` is its quality less the target (less that of the strong model, question by question, where no target was
    given), and its interval at ``confidence`` (two-sided); ``cost`` is a share of the strong model's alone;
    ``escalated`` is the share of questions the strong model answers. All are of the labelled runs themselves, among
    which the best of many plans was chosen: on new questions expect a little less.
    """

    cascade: Cascade
    pays: bool
    gain: Interval
    quality: float
    target: float
    cost: float
    escalated: float
    runs: int
    confidence: float
    why: str


class _Outcome(NamedTuple):
    gain: Interval
    quality: float
    cost: float
    escalated: float


def calibrate(
    cascade: Cascade,
    runs: Sequence[LabelledRun],
    *,
    target: float | None = None,
    margin: float = 0.02,
    confidence: float = 0.8,
    most: int = 6,
) -> Calibration:
    """The cheapest plan whose quality is at the target or above, and surely no more than ``margin`` below it; of those
    that cost about as little, the surest.

    "Surely" is the lower end of an interval at ``confidence`` (Wilson's, for the share of questions won and lost
    against the strong model each; Newcombe's square-and-add for their difference). With few runs that end is far down,
    and nothing but the strong model passes: then more are needed, not another setting.

    Args:
        cascade: Of an ``Agreement`` the number of samples, the threshold, and the variants (two at least, where there
            are several) are chosen; of any other confidence the threshold, by the scores of the tries.
        runs: What happened; a few hundred. Of each variant as many tries as there should be choice of, or more.
        target: The quality wanted, 0 to 1. None: the strong model's own on these runs.
        margin: How far below the target the quality may be after all.
        confidence: Of the interval, two-sided.
        most: Samples at the most.

    Raises:
        ValueError: names the argument and the value.
    """
    _check(runs, target=target, margin=margin, confidence=confidence, most=most)
    table = _table(cascade, runs, most)
    plan, outcome = _chosen(table, runs, range(len(runs)), target, margin, confidence)
    aim = fmean(run.strong.quality for run in runs) if target is None else target
    return Calibration(
        cascade=_with(cascade, plan),
        pays=plan is not None,
        target=aim,
        runs=len(runs),
        confidence=confidence,
        why=_why(plan, outcome, len(runs), confidence),
        **outcome._asdict(),
    )


def cross_validate(
    cascade: Cascade,
    runs: Sequence[LabelledRun],
    *,
    folds: int = 5,
    seed: int = 0,
    target: float | None = None,
    margin: float = 0.02,
    confidence: float = 0.8,
    most: int = 6,
) -> tuple[float, float]:
    """The mean quality and the total cost where each run is made by a plan calibrated on others: what to expect.

    Args as in ``calibrate``; ``seed`` decides which run is in which of the ``folds``.

    Raises:
        ValueError: names the argument and the value.
    """
    _check(runs, target=target, margin=margin, confidence=confidence, most=most)
    if isinstance(folds, bool) or not isinstance(folds, int) or not 2 <= folds <= len(runs):
        raise ValueError(f"folds: {folds!r} must be a whole number from 2 to the number of runs")
    table = _table(cascade, runs, most)
    order = random.Random(seed).sample(range(len(runs)), len(runs))
    quality = cost = 0.0
    for fold in range(folds):
        test = order[fold::folds]
        held = set(test)
        plan, _ = _chosen(table, runs, [i for i in order if i not in held], target, margin, confidence)
        made = [escalated_at_once(run.strong) for run in runs] if plan is None else table[plan]
        quality += sum(made[i].quality for i in test)
        cost += sum(made[i].cost for i in test)
    return quality / len(runs), cost


def replay(cascade: Cascade, runs: Sequence[LabelledRun]) -> tuple[float, float]:
    """The mean quality and the total cost, had these runs been made by the cascade: to test it on runs of its own.

    Raises:
        ValueError: there is no run.
    """
    _check(runs)
    if len(cascade.tiers) == 1:
        return fmean(run.strong.quality for run in runs), sum(run.strong.cost for run in runs)
    how = cascade.confidence
    if isinstance(how, Agreement):
        plan = Plan(tuple(how.variants) or ("",), how.samples, how.needed(cascade.least))
    else:
        names = sorted({name for run in runs for name in run.cheap}) or [""]
        plan = Plan(tuple(names[:1]), least=cascade.least)
    same = how.same if isinstance(how, Agreement) else operator.eq
    ends = [ended(plan, run, played(run, plan.mix, plan.samples, same)) for run in runs]
    return fmean(end.quality for end in ends), sum(end.cost for end in ends)


def _table(cascade: Cascade, runs: Sequence[LabelledRun], most: int) -> dict[Plan, list[End]]:
    """What every plan makes of every run."""
    same = cascade.confidence.same if isinstance(cascade.confidence, Agreement) else operator.eq
    table: dict[Plan, list[End]] = {}
    for mix, plans in plans_of(cascade, runs, most):
        shown = [played(run, mix, plans[-1].samples, same) for run in runs]
        for plan in plans:
            table[plan] = [ended(plan, run, shifts) for run, shifts in zip(runs, shown, strict=True)]
    return table


def _chosen(
    table: Mapping[Plan, Sequence[End]],
    runs: Sequence[LabelledRun],
    which: Sequence[int],
    target: float | None,
    margin: float,
    confidence: float,
) -> tuple[Plan | None, _Outcome]:
    """The best plan by some of the runs; None for no cascade at all."""
    aims = [runs[i].strong.quality if target is None else target for i in which]
    dear = sum(runs[i].strong.cost for i in which) or 1.0

    def outcome(ends: Sequence[End]) -> _Outcome:
        quality = [ends[i].quality for i in which]
        escalated = fmean([ends[i].escalated for i in which])
        cost = sum(ends[i].cost for i in which) / dear
        return _Outcome(_interval(quality, aims, confidence), fmean(quality), cost, escalated)

    found = [(plan, outcome(ends)) for plan, ends in table.items()]
    found = [(plan, out) for plan, out in found if out.cost < 1 and out.gain.estimate >= 0 and out.gain.low >= -margin]
    if not found:
        return None, outcome([escalated_at_once(run.strong) for run in runs])
    least = min(out.cost for _, out in found)
    near = [(plan, out) for plan, out in found if out.cost <= least + _NEAR * (1 - least)]
    return max(near, key=lambda one: one[1].gain.low)


def _interval(quality: Sequence[float], aims: Sequence[float], confidence: float) -> Interval:
    """The mean of the differences, by the method of Newcombe: Statist. Med. 17 (1998) 873-890, without correlation."""
    more = [q - aim for q, aim in zip(quality, aims, strict=True)]
    count, up, down = len(more), sum(d for d in more if d > 0), -sum(d for d in more if d < 0)
    (won_low, won_high), (lost_low, lost_high) = wilson(up, count, confidence), wilson(down, count, confidence)
    won, lost = up / count, down / count
    low = won - lost - math.hypot(won - won_low, lost_high - lost)
    return Interval(low, won - lost, won - lost + math.hypot(won_high - won, lost - lost_low))


def _with(cascade: Cascade, plan: Plan | None) -> Cascade:
    if plan is None:
        return replace(cascade, tiers=cascade.tiers[-1:])
    if plan.least is not None or not isinstance(cascade.confidence, Agreement):
        return replace(cascade, threshold=plan.least)
    variants = plan.mix if cascade.confidence.variants else ()
    confidence = replace(cascade.confidence, samples=plan.samples, variants=variants)
    return replace(cascade, confidence=confidence, threshold=plan.needed / plan.samples)


def _why(plan: Plan | None, outcome: _Outcome, runs: int, confidence: float) -> str:
    at = f"by {runs} runs, at {confidence:.0%} confidence"
    if plan is None:
        return f"no cascade was both cheaper and surely good enough, {at}: the strong model is asked at once"
    what = f"score {plan.least:.3f}" if plan.least is not None else f"{plan.needed} of {plan.samples} samples alike"
    gain = f"{100 * outcome.gain.estimate:+.1f} points ({100 * outcome.gain.low:+.1f}..{100 * outcome.gain.high:+.1f})"
    return f"{what}: {outcome.cost:.0%} of the strong model's cost, {gain} against the target, {at}"


def _check(runs: Sequence[LabelledRun], *, most: int = 2, confidence: float = 0.5, **numbers: float | None) -> None:
    if not runs or not all(isinstance(run, LabelledRun) for run in runs):
        raise ValueError(f"runs: {str(runs)[:80]!r} must be a list of LabelledRun, one at least")
    for name, value in numbers.items():
        if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= 1):
            raise ValueError(f"{name}: {value!r} must be a number from 0 to 1")
    if not (isinstance(confidence, (int, float)) and 0 < confidence < 1):
        raise ValueError(f"confidence: {confidence!r} must be between 0 and 1")
    if isinstance(most, bool) or not isinstance(most, int) or not 2 <= most <= 40:
        raise ValueError(f"most: {most!r} must be a whole number from 2 to 40")
