"""On which line of a TOML file a value stands: the parser does not say."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TABLE = re.compile(r"\s*+(\[\[?)((?:[^]\"']++|\"[^\"]*+\"|'[^']*+')++)\]\]?\s*+(?:#.*)?$")
_KEY = re.compile(r"\s*+((?:\"[^\"]*+\"|'[^']*+'|[\w-]++)(?:\s*\.\s*(?:\"[^\"]*+\"|'[^']*+'|[\w-]++))*+)\s*=")
_PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([\w-]+)")

Path = Sequence[str | int]


def line_of(text: str, path: Path) -> int | None:
    """The line (from 1) of a value: of its key, or of the nearest thing around it that has a line of its own."""
    found = _lines(text)
    parts = tuple(path)
    while parts:
        if parts in found:
            return found[parts]
        parts = parts[:-1]
    return None


def _lines(text: str) -> dict[tuple[str | int, ...], int]:
    lines: dict[tuple[str | int, ...], int] = {}
    counts: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = _TABLE.match(line)
        if header:
            table = _entered(_parts(header[2]), counts, listed=header[1] == "[[")
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            parts = _parts(key[1])
            for length in range(1, len(parts) + 1):
                lines.setdefault((*table, *parts[:length]), number)
    return lines


def _entered(
    parts: tuple[str, ...], counts: dict[tuple[str | int, ...], int], *, listed: bool
) -> tuple[str | int, ...]:
    """A header's path, with the number of the entry in each list of tables that it is in."""
    table: tuple[str | int, ...] = ()
    for i, part in enumerate(parts):
        table = (*table, part)
        if listed and i == len(parts) - 1:
            counts[table] = counts.get(table, -1) + 1
        if table in counts:
            table = (*table, counts[table])
    return table


def _parts(text: str) -> tuple[str, ...]:
    return tuple(next(part for part in match.groups() if part is not None) for match in _PART.finditer(text))
