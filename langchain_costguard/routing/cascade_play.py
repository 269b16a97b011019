"""Runs of which the outcome is known, and what each plan of a cascade would have made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from langchain_costguard.routing.agreement import Same, Votes
from langchain_costguard.routing.cascade import Agreement, Cascade

_THRESHOLDS = 100
_SHIFTS = 10
"""How often each run is played, every time beginning with another of its samples: one order alone is mostly luck."""


@dataclass(frozen=True, slots=True)
class Try:
    """One call that was made: what it answered, how good that was (0 to 1), what it cost, and its score, if it has one.

    Costs may be in any unit, the same for all.
    """

    answer: Any
    quality: float
    cost: float
    score: float | None = None


@dataclass(frozen=True, slots=True)
class LabelledRun:
    """One question: the cheap model's tries, by the variant of the prompt (``""`` where there is one), and the strong
    model's. Tries cost what they cost; of scored ones the cost includes the judge's."""

    cheap: Mapping[str, Sequence[Try]]
    strong: Try


class Plan(NamedTuple):
    """The variants taken in turn, how many samples, and how many must agree; ``least`` is the score needed instead."""

    mix: tuple[str, ...]
    samples: int = 1
    needed: int = 1
    least: float | None = None


class _Step(NamedTuple):
    """After so many samples: how many agree, how many do not, the quality of their answer, and what was spent."""

    votes: int
    lost: int
    quality: float
    spent: float
    score: float | None


_NO_STEP = _Step(0, 0, 0.0, 0.0, None)


class End(NamedTuple):
    """What came of one run: its quality, its cost, and how often it was escalated."""

    quality: float
    cost: float
    escalated: float


def plans_of(cascade: Cascade, runs: Sequence[LabelledRun], most: int) -> Iterator[tuple[tuple[str, ...], list[Plan]]]:
    """Every plan there is to choose from, by the variants it takes in turn; those of few samples first."""
    names = sorted({name for run in runs for name in run.cheap})
    if not isinstance(cascade.confidence, Agreement):
        tries = [tries[0] for run in runs for tries in run.cheap.values() if tries]
        scores = sorted({one.score for one in tries if one.score is not None})
        every = max(1, len(scores) // _THRESHOLDS)
        if scores:
            yield tuple(names[:1]), [Plan(tuple(names[:1]), least=least) for least in scores[::every]]
        return
    known = set(cascade.confidence.variants) or {""}
    names = [name for name in names if name in known]
    for size in range(max(1, min(2, len(names))), min(4, len(names)) + 1):
        for mix in combinations(names, size):
            counts = range(max(2, size), most + 1)
            plans = [Plan(mix, count, needed) for count in counts for needed in range(count // 2 + 1, count + 1)]
            if plans:
                yield mix, plans


def played(run: LabelledRun, mix: Sequence[str], samples: int, same: Same) -> list[list[_Step]]:
    """The run as it would go on without end, several times over. It breaks off where a variant was never tried."""
    return [list(_steps(run, mix, samples, same, shift)) for shift in range(_SHIFTS if samples > 1 else 1)]


def _steps(run: LabelledRun, mix: Sequence[str], samples: int, same: Same, shift: int) -> Iterator[_Step]:
    spent, tries, votes = 0.0, [], Votes(same)
    for taken in range(samples):
        given = run.cheap.get(mix[taken % len(mix)], ())
        if not given:
            return
        tries.append(given[(shift * len(given) // _SHIFTS + taken // len(mix)) % len(given)])
        votes.add(tries[-1].answer)
        spent += tries[-1].cost
        yield _Step(votes.most, taken + 1 - votes.most, tries[votes.first].quality, spent, tries[0].score)


def ended(plan: Plan, run: LabelledRun, shifts: Sequence[Sequence[_Step]]) -> End:
    """What the plan makes of a run, the mean of all the times it was played."""
    good = spent = led_on = 0.0
    for steps in shifts:
        trusted, last = _decided(plan, steps)
        spent += last.spent
        if trusted:
            good += last.quality
        else:
            led_on += 1
    share = led_on / len(shifts)
    quality = good / len(shifts) + share * run.strong.quality
    return End(quality, spent / len(shifts) + share * run.strong.cost, share)


def escalated_at_once(strong: Try) -> End:
    """What the strong model alone makes of a run."""
    return End(strong.quality, strong.cost, 1.0)


def _decided(plan: Plan, steps: Sequence[_Step]) -> tuple[bool, _Step]:
    """Whether the cheap model's answer is trusted, and the step at which that is decided."""
    step = _NO_STEP
    for step in steps[: plan.samples]:
        if plan.least is not None:
            return step.score is not None and step.score >= plan.least, step
        if step.votes >= plan.needed:
            return True, step
        if step.lost > plan.samples - plan.needed:
            break
    return False, step
