"""Every store there is, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from redis.cluster import RedisCluster

from langchain_costguard.stores import MemoryStore, RedisStore, SQLiteStore, Store
from tests.servers import Cluster, Server, redis_cluster, redis_server, server_programs

KINDS = ["memory", "sqlite", *server_programs(), "cluster"]


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, Server]]:
    """One server of each kind this machine has."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(redis_server(program)) for name, program in server_programs().items()}


@pytest.fixture(scope="session")
def server(servers: dict[str, Server]) -> Server:
    """The server at hand: Redis where there is one."""
    return next(iter(servers.values()))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three masters."""
    with redis_cluster() as running:
        yield running


@pytest.fixture(scope="session")
def cluster_client(cluster: Cluster) -> Iterator[RedisCluster]:
    """One client for all tests: finding the nodes takes it a while."""
    with cluster.client() as client:
        yield client


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    kind = request.param
    if kind == "memory":
        yield MemoryStore()
    elif kind == "sqlite":
        sqlite = SQLiteStore(tmp_path / "budgets.db")
        yield sqlite
        sqlite.close()
    elif kind == "cluster":
        client = request.getfixturevalue("cluster_client")
        client.flushall(target_nodes=RedisCluster.PRIMARIES)
        yield RedisStore(client)
    else:
        url = request.getfixturevalue("servers")[kind].url
        emptied(url)
        remote = RedisStore(url)
        yield remote
        remote.close()


def emptied(url: str) -> str:
    """The URL, of a server that now holds nothing."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url
