"""Several processes on one cache, and servers that go away."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sqlite3
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import redis

from langchain_costguard.caching import CacheError, MemoryCache, RedisCache, SQLiteCache, Wanted, open_cache
from langchain_costguard.metering.stores import SQLiteStore
from langchain_costguard.testing import ManualClock
from tests.caching import workers
from tests.caching.conftest import emptied
from tests.caching.test_contract import FULL, NOW, entry, key
from tests.servers import Server, redis_server, silent_server

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([workers.__name__])


@pytest.fixture(params=["sqlite", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A cache that other processes share."""
    if request.param == "sqlite":
        cache: Any = SQLiteCache(tmp_path / "answers.db", timeout=30.0, max_entries=500)
    else:
        cache = RedisCache(emptied(request.getfixturevalue("server")), timeout=30.0)
    yield cache
    cache.close()


def start(target: Any, *arguments: Any) -> tuple[Any, Connection]:
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=target, args=(*arguments, there), daemon=True)
    process.start()
    there.close()
    return process, here


def test_of_a_hundred_contenders_in_four_processes_one_holds_the_claim(shared: Any) -> None:
    barrier = PROCESSES.Barrier(4)
    crowds = [[f"{number}.{n}" for n in range(25)] for number in range(4)]
    running = [start(workers.contend, shared, key("q"), NOW, names, barrier) for names in crowds]
    holders = [name for _, answer in running for name in answer.recv()]
    for process, _ in running:
        process.join()
    assert len(holders) == 1
    assert not shared.claim(key("q"), "late", until=NOW + 60, now=NOW + 29)
    shared.release(key("q"), holders[0])
    assert shared.claim(key("q"), "late", until=NOW + 60, now=NOW + 29)


def test_the_claim_of_a_killed_process_expires(shared: Any) -> None:
    process, answer = start(workers.claim_and_hang, shared, key("q"), NOW)
    assert answer.recv() is True
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not shared.claim(key("q"), "next", until=NOW + 60, now=NOW + 29)
    assert shared.claim(key("q"), "next", until=NOW + 60, now=NOW + 30)


