"""Settlements kept on disk, where the disk, the folder or what is in it is not as it should be."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from langchain_costguard import Budget, CostGuard, RedisStore
from langchain_costguard.metering.stores.base import Claim
from langchain_costguard.metering.stores.spool import Entry, Spool
from langchain_costguard.testing import ScriptedChatModel
from tests.conftest import PRICES
from tests.proxy import proxied
from tests.servers import Server

ONE_CALL = 10 * 2500 + 5 * 10_000
CLAIM = Claim("all|usd", 10**9, 0)
GOOD = ["receipts|x|1", 0, [[*CLAIM]], [0], [7], 99_999_999_999]


def spent(store: Any) -> tuple[int, int]:
    balance = store.read(["all|usd"], now=time.time())[0]
    return balance.spent, balance.held


@contextmanager
def full(folder: Path) -> Iterator[None]:
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


@contextmanager
def gone(folder: Path) -> Iterator[None]:
    shutil.rmtree(folder)
    folder.write_text("somebody else's")
    try:
        yield
    finally:
        folder.unlink()


@pytest.mark.parametrize("fault", [full, gone])
def test_what_cannot_be_kept_on_disk_waits_in_memory_and_it_is_said_once(
    fault: Any, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with proxied(server.port) as proxy, closing(RedisStore(proxy.url, namespace=tmp_path.name)) as store:
        guard = CostGuard(Budget(per="all", usd="1"), store=store, prices=PRICES, spool=tmp_path / "spool")

        class Losing(ScriptedChatModel):
            def _generate(self, *args: Any, **kwargs: Any) -> Any:
                proxy.refuse = True
                store.close()
                return super()._generate(*args, **kwargs)

        with fault(tmp_path / "spool"):
            for _ in range(3):
                proxy.refuse = False
                Losing(usage=(10, 5), max_tokens=5).invoke("hi", {"callbacks": [guard]})
        proxy.refuse = False
        assert guard.close(5)
        assert spent(store) == (3 * ONE_CALL, 0)
    assert [record.message for record in caplog.records].count("settling a call failed") == 0
    said = [record.message for record in caplog.records if "cannot be written" in record.message]
    assert len(said) <= 3
    assert said


JUNK: dict[str, tuple[bytes, int]] = {
    "a number": (b"5\n", 0),
    "no text": (b"\xff\xfe\n", 0),
    "too few": (b"[1, 2]\n", 0),
    "no claim": (json.dumps([*GOOD[:2], [["a"]], *GOOD[3:]]).encode(), 0),
    "no amount": (json.dumps([*GOOD[:4], ["5"], GOOD[5]]).encode(), 0),
    "one line of two": (json.dumps(GOOD).encode() + b"\n" + json.dumps(GOOD).encode()[:40], 7),
    "nothing": (b"", 0),
}


@pytest.mark.parametrize("junk", JUNK)
def test_a_file_that_cannot_be_read_is_said_and_kept_and_keeps_nothing_else_back(
    junk: str, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, found = JUNK[junk]
    with closing(RedisStore(server.url, namespace=tmp_path.name)) as store:
        left = Spool(tmp_path / "spool", of=repr(store))
        left.write(Entry([CLAIM], [0], [11], int(time.time()) + 60), "receipts|g|1", 0)
        bad = left._path.with_name(left._path.name[:13] + "0.jsonl")
        bad.write_bytes(data)
        left.leave_parent()
        for _ in range(2):
            assert CostGuard(Budget(per="all", usd="1"), store=store, spool=tmp_path / "spool").close(5)
        assert spent(store) == (11 + found, 0)
        files = [path.name for path in (tmp_path / "spool").iterdir()]
        assert files == ([bad.with_suffix(".unreadable").name] if junk != "nothing" else [])
        said = [record.message for record in caplog.records if "1 line of" in record.message]
        assert len(said) == len(files)


def test_two_ledgers_that_share_a_folder_are_told_apart_by_their_servers(server: Server, tmp_path: Path) -> None:
    clients = [redis.Redis(port=1), redis.Redis(port=server.port), redis.Redis(port=server.port, db=1)]
    with clients[0], clients[1], clients[2]:
        stores = [RedisStore(client, namespace=tmp_path.name) for client in clients]
        left = Spool(tmp_path / "spool", of=repr(stores[0]))
        left.write(Entry([CLAIM], [0], [11], int(time.time()) + 60), "receipts|g|1", 0)
        left.leave_parent()
        for store in stores[1:]:
            assert CostGuard(Budget(per="all", usd="1"), store=store, spool=tmp_path / "spool").close(5)
            assert spent(store) == (0, 0)
        assert len(list((tmp_path / "spool").iterdir())) == 1
