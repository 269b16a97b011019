"""Who spent what: counted as calls settle, asked for as a table by any of the scope's dimensions."""

from __future__ import annotations

import html
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from operator import add
from typing import TYPE_CHECKING, Any

from langchain_costguard.money import show_all, usd
from langchain_costguard.scope import Scope

if TYPE_CHECKING:
    import pandas as pd

DIMENSIONS = Scope._fields
MAX_TRACES = 1_000
"""Rows a guard keeps trace by trace; beyond it the oldest are folded into rows without a trace."""
MAX_ROWS = 10_000
"""Rows without a trace it keeps; beyond it the oldest are folded into rows without session and task, and those of them
that still are too many into rows without user and feature."""
_FOLDED = 100


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


class Tallies:
    """The rows of one guard, counted under one lock and bounded in number.

    A row is a list of the counts of ``Tally`` in its order: a call makes or changes one, so it is kept light.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recent: dict[Scope, list[int]] = {}
        self._older: dict[Scope, list[int]] = {}

    def count(self, scope: Scope, changes: Sequence[int]) -> None:
        """Add ``changes``, the counts of a ``Tally`` in its order, to the scope's row."""
        with self._lock:
            row = self._recent.get(scope)
            if row is not None:
                self._recent[scope] = list(map(add, row, changes))
                return
            self._recent[scope] = list(changes)
            if len(self._recent) > MAX_TRACES:
                self._fold()

    def report(self) -> Report:
        """A copy of the rows as they stand."""
        with self._lock:
            rows = [*self._older.items(), *self._recent.items()]
        return Report((scope, Tally(*counts)) for scope, counts in rows)

    def _fold(self) -> None:
        older = self._older
        for scope in list(islice(self._recent, _FOLDED)):
            _join(older, scope._replace(trace=""), self._recent.pop(scope))
        if len(older) > MAX_ROWS:
            for scope in list(islice(older, _FOLDED)):
                _join(older, _coarser(scope), older.pop(scope))


def _coarser(scope: Scope) -> Scope:
    if scope.session or scope.task:
        return scope._replace(session="", task="")
    return scope._replace(user="", feature="") if scope.user or scope.feature else Scope(model=scope.model)


def _join(rows: dict[Scope, list[int]], scope: Scope, counts: list[int]) -> None:
    before = rows.get(scope)
    rows[scope] = counts if before is None else list(map(add, before, counts))


class Report:
    """Who spent what, at one moment. ``str()`` is an aligned table; Jupyter shows it as one.

    Attributes:
        rows: one ``(scope, tally)`` for each combination seen.
        dimensions: what the rows are told apart by.
    """

    def __init__(self, rows: Iterable[tuple[Sequence[str], Tally]], dimensions: Sequence[str] = DIMENSIONS) -> None:
        self.rows = [(tuple(scope), tally) for scope, tally in rows]
        self.dimensions = tuple(dimensions)

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
        for name in dimensions:
            if name not in self.dimensions:
                raise ValueError(f"by: {name!r} is not one of {', '.join(self.dimensions)}")
        columns = [self.dimensions.index(name) for name in dimensions]
        grouped: dict[tuple[str, ...], Tally] = {}
        for scope, row in self.rows:
            grouped.setdefault(tuple(scope[c] for c in columns), Tally()).add(row)
        ranked = sorted(grouped.items(), key=lambda item: (-item[1].spent, item[0]))
        return Report(ranked, dimensions)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary a row: the dimensions, the counts, and ``usd``, ``saved_usd``, ``overrun_usd`` as Decimals."""
        return [
            dict(zip(self.dimensions, scope, strict=True))
            | {name: getattr(row, name) for name in _COUNTS if name not in _MONEY}
            | {"usd": usd(row.spent), "saved_usd": usd(row.saved), "overrun_usd": usd(row.overrun)}
            for scope, row in self.rows
        ]

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a DataFrame, money as floats.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError("to_pandas() needs pandas: pip install 'langchain-costguard[pandas]'") from None
        frame = pd.DataFrame(self.to_dicts())
        for name in ("usd", "saved_usd", "overrun_usd"):
            if name in frame:
                frame[name] = frame[name].astype(float)
        return frame

    def __str__(self) -> str:
        header, body, left = self._cells()
        return table(header, body, left=left) if body else "Nothing was metered."

    def _repr_html_(self) -> str:
        header, body, left = self._cells()
        if not body:
            return f"<p>{self}</p>"
        sides = ["left" if i < left else "right" for i in range(len(header))]

        def row(tag: str, cells: Sequence[str]) -> str:
            return "".join(
                f'<{tag} style="text-align:{side}">{html.escape(cell)}</{tag}>'
                for side, cell in zip(sides, cells, strict=True)
            )

        rows = "".join(f"<tr>{row('td', cells)}</tr>" for cells in body)
        return f"<table><thead><tr>{row('th', header)}</tr></thead><tbody>{rows}</tbody></table>"

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
        columns = {
            title: [getattr(row, name) for row in tallies]
            for name, title in _COLUMNS.items()
            if name in _ALWAYS or getattr(total, name)
        }
        texts = [
            show_all(values) if title in _MONEY else [_short(value) for value in values]
            for title, values in columns.items()
        ]
        body = [[*cells, *figures] for cells, figures in zip(names, zip(*texts, strict=True), strict=True)]
        return [*shown.dimensions, *columns], body, left


def table(header: Sequence[str], body: Sequence[Sequence[str]], *, left: int) -> str:
    """Align cells in columns: the first ``left`` columns to the left, figures to the right."""
    widths = [max(len(row[i]) for row in (header, *body)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *(line(row) for row in body)])


def _short(count: int) -> str:
    """``12,345``, and from ten millions on ``12.3M``: three digits say enough in a table."""
    return f"{count:,}" if count < 10_000_000 else f"{count / 1e6:,.1f}M"
