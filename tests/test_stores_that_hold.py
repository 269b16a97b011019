"""What a shared store does to calls when the network, its server or this process misbehaves: on real servers."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
import redis
from langchain_core.messages import HumanMessage

from langchain_costguard import Budget, CostGuard, MemoryStore, RedisStore, SQLiteStore, StoreUnavailableError
from langchain_costguard.cli import main
from langchain_costguard.events import StoreFailed
from langchain_costguard.metering.budgets.switch import halt, revive
from langchain_costguard.metering.stores import Claim, Grant, PostgresStore, StoreError, open_store
from langchain_costguard.metering.stores.base import Reservation, Settlement
from langchain_costguard.testing import Recorder, ScriptedChatModel
from tests.conftest import PRICES
from tests.proxy import Proxy, proxied
from tests.servers import Server, postgres_program, redis_server
from tests.waits import waits_less_than

CLAIM = Claim("all|usd", 10**12, 10)
NOW, UNTIL = 2_000_000_000.0, 2_000_000_600
ONE_CALL = 10 * 2500 + 5 * 10_000
SOON = 2.5


def reserve(store: Any, **changes: Any) -> Any:
    return store.reserve([CLAIM], units=(0, 0), until=UNTIL, now=NOW, **changes)


def model() -> ScriptedChatModel:
    return ScriptedChatModel(usage=(10, 5), max_tokens=5)


def spent(store: Any) -> int:
    return int(store.read(["all|usd"], now=time.time())[0].spent)


@pytest.fixture(params=["redis", *(["postgres"] if postgres_program() else [])])
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes a store behind a proxy."""
    url = "redis://" if request.param == "redis" else request.getfixturevalue("postgres")
    parts = urlsplit(url)
    port = request.getfixturevalue("server").port if request.param == "redis" else parts.port
    with proxied(port) as proxy, ExitStack() as closing:

        def made(**options: Any) -> tuple[Proxy, Any]:
            who, _, _ = parts.netloc.rpartition("@")
            there = parts._replace(netloc=f"{who}@127.0.0.1:{proxy.port}" if who else f"127.0.0.1:{proxy.port}")
            kind = RedisStore if request.param == "redis" else PostgresStore
            store = kind(urlunsplit(there), namespace=tmp_path.name, **options)
            closing.callback(store.close)
            return proxy, store

        yield made


def held(store: Any) -> int:
    """Once what was reserved unheard has been given back, within 10 s."""
    until = time.monotonic() + 10
    while True:
        amount = int(store.read([CLAIM.account], now=NOW)[0].held)
        if amount <= CLAIM.fixed or time.monotonic() > until:
            return amount
        time.sleep(0.01)


@pytest.mark.parametrize("fault", [{"stall": 10.0}, {"cut": 1}])
def test_a_hiccup_of_one_connection_costs_no_call_and_holds_nothing_twice(
    fault: dict[str, Any], far: Callable[..., Any]
) -> None:
    proxy, store = far(timeout=2)
    assert reserve(store) == Grant(0)
    for name, value in fault.items():
        setattr(proxy, name, value)
    with waits_less_than(5):
        assert reserve(store) == Grant(0)
    assert store.read([CLAIM.account], now=NOW)[0].held == 2 * CLAIM.fixed


@pytest.mark.parametrize("how", ["reserve", "turn"])
def test_what_was_reserved_unheard_is_given_back(how: str, far: Callable[..., Any]) -> None:
    proxy, store = far(timeout=0.25)
    assert reserve(store) == Grant(0)
    settlement, reservation = Settlement([CLAIM], [0], [0], UNTIL), Reservation([CLAIM], (0, 0), UNTIL)
    ask = {"reserve": reserve, "turn": lambda store: store.turn(settlement, reservation, now=NOW)}[how]
    proxy.mute = True
    with pytest.raises(StoreError):
        ask(store)
    proxy.mute = False
    assert held(store) == CLAIM.fixed


