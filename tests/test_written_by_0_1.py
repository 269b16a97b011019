"""What version 0.1 has written, ledgers and caches, is read and goes on; both may share it while a rollout lasts."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from langchain_costguard import AgentHaltedError, Budget, CostGuard, Price, RedisStore, SQLiteStore
from langchain_costguard.caching import Entry, SQLiteCache, SQLiteIndex
from langchain_costguard.metering.stores.base import Store
from langchain_costguard.testing import ScriptedChatModel
from tests.servers import redis_server

WRITTEN = json.loads(Path(__file__).with_suffix("").with_name("written_by_0_1.json").read_text("utf-8"))
CALL = 20_000
"""Nano-USD of a call of 10 and 5 tokens; three were made."""


def guarded(store: Store) -> CostGuard:
    budgets = Budget(per="all", usd="1", name="team"), Budget(per="user", tokens=1000)
    return CostGuard(*budgets, store=store, prices={"gpt-4o": Price(input="1", output="2")})


def call(guard: CostGuard, **tags: str) -> None:
    with guard.scope(user="u1", **tags):
        ScriptedChatModel(usage=(10, 5), max_tokens=5).invoke("hi", {"callbacks": [guard]})


def restored(folder: Path, what: str) -> Path:
    path = folder / f"{what}.db"
    with closing(sqlite3.connect(path)) as file, file:
        file.executescript("\n".join(WRITTEN[what]))
    return path


def shapes(path: Path) -> set[str]:
    """How each table is declared: what version 0.1 reads and writes by."""
    with closing(sqlite3.connect(path)) as file:
        return {text for (text,) in file.execute("SELECT sql FROM sqlite_master WHERE type = 'table'")}


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "sqlite":
        made: Any = SQLiteStore(restored(tmp_path, "sqlite"), timeout=5)
        yield made
        made.close()
        return
    with redis_server() as server:
        with redis.Redis.from_url(server.url) as client:
            for name, fields in WRITTEN["redis"].items():
                client.hset(name, mapping={bytes.fromhex(k): bytes.fromhex(v) for k, v in fields.items()})
        made = RedisStore(server.url, timeout=5)
        yield made
        made.close()


def test_an_old_ledger_goes_on_holds_and_halts_included(store: Any) -> None:
    assert store.read(["team|usd", "user|u1|tokens", "x|usd"], now=2.0) == [
        (3 * CALL, 0, 10**9), (45, 0, 1000), (0, 7, 100)
    ]  # fmt: skip
    guard = guarded(store)
    call(guard)
    assert [row.spent for row in store.read(["team|usd", "user|u1|tokens"], now=2.0)] == [4 * CALL, 60]
    with pytest.raises(AgentHaltedError, match="it ran wild"):
        call(guard, agent="rogue")


def test_both_versions_share_a_redis(store: Any) -> None:
    if isinstance(store, SQLiteStore):
        before = shapes(Path(store.path))
        call(guarded(store))
        assert before <= shapes(Path(store.path))
        return
    guard = guarded(store)
    call(guard)
    with redis.Redis.from_url(store._url) as client:
        old = {name: client.register_script(text) for name, text in WRITTEN["scripts"].items()}
        keys, accounts = [store._accounts], [b"team|usd", b"user|u1|tokens"]
        read = old["read"](keys, [struct.pack("<d", 2.0), *accounts])
        assert [read[0], read[3]] == [4 * CALL, 60]  # 0.1 reads what we have written
        numbers = struct.pack("<6d", 2_000_000_000, 2.0, 10**9, 86_400, 0, CALL)
        assert old["settle"](keys, [numbers, accounts[0]]) == [5 * CALL]
    call(guard)
    assert store.read(["team|usd"], now=2.0)[0].spent == 6 * CALL  # and we what it has


def test_old_caches_answer(tmp_path: Path) -> None:
    entry = Entry.from_json(WRITTEN["entry"])
    cache, index = SQLiteCache(restored(tmp_path, "cache")), SQLiteIndex(restored(tmp_path, "index"))
    assert cache.get("ab" * 32, now=2.0) == entry
    assert not cache.claim("cd" * 32, "another", until=9.0, now=2.0)
    (found,) = index.search("s", [1.0, 0.0, 0.5], 1, now=2.0)
    assert found.entry == entry
    shaped = shapes(tmp_path / "cache.db")
    cache.put("ef" * 32, entry, now=2.0)
    assert shapes(tmp_path / "cache.db") == shaped
    cache.close()
    index.close()
