"""Calibration: what a threshold costs and keeps, measured on records, and which threshold keeps a promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_costguard.vocabulary.intervals import half_width

ALWAYS, NEVER = -2.0, 2.0
"""Thresholds that every score reaches, and none: scores are differences of qualities, from -1 to 1."""

_POINTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What sending every prompt that scores ``threshold`` or more to the strong model came to on the records.

    ``strong`` is the share of prompts sent there. ``quality`` and ``spend`` are shares of what the strong model alone
    came to; ``low`` and ``high`` are the 95 % interval of the quality. Where costs are not known the weak model counts
    as free, so that ``spend`` is ``strong``.
    """

    threshold: float
    strong: float
    quality: float
    low: float
    high: float
    spend: float


def read_point(row: Sequence[float]) -> Point:
    """A point of a curve, from its row in a file."""
    threshold, strong, quality, low, high, spend = map(float, row)
    return Point(threshold=threshold, strong=strong, quality=quality, low=low, high=high, spend=spend)


def curve(
    scores: Sequence[float],
    weak: Sequence[float],
    strong: Sequence[float],
    costs: Sequence[tuple[float, float]] = (),
) -> tuple[Point, ...]:
    """The points of all thresholds, from always strong to never strong.

    ``weak`` and ``strong`` are the qualities of each record, ``costs`` its dollars with each.

    Raises:
        ValueError: the strong model was never any good, or never cost anything.
    """
    if not sum(strong):
        raise ValueError("quality: the strong model was good at nothing, so there is no quality to keep")
    costs = costs or [(0.0, 1.0)] * len(scores)
    if not sum(dear for _, dear in costs):
        raise ValueError("cost: the strong model cost nothing, so there is nothing to save")
    ordered = sorted(scores)
    at = {ordered[round(i * (len(ordered) - 1) / _POINTS)] for i in range(1, _POINTS + 1)}
    return tuple(_point(threshold, scores, weak, strong, costs) for threshold in [ALWAYS, *sorted(at), NEVER])


def _point(
    threshold: float,
    scores: Sequence[float],
    weak: Sequence[float],
    strong: Sequence[float],
    costs: Sequence[tuple[float, float]],
) -> Point:
    n, all_strong, all_cost = len(scores), sum(strong), sum(dear for _, dear in costs)
    dear = [score >= threshold for score in scores]
    got = [s if d else w for d, w, s in zip(dear, weak, strong, strict=True)]
    quality = sum(got) / all_strong
    # A ratio of two means of the same records: its error is that of what is left of one less its share of the other.
    variance = sum((g - quality * s) ** 2 for g, s in zip(got, strong, strict=True)) / n
    half = half_width(variance, n) * n / all_strong if not all(dear) else 0.0
    return Point(
        threshold=threshold,
        strong=sum(dear) / n,
        quality=quality,
        low=quality - half,
        high=quality + half,
        spend=sum(c[d] for d, c in zip(dear, costs, strict=True)) / all_cost,
    )


def chosen(points: Sequence[Point], *, target_quality: float | None = None, target_spend: float | None = None) -> Point:
    """The point that keeps a promise: the cheapest of that quality, or the best of that spend.

    A quality counts as kept where the lower end of its interval is. The thresholds are tried from always strong on
    until the first that fails, so that trying many does not make one pass by luck.

    Raises:
        ValueError: not exactly one target was given, or no threshold reaches it.
    """
    if (target_quality is None) == (target_spend is None):
        raise ValueError("target_quality, target_spend: give one of them")
    name, target = ("target_quality", target_quality) if target_spend is None else ("target_spend", target_spend)
    if isinstance(target, bool) or not isinstance(target, (int, float)) or not 0 < target <= 1:
        raise ValueError(f"{name}: {target!r} must be a share above 0, at most 1, of the strong model's")
    if target_spend is not None:
        within = [point for point in points if point.spend <= target]
        if not within:
            least = min(point.spend for point in points)
            raise ValueError(f"target_spend: {target!r} is below what the weak model alone costs, {least:.3f}")
        return max(within, key=lambda point: (point.quality, -point.spend))
    if points[-1].low >= target:
        return points[-1]
    kept = points[0]
    for point in points[1:]:
        if point.low < target:
            break
        kept = point
    return kept
