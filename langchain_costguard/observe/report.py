"""Who spent what: counted as calls settle, asked for as a table by any of the scope's dimensions."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from langchain_costguard.observe.actions import Actions
from langchain_costguard.observe.bars import Bar, html_bars
from langchain_costguard.observe.contexts import Contexts
from langchain_costguard.observe.recalls import Recalls
from langchain_costguard.observe.tables import Tabular, block, chosen
from langchain_costguard.observe.times import Latency, Sample, latency
from langchain_costguard.vocabulary.money import show_all, usd
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import Usage

if TYPE_CHECKING:
    from langchain_costguard.observe.attribution.basis import Kept
    from langchain_costguard.observe.attribution.forecast import Forecast
    from langchain_costguard.observe.attribution.handoffs import Handoffs
    from langchain_costguard.observe.attribution.tree import Tree
    from langchain_costguard.observe.attribution.why import Why

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
    unpriced: int = 0
    """Calls charged at a stand-in, for nobody knows their price."""
    failed: int = 0
    """Model calls that ended in an error."""
    billed: int = 0
    """Calls charged at the provider's own bill."""
    priced: int = 0
    """By how much more (or, below zero, less) our prices would have charged for those."""

    @property
    def usd(self) -> Decimal:
        """What was spent, in USD."""
        return usd(self.spent)

    @property
    def hit_rate(self) -> float | None:
        """The share of cacheable tokens that came from the provider's cache; None where there are none."""
        return self.cache_read / self.cacheable if self.cacheable else None

    @property
    def error_share(self) -> float:
        """The share of model calls that ended in an error."""
        return self.failed / max(1, self.calls, self.failed)

    def add(self, other: Tally) -> None:
        """Count ``other`` in."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_COUNTS = tuple(field.name for field in fields(Tally))
_MONEY = ("spent", "saved", "overrun", "priced")
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
    "unpriced": "unpriced",
    "failed": "failed",
    "overrun": "overrun",
}
"""What a table calls the counts, in the order of its columns."""


class Report(Tabular):
    """Who spent what, at one moment. ``str()`` is an aligned table; Jupyter shows it as one, below the guard's budgets
    as they stand when it is shown.

    Attributes:
        rows: one ``(scope, tally)`` for each combination seen.
        dimensions: what the rows are told apart by.
        actions: what steering did, and what that saved; in the table only where it did something.
        recalls: the latest answers from caches, one by one, whatever the rows are told apart by; not in the table.
        contexts: what context policies did to prompts, and what that saved; not in the table.
    """

    MONEY = ("usd", "saved_usd", "overrun_usd", "priced_usd")
    NOTHING = "Nothing was metered."
    SUM = True

    def __init__(
        self,
        rows: Iterable[tuple[Sequence[str], Tally]],
        dimensions: Sequence[str] = DIMENSIONS,
        actions: Actions | None = None,
        recalls: Recalls | None = None,
        times: Iterable[tuple[Sequence[str], list[Sample]]] = (),
        contexts: Contexts | None = None,
        budgets: Callable[[], list[Bar]] = list,
        kept: Callable[[], Kept] | None = None,
    ) -> None:
        self._kept = kept
        self.rows = [(tuple(scope), tally) for scope, tally in rows]
        self.dimensions = tuple(dimensions)
        self._times = [(tuple(scope), samples) for scope, samples in times]
        self.actions = Actions((), dimensions) if actions is None else actions
        self.recalls = Recalls(()) if recalls is None else recalls
        self.contexts = Contexts((), dimensions) if contexts is None else contexts
        self._budgets = budgets

    def __getstate__(self) -> dict[str, Any]:
        """A report may go to another process; the guard whose budgets it would show may not."""
        return {**self.__dict__, "_budgets": list, "_kept": None}

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
        times: dict[tuple[str, ...], list[Sample]] = {}
        for scope, samples in self._times:
            times.setdefault(tuple(scope[c] for c in columns), []).extend(samples)
        ranked = sorted(grouped.items(), key=lambda item: (-item[1].spent, item[0]))
        actions, contexts = self.actions.by(*dimensions), self.contexts.by(*dimensions)
        lazily = (self._budgets, self._kept)
        return Report(ranked, dimensions, actions, self.recalls, times.items(), contexts, *lazily)

    def times(self) -> Timetable:
        """How long the latest calls of each row took: median, 95th percentile, first token, and the errors' share."""
        return Timetable(self.by(*(self.dimensions if self.dimensions != DIMENSIONS else self._telling())))

    def latency(self, row: Sequence[str]) -> Latency:
        """How long the latest calls of this row took. A trace has none: calls are remembered by who makes them."""
        return latency(sample for scope, samples in self._times if scope == tuple(row) for sample in samples)

    def tree(self, *levels: str) -> Tree:
        """Feature → session → agent → step → model, or other levels: money and tokens rolled up.

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

    def why(self, **where: str) -> Why:
        """The parts of a bill: ``report.why(session="s1")``. They add up to it, to the nano-dollar.

        Of a guard with ``sinks=[Attribution()]``, and of its log, they name what was sent again, what other agents had
        said, retries and loops; of another one, what its sums tell.

        Raises:
            ValueError: an unknown dimension.
        """
        from langchain_costguard.observe.attribution.basis import why_of

        return why_of(self.kept, where)

    def handoffs(self, **where: str) -> Handoffs:
        """What agents handed to one another, at the price it was paid, and how much was context sent again.

        Raises:
            ValueError: nobody looked at what the calls were given: says what does.
        """
        from langchain_costguard.observe.attribution.basis import handoffs_of

        return handoffs_of(self.kept, where)

    def forecast(self) -> Forecast:
        """When a budget ends at this rate and which feature ends it, and what the month will have cost."""
        from langchain_costguard.observe.attribution.basis import forecast_of

        return forecast_of(self.kept)

    @property
    def kept(self) -> Kept:
        """What these are made from.

        Raises:
            ValueError: this report is of no guard and of no log.
        """
        if self._kept is None:
            raise ValueError("kept: this report is of no guard and of no log, and knows no single calls")
        return self._kept()

    def asking(self, kept: Callable[[Sequence[tuple[tuple[str, ...], Tally]]], Kept]) -> Report:
        """The same report, which asks this for single calls, of its rows in full."""
        rows = self.rows
        self._kept = lambda: kept(rows)
        return self

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary a row: the dimensions, the counts, and ``usd``, ``saved_usd``, ``overrun_usd`` as Decimals."""
        return [
            dict(zip(self.dimensions, scope, strict=True))
            | {name: getattr(row, name) for name in _COUNTS if name not in _MONEY}
            | {"usd": usd(row.spent), "saved_usd": usd(row.saved), "overrun_usd": usd(row.overrun)}
            | {"priced_usd": usd(row.spent + row.priced)}
            for scope, row in self.rows
        ]

    def __str__(self) -> str:
        parts = (super().__str__(), *self._notes(), str(self.actions) if self.actions else "")
        return "\n\n".join(part for part in parts if part)

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self._notes())
        actions = self.actions._repr_html_() if self.actions else ""
        return block(html_bars(self._budgets()) + super()._repr_html_() + notes + actions)

    def _notes(self) -> list[str]:
        """What must be known to read the figures."""
        total, notes = self.total, []
        if total.unpriced:
            notes.append(
                f"* {_calls(total.unpriced)} to models whose price nobody knows, charged at a stand-in: "
                f"say prices={{...}} or aliases={{...}}."
            )
        if total.priced:
            own, ours = show_all([total.spent, total.spent + total.priced])
            notes.append(
                f"{_calls(total.billed)} charged at the provider's own bill: {own} in all, "
                f"where our prices make {ours} of it."
            )
        return notes

    def _shown(self) -> Report:
        """Of a report in full, the three dimensions that tell most, where anything is known of them."""
        if self.dimensions != DIMENSIONS:
            return self
        return self.by(*self._telling())

    def _telling(self) -> list[str]:
        rows = [dict(zip(self.dimensions, scope, strict=True)) for scope, _ in self.rows]
        return [name for name in ("agent", "model", "step") if any(row[name] for row in rows)]

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
        spent = list(columns).index("spent")
        texts[spent] = [f"{text}*" if row.unpriced else text for text, row in zip(texts[spent], tallies, strict=True)]
        body = [[*cells, *figures] for cells, figures in zip(names, zip(*texts, strict=True), strict=True)]
        return [*shown.dimensions, *columns], body, left


