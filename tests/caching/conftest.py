"""Every cache of exact answers there is, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.cluster import RedisCluster

from langchain_costguard.caching import ExactCache, MemoryCache, PostgresCache, RedisCache, SQLiteCache
from langchain_costguard.testing import ManualClock
from tests.servers import Server, postgres_program, server_programs

POSTGRES = ["postgres"] if postgres_program() else []
KINDS = ["memory", "sqlite", *server_programs(), "cluster", *POSTGRES]


class Kind:
    """One kind of cache: ``make`` makes as many as one likes that hold the same answers (in memory, each its own)."""

    def __init__(self, name: str, where: object, prefix: str = "") -> None:
        self.name = name
        self.where = where
        self.prefix = prefix
        self.clock = ManualClock()
        self.made: list[ExactCache] = []

    def make(self, *, max_entries: int | None = None, **options: object) -> ExactCache:
        bound = {} if max_entries is None or self.name == "redis" else {"max_entries": max_entries}
        cache: ExactCache
        if self.name == "memory":
            cache = MemoryCache(clock=self.clock, **bound, **options)  # type: ignore[arg-type]
        elif self.name == "sqlite":
            cache = SQLiteCache(self.where, clock=self.clock, **bound, **options)  # type: ignore[arg-type]
        elif self.name == "postgres":
            cache = PostgresCache(self.where, prefix=self.prefix, timeout=5.0, clock=self.clock, **bound, **options)  # type: ignore[arg-type]
        else:
            cache = RedisCache(self.where, timeout=5.0, clock=self.clock, **options)  # type: ignore[arg-type]
        self.made.append(cache)
        return cache

    def close(self) -> None:
        for cache in self.made:
            if isinstance(cache, (SQLiteCache, RedisCache, PostgresCache)):
                cache.close()


def emptied(server: Server) -> str:
    """The URL, of a server that now holds nothing."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    return server.url


def made(name: str, request: pytest.FixtureRequest, folder: Path) -> Kind:
    if name == "memory":
        return Kind("memory", None)
    if name == "sqlite":
        return Kind("sqlite", folder / "answers.db")
    if name == "postgres":
        return Kind("postgres", request.getfixturevalue("postgres"), request.node.name)
    if name == "cluster":
        client = request.getfixturevalue("cluster_client")
        client.flushall(target_nodes=RedisCluster.PRIMARIES)
        return Kind("redis", client)
    return Kind("redis", emptied(request.getfixturevalue("servers")[name]))


@pytest.fixture(params=KINDS)
def every_kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    """Each kind of cache, on every server at hand."""
    kind = made(request.param, request, tmp_path)
    yield kind
    kind.close()


@pytest.fixture(params=["memory", "sqlite", "redis", *POSTGRES])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    """Each kind of cache, Redis on one server."""
    name = next(iter(server_programs())) if request.param == "redis" else request.param
    kind = made(name, request, tmp_path)
    yield kind
    kind.close()
