"""What stands under a cell: what it cost, and how much of its budget that is."""

from __future__ import annotations

import html
from dataclasses import dataclass

from langchain_costguard.cli.words import count
from langchain_costguard.observe.bars import Bar, html_bars
from langchain_costguard.observe.tables import block
from langchain_costguard.vocabulary.money import show


@dataclass(frozen=True, slots=True)
class Panel:
    """One cell's cost, at one moment.

    Attributes:
        spent: nano-USD.
        calls, tool_calls, tokens, refused: of this cell.
        estimated: calls of it whose provider did not say what they used.
        bars: the budgets that hold for it.
        over: whether the cell is.
    """

    spent: int
    calls: int
    tool_calls: int
    tokens: int
    refused: int
    estimated: int
    bars: tuple[Bar, ...]
    over: bool

    def __repr__(self) -> str:
        bars = [f"{bar.label}: {bar.figures}" for bar in self.bars]
        return "\n".join([f"costguard  {show(self.spent)}  {self._counts()}", *bars])

    def _repr_html_(self) -> str:
        refused = f' · <b style="color:#e5484d">{self.refused:,} refused</b>' if self.refused else ""
        said = html.escape(self._counts(refused=False))
        running = "" if self.over else " …"
        line = f"<div><b>{html.escape(show(self.spent))}</b> · {said}{refused}{running}</div>"
        style = "font-size:.9em;border-left:.25em solid rgba(128,128,128,.4);padding:.1em .7em;margin:.3em 0"
        return block(f'<div style="{style}">{line}{html_bars(self.bars)}</div>')

    def _counts(self, *, refused: bool = True) -> str:
        said = [count(self.calls, "model call")]
        said += [count(self.tool_calls, "tool call")] if self.tool_calls else []
        said += [count(self.tokens, "token")] if self.tokens else []
        said += [f"{self.estimated:,} estimated"] if self.estimated else []
        said += [f"{self.refused:,} refused"] if self.refused and refused else []
        return " · ".join(said)
