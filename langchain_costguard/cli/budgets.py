"""``costguard budgets``: what budgets could be."""

from __future__ import annotations

import rich_click as click

from langchain_costguard.cli import logs
from langchain_costguard.observe.suggest import MARGIN, suggest, to_toml


@click.group()
def command() -> None:
    """Suggest budgets from what was really spent."""


@command.command(name="suggest")
@logs.place
@logs.period
@logs.filters
@click.option("--margin", metavar="SHARE", default=str(MARGIN), help=f"added to the 99th percentile ({MARGIN})")
def suggest_(
    log: str | None, since: str | None, until: str | None, tz: str, margin: str, **given: tuple[str, ...]
) -> None:
    """Print a file of budgets, one for each agent and feature, from what a session of it spent."""
    try:
        share = float(margin)
    except ValueError:
        raise ValueError(f"--margin: {margin!r} must be a share such as 0.25") from None
    spend = logs.spend_of(log, since, until, tz, given)
    found = logs.asking(lambda: suggest(spend, margin=share))
    if not found:
        raise ValueError("no session of a named agent or feature has spent anything in this time")
    print(to_toml(found, margin=share, of=f" since {since}" if since else ""), end="")
