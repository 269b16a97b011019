"""Accounts as people read them: ``user.day|u1|2026-11-22|usd`` is a budget, a scope, a window and a measure."""

from __future__ import annotations

import time
from urllib.parse import unquote

from langchain_costguard.budgets.budget import MEASURES, SCOPES
from langchain_costguard.cli.words import amount
from langchain_costguard.stores.base import Balance

HEADER = ["budget", "scope", "window", "measure", "spent", "held", "left", "cap"]
_WINDOWS = ("hour", "day", "week", "month")


def row_of(name: str, balance: Balance, now: float) -> list[str] | None:
    """One line of the table of accounts; None where a store keeps something of its own under the name."""
    key, *middle, measure = name.split("|")
    if measure not in MEASURES:
        return None
    scope, window = _parts(key, middle)
    spent = balance.spent
    if measure == "seconds":  # a clock account keeps when its first call was made
        spent = max(0, int(now * 1000) - spent) if spent else 0
    left = max(0, balance.cap - spent - balance.held)
    figures = [amount(measure, value) for value in (spent, balance.held, left, balance.cap)]
    if measure == "seconds":
        figures[1] = "-"
    return [unquote(key), scope, window, measure, *figures]


def _parts(key: str, middle: list[str]) -> tuple[str, str]:
    """The scope's value and the window; either may be missing, and of a named budget only the look of it tells."""
    scope, window = "".join(middle[:1]), "".join(middle[1:2])
    dimension, *rest = key.split(".")
    unnamed = dimension.partition("+")[0] in SCOPES
    if len(middle) == 1 and (rest[:1] != [] and rest[0] in _WINDOWS if unnamed else _is_window(scope)):
        scope, window = "", scope
    return ", ".join(unquote(part) for part in scope.split(",")), window


def _is_window(text: str) -> bool:
    for form in ("%Y-%m-%dT%H%z", "%Y-%m-%d", "%Y-%m"):
        try:
            time.strptime(text, form)
            return True
        except ValueError:
            continue
    year, _, week = text.partition("-W")
    return year.isdigit() and week.isdigit()
