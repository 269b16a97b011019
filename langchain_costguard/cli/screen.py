"""What commands print: tables that fit the terminal, colours where it has them (``NO_COLOR`` is heeded)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def console(*, stderr: bool = False) -> Console:
    """Where to print; made anew, as tests and pipes exchange the streams. Text is printed as it is, without markup."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=False)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int, title: str | None = None) -> Table:
    """Cells in columns: the first ``left`` to the left, figures to the right, and never cut."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left")
    for number, name in enumerate(header):
        figures = number >= left
        made.add_column(Text(name), justify="right" if figures else "left", no_wrap=figures, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def show(*things: Any, stderr: bool = False) -> None:
    """Print tables and texts, one below the other."""
    place = console(stderr=stderr)
    for thing in things:
        place.print(thing)


def warn(text: str) -> None:
    """Say a line on stderr."""
    print(f"costguard: {text}", file=sys.stderr)
