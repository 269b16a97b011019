"""What commands print: tables that fit the terminal, colours where it has them (``NO_COLOR`` is heeded)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from langchain_costguard.observe.tables import Tabular


def console(*, stderr: bool = False) -> Console:
    """Where to print; made anew, as tests and pipes exchange the streams. Text is printed as it is, without markup."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=False)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int, title: str | None = None) -> Table:
    """Cells in columns: the first ``left`` to the left, figures to the right, and never cut; no empty columns."""
    kept = [n for n in range(len(header)) if n >= left or any(row[n] for row in rows)]
    header, rows = [header[n] for n in kept], [[row[n] for n in kept] for row in rows]
    left = sum(n < left for n in kept)
    made = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left"
    )
    for number, name in enumerate(header):
        figures = number >= left
        made.add_column(Text(name), justify="right" if figures else "left", no_wrap=figures, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def bare_table(rows: Sequence[Sequence[str | Text]]) -> Table:
    """Cells in columns without a head, two spaces between them; the last columns wrap."""
    made = Table.grid(padding=(0, 2, 0, 0))
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return made


def show(*things: Any, stderr: bool = False) -> None:
    """Print tables and texts, one below the other; where a text ends its lines, no others are made of them."""
    place = console(stderr=stderr)
    for thing in things:
        with place.capture() as printed:
            place.print(thing, soft_wrap=isinstance(thing, str))
        # Tables are filled up with blanks, which make lines wrap where a window gets narrower.
        place.file.write("\n".join(line.rstrip() for line in printed.get().split("\n")))
    place.file.flush()


def warn(text: str) -> None:
    """Say a line on stderr."""
    print(f"costguard: {text}", file=sys.stderr)


def tabular(what: Tabular) -> Table:
    """A report or the like, as a table of the terminal."""
    header, rows, left = what._cells()
    return table(header, rows, left=left)
