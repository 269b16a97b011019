"""What only a file can do, and what can only go wrong with it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from langchain_costguard.metering.stores import Balance, Claim, Grant, SQLiteStore, StoreError
from tests.waits import waits_less_than

CLAIM = Claim("session=s|usd", 100, 10)
TIMEOUT = 0.25
SOON = 2.5
"""Seconds. A quarter of what forty take who wait for each other's time-outs."""
PROCESSES = multiprocessing.get_context("forkserver")


def spend(store: SQLiteStore) -> int:
    assert store.reserve([CLAIM], units=(0, 0), until=1_060, now=1_000.0) == Grant(0)
    return store.settle([CLAIM], [10], [7], until=1_060, now=1_001.0)[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budgets.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path, timeout=TIMEOUT)
    yield store
    store.close()


@pytest.fixture
def locked(store: SQLiteStore, path: Path) -> Iterator[sqlite3.Connection]:
    """Another connection that is writing and does not finish."""
    spend(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def assert_fails(ask: Callable[[], object]) -> None:
    with pytest.raises(StoreError, match=r"budgets\.db"):
        ask()


def assert_fails_in_time(ask: Callable[[], object]) -> None:
    with waits_less_than(SOON):
        assert_fails(ask)


def test_balances_outlive_the_process(path: Path) -> None:
    for total in (7, 14, 21):
        store = SQLiteStore(path)
        assert spend(store) == total
        store.close()


def test_nobody_waits_long_for_a_file_that_is_locked(store: SQLiteStore, locked: sqlite3.Connection) -> None:
    assert_fails_in_time(lambda: spend(store))
    with waits_less_than(SOON), ThreadPoolExecutor(40) as threads:
        list(threads.map(lambda _: assert_fails(lambda: spend(store)), range(40)))
    assert store.read([CLAIM.account], now=1_001.0) == [Balance(7, 0, 100)]
    locked.execute("ROLLBACK")
    assert spend(store) == 14


def test_a_locked_file_can_still_be_opened_and_read(path: Path, locked: sqlite3.Connection) -> None:
    with closing(SQLiteStore(path)) as other:
        assert other.read([CLAIM.account], now=1_001.0) == [Balance(7, 0, 100)]


def test_one_caller_whose_request_fails_does_not_take_the_others_with_it(store: SQLiteStore) -> None:
    def ask(number: int) -> int:
        name = "\ud800" if number % 2 else "good"  # half of a surrogate pair is no text that SQLite takes
        try:
            return store.settle([Claim(name, 100, 0)], [0], [1], until=1_060, now=1_000.0)[0]
        except UnicodeEncodeError:
            return 0

    with ThreadPoolExecutor(32) as threads:
        totals = list(threads.map(ask, range(200)))
    assert max(totals) == 100
    assert totals.count(0) == 100


class Entangled(list[Claim]):
    """Claims that, when looked at, use the store: as a stream does that is closed by the garbage collector."""

    store: SQLiteStore
    errors: list[StoreError]

    def __iter__(self) -> Iterator[Claim]:
        try:
            self.store.settle([CLAIM], [0], [1], until=1_060, now=1_000.0)
        except StoreError as error:
            self.errors.append(error)
        return super().__iter__()


def test_a_thread_that_comes_back_in_the_middle_of_its_own_call_does_not_wait_for_itself(path: Path) -> None:
    claims = Entangled([CLAIM])
    with closing(SQLiteStore(path, timeout=30)) as store:
        claims.store, claims.errors = store, []
        with waits_less_than(10):
            assert store.reserve(claims, units=(0, 0), until=1_060, now=1_000.0) == Grant(0)
        assert claims.errors
        spent = store.read([CLAIM.account], now=1_000.0)[0].spent
        assert store.settle([CLAIM], [10], [7], until=1_060, now=1_000.0) == [spent + 7]


@pytest.mark.parametrize("make", [
    lambda folder: folder / "missing" / "budgets.db",
    lambda folder: folder,
    lambda folder: "",
    lambda folder: ":memory:",
    lambda folder: b"budgets.db",
    lambda folder: folder / "nul\x00.db",
])  # fmt: skip
def test_a_bad_path_is_named(tmp_path: Path, make: Callable[[Path], str]) -> None:
    path = make(tmp_path)
    with pytest.raises(ValueError, match="path") as caught:
        SQLiteStore(path)
    assert repr(path if isinstance(path, bytes) else str(path)).strip("'") in str(caught.value)


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.write_text("my diary, which must not be overwritten " * 50)
    with pytest.raises(ValueError, match=r"budgets\.db.*not a database"):
        SQLiteStore(path)
    assert path.read_text().startswith("my diary")


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), "1", None, True])
def test_a_bad_timeout_is_named(path: Path, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout") as caught:
        SQLiteStore(path, timeout=timeout)
    assert repr(timeout) in str(caught.value)


def test_a_database_with_other_tables_keeps_them(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE account (mine)")
        other.execute("INSERT INTO account VALUES (1)")
        other.commit()
        with closing(SQLiteStore(path)) as store:
            assert spend(store) == 7
        assert other.execute("SELECT * FROM account").fetchall() == [(1,)]


def test_a_file_is_closed_when_its_transaction_is_over(store: SQLiteStore) -> None:
    closed: list[bool] = []

    def work(connection: sqlite3.Connection) -> int:
        closing = threading.Thread(target=lambda: (store.close(), closed.append(True)))
        closing.start()
        closing.join(0.05)
        assert not closed
        return int(connection.execute("SELECT 1").fetchone()[0])

    assert store._database.run(work) == 1


def test_a_closed_store_answers_with_a_store_error(store: SQLiteStore) -> None:
    store.close()
    assert_fails_in_time(lambda: spend(store))


def test_a_copy_sent_to_another_process_is_the_same_budget(store: SQLiteStore) -> None:
    spend(store)
    copy = pickle.loads(pickle.dumps(store))
    assert (copy.path, copy.timeout) == (store.path, store.timeout)
    assert spend(copy) == 14
    copy.close()


def test_a_relative_path_means_the_same_file_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(SQLiteStore("budgets.db")) as store:
        monkeypatch.chdir("/")
        assert pickle.loads(pickle.dumps(store)).path == str(tmp_path / "budgets.db")


def test_a_forked_child_opens_the_file_anew(store: SQLiteStore) -> None:
    spend(store)
    child = os.fork()
    if child == 0:
        try:
            os._exit(spend(store))
        finally:
            os._exit(255)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 14
    assert spend(store) == 21


def create_and_spend(path: str, barrier: Barrier) -> None:
    barrier.wait()
    with closing(SQLiteStore(path)) as store:
        spend(store)


def test_processes_that_create_the_same_file_at_once_all_find_it(path: Path) -> None:
    barrier = PROCESSES.Barrier(6)
    processes = [PROCESSES.Process(target=create_and_spend, args=(str(path), barrier)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    with closing(SQLiteStore(path)) as store:
        assert store.read([CLAIM.account], now=1_001.0) == [Balance(42, 0, 100)]
