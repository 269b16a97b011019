"""What only Redis can do, and what can only go wrong with it."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import redis.asyncio
from redis.cluster import RedisCluster

from langchain_costguard.metering.stores import Balance, Claim, Grant, RedisStore, Refusal, StoreError
from tests.metering.stores.conftest import emptied
from tests.servers import Cluster, Server, redis_server, sentinel_of, silent_server
from tests.waits import waits_less_than

CLAIM = Claim("session=s|usd", 100, 10)
UNITS = (0, 0)
TIMEOUT = 0.25
SOON = 2.5
"""Seconds. A quarter of what forty take who wait for each other's time-outs."""


def spend(store: RedisStore) -> int:
    granted = store.reserve([CLAIM], units=UNITS, until=1_060, now=1_000.0)
    assert granted == Grant(0)
    return store.settle([CLAIM], [10], [7], until=1_060, now=1_001.0)[0]


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A client of an empty server."""
    with redis.Redis.from_url(emptied(server.url)) as client:
        yield client


@pytest.fixture
def store(client: redis.Redis, server: Server) -> Iterator[RedisStore]:
    store = RedisStore(server.url, timeout=TIMEOUT)
    yield store
    store.close()


def test_scripts_the_server_forgot_are_sent_again(store: RedisStore, client: redis.Redis) -> None:
    assert spend(store) == 7
    client.script_flush()
    assert spend(store) == 14
    client.script_flush()
    assert store.read([CLAIM.account], now=1_001.0) == [Balance(14, 0, 100)]
    client.script_flush()
    assert dict(store.scan(now=1_001.0)) == {CLAIM.account: Balance(14, 0, 100)}


def test_a_reservation_and_a_settlement_are_one_call_each_whatever_the_number_of_accounts(
    store: RedisStore, client: redis.Redis
) -> None:
    spend(store)
    claims = [Claim(f"a{i}", 100, 10) for i in range(50)]
    client.config_resetstat()
    store.reserve(claims, units=UNITS, until=1_060, now=1_000.0)
    store.settle(claims, [10] * 50, [7] * 50, until=1_060, now=1_001.0)
    calls = client.info("commandstats")
    assert calls["cmdstat_evalsha"]["calls"] == 2
    assert "cmdstat_eval" not in calls


def test_every_key_expires_after_all_the_accounts_in_it(store: RedisStore, client: redis.Redis) -> None:
    claims = [Claim("short", 100, 10, ttl=60), Claim("t", 100, 0, clock=True, ttl=50)]
    store.reserve(claims, units=UNITS, until=1_060, now=1_000.0)
    (key,) = client.keys("*:accounts")
    assert all(0 < client.ttl(name) <= 15 for name in client.keys("*:once:*"))  # what a reservation was answered
    assert 60 <= client.ttl(key) < 80
    store.reserve([Claim("long", 100, 10, ttl=3_600)], units=UNITS, until=1_060, now=1_000.0)
    assert client.keys("*:accounts") == [key]
    assert 3_600 <= client.ttl(key) < 4_100
    store.settle([Claim("short", 100, 10, ttl=60)], [10], [10], until=1_060, now=1_030.0)
    assert 3_600 <= client.ttl(key) < 4_100
    store.reserve([Claim("held", 100, 10, ttl=60)], units=UNITS, until=11_000, now=1_000.0)
    assert client.ttl(key) >= 10_000


def test_the_key_lives_on_while_its_accounts_are_used(store: RedisStore, client: redis.Redis) -> None:
    spend(store)
    (key,) = client.keys("*:accounts")
    client.expire(key, 1_000)
    later = 1_000.0 + 86_400 / 4
    store.settle([CLAIM], [0], [1], until=1_060, now=later)
    assert client.ttl(key) >= 86_400


def test_namespaces_keep_ledgers_apart(store: RedisStore, server: Server) -> None:
    other = RedisStore(server.unix_url, namespace="other *[team]")
    assert spend(store) == 7
    other.flag("all", "stop")
    assert spend(other) == 7
    assert len(list(store.scan(now=1_001.0))) == 1
    assert store.flags() == {}


@pytest.mark.parametrize(
    "options", [{}, {"decode_responses": True}, {"protocol": 3}, {"single_connection_client": True}]
)
def test_any_sync_client_will_do(client: redis.Redis, server: Server, options: dict[str, object]) -> None:
    with redis.Redis(port=server.port, **options) as given:  # type: ignore[arg-type]
        store = RedisStore(given)
        assert spend(store) == 7
        store.flag("all", "stop")
        assert store.flags() == {"all": "stop"}
        assert dict(store.scan(now=1_001.0)) == {CLAIM.account: Balance(7, 0, 100)}
        store.close()
        assert given.ping()


def test_a_master_found_by_a_sentinel_will_do(client: redis.Redis, server: Server) -> None:
    with sentinel_of(server) as sentinel:
        store = RedisStore(sentinel.master_for("budgets"))
        assert spend(store) == 7
        store.close()
    assert RedisStore(client).read([CLAIM.account], now=1_001.0) == [Balance(7, 0, 100)]


def test_a_cluster_keeps_the_accounts_of_a_namespace_in_one_slot(cluster_client: RedisCluster) -> None:
    cluster_client.flushall(target_nodes=RedisCluster.PRIMARIES)
    stores = [RedisStore(cluster_client, namespace=f"team{i}") for i in range(6)]
    for store in stores:
        spend(store)
        cluster_client.execute_command("SCRIPT FLUSH", target_nodes=RedisCluster.PRIMARIES)
        spend(store)
    nodes = cluster_client.get_primaries()
    sizes = [len(cluster_client.keys("*:accounts", target_nodes=node)) for node in nodes]
    assert sum(sizes) == 6
    assert min(sizes) >= 1
    for store in stores:
        assert dict(store.scan(now=1_001.0)) == {CLAIM.account: Balance(14, 0, 100)}


def test_the_url_of_a_cluster_node_is_answered_with_what_to_do(cluster: Cluster) -> None:
    outcomes = []
    for server in cluster.servers:
        try:
            outcomes.append(RedisStore(server.url).read(["a"], now=0) != [Balance(0, 0)])
        except StoreError as error:
            outcomes.append("RedisCluster" in str(error))
    assert outcomes.count(True) == 2


@pytest.mark.parametrize(
    "url",
    ["", "localhost:6379", "http://localhost", "valkey://localhost", "redis+sentinel://localhost/x", "redis:localhost",
     "redis://localhost:port", "redis://localhost:99999", "redis://localhost/db", "unix://", "memory:",
     "redis://localhost?no_such_option=1", "redis://localhost?socket_timeout=soon"],
)  # fmt: skip
def test_a_bad_url_is_named(url: str) -> None:
    with pytest.raises(ValueError, match="url") as caught:
        RedisStore(url)
    assert repr(url) in str(caught.value)


def test_a_password_is_not_told() -> None:
    with pytest.raises(ValueError) as caught:
        RedisStore("redis://me:se@cret@localhost:port?password=hush")
    assert "cret" not in str(caught.value) + repr(RedisStore("redis://:se%2Fcret@localhost"))
    assert "hush" not in str(caught.value)
    with pytest.raises(ValueError) as caught:
        RedisStore("redis://:se/cret@localhost")
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "make", [redis.asyncio.Redis, lambda: redis.Redis().pipeline(), lambda: 6379, lambda: None], ids=range(4)
)
def test_what_is_no_sync_client_is_refused(make: Callable[[], redis.Redis]) -> None:
    with pytest.raises(ValueError, match="RedisStore needs a"):
        RedisStore(make())


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": float("nan")}, {"timeout": "1"}, {"timeout": True},
                                     {"namespace": ""}, {"namespace": "{a}"}, {"namespace": None}])  # fmt: skip
def test_a_bad_option_is_named(options: dict[str, object]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=name) as caught:
        RedisStore("redis://localhost", **options)  # type: ignore[arg-type]
    assert repr(value) in str(caught.value)


def test_a_store_made_from_a_url_can_be_sent_to_another_process(store: RedisStore, client: redis.Redis) -> None:
    spend(store)
    copy = pickle.loads(pickle.dumps(RedisStore(store._url or "", namespace="costguard", timeout=3)))
    assert copy.timeout == 3
    assert copy.read([CLAIM.account], now=1_001.0) == [Balance(7, 0, 100)]
    with pytest.raises(TypeError, match="URL"):
        pickle.dumps(RedisStore(client))


def test_a_forked_child_makes_connections_of_its_own(store: RedisStore) -> None:
    spend(store)
    child = os.fork()
    if child == 0:
        try:
            os._exit(spend(store))
        finally:
            os._exit(255)
    for _ in range(20):
        store.read([CLAIM.account], now=1_001.0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 14
    assert spend(store) == 21


def test_nobody_waits_long_for_a_server_that_says_nothing() -> None:
    with silent_server() as url:
        store = RedisStore(url, timeout=TIMEOUT)
        for ask in (lambda: spend(store), store.flags, lambda: list(store.scan(now=0))):
            assert_fails_in_time(ask)


def test_nobody_waits_long_for_a_server_that_stopped_answering(store: RedisStore, server: Server) -> None:
    spend(store)
    with server.stopped():
        assert_fails_in_time(lambda: spend(store))
        with waits_less_than(SOON), ThreadPoolExecutor(40) as threads:
            list(threads.map(lambda _: assert_fails(lambda: spend(store)), range(40)))
    assert store.read(["unknown"], now=1_001.0) == [Balance(0, 0, 0)]


def test_nobody_waits_long_for_a_server_that_is_not_there() -> None:
    with redis_server() as gone:
        store = RedisStore(gone.url, timeout=TIMEOUT)
        spend(store)
    assert_fails_in_time(lambda: spend(store))
    assert_fails_in_time(lambda: RedisStore(gone.unix_url).flag("a", "b"))


def test_a_server_that_hung_up_on_an_unused_connection_is_called_again(store: RedisStore, client: redis.Redis) -> None:
    spend(store)
    client.client_kill_filter(_type="normal", skipme=True)
    assert spend(store) == 14


def test_an_answer_of_the_server_that_is_an_error_is_a_store_error(store: RedisStore, client: redis.Redis) -> None:
    client.set("{costguard}:accounts", "not a hash")
    with pytest.raises(StoreError, match=r"Redis at redis://127\.0\.0\.1"):
        spend(store)
    client.delete("{costguard}:accounts")
    assert spend(store) == 7


def test_300_threads_share_a_few_connections(store: RedisStore, client: redis.Redis) -> None:
    barrier = threading.Barrier(300)

    def reserve(_: int) -> Grant | Refusal:
        barrier.wait()
        return store.reserve([CLAIM._replace(cap=1_000)], units=UNITS, until=1_060, now=1_000.0)

    with ThreadPoolExecutor(300) as threads:
        answers = list(threads.map(reserve, range(300)))
    assert sum(isinstance(answer, Grant) for answer in answers) == 100
    assert len(client.client_list()) < 20


def assert_fails(ask: Callable[[], object]) -> None:
    with pytest.raises(StoreError, match="Redis"):
        ask()


def assert_fails_in_time(ask: Callable[[], object]) -> None:
    with waits_less_than(SOON):
        assert_fails(ask)
