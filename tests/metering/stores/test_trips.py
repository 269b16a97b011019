"""A server, trip by trip: it says what a dictionary in this process says, and what was not heard is asked once more."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.cluster import RedisCluster
from redis.exceptions import MovedError

from langchain_costguard.metering.stores import Balance, Claim, MemoryStore, RedisStore, Refusal, StoreError
from langchain_costguard.metering.stores.base import Reservation, Settlement
from tests.proxy import proxied
from tests.servers import Server

NOW, UNTIL = 1_000_000.0, 1_000_060
USD, TOKENS = Claim("all|usd", 1_000, 11, 3, ttl=600), Claim("all|tokens", 97, 5, ttl=700)
CLOCK, OTHER = Claim("all|seconds", 5_000, 0, clock=True), Claim("one|seconds", 7_000, 0, clock=True)
FULL = USD._replace(fixed=990)

STEPS: tuple[tuple[tuple[list[Claim], list[int], list[int]], tuple[list[Claim], tuple[int, int]]], ...] = (
    (([USD], [0], [13]), ([CLOCK, USD, OTHER, TOKENS], (2, 17))),  # an amount between two clocks
    (([CLOCK, USD, OTHER, TOKENS], [0, 62, 0, 5], [0, 41, 0, 3]), ([USD._replace(fixed=100)], (7, 900))),
    (([TOKENS, CLOCK], [0, 0], [2, -1_500]), ([CLOCK, TOKENS], (0, 0))),
    (([USD, OTHER], [0, 0], [1, 0]), ([FULL], (4, 9))),  # refused: what waits may be let in
    (([OTHER, CLOCK, TOKENS, USD], [0, 0, 0, 0], [250, 0, 0, 900]), ([FULL], (4, 9))),  # refused for good
    (([TOKENS], [0], [1]), ([], (3, 8))),
    (([TOKENS, USD], [0, 19], [4, -2]), ([CLOCK._replace(cap=1)], (0, 0))),  # run out
)


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Iterator[RedisStore]:
    with closing(RedisStore(server.url, namespace=tmp_path.name, timeout=5)) as made:
        yield made


@contextmanager
def forgetful(server: Server) -> Iterator[Callable[[], None]]:
    """Has the server forget the scripts."""
    with redis.Redis.from_url(server.url) as client:
        yield client.script_flush


@pytest.mark.parametrize("together", [False, True])
def test_step_by_step_a_server_says_what_a_dictionary_does(together: bool, server: Server, tmp_path: Path) -> None:
    with proxied(server.port) as proxy, forgetful(server) as forget:
        memory, store = MemoryStore(), RedisStore(proxy.url, namespace=tmp_path.name, timeout=5)
        for number, (settled, asked) in enumerate(STEPS):
            settlement, reservation, now = Settlement(*settled, UNTIL), Reservation(*asked, UNTIL), NOW + number
            totals = memory.settle(*settled, until=UNTIL, now=now)
            answer = memory.reserve(asked[0], units=asked[1], until=UNTIL, now=now)
            trips = proxy.trips
            if not together:
                assert store.settle(*settled, until=UNTIL, now=now) == totals
                assert store.reserve(asked[0], units=asked[1], until=UNTIL, now=now) == answer
            else:
                assert store.turn(settlement, reservation, now=now) == (totals, answer)
            if number:  # at first neither script is known
                assert proxy.trips - trips == (1 if together or not asked[0] else 2)
            names = [claim.account for claim in (USD, CLOCK, TOKENS, OTHER)]
            assert store.read([*names, "nobody"], now=now) == memory.read([*names, "nobody"], now=now)
            assert dict(store.scan(now=now)) == dict(memory.scan(now=now))
        for known in ("settle", "reserve", "both", ""):
            forget()
            if known in ("settle", "both"):
                assert store.settle([USD], [0], [1], until=UNTIL, now=NOW) == memory.settle(
                    [USD], [0], [1], until=UNTIL, now=NOW
                )
            if known in ("reserve", "both"):
                assert isinstance(store.reserve([FULL], units=(9, 9), until=UNTIL, now=NOW), Refusal)
            turned = store.turn(Settlement([TOKENS], [0], [1], UNTIL), Reservation([OTHER], (0, 6), UNTIL), now=NOW)
            totals = memory.settle([TOKENS], [0], [1], until=UNTIL, now=NOW)
            assert turned == (totals, memory.reserve([OTHER], units=(0, 6), until=UNTIL, now=NOW)), known
        assert store.settle([], [], [], until=UNTIL, now=NOW) == []
        assert store.settle([CLOCK], [0], [0], until=UNTIL, now=NOW) == [0]
        assert dict(store.scan(now=NOW)) == dict(memory.scan(now=NOW))
        store.close()


def test_a_settlement_the_server_cannot_carry_out_is_an_error_whatever_is_said_of_the_reservation(
    store: RedisStore, server: Server
) -> None:
    for claims in ([USD], [TOKENS]):
        store.reserve(claims, units=(0, 0), until=UNTIL, now=NOW)
        store.settle(claims, [11], [1], until=UNTIL, now=NOW)
    with redis.Redis.from_url(server.url) as client:
        client.hset(f"{{{store.namespace}}}:accounts", USD.account, "junk")
        told = rf"^Redis at {server.url}: .*the account 'all\|usd' cannot be read[^;]*"
        good, bad = Settlement([TOKENS], [0], [1], UNTIL), Settlement([USD], [0], [1], UNTIL)
        with pytest.raises(StoreError, match=told):
            store.turn(bad, Reservation([TOKENS], (0, 0), UNTIL), now=NOW)
        store.close()  # brings what is to be given back
        assert store.read([TOKENS.account], now=NOW)[0] == Balance(1, 0, TOKENS.cap)
        with pytest.raises(StoreError, match=told):
            store.turn(good, Reservation([USD], (0, 0), UNTIL), now=NOW)
        assert store.read([TOKENS.account], now=NOW)[0] == Balance(2, 0, TOKENS.cap)
        client.hdel(f"{{{store.namespace}}}:accounts", USD.account)


VERBS: dict[str, Callable[[RedisStore], Any]] = {
    "read": lambda store: store.read([USD.account], now=NOW),
    "scan": lambda store: list(store.scan(now=NOW)),
    "set a flag": lambda store: store.flag("halt:b", "enough"),
    "flags": lambda store: store.flags(),
    "remove a flag": lambda store: store.flag("halt:b", None),
    "reserve": lambda store: store.reserve([TOKENS], units=(1, 3), until=UNTIL, now=NOW),
    "risks": lambda store: store.risks(),
}
REPLIES = {"risks": 2}


def test_whatever_may_be_asked_twice_is_asked_once_more_where_no_answer_comes(server: Server, tmp_path: Path) -> None:
    with proxied(server.port) as proxy, forgetful(server) as forget:
        store = RedisStore(proxy.url, namespace=tmp_path.name, timeout=5)

        def total() -> Balance:
            return store.read([USD.account], now=NOW)[0]

        store.settle([USD], [0], [7], until=UNTIL, now=NOW)
        for verb, ask in VERBS.items():
            said = ask(store)
            for reply in range(1, REPLIES.get(verb, 1) + 1):
                proxy.cut = reply
                assert ask(store) == said, verb
                assert not proxy.cut
        assert store.flags() == {}
        store.flag("halt:a", "first")
        store.flag("halt:b", "then")
        assert store.flags() == {"halt:a": "first", "halt:b": "then"}
        assert store.read([TOKENS.account], now=NOW)[0].held == 3 * TOKENS.fixed - TOKENS.fixed
        for known in (True, False):
            before = total()
            if not known:
                forget()
            proxy.cut = 1 if known else 2
            with pytest.raises(StoreError, match=rf"^Redis at {proxy.url}: .*\w"):
                store.settle([USD], [0], [7], until=UNTIL, now=NOW)
            assert total() == before._replace(spent=before.spent + 7)
        store.close()


RISKS: tuple[tuple[dict[str, str], list[str]], ...] = (
    ({}, ["disk"]),
    ({"save": "60 1"}, []),
    ({"maxmemory": "1gb"}, ["disk"]),
    ({"maxmemory": "1gb", "maxmemory-policy": "allkeys-lru"}, ["allkeys-lru", "disk"]),
    ({"maxmemory-policy": "allkeys-lru"}, ["disk"]),
    ({"replica": "::1"}, ["disk", "replica"]),
    ({"forbidden": "-config"}, []),
)
SAID = {
    "disk": "nothing is written to disk (no appendonly, no save): a restart forgets what was spent",
    "allkeys-lru": "maxmemory-policy is allkeys-lru: balances may be evicted; noeviction keeps them",
    "replica": "this is a replica: it cannot be written to",
}


def test_what_may_make_a_server_forget_is_said(store: RedisStore, server: Server) -> None:
    with redis.Redis.from_url(server.url) as client:
        for settings, risks in RISKS:
            try:
                for name, value in settings.items():
                    if name == "replica":
                        client.replicaof(value, 1)
                    elif name == "forbidden":
                        client.execute_command("ACL", "SETUSER", "default", value)
                    else:
                        client.config_set(name, value)
                assert store.risks() == [SAID[risk] for risk in risks], settings
            finally:
                client.execute_command("ACL", "SETUSER", "default", "+@all")
                client.replicaof("NO", "ONE")
                for name, value in {"save": "", "maxmemory": "0", "maxmemory-policy": "noeviction"}.items():
                    client.config_set(name, value)


def test_who_closes_a_store_hangs_up_and_may_go_on(server: Server, tmp_path: Path) -> None:
    hung_up = []

    class Told(redis.Connection):
        def disconnect(self, *args: Any) -> None:
            if self._sock is not None:
                hung_up.append(True)
            super().disconnect(*args)

    pool: redis.ConnectionPool = redis.ConnectionPool(connection_class=Told, port=server.port)
    with redis.Redis(connection_pool=pool) as client, closing(RedisStore(client, namespace=tmp_path.name)) as store:
        for times in (0, 1, 2):
            assert store.flags() == {}
            assert len(hung_up) == times
            store.close()
    assert len(hung_up) == 3


def test_a_cluster_settles_and_reserves_as_any_server(cluster_client: RedisCluster, tmp_path: Path) -> None:
    memory, store = MemoryStore(), RedisStore(cluster_client, namespace=tmp_path.name)
    for settled, asked in STEPS:
        totals = memory.settle(*settled, until=UNTIL, now=NOW)
        answer = memory.reserve(asked[0], units=asked[1], until=UNTIL, now=NOW)
        turned = store.turn(Settlement(*settled, UNTIL), Reservation(*asked, UNTIL), now=NOW)
        assert turned == (totals, answer)
    assert store.risks() == []


def test_a_store_is_sent_elsewhere_as_it_is() -> None:
    for bad in ("", "{", "a}", None, 5):
        with pytest.raises(ValueError, match=f"^namespace must be a name without braces, not {re.escape(repr(bad))}$"):
            RedisStore("redis://h", namespace=bad)  # type: ignore[arg-type]
    plain, made = RedisStore("redis://h"), RedisStore("redis://h", namespace="n", timeout=3, lease="2%")
    for store, expected in ((plain, ("costguard", 0.25, None)), (made, ("n", 3.0, "2%"))):
        for each in (store, pickle.loads(pickle.dumps(store))):
            assert (each.namespace, each.timeout, each.lease) == expected
            assert each.shared
    assert repr(made) == "<RedisStore: Redis at redis://h, namespace 'n'>"
    with pytest.raises(TypeError, match="cannot be pickled; make it from a URL"):
        pickle.dumps(RedisStore(redis.Redis()))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TimeoutError(), "TimeoutError"),
        (TimeoutError("late"), "late"),
        (MovedError("1 h:2"), "1 h:2; this is a Cluster: pass a redis.cluster.RedisCluster"),
    ],
)
def test_an_error_is_told_in_its_words_or_by_its_name(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = redis.Redis()
    store = RedisStore(client)

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(client.connection_pool, "connection_class", fails)
    with pytest.raises(StoreError) as caught:
        store.flags()
    assert str(caught.value) == f"Redis at localhost:6379/0 by the given Redis client: {told}"
