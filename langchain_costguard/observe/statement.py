"""What one customer used in one month, in lines that a customer can read; they add up to the nano-USD."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from langchain_costguard.observe.spend import Spend
from langchain_costguard.observe.tables import table
from langchain_costguard.vocabulary.calendar import zone
from langchain_costguard.vocabulary.money import show_all, usd


@dataclass(frozen=True, slots=True)
class Line:
    """What was used of one model or tool on one day; money is nano-USD."""

    day: str
    feature: str
    what: str
    calls: int
    input_tokens: int
    output_tokens: int
    spent: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A month of one user, session, agent, feature or task. ``str()`` is a text to send.

    Attributes:
        whose: ``user`` and the like, and the name.
        month: ``2026-11``.
        tz: the time zone of its days.
        lines: by day, feature and what was used.
    """

    whose: tuple[str, str]
    month: str
    tz: str
    lines: tuple[Line, ...]

    @property
    def total(self) -> int:
        """Nano-USD, all lines together."""
        return sum(line.spent for line in self.lines)

    def to_csv(self) -> str:
        """The lines and, last, the total; money in USD with all nine digits."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["day", "feature", "item", "calls", "input_tokens", "output_tokens", "usd"])
        for line in self.lines:
            row = [line.day, _safe(line.feature), _safe(line.what), line.calls, line.input_tokens, line.output_tokens]
            writer.writerow([*row, f"{usd(line.spent):.9f}"])
        writer.writerow(["total", "", "", *self._sums(), f"{usd(self.total):.9f}"])
        return out.getvalue()

    def __str__(self) -> str:
        title = f"Statement for {self.whose[0]} {self.whose[1]}, {self.month} ({self.tz})"
        if not self.lines:
            return f"{title}\n\nNothing was used."
        money = show_all([*(line.spent for line in self.lines), self.total])
        body = [
            [line.day, line.feature or "-", line.what or "unknown", *_counts(line), text]
            for line, text in zip(self.lines, money, strict=False)
        ]
        calls, read, written = self._sums()
        body.append(["total", "", "", f"{calls:,}", f"{read:,}", f"{written:,}", money[-1]])
        header = ["day", "feature", "item", "calls", "input", "output", "amount"]
        return f"{title}\n\n{table(header, body, left=3)}"

    def _sums(self) -> tuple[int, int, int]:
        lines = self.lines
        return (
            sum(line.calls for line in lines),
            sum(line.input_tokens for line in lines),
            sum(line.output_tokens for line in lines),
        )


def statement(spend: Spend, month: str, **whose: str) -> Statement:
    """The statement of a month: ``statement(Spend("spend.db"), "2026-11", user="u1")``.

    Raises:
        ValueError: it is no month, or not one name.
    """
    if len(whose) != 1:
        raise ValueError(f"statement: {whose!r} must be one name, such as user='u1'")
    since, until = _month(month, spend.tz)
    report = spend.between(since, until).where(**whose).by("day", "feature", "model", "tool")
    lines = (
        Line(day, feature, tool or model, row.calls + row.tool_calls, row.input_tokens, row.output_tokens, row.spent)
        for (day, feature, model, tool), row in report.rows
        if row.calls or row.tool_calls or row.spent
    )
    ((dimension, name),) = whose.items()
    return Statement((dimension, name), month, spend.tz, tuple(_joined(lines)))


def _joined(lines: Iterable[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: (line.day, line.feature, line.what))


def _month(month: str, tz: str) -> tuple[datetime, datetime]:
    try:
        first = datetime.strptime(month, "%Y-%m").replace(tzinfo=zone(tz))
    except (ValueError, TypeError):
        raise ValueError(f"month: {month!r} is no month such as 2026-11") from None
    return first, (first + timedelta(days=32)).replace(day=1)


def _counts(line: Line) -> list[str]:
    return [f"{line.calls:,}", f"{line.input_tokens:,}", f"{line.output_tokens:,}"]


def _safe(text: str) -> str:
    """A name that a spreadsheet does not take for a formula.

    https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
