"""``costguard prices``: what a model would be charged at, and where the price is from."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from langchain_costguard.observe.report import table
from langchain_costguard.pricing.prices import PriceBook
from langchain_costguard.pricing.rates import Rates
from langchain_costguard.usage import ModelRef

_HEADER = ["USD per million tokens", "input", "cached read", "cache write", "output", "reasoning"]
_PICO_PER_MICRO = 1_000_000


def prices(options: argparse.Namespace) -> int:
    """Print the prices; returns the exit status."""
    at = _at(options.at)
    book = PriceBook()
    found = [(name, _rates(book, name, at)) for name in options.models]
    rows = [row for name, rates in found for row in _rows(name, rates)]
    print(table(_HEADER, rows, left=1))
    print()
    for name, rates in found:
        print(f"{name}: {_whence(rates)}")
    return 0


def _at(day: str | None) -> float:
    if day is None:
        return datetime.now(UTC).timestamp()
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(hour=12, tzinfo=UTC).timestamp()
    except ValueError:
        raise ValueError(f"--at: {day!r} is no day; write it like 2026-01-31") from None


def _rates(book: PriceBook, name: str, at: float) -> Rates:
    """The rates of a name as written in code, ``provider:model`` included (a model's own name may have a colon)."""
    whole, (provider, _, model) = ModelRef("", name), name.partition(":")
    known = book.rates(whole, at)
    if known is None and model:
        return book.quote(ModelRef(provider, model), at)
    return known or book.quote(whole, at)


def _rows(name: str, rates: Rates) -> list[list[str]]:
    rows = [[name + (" (estimated)" if rates.estimated else ""), *_figures(rates)]]
    rows += [[f"  beyond {start:,} input tokens", *_figures(tier)] for start, tier in rates.tiers]
    return rows


def _figures(rates: Rates) -> list[str]:
    each = (rates.input, rates.cache_read, rates.cache_write, rates.output, rates.reasoning)
    return [_usd(pico) for pico in each]


def _usd(pico: int) -> str:
    """Pico-USD a token is micro-USD a million: at least two digits after the point, and no idle zeros."""
    whole, rest = divmod(pico, _PICO_PER_MICRO)
    return f"{whole:,}.{f'{rest:06d}'.rstrip('0').ljust(2, '0')}"


def _whence(rates: Rates) -> str:
    fees = [
        f"{nano / 1e9:g} USD a {what}" for nano, what in ((rates.web_search, "web search"), (rates.request, "request"))
        if nano
    ]  # fmt: skip
    return "; ".join([rates.source or "unknown source", *fees])
