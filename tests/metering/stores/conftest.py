"""Every store there is, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings
from redis.cluster import RedisCluster

from langchain_costguard.metering.stores import MemoryStore, PostgresStore, RedisStore, SQLiteStore, Store
from tests.servers import postgres_program, server_programs

PATIENT = 5.0
"""Seconds: a machine that is busy is no server that is away."""
KINDS = ["memory", "sqlite", *server_programs(), "cluster", *(["postgres"] if postgres_program() else [])]


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
    elif kind == "postgres":
        kept = PostgresStore(request.getfixturevalue("postgres"), namespace=request.node.name, timeout=PATIENT)
        yield kept
        kept.close()
    elif kind == "cluster":
        client = request.getfixturevalue("cluster_client")
        client.flushall(target_nodes=RedisCluster.PRIMARIES)
        yield RedisStore(client)
    else:
        url = request.getfixturevalue("servers")[kind].url
        emptied(url)
        remote = RedisStore(url, timeout=PATIENT)
        yield remote
        remote.close()


def emptied(url: str) -> str:
    """The URL, of a server that now holds nothing."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


def repeatable(examples: int, steps: int) -> settings:
    """How a state machine is run: the same each time, and for as long as it takes."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=True,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
