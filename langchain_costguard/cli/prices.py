"""``costguard prices``: what a model would be charged at, and where the price is from."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from langchain_costguard.metering.pricing.explaining import explain
from langchain_costguard.metering.pricing.prices import PriceBook


def prices(options: argparse.Namespace) -> int:
    """Print the prices, a block for each model; returns the exit status."""
    at = _at(options.at)
    book = PriceBook()
    found = {name: explain(book, name, at) for name in options.models}
    width = max(len(label) for rows in found.values() for label, _ in rows)
    print("\n\n".join("\n".join([name, *(f"  {k:{width}}  {v}" for k, v in rows)]) for name, rows in found.items()))
    return 0


def _at(day: str | None) -> float:
    if day is None:
        return datetime.now(UTC).timestamp()
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(hour=12, tzinfo=UTC).timestamp()
    except ValueError:
        raise ValueError(f"--at: {day!r} is no day; write it like 2026-01-31") from None
