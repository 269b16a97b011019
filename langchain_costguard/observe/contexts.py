"""What context policies did to prompts, and what that saved: told apart by scope."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from langchain_costguard.events.steered import ContextCompacted, ContextTrimmed, Refetched, Steered
from langchain_costguard.observe.rows import Rows
from langchain_costguard.observe.tables import Tabular, chosen
from langchain_costguard.vocabulary.money import show_all, usd
from langchain_costguard.vocabulary.scope import Scope


@dataclass(slots=True)
class Shaped:
    """What one row counts: calls whose prompt was shortened, tokens, and nano-USD.

    ``saved`` is what those calls took less by being shorter, ``paid`` what they took more for what had to be written to
    the provider's cache again.
    """

    calls: int = 0
    kept: int = 0
    cut: int = 0
    breaks: int = 0
    compactions: int = 0
    refetched: int = 0
    saved: int = 0
    paid: int = 0

    @property
    def net(self) -> int:
        """Nano-USD saved in the end. What was fetched again, and summaries by a model, are calls in the report."""
        return self.saved - self.paid


_COUNTS = tuple(field.name for field in fields(Shaped))
_MONEY = ("saved", "paid", "net")


class ContextRows(Rows[Scope]):
    """The counts of one guard."""

    def note(self, event: Steered) -> None:
        """Count an event, if it is about a context."""
        if isinstance(event, ContextTrimmed):
            saved = event.saved + event.paid
            self.count(event.scope, (1, event.kept, event.cut, int(event.broke), 0, 0, saved, event.paid))
        elif isinstance(event, ContextCompacted):
            self.count(event.scope, (0, 0, 0, 0, 1, 0, 0, 0))
        elif isinstance(event, Refetched):
            self.count(event.scope, (0, 0, 0, 0, 0, 1, 0, 0))

    def contexts(self) -> Contexts:
        """A copy of the rows as they stand."""
        return Contexts((scope, Shaped(*counts)) for scope, counts in self.items())


class Contexts(Tabular):
    """What context policies did, at one moment; false where they did nothing. ``str()`` is a table by agent.

    Attributes:
        rows: ``(key, counts)`` for each combination seen.
        dimensions: the parts of a scope that rows are told apart by.
    """

    MONEY = ("saved_usd", "paid_usd", "net_usd")
    NOTHING = "No prompt was shortened."

    def __init__(self, rows: Iterable[tuple[Sequence[str], Shaped]], dimensions: Sequence[str] = Scope._fields) -> None:
        self.dimensions = tuple(dimensions)
        self.rows = [(tuple(key), counts) for key, counts in rows]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def total(self) -> Shaped:
        """All rows together."""
        return _sum(counts for _, counts in self.rows)

    def by(self, *dimensions: str) -> Contexts:
        """The same in other rows; what saved most first.

        Raises:
            ValueError: names a dimension there is not.
        """
        columns = chosen(dimensions, self.dimensions)
        grouped: dict[tuple[str, ...], list[Shaped]] = {}
        for key, counts in self.rows:
            grouped.setdefault(tuple(key[column] for column in columns), []).append(counts)
        summed = [(key, _sum(rows)) for key, rows in grouped.items()]
        return Contexts(sorted(summed, key=lambda row: (-row[1].net, row[0])), dimensions)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary a row: the dimensions, the counts, and ``saved_usd``, ``paid_usd``, ``net_usd`` (Decimals)."""
        return [
            dict(zip(self.dimensions, key, strict=True))
            | {name: getattr(counts, name) for name in _COUNTS if name not in _MONEY}
            | {f"{name}_usd": usd(getattr(counts, name)) for name in _MONEY}
            for key, counts in self.rows
        ]

    def _cells(self) -> tuple[list[str], list[list[str]], int]:
        shown = self.by("agent") if self.dimensions == Scope._fields else self
        counts = [name for name in _COUNTS if name not in _MONEY]
        columns = [[f"{getattr(row, name):,}" for _, row in shown.rows] for name in counts]
        columns += [show_all([getattr(row, name) for _, row in shown.rows]) for name in _MONEY]
        body = [
            [*(part or "-" for part in key), *figures]
            for (key, _), figures in zip(shown.rows, zip(*columns, strict=True), strict=True)
        ]
        return [*shown.dimensions, *counts, *_MONEY], body, len(shown.dimensions)


def _sum(rows: Iterable[Shaped]) -> Shaped:
    total = Shaped()
    for row in rows:
        for name in _COUNTS:
            setattr(total, name, getattr(total, name) + getattr(row, name))
    return total
