"""Balances that something else has written over: no answer is made up of them, and it is said which account it is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import redis

from langchain_costguard import Budget, CostGuard, RedisStore, SQLiteStore, StoreUnavailableError
from langchain_costguard.stores import StoreError
from langchain_costguard.testing import ScriptedChatModel
from tests.servers import Server

JUNK = {
    "spent": "spent = 'much'",
    "a half": "spent = 1.5",
    "a sum that is no integer of SQLite's": "spent = 9223372036854775807",
    "the cap": "cap = x'00ff'",
    "holds": "holds = 'a=b'",
    "half a hold": "holds = '5'",
    "no text": "holds = x'ff'",
}


@pytest.mark.parametrize("junk", JUNK)
def test_a_row_that_is_no_account_refuses_calls_and_is_named(junk: str, tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "b.db")
    guard = CostGuard(Budget(per="all", usd="1", name="all of us"), store=store)
    model = ScriptedChatModel()
    model.invoke("hi", {"callbacks": [guard]})
    with closing(sqlite3.connect(store.path)) as file, file:
        file.execute(f"UPDATE costguard_account SET {JUNK[junk]} WHERE name LIKE 'all%'")
    with pytest.raises(StoreUnavailableError, match=r"the account 'all%20of%20us\S*' cannot be read .*mend the file"):
        model.invoke("hi", {"callbacks": [guard]})
    with pytest.raises(StoreError):
        list(store.scan(now=1.0))
    assert not guard.headroom().rows


@pytest.mark.parametrize("junk", [b"", b"garbage", b"\xff" * 9])
def test_the_same_in_redis(junk: bytes, server: Server) -> None:
    store = RedisStore(server.url, namespace=f"corrupt{len(junk)}", timeout=5)
    guard = CostGuard(Budget(per="all", usd="1"), store=store)
    model = ScriptedChatModel()
    model.invoke("hi", {"callbacks": [guard]})
    with redis.Redis.from_url(server.url) as client:
        client.hset(f"{{corrupt{len(junk)}}}:accounts", "all|usd", junk)
    with pytest.raises(StoreUnavailableError, match="user_script"):
        model.invoke("hi", {"callbacks": [guard]})
