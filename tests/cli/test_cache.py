"""``costguard cache`` on a file and a server that hold answers."""

from __future__ import annotations

import os
import pty
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from langchain_costguard.caching import (
    Entry,
    ExactCache,
    RedisSearchIndex,
    RedisVectorSetIndex,
    SQLiteIndex,
    open_cache,
)
from langchain_costguard.cli import main
from tests.caching.index_servers import NO_REDIS8, imitated_search, redis8_program
from tests.servers import redis_server


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'answers.db'}"
        return
    with redis_server() as server:
        yield server.url


@pytest.fixture
def cache(url: str) -> ExactCache:
    """Four answers: two of search, one of them a week old, one of chat, and one of nothing."""
    cache = open_cache(url)
    now = time.time()
    for number, (feature, model, tenant, age, tags) in enumerate(
        [
            ("search", "gpt-4o", "user:u1", 0.0, ("v1",)),
            ("search", "gpt-4o", "user:u2", 604_900.0, ()),
            ("chat", "gpt-4o-mini", "feature:chat", 0.0, ("v1", "v2")),
            ("", "", "", 0.0, ()),
        ]
    ):
        made = Entry(
            reply="{}", feature=feature, model=model, tenant=tenant, tags=tags, cost=2_500_000 if feature else 0,
            created=now - age, expires=now + 9_000,
        )  # fmt: skip
        cache.put(f"{number:064x}", made, now=now)
    return cache


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_stats_show_answers_by_feature_and_model(
    url: str, cache: ExactCache, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "stats", "--store", url]) == 0
    shown = capsys.readouterr().out
    header, _, *body = rows(shown)
    assert header == ["kind", "feature", "model", "answers", "bytes", "cost"]
    assert [[row[n] for n in (0, 1, 2, 3, 5)] for row in body[:3]] == [
        ["exact", "-", "-", "1", "$0.0000"],
        ["exact", "chat", "gpt-4o-mini", "1", "$0.0025"],
        ["exact", "search", "gpt-4o", "2", "$0.0050"],
    ]
    assert "4 exact answers, which cost $0.0075: asked for once each, they save as much again." in shown
    assert main(["cache", "clear", "--store", url, "--yes"]) == 0
    assert main(["cache", "stats", "--store", url]) == 0
    assert capsys.readouterr().out == "4 answers forgotten.\nNo answer is remembered.\n"


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        ([], 4),
        (["--tag", "v1"], 2),
        (["--feature", "search"], 2),
        (["--model", "gpt-4o-mini"], 1),
        (["--tenant", "user=u2"], 1),
        (["--tenant", "feature=chat"], 1),
        (["--older-than", "7d"], 1),
        (["--older-than", "2w"], 0),
        (["--feature", "search", "--older-than", "1.5h"], 1),
        (["--tag", "v1", "--model", "gpt-4o"], 1),
    ],
    ids=str,
)
def test_clear_forgets_that_of_which_everything_given_is_true(
    url: str, cache: ExactCache, words: list[str], gone: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "clear", *words, "--store", url, "--yes"]) == 0
    assert capsys.readouterr().out == f"{gone} answer{'' if gone == 1 else 's'} forgotten.\n"
    assert sum(row.entries for row in cache.stock(now=time.time())) == 4 - gone


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as file:
        return {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE name LIKE 'costguard%'")}


@pytest.fixture(params=["sqlite", "vector sets", "redis search"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """An index of each kind, and the URL of the file or server it is in."""
    if request.param == "sqlite":
        path = tmp_path / "answers.db"
        with closing(SQLiteIndex(path)) as kept:
            yield f"sqlite:{path}", kept
        return
    program = redis8_program() if request.param == "vector sets" else None
    if request.param == "vector sets" and program is None:
        pytest.skip(NO_REDIS8)
    with redis_server(program) as server:
        if program:
            with closing(RedisVectorSetIndex(server.url, timeout=5)) as sets:
                yield server.url, sets
            return
        with imitated_search(server) as url, closing(RedisSearchIndex(url, timeout=5)) as search:
            yield server.url, search


def remember_alike(index: Any) -> None:
    """Three semantic answers: two of search, one of them with a tag, and one of chat."""
    now = time.time()
    for number, (feature, tags) in enumerate([("search", ("v1",)), ("search", ()), ("chat", ())]):
        made = Entry(
            reply="{}", prompt="what?", feature=feature, model="gpt-4o", tenant="user:u1", tags=tags, cost=1_000_000,
            created=now, expires=now + 9_000,
        )  # fmt: skip
        index.add(str(number), "a setting", [1.0, number], made, now=now)


def test_semantic_answers_are_shown_and_forgotten_without_a_cache_of_exact_ones(
    index: tuple[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    url, kept = index
    remember_alike(kept)
    assert main(["cache", "stats", "--store", url]) == 0
    shown = capsys.readouterr().out
    body = [[row[n] for n in (0, 1, 2, 3, 5)] for row in rows(shown)[2:4]]
    assert body == [["semantic", "chat", "gpt-4o", "1", "$0.0010"], ["semantic", "search", "gpt-4o", "2", "$0.0020"]]
    assert shown.endswith("\n3 semantic answers, which cost $0.0030: asked for once each, they save as much again.\n")
    for words, gone in (["--tag", "v1"], 1), (["--model", "gpt-4o-mini"], 0), (["--tenant", "user=u1"], 2):
        assert main(["cache", "clear", *words, "--store", url, "--yes"]) == 0
        assert capsys.readouterr().out == f"{gone} answer{'' if gone == 1 else 's'} forgotten.\n"
    assert main(["cache", "stats", "--store", url]) == 0
    assert capsys.readouterr().out == "No answer is remembered.\n"
    assert kept.search("a setting", [1.0, 0.0], 9, now=time.time()) == []


def test_exact_and_semantic_answers_of_one_place_are_told_apart_and_forgotten_together(
    index: tuple[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    url, kept = index
    now = time.time()
    made = Entry(reply="{}", feature="search", model="gpt-4o", cost=2_500_000, created=now, expires=now + 9_000)
    open_cache(url).put("0" * 64, made, now=now)
    remember_alike(kept)
    assert main(["cache", "stats", "--store", url]) == 0
    shown = capsys.readouterr().out
    body = [[row[n] for n in (0, 1, 3)] for row in rows(shown)[2:5]]
    assert body == [["exact", "search", "1"], ["semantic", "chat", "1"], ["semantic", "search", "2"]]
    assert "\n1 exact answer, which cost $0.0025: " in shown
    assert "\n3 semantic answers, which cost $0.0030: " in shown
    assert main(["cache", "clear", "--feature", "search", "--store", url, "--yes"]) == 0
    assert capsys.readouterr().out == "3 answers forgotten.\n"


def test_semantic_answers_in_a_file_are_shown_and_forgotten_without_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "answers.db"
    with closing(SQLiteIndex(path)) as kept:
        remember_alike(kept)
    monkeypatch.setitem(sys.modules, "numpy", None)
    for command, said in (["stats"], "3 semantic answers"), (["clear", "--yes"], "3 answers forgotten."):
        assert main(["cache", *command, "--store", f"sqlite:{path}"]) == 0
        assert said in capsys.readouterr().out


def test_a_look_at_a_file_creates_no_tables_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other # 1?.db"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE mine (number INTEGER)")
    before = path.read_bytes()
    for command in (["stats"], ["clear", "--yes"]):
        assert main(["cache", *command, "--store", f"sqlite:{path}"]) == 0
    assert capsys.readouterr().out == "No answer is remembered.\n0 answers forgotten.\n"
    assert path.read_bytes() == before
    open_cache(f"sqlite:{path}")
    known = tables(path)
    assert main(["cache", "stats", "--store", f"sqlite:{path}"]) == 0
    assert tables(path) == known


@pytest.mark.parametrize(("answer", "left"), [("y", 2), ("", 4), ("n", 4)])
def test_a_person_at_a_terminal_is_asked(
    tmp_path: Path, answer: str, left: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_cache(f"sqlite:{tmp_path / 'answers.db'}")
    now = time.time()
    for number in range(4):
        made = Entry(reply="{}", feature="search" if number % 2 else "", created=now, expires=now + 9_000)
        cache.put(f"{number:064x}", made, now=now)
    keyboard, terminal = pty.openpty()
    os.write(keyboard, f"{answer}\n".encode())
    monkeypatch.setenv("COSTGUARD_CACHE", f"sqlite:{tmp_path / 'answers.db'}")
    with os.fdopen(terminal) as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        assert main(["cache", "clear", "--feature", "search"]) == 0
    os.close(keyboard)
    assert "Forget all answers of feature 'search'? [y/N] " in capsys.readouterr().out
    assert sum(row.entries for row in cache.stock(now=now)) == left


@pytest.mark.parametrize("command", ["stats", "clear"])
def test_a_cache_that_is_missing_or_away_is_told_in_one_line(
    command: str, complaint: Callable[..., str], tmp_path: Path
) -> None:
    words = ["cache", command, *(["--yes"] if command == "clear" else [])]
    assert complaint(*words).startswith("which cache?")
    assert complaint(*words, "--store", "memory:").startswith("--store: 'memory:' is seen by one process alone")
    missing = str(tmp_path / "answers.db")
    assert complaint(*words, "--store", f"sqlite:{missing}") == f"--store: there is no file {missing!r}"
    assert not os.path.exists(missing)
    (tmp_path / "notes.txt").write_text("no database, but a text that is long enough to be one" * 20)
    assert "cannot be used as a SQLite database" in complaint(*words, "--store", f"sqlite:{tmp_path / 'notes.txt'}")
    assert complaint(*words, "--store", "redis://127.0.0.1:1").startswith("the cache does not answer: ")
    assert complaint(*words, "--store", "answers.db").startswith("a cache's URL must be")


def test_what_cannot_be_meant_is_told_in_one_line(complaint: Callable[..., str], tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'answers.db'}"
    open_cache(url)
    words = ["cache", "clear", "--store", url]
    assert complaint(*words, "--older-than", "a week") == "--older-than: 'a week' is no time such as 30m, 12h or 7d"
    assert complaint(*words, "--tenant", "u1") == "--tenant: 'u1' is not user=NAME or feature=NAME"
    assert complaint(*words) == "Forget all answers? Say --yes: there is no terminal to ask at"
    for group in ("budgets", "cache", "config", "log", "router"):
        assert complaint(group) == f"Missing command (see costguard {group} --help)"
