"""Whose turn it is with a file, by a clock that the test holds: no second really passes here."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from langchain_costguard.metering.stores import Balance, Claim, SQLiteStore, StoreError, database
from langchain_costguard.metering.stores.base import StoreBusyError
from langchain_costguard.metering.stores.database import Database
from langchain_costguard.metering.stores.sqlite import SCHEMA

CLAIM = Claim("a|usd", 100, 10)
PAUSE = 1 / 256
"""Seconds, whose sums are exact."""
GONE = "the file was deleted or replaced while in use; the one that is there now is used"


class Hands:
    """A clock that goes on by what is slept, and by what the machine was too busy for; ``meanwhile`` others work."""

    def __init__(self) -> None:
        self.at = 0.5
        self.slept = 0
        self.lost = 0.0
        self.meanwhile: Callable[[int], object] = lambda slept: None

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.at += seconds + self.lost
        self.meanwhile(self.slept)


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    made = Hands()

    def uniform(least: float, most: float) -> float:
        assert (least, most) == (0.0002, 0.004)
        return PAUSE

    monkeypatch.setattr(database, "time", made)
    monkeypatch.setattr(database, "random", SimpleNamespace(uniform=uniform))
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "b.db"


@pytest.fixture
def other(hands: Hands, path: Path) -> Iterator[sqlite3.Connection]:
    """Another connection to the same ledger."""
    SQLiteStore(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as made:
        made.execute("PRAGMA synchronous=OFF")
        yield made


def spend(store: SQLiteStore) -> int:
    return store.settle([CLAIM], [0], [1], until=60, now=0.0)[0]


def commits(other: sqlite3.Connection) -> None:
    """Somebody else has written, and holds the lock again at once."""
    if other.in_transaction:
        other.execute("COMMIT")
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO costguard_sweep VALUES ('')")


TURNS: dict[str, tuple[float, float, range, int, int, type[StoreError] | None]] = {
    "nobody commits": (0.25, 0.0, range(0), 0, 64, StoreError),
    "nobody commits for long": (2.0, 0.0, range(0), 0, 512, StoreError),
    "others always commit": (0.25, 0.0, range(9999), 0, 256, StoreBusyError),
    "others commit, and the timeout is long": (2.0, 0.0, range(9999), 0, 512, StoreBusyError),
    "others commit, and then stop": (0.25, 0.0, range(101), 0, 164, StoreBusyError),
    "another commits once, late": (0.25, 0.0, range(60, 61), 0, 124, StoreBusyError),
    "the lock is let go": (0.25, 0.0, range(0), 63, 63, None),
    "the machine is busy": (0.25, 1.0, range(0), 0, 32, StoreError),
}


@pytest.mark.parametrize("case", TURNS)
def test_a_turn_is_waited_for_while_others_commit_and_no_longer(
    case: str, hands: Hands, other: sqlite3.Connection, path: Path
) -> None:
    timeout, lost, committing, ends, slept, error = TURNS[case]
    with closing(SQLiteStore(path, timeout=timeout)) as store:
        commits(other)

        def meanwhile(number: int) -> None:
            if number in committing:
                commits(other)
            elif number == ends:
                other.execute("COMMIT")

        hands.lost, hands.meanwhile = lost, meanwhile
        if error is None:
            assert spend(store) == 1
        else:
            with pytest.raises(StoreError) as caught:
                spend(store)
            assert (type(caught.value), str(caught.value)) == (error, f"SQLite at {path}: database is locked")
        assert hands.slept == slept


def test_a_new_file_that_somebody_keeps_is_waited_for_longer(hands: Hands, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as owner:
        owner.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match=f"^SQLite at {path}: database is locked$"):
            SQLiteStore(path)
        assert hands.slept == 5 * 256
        hands.meanwhile = lambda slept: owner.execute("COMMIT")
        with closing(SQLiteStore(path)) as store:
            assert spend(store) == 1
        assert owner.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        owner.execute("BEGIN IMMEDIATE")
        slept, hands.meanwhile = hands.slept, lambda slept: None
        with closing(SQLiteStore(path)) as store:  # nothing is written to open what is there
            assert store.read([CLAIM.account], now=0.0) == [Balance(1, 0, 100)]
        assert hands.slept == slept


def test_who_has_just_committed_makes_way_for_a_while_where_others_were_seen_to(
    hands: Hands, other: sqlite3.Connection, path: Path
) -> None:
    with closing(SQLiteStore(path)) as store:
        for _ in range(3):
            spend(store)
        assert hands.slept == 0  # alone
        other.execute("INSERT INTO costguard_sweep VALUES ('')")
        hands.at += PAUSE
        spend(store)
        assert hands.slept == 0  # they had the time
        other.execute("INSERT INTO costguard_sweep VALUES ('')")
        hands.at += PAUSE / 2
        for _ in range(99):
            spend(store)
        assert hands.slept == 26  # a tenth of a second
        other.execute("INSERT INTO costguard_sweep VALUES ('')")
        spend(store)
        hands.at = store._database._contended
        spend(store)
        assert hands.slept == 27
        assert store.read([CLAIM.account], now=0.0) == [Balance(105, 0, 100)]


def test_a_file_is_looked_for_once_a_second(hands: Hands, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(SQLiteStore(path)) as store:
        for deleted, after, noticed in ((True, 0.0, 0), (False, 0.75, 0), (False, 0.25, 1), (False, 1.0, 1),
                                        (True, 0.0, 1), (False, 0.5, 1), (False, 0.5, 2)):  # fmt: skip
            if deleted:
                path.unlink()
            hands.at += after
            spend(store)
            assert [record.message for record in caplog.records] == [f"SQLite at {path}: {GONE}"] * noticed
        assert (store.read([CLAIM.account], now=0.0)[0].spent, store.risks()) == (1, [])
        path.unlink()
        path.mkdir()
        hands.at += 1.0
        for _ in range(2):
            with pytest.raises(StoreError, match=f"^path '{path}' cannot be used as a SQLite database: "):
                spend(store)
        path.rmdir()
        assert spend(store) == 1  # it is looked for again at once
        store.close()
        path.unlink()
        hands.at += 9.0
        with pytest.raises(StoreError, match="Cannot operate on a closed database"):
            spend(store)
        assert not path.exists()


def test_who_comes_meanwhile_is_done_with_the_first_of_them_in_one_transaction(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        kept, said, begun, go = store._database, list[str](), threading.Event(), threading.Event()

        def first(connection: sqlite3.Connection) -> None:
            connection.set_trace_callback(said.append)
            begun.set()
            assert go.wait(60)

        def wrong(connection: sqlite3.Connection) -> None:
            raise LookupError("mine")

        def fails() -> None:
            with pytest.raises(LookupError):
                kept.run(wrong)

        queue = kept._together
        threads = [threading.Thread(target=kept.run, args=(first,)), threading.Thread(target=fails)]
        threads += [threading.Thread(target=spend, args=(store,)) for _ in range(5)]
        threads += [threading.Thread(target=store.read, args=(["a"],), kwargs={"now": 0.0}) for _ in range(2)]
        for number, thread in enumerate(threads, 1):
            thread.start()
            assert begun.wait(60)
            while len(queue._waiting) + len(queue._leading) < number:
                pass
        go.set()
        for thread in threads:
            thread.join()
        # The first is in its transaction before it is traced; that of the others begins again without what fails.
        assert [text for text in said if text.startswith("BEGIN")] == ["BEGIN IMMEDIATE"] * 2
        assert store.read([CLAIM.account], now=0.0)[0].spent == 5
        assert [text for text in said if text.startswith("BEGIN")] == ["BEGIN IMMEDIATE"] * 2 + ["BEGIN"]


def test_a_child_opens_the_file_for_itself_and_leaves_its_parents_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SQLiteStore(path)
    spend(store)
    parents, pid = store._database._connection, os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: -pid)
    assert [spend(store), spend(store)] == [2, 3]
    own = store._database._connection
    assert own is not parents
    monkeypatch.setattr(os, "getpid", lambda: pid)
    monkeypatch.setattr(store._database, "_pid", -pid)
    store.close()  # not this one's to close
    for connection in (own, parents):
        assert connection.execute("SELECT spent FROM costguard_account").fetchone() == (3,)
        connection.close()


def test_before_a_child_is_made_the_transactions_of_this_one_come_to_their_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "QUEUEING", 0.0)
    free, busy, others = (Database(f"{path}{number}", SCHEMA, timeout=1.0) for number in range(3))
    monkeypatch.setattr(others, "_pid", -1)
    with busy._busy:
        database._wait_before_fork()
        try:
            assert [each._busy.locked() for each in (free, busy, others)] == [True, True, False]
        finally:
            database._go_on()
        assert [each._busy.locked() for each in (free, busy, others)] == [False, True, False]
    monkeypatch.undo()
    for each in (free, busy, others):
        assert os.stat(each.path).st_mode & 0o777 == 0o600
        each.close()


def test_what_a_job_raises_is_told_to_who_asked_for_it_and_what_sqlite_says_to_all(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        kept: Any = store._database

        def fails(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM costguard_account")
            raise LookupError("mine")

        spend(store)
        with pytest.raises(LookupError, match=r"^'?mine'?$"):
            kept.run(fails)
        assert store.read([CLAIM.account], now=0.0)[0].spent == 1
        with pytest.raises(StoreError, match=f"^SQLite at {path}: no such table: nowhere$") as caught:
            kept.run(lambda connection: connection.execute("SELECT * FROM nowhere"))
        assert type(caught.value) is StoreError
        with pytest.raises(StoreError, match=r"attempt to write a readonly database|no such|syntax|incomplete"):
            kept.run(lambda connection: connection.execute("INSERT"), write=False)
        assert not kept._connection.in_transaction
        assert spend(store) == 2


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as file:
        return [first for first, *_ in file.execute(query).fetchall()]


def test_what_a_file_is_given_is_checked_and_kept(path: Path) -> None:
    for mode in (True, "0o600", None, 400.0, 0o577, 0o1000):
        with pytest.raises(ValueError, match=f"^mode: {mode!r} must be a file's permissions, such as 0o600 or 0o660$"):
            SQLiteStore(path, mode=mode)  # type: ignore[arg-type]
    assert not path.exists()
    for mode in (None, 0o777):
        store = SQLiteStore(path) if mode is None else SQLiteStore(path, mode=mode)
        assert (store.shared, store.timeout, store.risks()) == (True, 0.25, [])
        assert path.stat().st_mode & 0o777 == (mode or 0o600)
        path.unlink()
        assert store.risks() == ["the file was deleted or replaced while in use"]
        store.close()


def test_a_file_is_read_while_another_writes_and_figures_too_large_to_add_are_none(
    other: sqlite3.Connection, path: Path
) -> None:
    with closing(SQLiteStore(path)) as store:
        spend(store)
        store.flag("halt:a", "stay")
        commits(other)
        assert store.read(["a|usd"], now=0.0) == [Balance(1, 0, 100)]
        assert list(store.scan(now=0.0)) == [("a|usd", Balance(1, 0, 100))]
        assert store.flags() == {"halt:a": "stay"}
        other.execute("COMMIT")
        for spent, readable in ((2**62 - 1, True), (1 - 2**62, True), (2**62, False), (-(2**62), False)):
            other.execute("UPDATE costguard_account SET spent = ?", (spent,))
            if readable:
                assert store.read(["a|usd"], now=0.0) == [Balance(spent, 0, 100)]
            else:
                with pytest.raises(StoreError) as caught:
                    store.read(["a|usd"], now=0.0)
                row = f"spent {spent}, cap 100, holds ''"
                assert str(caught.value) == (
                    f"the account 'a|usd' cannot be read ({row}): mend the file, or delete that row"
                )


def test_each_new_account_looks_at_some_by_name_whether_they_are_idle(path: Path) -> None:
    def make(store: SQLiteStore, names: list[str], now: float, verb: str) -> None:
        claims = [Claim(name, 9, 0, ttl=10) for name in names]
        if verb == "settle":
            store.settle(claims, [0] * len(claims), [1] * len(claims), until=60, now=now)
        else:
            store.reserve(claims, units=(0, 0), until=60, now=now)

    old = [f"a{number:02}" for number in range(30)]
    for verb in ("settle", "reserve"):
        for many, at, left, position in ((1, 109.9, 31, "a15"), (1, 110.0, 15, "a15"), (20, 110.0, 20, "z09")):
            path.unlink(missing_ok=True)
            with closing(SQLiteStore(path)) as store:
                make(store, old, 100.0, verb)
                with closing(sqlite3.connect(path)) as file, file:
                    file.execute("DELETE FROM costguard_sweep")
                make(store, old[:1], 100.0, verb)  # not new
                assert rows(path, "SELECT position FROM costguard_sweep") == []
                make(store, [f"z{number:02}" for number in range(many)], at, verb)
                assert len(rows(path, "SELECT name FROM costguard_account")) == left, (verb, many, at)
                assert rows(path, "SELECT position FROM costguard_sweep") == [position]


def test_a_settlement_that_does_not_move_a_clock_leaves_it_as_it_is(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        clock = Claim("t", 9_000, 0, clock=True)
        store.reserve([clock], units=(0, 0), until=60, now=5.0)
        for amount, cap in ((0, 9_000), (1, 7_000)):
            assert store.settle([clock._replace(cap=7_000)], [0], [amount], until=60, now=5.0) == [0]
            assert store.read(["t"], now=5.0) == [Balance(5_000 - amount, 0, cap)]
