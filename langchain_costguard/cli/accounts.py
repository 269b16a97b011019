"""Accounts as people read them: ``user.day|u1|2026-11-22|usd`` is a budget, a scope, a window and a measure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from langchain_costguard.cli.words import amounts
from langchain_costguard.metering.budgets import grants
from langchain_costguard.metering.budgets.accounts import GRANTED
from langchain_costguard.metering.budgets.budget import MEASURES, SCOPES
from langchain_costguard.metering.budgets.grants import KEYS
from langchain_costguard.metering.stores.base import Balance, Claim

NAMES = ["budget", "scope", "window", "measure"]
HEADER = [*NAMES, "spent", "held", "left", "cap"]
_WINDOWS = ("hour", "day", "week", "month")


class Line(NamedTuple):
    """One account: ``where`` is its name without the measure; amounts are in its own unit.

    ``spent`` is all that was spent, and ``cap`` holds what was ``granted``, too.
    """

    where: str
    budget: str
    scope: str
    window: str
    measure: str
    spent: int
    held: int
    cap: int
    granted: int

    @property
    def account(self) -> str:
        """Its name in the store."""
        return f"{self.where}|{self.measure}"

    def names(self) -> list[str]:
        """What tells it from others."""
        return [self.budget, self.scope, self.window, self.measure]

    @property
    def left(self) -> int:
        """What is neither spent nor held."""
        return max(0, self.cap - self.spent - self.held)

    @property
    def share(self) -> float:
        """How much of the cap is spent or held; 1 where there is no cap."""
        return (self.spent + self.held) / self.cap if self.cap else 1.0

    @property
    def tags(self) -> dict[str, str]:
        """Whose it is, by name; nothing where the budget has a name of its own, which does not tell."""
        names = key_of(self.where)[0]
        values = [unquote(value) for value in self.where.split("|")[1].split(",")] if self.scope else []
        return dict(zip(names or [], values, strict=False))


def gift_of(line: Line, value: int) -> tuple[Claim, int]:
    """What an account is given, as ``grants.give`` takes it."""
    clock = line.measure == "seconds"
    return Claim(line.account, line.cap - line.granted, 0, clock=clock, ttl=grants.RECORDED), value


def rows_of(lines: Sequence[Line], *columns: str) -> list[list[str]]:
    """A row for each account: its names, and these of its figures; money has as many digits in all of them."""
    texts = amounts((line.measure, getattr(line, column)) for line in lines for column in columns)
    rows = []
    for line in lines:
        figures = [next(texts) for _ in columns]
        if line.measure == "seconds":
            figures = ["-" if column == "held" else text for column, text in zip(columns, figures, strict=True)]
        rows.append([*line.names(), *figures])
    return rows


def key_of(where: str) -> tuple[list[str] | None, Any, str]:
    """What an unnamed budget's key says: the scopes in it, its window and time zone."""
    names, _, rest = where.partition("|")[0].partition(".")
    scopes = names.split("+")
    if not set(scopes) <= set(SCOPES):
        return None, "", ""
    window, _, tz = rest.partition(".[")[0].partition("@")
    return scopes, window if window in _WINDOWS else "", tz or "UTC"


def lines_of(accounts: Iterable[tuple[str, Balance]], now: float) -> list[Line]:
    """The accounts of budgets among all that a store keeps, in order."""
    found = dict(accounts)
    lines = []
    for name, balance in found.items():
        key, *middle, measure = name.split("|")
        if measure not in MEASURES or name.startswith((GRANTED, KEYS)):
            continue
        beside = found.get(GRANTED + name)
        granted, spent = beside.spent if beside else 0, balance.spent
        if measure == "seconds":  # a clock account keeps when its first call was made
            spent = int(now * 1000) - spent if spent else 0
        figures = (max(0, spent + granted), balance.held, balance.cap + granted, granted)
        lines.append(Line(name.rpartition("|")[0], unquote(key), *_parts(key, middle), measure, *figures))
    return sorted(lines, key=Line.names)


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