def test_settlements_that_wait_are_not_said_to_be_lost(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with proxied(server.port) as proxy:
        store = RedisStore(proxy.url, namespace=tmp_path.name)
        guard = CostGuard(Budget(per="all", usd="1"), store=store, prices=PRICES)
        held = [uuid4() for _ in range(4)]
        for run_id in held:
            guard.on_chat_model_start(
                {}, [[HumanMessage("hello")]], run_id=run_id, metadata={"ls_model_name": "gpt-4o"}
            )
        proxy.mute = True
        for run_id in held:
            guard.on_llm_error(ConnectionError("away"), run_id=run_id)
        proxy.mute = False
        assert guard.close(10)
    assert not [text for text in caplog.messages if "more is told" in text]


@pytest.mark.parametrize("path", ["/3", "/"])
def test_a_greeting_that_trickles_in_has_one_deadline(path: str, tmp_path: Path) -> None:
    with redis_server() as server, proxied(server.port) as proxy, redis.Redis(port=server.port) as client:
        client.config_set("requirepass", "secret")
        store = RedisStore(proxy.url.replace("//", "//:secret@") + path, namespace=tmp_path.name, timeout=0.3)
        proxy.trickle = 0.25
        with waits_less_than(SOON), pytest.raises(StoreError, match="imeout"):
            reserve(store)
        proxy.trickle = 0.0
        assert reserve(store) == Grant(0)
        store.close()


def test_a_reply_that_trickles_in_does_not_outlast_the_time_of_a_call(server: Server, tmp_path: Path) -> None:
    with proxied(server.port) as proxy:
        store = RedisStore(proxy.url, namespace=tmp_path.name, timeout=0.4)
        reserve(store)
        proxy.trickle = 0.2
        with waits_less_than(SOON), pytest.raises(StoreError):
            store.read([f"account {n}" for n in range(50)], now=0)
        store.close()


def test_what_many_threads_ask_for_at_once_goes_in_few_trips(server: Server, tmp_path: Path) -> None:
    with proxied(server.port, 0.02) as proxy:
        store = RedisStore(proxy.url, namespace=tmp_path.name, timeout=5)
        with ThreadPoolExecutor(200) as threads:
            assert list(threads.map(lambda _: reserve(store), range(400))) == [Grant(0)] * 400
        assert proxy.connections <= 16
        assert proxy.trips < 200
        store.close()


def test_a_failure_or_two_do_not_shut_the_store(server: Server, tmp_path: Path) -> None:
    with proxied(server.port) as proxy:
        guard = CostGuard(
            Budget(per="all", usd="1"), store=RedisStore(proxy.url, namespace=tmp_path.name), prices=PRICES
        )
        outcomes = []
        for number in range(10):
            proxy.refuse = number == 4
            guard.store.primary.close()  # type: ignore[attr-defined]
            try:
                model().invoke("hi", {"callbacks": [guard]})
                outcomes.append(True)
            except RuntimeError:
                outcomes.append(False)
        assert outcomes == [number != 4 for number in range(10)]
        guard.close()


def test_a_settlement_that_found_no_store_arrives_though_nobody_calls_again(server: Server, tmp_path: Path) -> None:
    plain = RedisStore(server.url, namespace=tmp_path.name)
    with proxied(server.port) as proxy:
        guard = CostGuard(
            Budget(per="all", usd="1"), store=RedisStore(proxy.url, namespace=tmp_path.name), prices=PRICES
        )

        hold = guard.store.reserve([CLAIM], units=(0, 0), until=int(time.time()) + 600, now=time.time())
        assert hold == Grant(0)
        proxy.refuse = True
        guard.store.primary.close()  # type: ignore[attr-defined]
        guard.store.settle([CLAIM], [10], [7], until=int(time.time()) + 600, now=time.time())
        proxy.refuse = False
        assert guard.close(5)
    assert spent(plain) == 7
    plain.close()


SCRIPT = """
import os, signal, sys, time
from langchain_costguard import Budget, CostGuard, RedisStore
from langchain_costguard.metering.stores import Claim
store = RedisStore(sys.argv[1], namespace=sys.argv[2])
guard = CostGuard(Budget(per="all", usd="1"), store=store, spool=sys.argv[3] or None)
claim = Claim("all|usd", 10**12, 10)
for amount in (4_000_000, 9_500_000):
    guard.store.settle([claim], [0], [amount], until=int(time.time()) + 600, now=time.time())
if len(sys.argv) > 4:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_process_could_not_deliver_is_said_or_kept_for_the_next(server: Server, tmp_path: Path) -> None:
    """Three at once, as each waits at its end: without a spool, with one, and killed with one."""
    endings = {"lost": [""], "kept": [str(tmp_path / "kept")], "killed": [str(tmp_path / "killed"), "killed"]}
    with proxied(server.port) as proxy:
        proxy.refuse = True
        started = [
            subprocess.Popen(
                [sys.executable, "-c", SCRIPT, proxy.url, tmp_path.name + name, *more],
                stderr=subprocess.PIPE,
                text=True,
            )
            for name, more in endings.items()
        ]
        said = dict(zip(endings, (process.communicate(timeout=60)[1] for process in started), strict=True))
        assert "2 settlements, $0.0135, not delivered" in said["lost"]
        assert "2 settlements, $0.0135, not delivered" in said["kept"]
        proxy.refuse = False
        for name in endings:
            store = RedisStore(proxy.url, namespace=tmp_path.name + name)
            if name != "lost":
                folder = tmp_path / name
                assert [oct(path.stat().st_mode & 0o777) for path in folder.iterdir()] == ["0o600"]
                for _ in range(2):  # the second finds nothing left
                    assert CostGuard(Budget(per="all", usd="1"), store=store, spool=folder).close(5)
                assert list(folder.iterdir()) == []
            assert spent(store) == (0 if name == "lost" else 13_500_000)
            store.close()


def test_a_settlement_that_was_carried_out_unheard_is_not_delivered_again_by_the_next_process(
    server: Server, tmp_path: Path
) -> None:
    with proxied(server.port) as proxy:
        store = RedisStore(proxy.url, namespace=tmp_path.name)
        first = CostGuard(Budget(per="all", usd="1"), store=store, spool=tmp_path / "spool")
        now = time.time()
        first.store.settle([CLAIM], [0], [1], until=int(now) + 600, now=now)
        proxy.cut = 1
        first.store.settle([CLAIM], [0], [5], until=int(now) + 600, now=now)
        assert first.close(5)
        assert CostGuard(Budget(per="all", usd="1"), store=store, spool=tmp_path / "spool").close(5)
        assert spent(store) == 6
        store.close()


def test_a_ledger_that_forgets_is_told_again(server: Server, tmp_path: Path) -> None:
    recorder = Recorder()
    store = RedisStore(server.url, namespace=tmp_path.name)
    budget = Budget(per="all", usd="1")
    guards = [CostGuard(budget, store=store, prices=PRICES, sinks=[recorder]) for _ in range(2)]
    for guard in guards * 3:
        model().invoke("hi", {"callbacks": [guard]})
    with redis.Redis.from_url(server.url) as client:
        client.delete(f"{{{tmp_path.name}}}:accounts")
    for guard in guards:
        model().invoke("hi", {"callbacks": [guard]})
    # The second guard's last call before that is known to it alone, and is among what it then adds its next one to.
    assert spent(store) == 7 * ONE_CALL
    assert any("has forgotten" in event.message for event in recorder.of(StoreFailed))
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_while_others_write_can_write_too(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "budgets.db")
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(lambda: [reserve(store) for _ in range(150)]) for _ in range(4)]
        for _ in range(8):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                os._exit(0 if reserve(store) == Grant(0) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        for each in running:
            each.result()
    assert store.read(["all|usd"], now=NOW)[0].held == 10 * (600 + 8)
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_while_others_count_in_memory_can_count_too() -> None:
    store, over = MemoryStore(), threading.Event()

    def count() -> None:
        while not over.is_set():
            reserve(store)

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(10)
                os._exit(0 if reserve(store) == Grant(0) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_ledger_written_by_the_first_version_is_read_and_goes_on(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "budgets.db")) as old:
        old.executescript(
            """
            PRAGMA journal_mode=WAL;
            CREATE TABLE costguard_account (name TEXT PRIMARY KEY, spent INTEGER NOT NULL, cap INTEGER NOT NULL,
                idle REAL NOT NULL, holds TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE costguard_flag (name TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE costguard_sweep (position TEXT NOT NULL);
            INSERT INTO costguard_account VALUES ('all|usd', 70, 100, 2000086400.0, '2000000600=20');
            INSERT INTO costguard_flag VALUES ('halt:research', 'enough');
            """
        )
    os.chmod(tmp_path / "budgets.db", 0o640)
    store = SQLiteStore(tmp_path / "budgets.db")
    assert store.read(["all|usd"], now=NOW)[0] == (70, 20, 100)
    assert store.flags() == {"halt:research": "enough"}
    assert store.settle([CLAIM], [20], [15], until=2_000_000_600, now=NOW) == [85]
    assert (tmp_path / "budgets.db").stat().st_mode & 0o777 == 0o640  # what is there keeps its permissions
    store.close()


def test_a_new_file_is_for_its_owner_alone_unless_it_is_to_be_shared(tmp_path: Path) -> None:
    for name, options, mode in (("a", {}, 0o600), ("b", {"mode": 0o660}, 0o660)):
        store = SQLiteStore(tmp_path / name, **options)  # type: ignore[arg-type]
        reserve(store)
        assert {path.stat().st_mode & 0o777 for path in tmp_path.glob(f"{name}*")} == {mode}
        store.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda guard: guard.kill(""),
        lambda guard: guard.revive(""),
        lambda guard: guard.revive(" "),
        lambda guard: halt(guard.store, "", "x"),
        lambda guard: revive(guard.store, ""),
        lambda guard: guard.grant("all", usd="1", scope="u1"),
        lambda guard: guard.grant("all", usd="1", scope={"user": "u1"}),
    ],
)
def test_an_empty_name_is_nobody_and_no_scope_is_no_scope(ask: Any) -> None:
    guard = CostGuard(Budget(per="all", usd="1"))
    guard.kill(reason="stay")
    with pytest.raises(ValueError, match=r"agent|scope"):
        ask(guard)
    assert guard.brake.pulled()


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@localhost:port", "redis://me:hunter2@localhost/x", "redis://:hunter2localhost:6379",
        "redis:me:hunter2@host", "redis://localhost?password=hunter2&x=1", "postgresql://me:hunter2@h:port/db",
        "mysql://me:hunter2@h", "postgres://h/db?sslpassword=hunter2&nonsense=1",
    ],
)  # fmt: skip
def test_no_url_shows_its_password_however_malformed(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        raise ValueError(repr(open_store(url)))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("how", ["restore", "refuse"])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_deleted_while_in_use_is_noticed(
    how: str, replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("langchain_costguard.metering.stores.database.LOOKS", 0.0)
    recorder, path = Recorder(), tmp_path / "budgets.db"
    store = SQLiteStore(path)
    budget = Budget(per="all", usd="1")
    guard = CostGuard(budget, store=store, prices=PRICES, sinks=[recorder], on_forgotten=how)  # type: ignore[arg-type]
    for _ in range(3):
        model().invoke("hi", {"callbacks": [guard]})
    for each in tmp_path.iterdir():
        each.unlink()
    if replaced:
        SQLiteStore(path).close()
    assert store.risks() == ["the file was deleted or replaced while in use"]
    model().invoke("hi", {"callbacks": [guard]})
    assert any("has forgotten" in event.message for event in recorder.of(StoreFailed))
    assert "deleted or replaced while in use" in caplog.text
    if how == "restore":
        assert spent(SQLiteStore(path)) == 4 * ONE_CALL
    else:
        with pytest.raises(StoreUnavailableError, match=r"has forgotten what was spent .*start this process again"):
            model().invoke("hi", {"callbacks": [guard]})
    store.close()


@pytest.mark.parametrize(
    ("settings", "forbidden", "risks"),
    [
        ((), "", ["nothing is written to disk"]),
        (("--appendonly", "yes"), "", []),
        (("--save", "60 1"), "", []),
        (("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru", "--save", "60 1"), "-config", ["allkeys-lru"]),
        (("--maxmemory-policy", "allkeys-lru"), "-config", []),  # no limit, so that nothing is evicted
    ],
)
def test_a_server_that_may_forget_is_told_at_its_first_use_and_by_the_doctor(
    settings: tuple[str, ...],
    forbidden: str,
    risks: list[str],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with redis_server(None, *settings) as server:
        if forbidden:
            with redis.Redis.from_url(server.url) as client:
                client.execute_command("ACL", "SETUSER", "default", forbidden)
        guard = CostGuard(Budget(per="all", usd="1"), store=RedisStore(server.url), prices=PRICES)
        model().invoke("hi", {"callbacks": [guard]})
        guard.close()
        said = [record.message for record in caplog.records if "RedisStore" in record.message]
        assert len(said) == len(risks)
        assert main(["doctor", "--store", server.url]) == bool(risks)
    shown = capsys.readouterr().out
    assert all(any(risk in text for text in said) and risk in shown.replace("\n", " ") for risk in risks)
