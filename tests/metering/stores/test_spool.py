"""Settlements kept on disk, where the disk, the folder or what is in it is not as it should be."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
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
GOOD: list[Any] = ["receipts|x|1", 0, [[*CLAIM]], [0], [7], 99_999_999_999]


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


def lines(folder: Path) -> list[int]:
    """The amounts in each of its files."""
    return [json.loads(line)[4][0] for path in folder.glob("*.jsonl") for line in path.read_bytes().splitlines()]


def test_what_waits_is_in_one_file_of_its_own_whatever_others_clear_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder, of="the store")
    spool.leave_parent()  # it has nothing
    spool.clear()
    for amount in range(1, 7):
        if amount == 4:
            (path,) = folder.iterdir()
            path.unlink()
        if amount == 6:
            shutil.rmtree(folder)
        spool.write(Entry([CLAIM], [0], [amount], 60), "receipts|x|1", 0)
        (path,) = folder.iterdir()
        assert re.fullmatch(hashlib.sha256(b"the store").hexdigest()[:12] + r"-[0-9a-f]{32}\.jsonl", path.name)
        assert (lines(folder), spool.behind) == ([*range(1, amount + 1)], 0)
        assert (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
    shutil.rmtree(folder)
    folder.write_text("somebody else's")
    for behind in range(1, 4):
        spool.write(Entry([CLAIM], [0], [6 + behind], 60), "receipts|x|1", 0)
        assert spool.behind == 6 + behind
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"spool: {folder} cannot be written, and its settlements wait in memory: [Errno")
    folder.unlink()
    spool.catch_up()
    assert (lines(folder), spool.behind) == ([*range(1, 10)], 0)
    (path,) = folder.iterdir()
    for cleared_up in (False, True):
        if cleared_up:
            path.unlink()
        spool.clear()
        assert (list(folder.iterdir()), spool.behind) == ([], 0)
        spool.write(Entry([CLAIM], [0], [9], 60), "receipts|x|1", 0)
        ((path,), found) = folder.iterdir(), lines(folder)
        assert (found, spool.behind) == ([9], 0)


def test_of_what_is_left_each_file_is_taken_by_one_and_none_keeps_another_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alive, spool = Spool(tmp_path, of="it"), Spool(tmp_path, of="it")
    alive.write(Entry([CLAIM], [0], [1], 60), "receipts|x|1", 0)
    mark = next(tmp_path.iterdir()).name[:13]
    for number in range(1, 6):
        (tmp_path / f"{mark}z{number}.jsonl").write_text(json.dumps([*GOOD[:4], [number * 10], GOOD[5]]) + "\n")
    (tmp_path / f"{mark}z0.jsonl").mkdir()  # no file that can be read
    lock = fcntl.flock

    def faster(file: int, how: int) -> None:
        """Another takes the second while this one has it open."""
        lock(file, how)
        path = tmp_path / f"{mark}z2.jsonl"
        if path.exists() and os.path.sameopenfile(file, os.open(path, os.O_RDONLY)):
            path.unlink()

    monkeypatch.setattr(fcntl, "flock", faster)
    left = spool.left_behind()
    assert next(left)[0].actual == [10]
    (tmp_path / f"{mark}z4.jsonl").unlink()  # another was faster
    assert [entry.actual for entry, _, _ in left] == [[30], [50]]
    assert list(spool.left_behind()) == []
    assert lines(tmp_path / "nowhere") == []
    assert len(list(tmp_path.iterdir())) == 2
    assert [record.getMessage().split(": [")[0] for record in caplog.records] == [
        f"spool: {tmp_path / f'{mark}z0.jsonl'} is not delivered"
    ]


def test_a_line_is_whole_or_it_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(tmp_path, of="it")
    spool.write(Entry([CLAIM], [0], [1], 60), "receipts|x|1", 0)
    (path,) = tmp_path.iterdir()
    spool.leave_parent()
    for at, wrong in (
        (0, 5), (1, "0"), (1, None), (2, [[5, *CLAIM[1:]]]), (2, [[CLAIM[0], "9", *CLAIM[2:]]]), (2, []),
        (2, [[*CLAIM, 0, 0]]), (3, ["0"]), (3, [0, 0]), (4, [7.5]), (4, []), (5, "soon"),
    ):  # fmt: skip
        bad = [*GOOD]
        bad[at] = wrong
        many = at + 1
        path.write_text(f"{json.dumps(bad)}\n" * many + f"\n{json.dumps(GOOD)}\n")
        assert list(spool.left_behind()) == [(Entry([CLAIM], [0], [7], GOOD[5]), "receipts|x|1", 0)], (at, wrong)
        aside, number = path.with_suffix(".unreadable"), "1 line" if many == 1 else f"{many} lines"
        said = f"spool: {number} of {aside} cannot be read, and may be settlements that are lost"
        assert [record.getMessage() for record in caplog.records] == [said]
        caplog.clear()
        aside.unlink()