class Timetable(Tabular):
    """How long calls took, by the rows of a report. Seconds."""

    NOTHING = "Nothing was timed."

    def __init__(self, report: Report) -> None:
        self._report = report

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary a row: calls, failed ones and their share, and seconds (None where none was measured)."""
        report = self._report
        return [
            dict(zip(report.dimensions, scope, strict=True))
            | {"calls": row.calls, "failed": row.failed, "error_share": row.error_share}
            | {"seconds_median": took.median, "seconds_p95": took.p95, "first_token_median": took.first_token}
            for scope, row in report.rows
            for took in (report.latency(scope),)
            if row.calls or row.failed
        ]

    def _cells(self) -> tuple[list[str], list[list[str]], int]:
        left = len(self._report.dimensions)
        body = []
        for row in self.to_dicts():
            names = [str(value or "-") for value in list(row.values())[:left]]
            seconds = [row["first_token_median"], row["seconds_median"], row["seconds_p95"]]
            shown = ["-" if value is None else f"{value:.2f} s" for value in seconds]
            body.append([*names, _short(row["calls"]), _short(row["failed"]), _short(row["error_share"]), *shown])
        header = ["calls", "failed", "errors", "first token", "median", "p95"]
        return [*self._report.dimensions, *header], body, left


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count:,} calls"


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
