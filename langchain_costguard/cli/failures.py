"""``costguard failures``: what failed and was refused, put together by cause."""

from __future__ import annotations

import rich_click as click

from langchain_costguard.cli import logs
from langchain_costguard.cli.screen import show, table
from langchain_costguard.observe.causes import causes
from langchain_costguard.vocabulary.money import show_all


@click.command()
@logs.place
@logs.period
@logs.filters
def command(log: str | None, since: str | None, until: str | None, tz: str, **given: tuple[str, ...]) -> None:
    """What failed and was refused, like with like, by root cause; the most frequent first."""
    spend = logs.spend_of(log, since, until, tz, given)
    found = logs.asking(lambda: causes(spend))
    if not found:
        print("Nothing failed, and nothing was refused.")
        return
    money = show_all([cause.spent for cause in found])
    rows = [
        [cause.what, cause.where, cause.why, f"{cause.times:,}", text] for cause, text in zip(found, money, strict=True)
    ]
    show(table(["what", "where", "cause", "times", "cost"], rows, left=3))
