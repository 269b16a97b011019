"""Who spent what: counted as calls settle, asked for as a table by any of the scope's dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from langchain_costguard.observe.actions import Actions
from langchain_costguard.observe.recalls import Recalls
from langchain_costguard.observe.tables import Tabular, chosen
from langchain_costguard.vocabulary.money import show_all, usd
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import Usage

if TYPE_CHECKING:
    from langchain_costguard.observe.attribution.tree import Tree

DIMENSIONS = Scope._fields


@dataclass(slots=True)
class Tally:
    """What one row counts. Money is integer nano-USD."""

    calls: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output_tokens: int = 0
    reasoning: int = 0
    spent: int = 0
    saved: int = 0
    refused: int = 0
    estimated: int = 0
    overrun: int = 0
    cacheable: int = 0
    """Input tokens of the calls whose prompts the provider could have had in its cache: those that are long enough,
    to models that charge less for what is cached."""

    @property
    def hit_rate(self) -> float | None:
        """The share of cacheable tokens that came from the provider's cache; None where there are none."""
        return self.cache_read / self.cacheable if self.cacheable else None

    def add(self, other: Tally) -> None:
        """Count ``other`` in."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_COUNTS = tuple(field.name for field in fields(Tally))
_MONEY = ("spent", "saved", "overrun")
_ALWAYS = ("calls", "input_tokens", "output_tokens", "spent")
_COLUMNS = {
    "calls": "calls",
    "tool_calls": "tools",
    "input_tokens": "input",
    "cache_read": "cached",
    "cache_write": "written",
    "output_tokens": "output",
    "reasoning": "reasoning",
    "spent": "spent",
    "saved": "saved",
    "refused": "refused",
    "estimated": "estimated",
    "overrun": "overrun",
}
"""What a table calls the counts, in the order of its columns."""


class Report(Tabular):
    """Who spent what, at one moment. ``str()`` is an aligned table; Jupyter shows it as one.

    Attributes:
        rows: one ``(scope, tally)`` for each combination seen.
        dimensions: what the rows are told apart by.
        actions: what steering did, and what that saved; in the table only where it did something.
        recalls: the latest answers from caches, one by one, whatever the rows are told apart by; not in the table.
    """

    MONEY = ("usd", "saved_usd", "overrun_usd")
    NOTHING = "Nothing was metered."

    def __init__(
        self,
        rows: Iterable[tuple[Sequence[str], Tally]],
        dimensions: Sequence[str] = DIMENSIONS,
        actions: Actions | None = None,
        recalls: Recalls | None = None,
    ) -> None:
        self.rows = [(tuple(scope), tally) for scope, tally in rows]
        self.dimensions = tuple(dimensions)
        self.actions = Actions((), dimensions) if actions is None else actions
        self.recalls = Recalls(()) if recalls is None else recalls

    @property
    def total(self) -> Tally:
        """All rows together."""
        total = Tally()
        for _, row in self.rows:
            total.add(row)
        return total

    def by(self, *dimensions: str) -> Report:
        """The same money in other rows: ``.by("agent", "model")``, dearest first; with no argument one row.

        Raises:
            ValueError: names a dimension the report does not have.
        """
        columns = chosen(dimensions, self.dimensions)
        grouped: dict[tuple[str, ...], Tally] = {}
        for scope, row in self.rows:
            grouped.setdefault(tuple(scope[c] for c in columns), Tally()).add(row)
        ranked = sorted(grouped.items(), key=lambda item: (-item[1].spent, item[0]))
        return Report(ranked, dimensions, self.actions.by(*dimensions), self.recalls)

    def tree(self, *levels: str) -> Tree:
        """Feature → session → agent → step → model, or other levels: money and tokens rolled up.

        ``Attribution`` keeps single calls, and knows what agents handed to one another.

        Raises:
            ValueError: names a level that is no dimension.
        """
        from langchain_costguard.observe.attribution.tree import LEVELS, Tree

        scopes = ((Scope(**dict(zip(self.dimensions, key, strict=True))), row) for key, row in self.rows)
        leaves = (
            (s, s.model or "tools", row.calls + row.tool_calls, Usage(row.input_tokens, row.output_tokens), row.spent)
            for s, row in scopes
        )
        return Tree(leaves, levels or LEVELS)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary a row: the dimensions, the counts, and ``usd``, ``saved_usd``, ``overrun_usd`` as Decimals."""
        return [
            dict(zip(self.dimensions, scope, strict=True))
            | {name: getattr(row, name) for name in _COUNTS if name not in _MONEY}
            | {"usd": usd(row.spent), "saved_usd": usd(row.saved), "overrun_usd": usd(row.overrun)}
            for scope, row in self.rows
        ]

    def __str__(self) -> str:
        return f"{super().__str__()}\n\n{self.actions}" if self.actions else super().__str__()

    def _repr_html_(self) -> str:
        return super()._repr_html_() + (self.actions._repr_html_() if self.actions else "")

    def _shown(self) -> Report:
        """Of a report in full, the three dimensions that tell most, where anything is known of them."""
        if self.dimensions != DIMENSIONS:
            return self
        rows = [dict(zip(self.dimensions, scope, strict=True)) for scope, _ in self.rows]
        return self.by(*(name for name in ("agent", "model", "step") if any(row[name] for row in rows)))

    def _cells(self) -> tuple[list[str], list[list[str]], int]:
        """Header and rows as text, and how many columns are dimensions. Counts that are zero all over have none."""
        shown, total = self._shown(), self.total
        left = len(shown.dimensions)
        names = [[part or "-" for part in scope] for scope, _ in shown.rows]
        tallies = [row for _, row in shown.rows]
        if len(tallies) > 1:
            names.append((["total"] + [""] * left)[:left])
            tallies.append(total)
        columns: dict[str, list[Any]] = {
            title: [getattr(row, name) for row in tallies]
            for name, title in _COLUMNS.items()
            if name in _ALWAYS or getattr(total, name)
        }
        if total.cache_read and total.cacheable:
            columns = _after("cached", columns, "hit rate", [row.hit_rate for row in tallies])
        texts = [
            show_all(values) if title in _MONEY else [_short(value) for value in values]
            for title, values in columns.items()
        ]
        body = [[*cells, *figures] for cells, figures in zip(names, zip(*texts, strict=True), strict=True)]
        return [*shown.dimensions, *columns], body, left


def _after(title: str, columns: dict[str, list[Any]], new: str, values: list[Any]) -> dict[str, list[Any]]:
    """The columns, with a new one after the one of that title."""
    parts = [{name: column} | ({new: values} if name == title else {}) for name, column in columns.items()]
    return {name: column for part in parts for name, column in part.items()}


def _short(count: int | float | None) -> str:
    """``12,345``, from ten millions on ``12.3M`` (three digits say enough in a table), and of a share ``87%``."""
    if count is None:
        return "-"
    if isinstance(count, float):
        return f"{count:.0%}"
    return f"{count:,}" if count < 10_000_000 else f"{count / 1e6:,.1f}M"
