"""Names, each kept once, and the two words of a cursor that both databases have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from langchain_costguard.observe.log.entry import NAMES

_AT_ONCE = 500
"""Values in one statement, of which SQLite takes 999 at the least."""


class Cursor(Protocol):
    """What both databases' cursors do."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """Run one statement."""

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> Any:
        """Run one statement with each of these values."""

    def fetchall(self) -> list[Any]:
        """The answer's rows."""


def named(cursor: Cursor, dim: str, texts: Sequence[str]) -> list[tuple[int, str]]:
    """Of these names those that are known, with their numbers."""
    found: list[tuple[int, str]] = []
    for start in range(0, len(texts), _AT_ONCE):
        part = texts[start : start + _AT_ONCE]
        marks = ", ".join("?" * len(part))
        cursor.execute(
            f"SELECT id, text FROM spend_names WHERE dim = ? AND text IN ({marks})", (NAMES.index(dim), *part)
        )
        found += [(int(number), text) for number, text in cursor.fetchall()]
    return found


def texts(cursor: Cursor, numbers: set[int]) -> dict[int, str]:
    """Names by their numbers."""
    texts: dict[int, str] = {0: ""}
    wanted = sorted(numbers - {0})
    for start in range(0, len(wanted), _AT_ONCE):
        part = ", ".join(map(str, wanted[start : start + _AT_ONCE]))
        cursor.execute(f"SELECT id, text FROM spend_names WHERE id IN ({part})")
        texts.update({int(number): text for number, text in cursor.fetchall()})
    return texts
