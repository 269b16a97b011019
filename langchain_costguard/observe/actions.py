"""What steering did, how often, and what it saved: the second table of a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from langchain_costguard.observe.tables import Tabular, chosen
from langchain_costguard.vocabulary.money import show_all, usd
from langchain_costguard.vocabulary.scope import Scope

_WHAT = ("action", "name")


class Action(NamedTuple):
    """To whom what was done: ``action`` is the event's class, ``name`` the tool, model, node or budget it was about."""

    user: str = ""
    session: str = ""
    agent: str = ""
    step: str = ""
    feature: str = ""
    task: str = ""
    trace: str = ""
    model: str = ""
    action: str = ""
    name: str = ""


class Actions(Tabular):
    """What steering did, at one moment; false when it did nothing. ``str()`` is a table; Jupyter shows it as one.

    Attributes:
        rows: ``(key, times, saved)`` for each combination seen; the key is the dimensions, action and name, and what
            was saved is in nano-USD. It is not part of what a ``Report`` says was saved by caches.
        dimensions: the parts of a scope that rows are told apart by, besides action and name.
    """

    MONEY = ("saved_usd",)
    NOTHING = "Nothing was steered."

    def __init__(
        self, rows: Iterable[tuple[Sequence[str], int, int]], dimensions: Sequence[str] = Scope._fields
    ) -> None:
        self.dimensions = tuple(dimensions)
        self.rows = [(tuple(key), times, saved) for key, times, saved in rows]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def saved(self) -> int:
        """Nano-USD that did not have to be spent, all rows together."""
        return sum(saved for _, _, saved in self.rows)

    def times(self, action: str) -> int:
        """How often ``action`` (``"Throttled"``) was done."""
        return sum(times for key, times, _ in self.rows if key[-2] == action)

    def by(self, *dimensions: str) -> Actions:
        """The same actions in other rows, by action, name and these dimensions; what saved most first.

        Raises:
            ValueError: names a dimension there is not.
        """
        columns = chosen(dimensions, self.dimensions)
        grouped: dict[tuple[str, ...], tuple[int, int]] = {}
        for key, times, saved in self.rows:
            short = (*(key[column] for column in columns), *key[-2:])
            before = grouped.get(short, (0, 0))
            grouped[short] = before[0] + times, before[1] + saved
        ranked = sorted(grouped.items(), key=lambda row: (-row[1][1], -row[1][0], row[0]))
        return Actions(((key, *counts) for key, counts in ranked), dimensions)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary a row: the dimensions, ``action``, ``name``, ``times`` and ``saved_usd`` (a Decimal)."""
        names = (*self.dimensions, *_WHAT)
        return [
            dict(zip(names, key, strict=True)) | {"times": times, "saved_usd": usd(saved)}
            for key, times, saved in self.rows
        ]

    def shown(self) -> Actions:
        """Of all dimensions, none: a short table."""
        return self.by() if self.dimensions == Scope._fields else self

    def _cells(self) -> tuple[list[str], list[list[str]], int]:
        shown = self.shown()
        money = show_all([saved for _, _, saved in shown.rows])
        body = [
            [*(part or "-" for part in key), f"{times:,}", text if saved else "-"]
            for (key, times, saved), text in zip(shown.rows, money, strict=True)
        ]
        names = [*shown.dimensions, *_WHAT]
        return [*names, "times", "saved"], body, len(names)
