"""``costguard router``: learn from records when the cheap model will do, and see why a prompt goes where it goes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from langchain_costguard.cli import options
from langchain_costguard.cli.screen import show, table
from langchain_costguard.cli.skipped import tell_skipped
from langchain_costguard.cli.words import count
from langchain_costguard.observe.files import may_write
from langchain_costguard.routing.calibration import Point
from langchain_costguard.routing.choice import ChoiceRouter
from langchain_costguard.routing.classifier import ClassifierRouter
from langchain_costguard.routing.records import Record, read
from langchain_costguard.vocabulary.urls import reason

_SHARES = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)


@click.group()
def command() -> None:
    """Learn from records when a cheaper model will do, and see why a prompt goes where it goes."""


@command.command()
@click.argument("records", metavar="RECORDS")
@click.option("-o", "--output", metavar="FILE", default="router.json", show_default=True, help="the file to write")
@options.force
@click.option("--weak", metavar="MODEL", help="the model to save with (default: the cheaper of two)")
@click.option("--strong", metavar="MODEL", help="the model to measure against (default: the other)")
@click.option(
    "--target-quality",
    metavar="SHARE",
    help="of the strong or best model's quality (default: 0.95; 0.98 for more than two models)",
)
@click.option("--target-spend", metavar="SHARE", help="of the strong or best model's cost")
@click.option("--strict", is_flag=True, help="refuse a file with a bad line")
def train(
    records: str,
    output: str,
    force: bool,
    weak: str | None,
    strong: str | None,
    target_quality: str | None,
    target_spend: str | None,
    strict: bool,
) -> None:
    """Learn from your own records when the weak model will do.

    Writes a file for ClassifierRouter.load, or where the records have more than two models, for ChoiceRouter.load.

    A record is a line of JSON, {"prompt": ..., "quality": {"model": 0..1 or true, "other": ...}, "cost": {"model":
    dollars, ...}}, the cost optional; or a line for each answer, {"prompt": ..., "model": ..., "good": ...}, as a
    RunLog writes them. Bad lines are told and skipped.
    """
    if target_quality is not None and target_spend is not None:
        raise click.UsageError("--target-spend is not allowed with --target-quality", click.get_current_context())
    quality, spend = _share("target_quality", target_quality), _share("target_spend", target_spend)
    may_write("--output", output, '"costguard ', force=force)
    reading = read(records, strict=strict)
    tell_skipped(reading.skipped)
    if reading.unjudged:
        answers = count(reading.unjudged, "answer")
        print(f"costguard: left out {answers} of which nobody said whether good", file=sys.stderr)
    try:
        router = _learnt(reading.records, weak, strong)
    except ImportError as error:
        raise ValueError(str(error)) from None
    if spend is not None:
        router = router.calibrate(target_spend=spend)
    elif quality is not None:
        router = router.calibrate(target_quality=quality)
    try:
        router.save(output, force=True)
    except OSError as error:
        raise ValueError(f"{output}: {reason(error)}") from None
    show(*_told(router), f"\nWritten to {output}; {type(router).__name__}.load() reads it.")


@command.command()
@click.argument("router", metavar="FILE")
@click.argument("prompt", metavar="PROMPT")
def explain(router: str, prompt: str) -> None:
    """Show where a prompt goes, and why; FILE is as costguard router train writes it."""
    print(_loaded(router).explain(prompt))


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


def _told(router: ClassifierRouter | ChoiceRouter) -> list[Any]:
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
    return [f"{head}\nAlone they are good in: {good}.\n", table(header, rows, left=0), f"\n{foot}"]


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
