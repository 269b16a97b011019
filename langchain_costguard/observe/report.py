"""Who spent what: counted as calls settle, asked for as a table by any of the scope's dimensions."""

from __future__ import annotations

import html
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from operator import add
from typing import TYPE_CHECKING, Any

from ..money import show, usd
from ..scope import Scope

if TYPE_CHECKING:
    import pandas as pd

DIMENSIONS = Scope._fields
MAX_TRACES = 1_000
"""Rows a guard keeps trace by trace; beyond it the oldest are folded into rows without a trace."""
MAX_ROWS = 10_000
"""Rows without a trace it keeps; beyond it the oldest are folded into rows without session and task."""
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
                _join(older, scope._replace(session="", task=""), older.pop(scope))


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
        return table(*self._cells(), left=len(self._shown().dimensions))

    def _repr_html_(self) -> str:
        header, body = self._cells()
        left = len(self._shown().dimensions)
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        rows = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align:{"left" if i < left else "right"}">{html.escape(cell)}</td>'
                for i, cell in enumerate(row)
            )
            + "</tr>"
            for row in body
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def _shown(self) -> Report:
        return self if self.dimensions != DIMENSIONS else self.by("agent", "model", "step")

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        shown = self._shown()
        header = [
            *shown.dimensions,
            "calls",
            "tools",
            "input",
            "cached",
            "output",
            "reasoning",
            "spent",
            "saved",
            "refused",
        ]
        body = [[part or "-" for part in scope] + _figures(row) for scope, row in shown.rows]
        if len(body) != 1 or not shown.dimensions:
            body.append((["total"] + [""] * len(shown.dimensions))[: len(shown.dimensions)] + _figures(self.total))
        notes = [name for name in ("estimated", "overrun") if getattr(self.total, name)]
        for name in notes:
            header.append(name)
            tallies = [row for _, row in shown.rows]
            tallies += [self.total] * (len(body) - len(tallies))
            for cells, row in zip(body, tallies, strict=True):
                value = getattr(row, name)
                cells.append(show(value) if name in _MONEY else str(value))
        return header, body


def table(header: Sequence[str], body: Sequence[Sequence[str]], *, left: int) -> str:
    """Align cells in columns: the first ``left`` columns to the left, figures to the right."""
    widths = [max(len(row[i]) for row in (header, *body)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *(line(row) for row in body)])


def _figures(row: Tally) -> list[str]:
    counts = (row.calls, row.tool_calls, row.input_tokens, row.cache_read, row.output_tokens, row.reasoning)
    return [*(f"{count:,}" for count in counts), show(row.spent), show(row.saved), str(row.refused)]
