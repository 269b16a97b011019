"""``costguard prices``: what models would be charged at, and where the prices are from."""

from __future__ import annotations

from datetime import UTC, datetime

import rich_click as click

from langchain_costguard.cli.screen import show, table
from langchain_costguard.metering.pricing.explaining import explain
from langchain_costguard.metering.pricing.prices import PriceBook

_UNIT = " per 1M tokens"


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--at", metavar="YYYY-MM-DD", help="the day to price for (default: today)")
def command(models: tuple[str, ...], at: str | None) -> None:
    """Show what models would be charged at, and where that is from: gpt-4o, anthropic:claude-sonnet-4-6, ..."""
    moment, book = _at(at), PriceBook()
    found = {name: dict(explain(book, name, moment)) for name in models}
    labels = list(dict.fromkeys(label for facts in found.values() for label in facts))
    rows = [[label, *(facts.get(label, "-").removesuffix(_UNIT) for facts in found.values())] for label in labels]
    show(
        table(["", *found], rows, left=len(found) + 1),
        "\nPrices are USD per million tokens, where no other unit is said.",
    )


def _at(day: str | None) -> float:
    if day is None:
        return datetime.now(UTC).timestamp()
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(hour=12, tzinfo=UTC).timestamp()
    except ValueError:
        raise ValueError(f"--at: {day!r} is no day; write it like 2026-01-31") from None
