"""Balances that something else has written over: no answer is made up of them, and it is said which account it is."""

from __future__ import annotations

import re
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


@pytest.mark.parametrize("junk", [b"", b"garbage", b"\xff" * 9, b"\xff" * 32, b"\x01" * 48])
def test_the_same_in_redis_and_other_accounts_go_on(junk: bytes, server: Server) -> None:
    store = RedisStore(server.url, namespace=f"corrupt{len(junk)}", timeout=5)
    guard = CostGuard(Budget(per="user", usd="1"), store=store)
    model = ScriptedChatModel()

    def spend(user: str) -> None:
        with guard.scope(user=user):
            model.invoke("hi", {"callbacks": [guard]})

    spend("one")
    with redis.Redis.from_url(server.url) as client:
        accounts = f"{{corrupt{len(junk)}}}:accounts"
        (name,) = [name.decode() for name in client.hkeys(accounts) if name.startswith(b"user|")]
        client.hset(accounts, name, junk)
        client.hset(f"{{corrupt{len(junk)}}}:flags", b"halt:\xff", b"\xfe")
    with pytest.raises(StoreUnavailableError, match=re.escape(f"the account '{name}' cannot be read")):
        spend("one")
    with pytest.raises(StoreError, match=re.escape(name)):
        list(store.scan(now=1.0))
    for number in range(9):  # each new account looks at old ones
        spend(f"other{number}")
    assert store.flags() == {"halt:\ufffd": "\ufffd"}
