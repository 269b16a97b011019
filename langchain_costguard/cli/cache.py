"""``costguard cache``: what the caches of a file or server hold, and how to make them forget it."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import rich_click as click

from langchain_costguard.caching import CacheError, Stock, Wanted, open_cache
from langchain_costguard.cli.screen import show, table
from langchain_costguard.cli.words import count
from langchain_costguard.vocabulary.money import show_all
from langchain_costguard.vocabulary.urls import place_of

T = TypeVar("T")
HEADER = ["kind", "feature", "model", "answers", "bytes", "cost"]
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class Shelf(Protocol):
    """What any kind of cache can be asked for here."""

    def forget(self, wanted: Wanted) -> int:
        """Forget these answers; returns how many."""

    def stock(self, *, now: float) -> Iterable[Stock]:
        """What is held, by feature and model."""


_store = click.option(
    "--store",
    metavar="URL",
    envvar="COSTGUARD_CACHE",
    show_envvar=True,
    help="where answers are kept: sqlite:PATH, redis://HOST:PORT/DB or postgresql://HOST/DB",
)


@click.group()
def command() -> None:
    """Show what caches remember, or make them forget it."""


@command.command()
@_store
def stats(store: str | None) -> None:
    """Show how many answers are remembered, of which features and models."""
    now = time.time()
    found: dict[tuple[str, str, str], Stock] = {}
    for kind, shelf in _shelves(store):
        for row in _asking(partial(_stocks, shelf, now)):
            before = found.get((kind, row.feature, row.model), row._replace(entries=0, bytes=0, cost=0))
            found[kind, row.feature, row.model] = _together([before, row])
    if not found:
        print("No answer is remembered.")
        return
    rows = sorted(found.items())
    costs = show_all([row.cost for _, row in rows])
    body = [
        [kind, row.feature or "-", row.model or "-", f"{row.entries:,}", f"{row.bytes:,}", cost]
        for ((kind, _, _), row), cost in zip(rows, costs, strict=True)
    ]
    show(table(HEADER, body, left=3))
    for kind in KINDS:
        total = _together([row for (of, _, _), row in rows if of == kind])
        if total.entries:
            said = f"{count(total.entries, f'{kind} answer')}, which cost {show_all([total.cost])[0]}"
            print(f"\n{said}: asked for once each, they save as much again.")


@command.command()
@click.option("--tag", metavar="TAG", help="of calls with this tag")
@click.option("--feature", metavar="NAME", help="of this feature")
@click.option("--model", metavar="MODEL", help="of this model")
@click.option("--tenant", metavar="user=NAME", help="of this user (or feature=NAME), with whom they are shared")
@click.option("--older-than", metavar="TIME", help="made before then: 30m, 12h, 7d")
@click.option("--yes", is_flag=True, help="do not ask")
@_store
def clear(
    tag: str | None,
    feature: str | None,
    model: str | None,
    tenant: str | None,
    older_than: str | None,
    yes: bool,
    store: str | None,
) -> None:
    """Forget answers: those of which everything given is true."""
    before = None if older_than is None else time.time() - _age(older_than)
    wanted = Wanted(tag, feature, model, _tenant(tenant), before)
    shelves = _shelves(store)
    which = _said(wanted, older_than)
    if not yes and not _agrees(f"Forget {which}?"):
        print("Nothing was forgotten.")
        return
    gone = sum(_asking(partial(shelf.forget, wanted)) for _, shelf in shelves)
    print(f"{count(gone, 'answer')} forgotten.")


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


def _age(text: str) -> float:
    """Seconds of ``7d``, ``12h``, ``30m``.

    Raises:
        ValueError: it is no such time.
    """
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"--older-than: {text!r} is no time such as 30m, 12h or 7d")
    return float(found[1]) * _SECONDS[found[2]]


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
