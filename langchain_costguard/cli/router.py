"""``costguard router``: learn from records when the cheap model will do, and see why a prompt goes where it goes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from langchain_costguard.cli.skipped import tell_skipped
from langchain_costguard.cli.words import count
from langchain_costguard.observe.tables import table
from langchain_costguard.routing.calibration import Point
from langchain_costguard.routing.choice import ChoiceRouter
from langchain_costguard.routing.classifier import ClassifierRouter
from langchain_costguard.routing.records import Record, read

_SHARES = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)


def train(options: argparse.Namespace) -> int:
    """Train a router, write its file, and print what it learnt; returns the exit status."""
    quality, spend = (_share(name, getattr(options, name)) for name in ("target_quality", "target_spend"))
    reading = read(options.records, strict=options.strict)
    tell_skipped(reading.skipped)
    if reading.unjudged:
        answers = count(reading.unjudged, "answer")
        print(f"costguard: left out {answers} of which nobody said whether good", file=sys.stderr)
    try:
        router = _learnt(reading.records, options.weak, options.strong)
    except ImportError as error:
        raise ValueError(str(error)) from None
    if spend is not None:
        router = router.calibrate(target_spend=spend)
    elif quality is not None:
        router = router.calibrate(target_quality=quality)
    try:
        router.save(options.output)
    except OSError as error:
        raise ValueError(f"{options.output}: {error.strerror or error}") from None
    print(_told(router))
    print(f"\nWritten to {options.output}; {type(router).__name__}.load() reads it.")
    return 0


def explain(options: argparse.Namespace) -> int:
    """Print where a prompt goes, and the words that mattered; returns the exit status."""
    print(_loaded(options.router).explain(options.prompt))
    return 0


def _learnt(records: Sequence[Record], weak: str | None, strong: str | None) -> ClassifierRouter | ChoiceRouter:
    """A router of two models, or a choice among all where there are more and nobody named two."""
    common = set.intersection(*(set(record.quality) for record in records)) if records else set()
    if len(common) > 2 and weak is None and strong is None:
        return ChoiceRouter.train(records)
    return ClassifierRouter.train(records, weak=weak, strong=strong)


def _loaded(path: str) -> ClassifierRouter | ChoiceRouter:
    try:
        choice = "costguard choice" in json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        choice = False  # whatever it is, the other one says so
    return ChoiceRouter.load(path) if choice else ClassifierRouter.load(path)


def _told(router: ClassifierRouter | ChoiceRouter) -> str:
    facts, quality = router.facts, router.facts["quality"]
    learnt = f"Learnt from {count(facts['records'], 'record')}"
    if isinstance(router, ChoiceRouter):
        other, best = "cheaper", router.names[-1]
        worth = ", ".join(router.names[:-1]) or "none of them"
        head = f"{learnt} which of {len(quality)} models will do; {best} is the best. Cheaper and of use: {worth}."
    else:
        other, best = router.names
        head = f"{learnt} when {other} (weak) will do instead of {best} (strong)."
    good = ", ".join(f"{name} {share:.1%}" for name, share in sorted(quality.items(), key=lambda one: -one[1]))
    most = max(1.0, 1 / (quality[best] or 1.0))  # good in all of them
    rows = [_row(point, most, point == router.point) for point in _shown(router.points, router.point)]
    header = [f"to {best}", "threshold", "quality", "95 % interval", "cost", ""]
    free = "" if facts.get("costs known", True) else " No costs are on record: a call of the weak model counts as free."
    foot = (
        f"Quality and cost are shares of {best} alone, on records that the scores were not learnt from.{free}\n"
        f"Calibrated to the line marked: {router.point.strong:.1%} of such prompts go to {best}."
    )
    return "\n\n".join([f"{head}\nAlone they are good in: {good}.", table(header, rows, left=0), foot])


def _shown(points: Sequence[Point], marked: Point) -> list[Point]:
    near = {min(points, key=lambda point: abs(point.strong - share)) for share in _SHARES}
    return sorted(near | {marked}, key=lambda point: point.threshold)


def _row(point: Point, most: float, chosen: bool) -> list[str]:
    inside = -1 <= point.threshold <= 1
    low, high = (max(0.0, min(most, end)) for end in (point.low, point.high))
    return [
        f"{point.strong:.1%}",
        f"{point.threshold:+.3f}" if inside else "-",
        f"{point.quality:.1%}",
        f"{low:.1%} .. {high:.1%}",
        f"{point.spend:.1%}",
        "<-" if chosen else "",
    ]


def _share(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ValueError(f"--{name.replace('_', '-')}: {text!r} must be a share above 0, at most 1, such as 0.95")
    return share
