"""``costguard router``: learn from records when the cheap model will do, and see why a prompt goes where it goes."""

from __future__ import annotations

import argparse
import sys

from langchain_costguard.cli.words import count
from langchain_costguard.observe.tables import table
from langchain_costguard.routing.calibration import Point
from langchain_costguard.routing.classifier import ClassifierRouter
from langchain_costguard.routing.training import read

_SHARES = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)
_HEADER = ["to strong", "threshold", "quality", "95 % interval", "cost", ""]


def train(options: argparse.Namespace) -> int:
    """Train a router, write its file, and print what it learnt; returns the exit status."""
    quality, spend = (_share(name, getattr(options, name)) for name in ("target_quality", "target_spend"))
    reading = read(options.records, strict=options.strict)
    for line in reading.skipped[:10]:
        print(f"costguard: skipped {line}", file=sys.stderr)
    if len(reading.skipped) > 10:
        print(f"costguard: skipped {len(reading.skipped) - 10} more", file=sys.stderr)
    try:
        router = ClassifierRouter.train(reading.records, weak=options.weak, strong=options.strong)
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
    print(f"\nWritten to {options.output}.")
    return 0


def explain(options: argparse.Namespace) -> int:
    """Print where a prompt goes, and the words that mattered; returns the exit status."""
    print(ClassifierRouter.load(options.router).explain(options.prompt))
    return 0


def _told(router: ClassifierRouter) -> str:
    weak, strong = router.names
    facts = router.facts
    head = f"Learnt from {count(facts['records'], 'record')} when {weak} (weak) will do instead of {strong} (strong)."
    means = (
        f"Alone, {weak} is good in {facts['quality'][weak]:.1%} of them, {strong} in {facts['quality'][strong]:.1%}."
    )
    rows = [_row(point, point == router.point) for point in _shown(router)]
    cost = "" if facts["costs known"] else " No costs are on record: a call of the weak model counts as free."
    foot = (
        "Quality and cost are shares of the strong model alone, on records that the scores were not learnt from."
        f"{cost}\nCalibrated to the line marked: {router.point.strong:.1%} of such prompts go to {strong}."
    )
    return "\n\n".join([f"{head}\n{means}", table(_HEADER, rows, left=0), foot])


def _shown(router: ClassifierRouter) -> list[Point]:
    near = {min(router.points, key=lambda point: abs(point.strong - share)) for share in _SHARES}
    return sorted(near | {router.point}, key=lambda point: point.threshold)


def _row(point: Point, chosen: bool) -> list[str]:
    inside = -1 <= point.threshold <= 1
    return [
        f"{point.strong:.1%}",
        f"{point.threshold:+.3f}" if inside else "-",
        f"{point.quality:.1%}",
        f"{point.low:.1%} .. {point.high:.1%}",
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
