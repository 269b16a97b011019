"""Budgets as bars, for Jupyter: what is spent, what is held on top, and the figures beside them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NamedTuple

_GRID = (
    "display:grid;grid-template-columns:minmax(3em,max-content) minmax(4em,12em) minmax(9em,1fr);"
    "gap:.15em .8em;align-items:center;line-height:1.4;margin:.2em 0"
)
_TRACK = "height:.7em;border-radius:.35em;overflow:hidden;display:flex;background:rgba(128,128,128,.25)"
_COLOURS = ((1.0, "#e5484d"), (0.7, "#e2a336"), (0.0, "#30a46c"))
"""From which share on; 70 % is where the first alert is. Each stands out on white and on black, and text has the page's
own colour: nothing asks whether the page is dark, which a cell's output cannot know."""


class Bar(NamedTuple):
    """One measure of one budget. Shares are of its cap: 0.0 to 1.0, ``spent`` more after an overrun."""

    label: str
    spent: float
    held: float
    figures: str


def html_bars(bars: Sequence[Bar]) -> str:
    """One line a bar; the figures say all that the bar does."""
    return f'<div style="{_GRID}">{"".join(map(_line, bars))}</div>' if bars else ""


def _line(bar: Bar) -> str:
    colour = next((colour for share, colour in _COLOURS if bar.spent >= share), _COLOURS[-1][1])
    spent = min(max(bar.spent, 0.0), 1.0)
    held = min(max(bar.held, 0.0), 1.0 - spent)
    parts = f'<div style="width:{spent:.1%};background:{colour}"></div>'
    if held:
        parts += f'<div style="width:{held:.1%};background:{colour};opacity:.45"></div>'
    label = html.escape(bar.label)
    return (
        f'<span style="overflow-wrap:anywhere">{label}</span>'
        f'<div role="progressbar" aria-label="{label}" aria-valuemin="0" aria-valuemax="100"'
        f' aria-valuenow="{spent * 100:.0f}" style="{_TRACK}">{parts}</div>'
        f"<span>{html.escape(bar.figures)}</span>"
    )
