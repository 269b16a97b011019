"""One Redis or Valkey as caches need it: short waits, one error, and no call while it is known to be away."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from langchain_costguard.caching.base import CacheError
from langchain_costguard.caching.outage import Outage
from langchain_costguard.metering.stores.base import StoreError, checked_timeout
from langchain_costguard.metering.stores.dial import dial
from langchain_costguard.metering.stores.wire import Wire

AT_ONCE = 200
"""Keys looked at in one command."""


class Server:
    """The server of a URL, or that of a client.

    Raises:
        ValueError: neither can be used; ``who`` is named as the one who wanted it.
    """

    def __init__(
        self, url_or_client: str | redis.Redis | RedisCluster, *, who: str, timeout: float, clock: Callable[[], float]
    ) -> None:
        self.timeout = checked_timeout(timeout)
        self.url = url_or_client if isinstance(url_or_client, str) else None
        client, self.where = dial(url_or_client, who=who, timeout=self.timeout)
        self._cluster = client if isinstance(client, RedisCluster) else None
        self._wire = None if isinstance(client, RedisCluster) else Wire(client, timeout=self.timeout)
        self._execute: Callable[..., Any] = client.execute_command if self._wire is None else self._wire.execute
        self._outage = Outage(clock)

    def ask(self, *command: Any) -> Any:
        """Send a command, and return its reply.

        Raises:
            CacheError: the server did not answer, or not now, or refused.
        """
        return self._guarded(lambda: self._execute(*command))

    def scan(self, prefix: str) -> Iterator[list[Any]]:
        """All keys that begin with ``prefix``, some at a time and each once; goes through every key of the server.

        Raises:
            CacheError: as ``ask``.
        """
        seen: set[Any] = set()
        for keys in self._pages(re.sub(r"([*?\[\]\\])", r"\\\1", prefix) + "*"):
            new = [key for key in keys if key not in seen]  # a scan may come by twice
            seen.update(new)
            for start in range(0, len(new), AT_ONCE):
                yield new[start : start + AT_ONCE]

    def read(self, keys: Sequence[Any]) -> list[Any]:
        """The values of keys; None where there is none (any more).

        Raises:
            CacheError: as ``ask``.
        """
        if self._cluster is not None:
            return [self.ask("GET", key) for key in keys]
        return list(self.ask("MGET", *keys)) if keys else []

    def drop(self, keys: Sequence[Any]) -> int:
        """Delete keys; returns how many there were.

        Raises:
            CacheError: as ``ask``.
        """
        if self._cluster is not None:
            return sum(int(self.ask("UNLINK", key)) for key in keys)
        return int(self.ask("UNLINK", *keys)) if keys else 0

    def close(self) -> None:
        """Close the connections that are not in use; a later call makes new ones."""
        if self._wire is not None:
            self._wire.close()

    def _pages(self, pattern: str) -> Iterator[list[Any]]:
        if self._cluster is not None:
            cluster = self._cluster
            yield self._guarded(lambda: list(cluster.scan_iter(match=pattern, count=AT_ONCE)))
            return
        position: Any = 0
        while True:
            position, keys = self.ask("SCAN", position, "MATCH", pattern, "COUNT", AT_ONCE)
            yield list(keys)
            if int(position) == 0:
                return

    def _guarded(self, action: Callable[[], Any]) -> Any:
        failing = (RedisError, RedisClusterException, StoreError, OSError)
        try:
            return self._outage.ask(action, self.where, failing=failing, objecting=ResponseError)
        except ResponseError as error:
            raise CacheError(f"{self.where}: {error}") from error
