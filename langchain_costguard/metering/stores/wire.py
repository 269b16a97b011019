"""Round trips to one Redis, over redis-py's connections but without what its client does around each command.

``Redis.execute_command`` spends more time on its pool, metrics and hooks (40 µs, redis-py 8.1) than the server spends
on a reservation of five accounts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any

import redis
from redis.exceptions import RedisError, ResponseError

from langchain_costguard.metering.stores.base import StoreError

CONNECTIONS = 16
"""At most, per process. A thread waits its turn: 1,000 threads that all connect at once are refused by the server."""

PATIENCE = 20
"""Timeouts for which a thread waits its turn as long as no other gets an error: that is a busy process, no outage."""


class Wire:
    """Connections of its own, made as the client's pool makes them; in a forked child it makes new ones."""

    def __init__(self, client: redis.Redis, *, timeout: float) -> None:
        self._pool: Any = client.connection_pool
        self._timeout = timeout
        self._idle: list[Any] = []
        self._pid = 0
        self._failures = 0
        self._start()

    def execute(self, *command: Any) -> Any:
        """Send one command and return its reply.

        Raises:
            StoreError: the other threads kept all connections busy.
            RedisError: as redis-py does.
        """
        if self._pid != os.getpid():
            self._start()
        self._take_turn()
        try:
            return self._exchange(command)
        finally:
            self._turns.put(None)

    def connection(self) -> Any:
        """A new connection, not yet connected."""
        return self._pool.connection_class(**self._pool.connection_kwargs)

    def close(self) -> None:
        """Close the connections that are not in use; a later call makes new ones."""
        idle, self._idle = self._idle, []
        if self._pid == os.getpid():
            for connection in idle:
                connection.disconnect()

    def _start(self) -> None:
        self._idle = []
        self._turns: SimpleQueue[None] = SimpleQueue()
        for _ in range(CONNECTIONS):
            self._turns.put(None)
        self._pid = os.getpid()

    def _take_turn(self) -> None:
        failures = self._failures
        for _ in range(PATIENCE):
            try:
                return self._turns.get(timeout=self._timeout)
            except Empty:
                if self._failures != failures:
                    raise StoreError("Redis: the threads before this one got no answer") from None
        raise StoreError(f"Redis: other threads kept all connections busy for {PATIENCE * self._timeout:g} s")

    def _exchange(self, command: Sequence[Any]) -> Any:
        connection = self._take()

        def once() -> Any:
            connection.connect()  # nothing to do, most often; a sentinel's asks here who is master
            connection.send_command(*command)
            return connection.read_response()

        try:
            reply = connection.retry.call_with_retry(once, lambda _: connection.disconnect())
        except ResponseError:  # an answer, if a bad one: the connection is as good as before
            self._idle.append(connection)
            raise
        except BaseException:  # half a reply may be on its way
            self._failures += 1
            connection.disconnect()
            self.close()
            raise
        self._idle.append(connection)
        return reply

    def _take(self) -> Any:
        try:
            connection = self._idle.pop()
        except IndexError:
            return self.connection()
        try:
            stale = connection.can_read()
        except (RedisError, OSError):
            stale = True
        if stale:  # the server hung up meanwhile
            connection.disconnect()
        return connection
