"""Amounts as people say them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from langchain_costguard.vocabulary.money import show, show_all

_UNITS = {
    "tokens": "tokens",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "model_calls": "calls",
    "tool_calls": "tool calls",
    "steps": "steps",
}


def amount(measure: str, value: int) -> str:
    """An account's amount without its unit, unless that is money or time."""
    if measure == "usd":
        return show(value)
    if measure == "seconds":
        return f"{value / 1000:,.0f} s" if value >= 10_000 else f"{value / 1000:.1f} s"
    return f"{value:,}"


def amounts(figures: Iterable[tuple[str, int]]) -> Iterator[str]:
    """The amounts of one table by measure: all its money has the same number of digits."""
    all_of_them = list(figures)
    money = iter(show_all([value for measure, value in all_of_them if measure == "usd"]))
    for measure, value in all_of_them:
        yield next(money) if measure == "usd" else amount(measure, value)


def unit(measure: str) -> str:
    """The unit of a measure; money and time carry theirs."""
    return _UNITS.get(measure, "")


def count(number: int, noun: str) -> str:
    """``1 call``, ``2 calls``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
