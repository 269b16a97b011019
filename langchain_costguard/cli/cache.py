"""``costguard cache``: what the caches of a file or server hold, and how to make them forget it."""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from langchain_costguard.caching import CacheError, Stock, Wanted, open_cache
from langchain_costguard.cli.words import count
from langchain_costguard.observe.tables import table
from langchain_costguard.vocabulary.calendar import span
from langchain_costguard.vocabulary.money import show_all
from langchain_costguard.vocabulary.urls import place_of

T = TypeVar("T")
HEADER = ["kind", "feature", "model", "answers", "bytes", "cost"]


class Shelf(Protocol):
    """What any kind of cache can be asked for here."""

    def forget(self, wanted: Wanted) -> int:
        """Forget these answers; returns how many."""

    def stock(self, *, now: float) -> Iterable[Stock]:
        """What is held, by feature and model."""


def stats(options: argparse.Namespace) -> int:
    """Show what is remembered; returns the exit status."""
    now = time.time()
    found: dict[tuple[str, str, str], Stock] = {}
    for kind, shelf in _shelves(options.store):
        for row in _asking(partial(_stocks, shelf, now)):
            before = found.get((kind, row.feature, row.model), row._replace(entries=0, bytes=0, cost=0))
            found[kind, row.feature, row.model] = _together([before, row])
    if not found:
        print("No answer is remembered.")
        return 0
    rows = sorted(found.items())
    costs = show_all([row.cost for _, row in rows])
    body = [
        [kind, row.feature or "-", row.model or "-", f"{row.entries:,}", f"{row.bytes:,}", cost]
        for ((kind, _, _), row), cost in zip(rows, costs, strict=True)
    ]
    print(table(HEADER, body, left=3))
    for kind in KINDS:
        total = _together([row for (of, _, _), row in rows if of == kind])
        if total.entries:
            said = f"{count(total.entries, f'{kind} answer')}, which cost {show_all([total.cost])[0]}"
            print(f"\n{said}: asked for once each, they save as much again.")
    return 0


def clear(options: argparse.Namespace) -> int:
    """Forget answers; returns the exit status."""
    before = None if options.older_than is None else time.time() - span(options.older_than, "--older-than")
    wanted = Wanted(options.tag, options.feature, options.model, _tenant(options.tenant), before)
    shelves = _shelves(options.store)
    which = _said(wanted, options.older_than)
    if not options.yes and not _agrees(f"Forget {which}?"):
        print("Nothing was forgotten.")
        return 0
    gone = sum(_asking(partial(shelf.forget, wanted)) for _, shelf in shelves)
    print(f"{count(gone, 'answer')} forgotten.")
    return 0


def _shelves(url: str | None) -> list[tuple[str, Shelf]]:
    """The caches of a URL.

    Raises:
        ValueError: there is none, or no other process sees it.
    """
    if not url:
        raise ValueError("which cache? give --store sqlite:PATH or redis://..., or set COSTGUARD_CACHE")
    if url == "memory:":
        raise ValueError("--store: 'memory:' is seen by one process alone; give sqlite:PATH or redis://...")
    path = _path(url)
    if path and not os.path.exists(path):
        raise ValueError(f"--store: there is no file {path!r}")
    return [(kind, shelf) for kind, make in KINDS.items() for shelf in _asking(partial(make, url))]


def _exact(url: str) -> Sequence[Shelf]:
    path = _path(url)
    return [] if path and "costguard_answer" not in _tables(path) else [open_cache(url)]


def _semantic(url: str) -> Sequence[Shelf]:
    path = _path(url)
    if path and "costguard_vector" not in _tables(path):
        return []
    if path:
        from langchain_costguard.caching.index.sqlite import VectorFile

        return [VectorFile(path)]
    from langchain_costguard.caching import RedisSearchIndex, RedisVectorSetIndex

    # Each looks for its keys, which any server can: nothing is found where there are none.
    return [RedisVectorSetIndex(url), RedisSearchIndex(url)]


KINDS: dict[str, Callable[[str], Sequence[Shelf]]] = {"exact": _exact, "semantic": _semantic}
"""Each kind of cache that a file or server may hold, and what opens it; nothing, where a file has none of it."""


def _path(url: str) -> str:
    """The file of a URL; nothing where it names none."""
    place = place_of(url)
    return place[1] if place is not None else ""


def _tables(path: str) -> set[str]:
    """The tables of a file, of which none is created.

    Raises:
        ValueError: it is no database, or stays locked.
    """
    try:
        with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as file:
            return {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise ValueError(f"--store: {path!r} cannot be used as a SQLite database: {error}") from None


def _stocks(shelf: Shelf, now: float) -> list[Stock]:
    return list(shelf.stock(now=now))


def _together(rows: Sequence[Stock]) -> Stock:
    """The sums of these rows, as one of the first's feature and model."""
    feature, model = rows[0][:2] if rows else ("", "")
    entries, size, cost = (
        (sum(column) for column in zip(*(row[2:] for row in rows), strict=True)) if rows else (0, 0, 0)
    )
    return Stock(feature, model, entries, size, cost)


def _asking(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except CacheError as error:
        raise ValueError(f"the cache does not answer: {error}") from None


def _tenant(text: str | None) -> str | None:
    """The tenant of ``user=u1`` or ``feature=search``, as entries name it.

    Raises:
        ValueError: it is none of the two.
    """
    if text is None:
        return None
    share, equals, name = text.partition("=")
    if share not in ("user", "feature") or not equals or not name:
        raise ValueError(f"--tenant: {text!r} is not user=NAME or feature=NAME")
    return f"{share}:{name}"


def _said(wanted: Wanted, age: str | None) -> str:
    parts = [f"{name} {value!r}" for name, value in wanted._asdict().items() if value is not None and name != "before"]
    parts += [f"older than {age}"] if age else []
    return f"all answers of {', '.join(parts)}" if parts else "all answers"


def _agrees(question: str) -> bool:
    """Whether the person at the terminal says yes.

    Raises:
        ValueError: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise ValueError(f"{question} Say --yes: there is no terminal to ask at")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