def test_processes_that_write_at_once_keep_to_the_bound_and_see_each_others_answers(shared: Any) -> None:
    keys = [[key((number, n)) for n in range(150)] for number in range(4)]
    running = [start(workers.write, shared, keys[number], entry(str(number)), NOW) for number in range(4)]
    assert [answer.recv() for _, answer in running] == [entry(str(number)).reply for number in range(4)]
    for process, _ in running:
        process.join()
    held = sum(stock.entries for stock in shared.stock(now=NOW))
    most = 500 + 4 * (500 // 64) if isinstance(shared, SQLiteCache) else 600
    assert 480 <= held <= most
    for number in range(4):
        assert shared.get(keys[number][-1], now=NOW + 149) == entry(str(number))


def test_a_forked_child_goes_on_with_the_parents_cache(shared: Any) -> None:
    shared.put(key("q"), FULL, now=NOW)
    child = os.fork()
    if child == 0:
        shared.put(key("child"), FULL, now=NOW)
        os._exit(0 if shared.get(key("q"), now=NOW) == FULL else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert shared.get(key("child"), now=NOW) == FULL


def test_a_cache_of_a_url_or_path_can_be_pickled_with_its_rules(tmp_path: Path, server: Server) -> None:
    rules = {"ttl": 60.0, "share": "all", "deterministic": True}
    made: list[Any] = [
        SQLiteCache(tmp_path / "a.db", max_entries=7, timeout=1.5, **rules),  # type: ignore[arg-type]
        RedisCache(emptied(server), prefix="mine", timeout=1.5, **rules),  # type: ignore[arg-type]
    ]
    for cache in made:
        copy = pickle.loads(pickle.dumps(cache))
        assert (copy.rules, repr(copy)) == (cache.rules, repr(cache))
        cache.put(key("q"), FULL, now=NOW)
        assert copy.get(key("q"), now=NOW) == FULL
    with redis.Redis.from_url(server.url) as client, pytest.raises(TypeError, match="make it from a URL"):
        pickle.dumps(RedisCache(client))


def test_a_file_holds_balances_and_answers(tmp_path: Path) -> None:
    store, cache = SQLiteStore(tmp_path / "all.db"), SQLiteCache(tmp_path / "all.db")
    cache.put(key("q"), FULL, now=NOW)
    store.flag("kill:*", "stop")
    again = SQLiteCache(tmp_path / "all.db")
    assert again.get(key("q"), now=NOW) == FULL
    assert again.forget(Wanted()) == 1
    assert SQLiteStore(tmp_path / "all.db").flags() == {"kill:*": "stop"}


def test_a_locked_file_is_an_error_after_a_short_wait_and_then_left_alone(tmp_path: Path) -> None:
    clock = ManualClock()
    cache = SQLiteCache(tmp_path / "a.db", timeout=0.01, clock=clock)
    cache.put(key("q"), FULL, now=NOW)
    with sqlite3.connect(tmp_path / "a.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(CacheError, match="locked"):
            cache.put(key("q"), FULL, now=NOW)
        other.execute("ROLLBACK")
    with pytest.raises(CacheError, match="locked"):
        cache.get(key("q"), now=NOW)
    clock.advance(5)
    assert cache.get(key("q"), now=NOW) == FULL


def test_a_server_that_is_away_is_asked_once_in_five_seconds() -> None:
    clock = ManualClock()
    with redis_server() as server:
        cache = RedisCache(server.url, timeout=0.05, clock=clock)
        cache.put(key("q"), FULL, now=NOW)
        with server.stopped(), pytest.raises(CacheError, match="Timeout"):
            cache.get(key("q"), now=NOW)
        for verb in (
            lambda: cache.get(key("q"), now=NOW),
            lambda: cache.put(key("q"), FULL, now=NOW),
            lambda: cache.claim(key("q"), "one", until=NOW + 9, now=NOW),
            lambda: cache.release(key("q"), "one"),
            lambda: cache.forget(Wanted()),
            lambda: list(cache.stock(now=NOW)),
        ):
            with pytest.raises(CacheError, match="Timeout"):
                verb()
        clock.advance(5)
        assert cache.get(key("q"), now=NOW) == FULL


def test_a_server_that_refuses_is_asked_again_at_once() -> None:
    with redis_server(None, "--maxmemory", "1", "--maxmemory-policy", "noeviction") as server:
        cache = RedisCache(server.url, timeout=5.0)
        with pytest.raises(CacheError, match="maxmemory"):
            cache.put(key("q"), entry("x" * 2_000_000), now=NOW)
        assert cache.get(key("q"), now=NOW) is None


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "redis://user:secret@127.0.0.1:1/0"])
def test_a_server_that_is_not_there_is_an_error_without_its_password(url: str) -> None:
    with pytest.raises(CacheError, match=r"127\.0\.0\.1:1") as caught:
        RedisCache(url).get(key("q"), now=NOW)
    assert "secret" not in str(caught.value)


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    with silent_server() as url, pytest.raises(CacheError, match="Timeout"):
        RedisCache(url, timeout=0.05).get(key("q"), now=NOW)


def test_an_entry_that_is_none_is_no_answer(tmp_path: Path, server: Server) -> None:
    cache = SQLiteCache(tmp_path / "a.db")
    cache.put(key("q"), FULL, now=NOW)
    with sqlite3.connect(tmp_path / "a.db") as other:
        other.execute("UPDATE costguard_answer SET entry = 'no entry'")
    remote = RedisCache(emptied(server))
    with redis.Redis.from_url(server.url) as client:
        client.set(f"costguard:cache:answer:{key('q')}", "no entry")
    for each in (cache, remote):
        assert each.get(key("q"), now=NOW) is None
    assert list(remote.stock(now=NOW)) == []


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: MemoryCache(max_entries=0), "max_entries: 0 must be"),
        (lambda: MemoryCache(ttl=0), "ttl: 0 must be"),
        (lambda: MemoryCache(share="team"), "share: 'team' is not"),
        (lambda: SQLiteCache(":memory:"), "path: ':memory:' names no file"),
        (lambda: SQLiteCache("/no/such/folder/a.db"), "path '/no/such/folder/a.db' cannot be used"),
        (lambda: SQLiteCache("a.db", timeout=0), "timeout: 0 must be"),
        (lambda: RedisCache("http://x"), "RedisCache cannot use url 'http://x'"),
        (lambda: RedisCache(4), "RedisCache needs a URL"),
        (lambda: RedisCache("redis://x", prefix=""), "prefix: '' must be"),
        (lambda: open_cache("answers.db"), "a cache's URL must be memory:, sqlite:PATH"),
        (lambda: open_cache("mysql://u:secret@x"), "not 'mysql://***@x'"),
    ],
)
def test_what_cannot_be_is_said_at_construction(make: Any, complaint: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert complaint in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_url_opens_the_cache_it_names(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_cache("memory:", ttl=5), MemoryCache)
    assert open_cache("memory:", ttl=5).rules.ttl == 5
    for url in ("sqlite:a.db", "sqlite:///a.db", f"sqlite:///{tmp_path}/a.db", f"sqlite:{tmp_path}/a.db"):
        cache = open_cache(url)
        assert isinstance(cache, SQLiteCache)
        assert Path(cache.path) == tmp_path / "a.db"
    for url in (server.url, server.unix_url):
        assert isinstance(open_cache(url), RedisCache)
        open_cache(url).put(key("q"), FULL, now=NOW)
