"""The index in a SQLite file: what outlives the process, and what several processes see of each other."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from langchain_costguard.caching.base import CacheError
from langchain_costguard.caching.entry import Entry, Wanted
from langchain_costguard.caching.exact.sqlite import SQLiteCache
from langchain_costguard.caching.index.sqlite import SQLiteIndex
from langchain_costguard.metering.stores import SQLiteStore

PROCESSES = multiprocessing.get_context("forkserver")
NOW = 1_000_000.0


def entry(**fields: Any) -> Entry:
    return Entry(**{"reply": "{}", "created": NOW, "expires": NOW + 60, **fields})


def ids(index: SQLiteIndex, now: float = NOW) -> list[str]:
    return [near.id for near in index.search("a", [1, 0], 99, now=now)]


def count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as file:
        return int(file.execute("SELECT count(*) FROM costguard_vector").fetchone()[0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.db"


def obey(path: Path, orders: Connection) -> None:
    """Another process: does what it is told until it is told nothing."""
    index = SQLiteIndex(path, timeout=5)
    while order := orders.recv():
        verb, *values = order
        if verb == "add":
            index.add(values[0], "a", [1, values[1]], entry(feature=values[0]), now=NOW)
            orders.send(None)
        elif verb == "forget":
            orders.send(index.forget(Wanted(feature=values[0])))
        else:
            orders.send(ids(index))


def test_answers_outlive_the_process(path: Path) -> None:
    given = entry(reply='{"text":"„ja“"}', tags=("x",), model="m", cost=3)
    for i in range(3):
        with closing(SQLiteIndex(path)) as index:
            index.add(str(i), "a", [1, i], given, now=NOW)
            assert ids(index) == [str(i) for i in range(i + 1)]
    with closing(SQLiteIndex(path)) as index:
        found = index.search("a", [0, 1], 1, now=NOW)[0]
        assert (found.id, found.entry) == ("2", given)


def test_processes_see_what_the_others_add_replace_and_forget(path: Path) -> None:
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=obey, args=(path, there), daemon=True)
    process.start()

    def other(*order: Any) -> Any:
        here.send(order)
        return here.recv()

    with closing(SQLiteIndex(path, timeout=5)) as index:
        index.add("ours", "a", [1, 0], entry(feature="ours"), now=NOW)
        assert other("find") == ["ours"]
        other("add", "theirs", 1)
        assert ids(index) == ["ours", "theirs"]
        other("add", "ours", 2)
        assert ids(index) == ["theirs", "ours"]
        assert index.forget(Wanted(feature="theirs")) == 1
        assert other("find") == ["ours"] == ids(index)
        assert other("forget", "ours") == 1
        assert ids(index) == []
        index.add("again", "a", [1, 0], entry(), now=NOW)
        assert other("find") == ["again"]
    here.send(None)
    process.join(10)


def test_two_at_work_on_one_file_miss_nothing_of_each_other(path: Path) -> None:
    with closing(SQLiteIndex(path)) as one, closing(SQLiteIndex(path)) as two:
        for i in range(40):
            (one, two)[i % 2].add(str(i), "a", [1, i], entry(), now=NOW)
            if i % 3 == 0:
                assert ids(one) == ids(two) == [str(i) for i in range(i + 1)]
        assert ids(one) == ids(two) == [str(i) for i in range(40)]


def test_more_answers_than_are_read_at_once_are_all_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SQLiteIndex(path)) as index:
        for i in range(4_100):
            index.add(str(i), "a", [1, i], entry(), now=NOW)
        index.forget(Wanted(feature="none"))
    with closing(SQLiteIndex(path)) as index:
        found = index.search("a", [1, 0], 9_999, now=NOW)
        assert [near.id for near in found][:3] == ["0", "1", "2"]
        assert len(found) == 4_100


def test_expired_answers_leave_the_file(path: Path) -> None:
    with closing(SQLiteIndex(path)) as index:
        for i in range(20):
            index.add(f"old {i}", "a", [1, i], entry(expires=NOW + 1), now=NOW)
        index.add("new", "a", [1, 0], entry(), now=NOW + 2)
        index.add("newer", "a", [1, 1], entry(), now=NOW + 2)
        assert count(path) == 2
        assert ids(index, NOW + 2) == ["new", "newer"]


def test_the_file_stays_near_its_bound(path: Path) -> None:
    with closing(SQLiteIndex(path, max_entries=10)) as index:
        for i in range(150):
            index.add(str(i), "a", [1, i], entry(), now=NOW)
        assert len(ids(index)) == 10
        assert count(path) <= 10 + 64
    with closing(SQLiteIndex(path, max_entries=10)) as index:
        assert ids(index) == [str(i) for i in range(140, 150)]


def test_a_file_may_be_that_of_a_store_too(path: Path) -> None:
    with closing(SQLiteStore(path)) as store, closing(SQLiteIndex(path)) as index:
        store.flag("stop", "yes")
        index.add("1", "a", [1, 0], entry(), now=NOW)
        assert store.flags() == {"stop": "yes"}
        assert ids(index) == ["1"]


@pytest.mark.parametrize("first", [SQLiteCache, SQLiteIndex])
def test_a_file_may_be_that_of_a_cache_too_whichever_comes_first(path: Path, first: Any) -> None:
    first(path).close()
    with closing(SQLiteCache(path)) as cache, closing(SQLiteIndex(path)) as index:
        cache.put("0" * 64, entry(feature="exact"), now=NOW)
        index.add("1", "a", [1, 0], entry(feature="near"), now=NOW)
        assert cache.get("0" * 64, now=NOW) == entry(feature="exact")
        assert ids(index) == ["1"]


def test_a_row_that_is_none_of_ours_is_passed_over(path: Path) -> None:
    with closing(SQLiteIndex(path)) as index:
        index.add("1", "a", [1, 0], entry(), now=NOW)
    with closing(sqlite3.connect(path)) as file, file:
        insert = "INSERT INTO costguard_vector (id, setting, vector, entry, expires) VALUES (?, 'a', ?, ?, ?)"
        file.execute(insert, ("odd entry", b"\0\0\x80?\0\0\0\0", "{", NOW + 60))
        file.execute(insert, ("odd vector", b"\0\0\x80", entry().to_json(), NOW + 60))
        file.execute(insert, ("odd size", b"\0\0\x80?", entry().to_json(), NOW + 60))
    with closing(SQLiteIndex(path)) as index:
        assert ids(index) == ["1"]
        assert index.forget(Wanted()) == 4


def test_a_file_that_stays_locked_is_a_cache_error(path: Path) -> None:
    with closing(SQLiteIndex(path, timeout=0.05)) as index, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CacheError, match=r"answers\.db"):
            index.add("1", "a", [1, 0], entry(), now=NOW)
        assert ids(index) == ["1"]  # this process knows it nevertheless, and may look up


def test_a_closed_index_is_a_cache_error(path: Path) -> None:
    index = SQLiteIndex(path)
    index.close()
    with pytest.raises(CacheError):
        index.search("a", [1, 0], 1, now=NOW)


@pytest.mark.parametrize("wrong", ["", ":memory:", "no/such/folder/answers.db", "."])
def test_a_path_that_is_no_file_is_refused(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="path"):
        SQLiteIndex(wrong)
