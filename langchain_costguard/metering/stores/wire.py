"""Round trips to one Redis, over connections that redis-py makes but without what its client does around each command.

``Redis.execute_command`` spends more time on its pool, metrics and hooks (40 µs, redis-py 8.1) than the server spends
on a reservation of five accounts; and its time-outs are of each read, so that a reply that trickles in takes for ever.
"""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import MovedError, NoScriptError, ReadOnlyError, RedisError, ResponseError

from langchain_costguard.metering.stores.resp import Replies, ReplyError, packed
from langchain_costguard.metering.stores.together import Job, Together

CONNECTIONS = 16
"""At most, per process: what more threads ask for goes together, over these."""
CONNECTING = 1.0
"""Seconds a new connection may take, TLS and all, where a reply may take less."""

_LATE = "Timeout reading from socket"
_ERRORS = {"NOSCRIPT": NoScriptError, "READONLY": ReadOnlyError}


class Wire:
    """Connections of its own, made as the client's pool makes them; in a forked child it makes new ones."""

    def __init__(self, client: redis.Redis, *, timeout: float) -> None:
        self._pool: Any = client.connection_pool
        self._timeout = timeout
        self._idle: list[_Line] = []
        self._start()

    def execute(self, *command: Any, again: bool = False) -> Any:
        """Send one command and return its reply, within one time-out for all of it.

        One that may be carried out ``again`` is asked for once more, on a fresh connection, when half of the time is
        over: the packet, or the connection, may be all that is lost.

        Raises:
            StoreError: the other threads got no answer before this one's turn.
            RedisError, OSError: there was no answer, or it is an error.
        """
        if self._pid != os.getpid():
            self._start()
        return self._together.do(Job(packed(command), again))

    def execute_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send several commands in one packet and return their replies, an error as such, within one time-out.

        Raises:
            StoreError, RedisError, OSError: as ``execute``.
        """
        if self._pid != os.getpid():
            self._start()
        replies: Any = self._together.do(Job(b"".join(map(packed, commands)), False, len(commands)))
        return [_error(reply) if isinstance(reply, ReplyError) else reply for reply in replies]

    def connection(self) -> Any:
        """A new connection, not yet connected."""
        return self._pool.connection_class(**self._pool.connection_kwargs)

    def close(self) -> None:
        """Close the connections that are not in use; a later call makes new ones."""
        idle, self._idle = self._idle, []
        if self._pid == os.getpid():
            for line in idle:
                line.close()

    def _start(self) -> None:
        self._idle = []
        self._together: Together[bytes] = Together(
            self._exchange, leaders=CONNECTIONS, patience=self._timeout, where="Redis"
        )
        self._pid = os.getpid()

    def _exchange(self, jobs: list[Job[bytes]]) -> None:
        limit, began = self._limit(), time.monotonic()
        try:
            self._attempt(jobs, self._take(), limit / 2 if jobs[0].kind else limit)
        except (RedisError, OSError, ValueError) as error:
            self.close()
            left = [job for job in jobs if not job.over]
            if not jobs[0].kind or time.monotonic() - began > limit:  # to connect has taken all the time there is
                return _failed(left, error)
            try:
                self._attempt(left, self._new(), limit / 2)
            except (RedisError, OSError, ValueError) as again:
                _failed([job for job in left if not job.over], again)

    def _limit(self) -> float:
        """A client keeps the time-outs it was made with: of a whole step here, and not of each read."""
        limit = self._pool.connection_kwargs.get("socket_timeout", self._timeout)
        return math.inf if limit is None else float(limit)

    def _attempt(self, jobs: list[Job[bytes]], line: _Line, seconds: float) -> None:
        try:
            line.ask(jobs, time.monotonic() + seconds)
        except TimeoutError as error:
            line.close()
            raise redis.TimeoutError(_LATE) from error
        except BaseException:  # half a reply may be on its way
            line.close()
            raise
        self._idle.append(line)

    def _take(self) -> _Line:
        while self._idle:
            try:
                line = self._idle.pop()
            except IndexError:
                break
            if not line.stale():
                return line
            line.close()  # the server hung up meanwhile
        return self._new()

    def _new(self) -> _Line:
        return _Line(self.connection())


class _Line:
    """One connection, open."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        _connect(connection, time.monotonic() + CONNECTING)
        self._socket = connection._sock
        self._replies = Replies()

    def ask(self, jobs: Sequence[Job[bytes]], until: float) -> None:
        """Send what the jobs want and give each its reply."""
        self._left(until)
        self._socket.sendall(b"".join([job.wanted for job in jobs]))
        for job in jobs:
            job.value = [self._reply(until) for _ in range(job.parts)] if job.parts else self._reply(until)
            if isinstance(job.value, ReplyError):
                job.error = _error(job.value)
            job.over = True
        if any(isinstance(job.error, ReadOnlyError) for job in jobs):
            self.close()  # a master no more: a sentinel's connection asks anew who is

    def _reply(self, until: float) -> Any:
        while (reply := self._replies.next()) is None:
            self._left(until)
            data = self._socket.recv(65_536)
            if not data:
                raise redis.ConnectionError("the server hung up")
            self._replies.feed(data)
        return reply[0]

    def stale(self) -> bool:
        """Whether the server has hung up, or said something nobody asked for."""
        if self._replies or self._connection._sock is None:
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Hang up."""
        self._connection.disconnect()

    def _left(self, until: float) -> None:
        left = until - time.monotonic()
        if left <= 0:
            raise redis.TimeoutError(_LATE)
        self._socket.settimeout(None if left == math.inf else left)


class _Hurried:
    """A socket whose every read and write ends at one time."""

    def __init__(self, of: Any, until: float) -> None:
        self._of = of
        self._until = until

    def __getattr__(self, name: str) -> Any:
        if name in ("recv", "recv_into", "send", "sendall"):
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError(_LATE)
            self._of.settimeout(left)
        return getattr(self._of, name)

    def settimeout(self, seconds: float | None) -> None:
        """Of each reply, as redis-py has it: not here."""


def _connect(connection: Any, until: float) -> None:
    """Connect, and say who we are and what we want to see, all of it until then: redis-py waits its time-out for every
    read of AUTH's and SELECT's replies.

    https://github.com/redis/redis-py/blob/master/redis/connection.py (``on_connect_check_health``)
    """
    greet = connection.redis_connect_func

    def hurriedly(connected: Any) -> None:
        connected._sock = _Hurried(connected._sock, until)
        if greet is None:
            connected.on_connect()
        else:
            greet(connected)
        if connected._sock is not None:
            connected._sock = connected._sock._of

    connection.redis_connect_func = hurriedly
    connection.connect()


def _error(reply: ReplyError) -> RedisError:
    text = str(reply)
    if reply.kind == "MOVED":
        return MovedError(text.partition(" ")[2])
    return _ERRORS.get(reply.kind, ResponseError)(text)


def _failed(jobs: list[Job[bytes]], error: BaseException) -> None:
    for job in jobs:
        job.error = error
