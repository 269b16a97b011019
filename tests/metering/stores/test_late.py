"""A server that is held up does what it was told when nobody waits any more: it is counted once all the same."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from langchain_costguard import Budget, CostGuard, RedisStore
from langchain_costguard.metering.stores import Claim, MemoryStore, StoreError
from langchain_costguard.metering.stores.outbox import WATCHED, Outbox
from langchain_costguard.metering.stores.spool import Spool
from langchain_costguard.stores import PostgresStore
from langchain_costguard.testing import ScriptedChatModel
from tests.conftest import PRICES
from tests.servers import Server, postgres_program

ONE_CALL = 10 * 2500 + 5 * 10_000
NOW, UNTIL = 1_000.0, 1_060
HeldUp = Iterator[tuple[Any, Callable[[], None]]]
USD = Claim("all|usd", 100, 10)


class Later(MemoryStore):
    """One that carries out, when it is let, what it did not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.held_up = False
        self.waiting: list[tuple[Any, Any]] = []

    def settle(self, *args: Any, **kwargs: Any) -> list[int]:
        if self.held_up:
            self.waiting.append((args, kwargs))
            raise StoreError("no answer in time")
        return super().settle(*args, **kwargs)

    def go_on(self) -> None:
        self.held_up = False
        for args, kwargs in self.waiting:
            super().settle(*args, **kwargs)
        self.waiting.clear()


@pytest.mark.parametrize("spooled", [False, True])
@pytest.mark.parametrize("attempts", [1, 3])
def test_what_was_sent_again_and_then_carried_out_late_is_taken_back(
    spooled: bool, attempts: int, tmp_path: Path
) -> None:
    store = Later()
    outbox = Outbox(store, Spool(tmp_path, of="x") if spooled else None, lambda: None)

    def spent() -> int:
        return store.read([USD.account], now=NOW)[0].spent

    outbox.send([USD], [0], [1], UNTIL, NOW)
    store.held_up = True
    with pytest.raises(StoreError):
        outbox.send([USD], [0], [7], UNTIL, NOW)
    for _ in range(attempts - 1):
        with pytest.raises(StoreError):
            outbox.flush(NOW)
    store.held_up = False
    outbox.flush(NOW)
    assert (spent(), bool(outbox), outbox.watches) == (8, False, True)
    store.go_on()
    assert spent() == 8 + attempts * 7
    outbox.send([USD], [0], [2], UNTIL, NOW)
    outbox.flush(NOW)
    assert spent() == 10
    outbox.flush(NOW + WATCHED)
    assert (spent(), bool(outbox), outbox.watches, outbox.count) == (10, False, False, 0)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def stopped_server(request: pytest.FixtureRequest, name: str, seconds: float) -> HeldUp:
    server: Server = request.getfixturevalue("server")

    def hold() -> None:
        server.process.send_signal(signal.SIGSTOP)
        threading.Timer(seconds, os.kill, (server.process.pid, signal.SIGCONT)).start()

    with closing(RedisStore(server.url, namespace=name)) as store:
        yield store, hold


@contextmanager
def held_lock(request: pytest.FixtureRequest, name: str, seconds: float) -> HeldUp:
    import psycopg

    url = request.getfixturevalue("postgres")
    with closing(PostgresStore(url, namespace=name)) as store, psycopg.connect(url) as other:

        def hold() -> None:
            store._pool.close()  # those made from now on belong to a user who says how long a statement may take
            other.execute("SELECT costguard_lock_1(%s, ARRAY['all|usd'])", [name])
            threading.Timer(seconds, other.commit).start()

        other.execute("ALTER ROLE costguard SET statement_timeout = '1min'")
        other.commit()
        yield store, hold
        other.execute("ALTER ROLE costguard RESET statement_timeout")


@pytest.mark.parametrize("held_up", [stopped_server, *([held_lock] if postgres_program() else [])])
def test_a_server_that_was_held_up_counts_each_call_once(
    held_up: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with held_up(request, tmp_path.name, 0.9) as (store, hold):
        guard = CostGuard(Budget(per="all", usd="1"), store=store, prices=PRICES)

        class Holding(ScriptedChatModel):
            def _generate(self, *args: Any, **kwargs: Any) -> Any:
                hold()
                return super()._generate(*args, **kwargs)

        calls = [ScriptedChatModel, Holding]
        for kind in calls:
            kind(usage=(10, 5), max_tokens=5).invoke("hi", {"callbacks": [guard]})
        threading.Event().wait(1.2)
        until = time.monotonic() + 5
        while not guard.close(2) and time.monotonic() < until:
            threading.Event().wait(0.1)
        assert store.read(["all|usd"], now=time.time())[0][:2] == (len(calls) * ONE_CALL, 0)
