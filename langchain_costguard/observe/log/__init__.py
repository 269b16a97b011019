"""The spend log: a row for each call, tool call, refusal, alert and action of steering, in a file or on a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from langchain_costguard.vocabulary.checks import filed
from langchain_costguard.vocabulary.urls import place_of, without_password

if TYPE_CHECKING:
    from langchain_costguard.observe.log.entry import Entry

T = TypeVar("T")


class Log(Protocol):
    """Where rows are kept."""

    path: str

    def write(self, entries: Sequence[Entry]) -> None:
        """Write rows, all or none."""

    def ask(self, question: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Ask one of the questions of ``asking``."""

    def drop(self, before: float) -> int:
        """Drop the rows that are older (epoch seconds); returns how many."""

    def forget(self, dim: str, name: str, key: bytes) -> int:
        """Put a keyed hash in the place of a name; returns in how many rows."""

    def shrink(self) -> None:
        """Give the room of dropped rows back."""

    def close(self) -> None:
        """Let go of the file or server."""


def open_log(place: str | Path, *, create: bool = True) -> Log:
    """The log of a path, of ``sqlite:PATH``, ``redis://…`` or ``postgresql://…``.

    Args:
        place: Where it is; ``memory:`` is this process' own.
        create: With False, a file that is not there is an error.

    Raises:
        ValueError: it names no log.
        LogError: the log cannot be opened.
    """
    match place_of(str(place)) if isinstance(place, str) else ("sqlite", str(place)):
        case "memory", _:
            path = ":memory:"
        case "sqlite", path:
            pass
        case "redis", _:
            from langchain_costguard.observe.log.redis import RedisLog

            return RedisLog(str(place))
        case "postgres", _:
            from langchain_costguard.observe.log.postgres import PostgresLog

            return PostgresLog(str(place))
        case _:
            if not isinstance(place, str) or not place or "://" in place:
                raise ValueError(
                    f"log: {without_password(place)!r} is no path, nor sqlite:PATH, redis://… or postgresql://…"
                )
            path = filed("log", place)
    from langchain_costguard.observe.log.sqlite import SQLiteLog

    return SQLiteLog(path, create=create)
