"""What a scope may still spend: its budgets' accounts as they stand, grants and reserves included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from langchain_costguard.metering.budgets.accounts import GRANTED, SECONDS, Account, new_tuple
from langchain_costguard.metering.budgets.budget import MEASURES
from langchain_costguard.metering.stores.base import Balance
from langchain_costguard.observe.bars import Bar, html_bars
from langchain_costguard.observe.tables import block, table
from langchain_costguard.vocabulary.money import show_all

_HEADER = ["budget", "window", "measure", "spent", "held", "left", "cap"]


class Room(NamedTuple):
    """One measure of one budget, in the unit of its account: nano-USD, milliseconds (``seconds``), or a count.

    ``cap`` is the budget's own, of which shares are taken; with a ``lockout`` it refuses at a ``ceiling`` above it.
    What was ``granted`` comes on top of both, and ``spent`` is all that was. Of ``seconds``, ``spent`` is the time
    since the first call.
    """

    budget: str
    measure: str
    spent: int
    held: int
    cap: int
    granted: int
    reserve: int
    window: str
    ceiling: int

    @property
    def share(self) -> float:
        """How much of the cap is spent: 0.0 to 1.0, and more after an overrun. Holds do not count."""
        return self.spent / (self.cap + self.granted)

    @property
    def left(self) -> int:
        """What an ordinary call may have: not what is held, nor what is kept back; negative after an overrun."""
        return self.ceiling + self.granted - self.reserve - self.spent - self.held


@dataclass(frozen=True)
class Headroom:
    """What one scope may still spend, at one moment. ``str()`` is an aligned table; Jupyter shows it as one.

    Attributes:
        rows: one for each measure of each budget that applies and outlives a call or a step; empty where the store did
            not answer.
    """

    rows: tuple[Room, ...] = ()

    @cached_property
    def fullest(self) -> Room | None:
        """The row of which most is used; None where there is none."""
        return max(self.rows, key=_share, default=None)

    @property
    def share(self) -> float:
        """How much of the fullest row is used: 0.0 to 1.0, and more after an overrun."""
        fullest = self.fullest
        return 0.0 if fullest is None else fullest.share

    @property
    def seconds_left(self) -> float:
        """Seconds until the first of the budgets' clocks runs out; infinite where none has one."""
        left = self.left("seconds")
        return float("inf") if left is None else max(0.0, left / 1000)

    def left(self, measure: str) -> int | None:
        """The least that any budget leaves of a measure, in the account's unit; None where none caps it.

        Raises:
            ValueError: there is no such measure.
        """
        if measure not in MEASURES:
            raise ValueError(f"left: {measure!r} is not one of {', '.join(MEASURES)}")
        return min((row.left for row in self.rows if row.measure == measure), default=None)

    def __str__(self) -> str:
        return table(_HEADER, self._cells(), left=3) if self.rows else _NOTHING

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return block(html_bars(self.bars())) if self.rows else f"<p>{_NOTHING}</p>"

    def bars(self) -> list[Bar]:
        """The rows as bars, with the figures of the table."""
        return [_bar(row, cells) for row, cells in zip(self.rows, self._cells(), strict=True)]

    def _cells(self) -> list[list[str]]:
        amounts = [(row.spent, row.held, max(0, row.left), row.cap + row.granted) for row in self.rows]
        money = [of for row, of in zip(self.rows, amounts, strict=True) if row.measure == "usd"]
        dollars = iter(show_all([amount for of in money for amount in of]))  # as many digits in all rows

        def shown(row: Room, of: tuple[int, int, int, int]) -> list[str]:
            if row.measure == "usd":
                return [next(dollars) for _ in of]
            if row.measure == "seconds":
                spent, _, left, cap = (f"{amount / 1000:,.1f} s" for amount in of)
                return [spent, "-", left, cap]
            return [f"{amount:,}" for amount in of]

        return [
            [row.budget, row.window or "-", row.measure, *shown(row, of)]
            for row, of in zip(self.rows, amounts, strict=True)
        ]


def _bar(row: Room, cells: Sequence[str]) -> Bar:
    budget, _, measure, spent, held, left, cap = cells
    whole = row.cap + row.granted
    unit = "" if measure in ("usd", "seconds") else f" {measure.replace('_', ' ')}"
    waiting = f", {held} held" if row.held else ""
    return Bar(budget, row.spent / whole, row.held / whole, f"{spent} of {cap}{unit}{waiting}, {left} left")


_NOTHING = "No budget applies."


class Watch:
    """What the headroom of some accounts is made from: what to read of a store, and all of it that does not change."""

    __slots__ = ("_fixed", "names")

    def __init__(self, accounts: Sequence[Account]) -> None:
        names = [account.name for account in accounts]
        self.names = names + [GRANTED + name for name in names]
        self._fixed = [
            (a.budget.label, MEASURES[a.measure], a.base, a.reserve, a.budget.window or "", a.cap, a.measure == SECONDS)
            for a in accounts
        ]

    def headroom(self, balances: Sequence[Balance], now: float) -> Headroom:
        """The headroom by the balances of ``names``, read at ``now``."""
        rows: list[Any] = []
        grants = balances[len(self._fixed) :]
        for (label, measure, base, reserve, window, ceiling, clock), of, grant in zip(
            self._fixed, balances, grants, strict=False
        ):
            spent, granted = of.spent, grant.spent
            if clock:
                spent = int(now * 1000) - spent if spent else 0
            row = (label, measure, spent + granted, of.held, base, granted, reserve, window, ceiling)
            rows.append(new_tuple(Room, row))
        return Headroom(tuple(rows))


def _share(row: Room) -> float:
    return row[2] / (row[4] + row[5])  # by name it takes twice as long
