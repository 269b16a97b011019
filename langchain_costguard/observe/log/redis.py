"""A spend log in a Redis stream, for the processes of many machines; reports read it into a database in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import redis
from redis.exceptions import RedisError, WatchError

from langchain_costguard.observe.log.entry import Entry, from_json, to_json
from langchain_costguard.observe.log.names import Cursor
from langchain_costguard.observe.log.schema import SLOT
from langchain_costguard.observe.log.sql import LogError
from langchain_costguard.observe.log.sqlite import SQLiteLog
from langchain_costguard.vocabulary.urls import told, without_password

P = ParamSpec("P")
T = TypeVar("T")
STREAM = "costguard:spend"
_EPOCH = "costguard:spend:epoch"
_AT_ONCE = 5_000
_LATE = 86_400
"""Seconds by which a row may have been written after it happened: rows are dropped by when they were written."""
_TRIES = 100


class RedisLog:
    """A log in a server's stream ``costguard:spend``; anything that speaks Redis 5's streams.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout: Seconds to wait for the server.

    Raises:
        LogError: the URL cannot be used.
    """

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self.path = url
        try:
            self._client = redis.Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)
            pool = self._client.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # connects nowhere, but objects to an unknown option
        except (ValueError, TypeError, RedisError) as error:
            raise LogError(f"{without_password(url)!r} names no Redis: {told(error, url)}") from None
        self._lock = threading.Lock()
        self._afresh(None)

    def write(self, entries: Sequence[Entry]) -> None:
        """Write rows, all or none.

        Raises:
            LogError: the server does not answer.
        """
        with self._telling(), self._client.pipeline(transaction=True) as pipe:
            for entry in entries:
                pipe.xadd(STREAM, {"row": to_json(entry)})
            pipe.execute()

    def ask(self, question: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Read what has come since the last question, and ask one of those of ``asking``.

        Raises:
            LogError: the server does not answer.
        """
        with self._lock:
            self._catch_up()
            return self._read.ask(question, *args, **kwargs)

    def drop(self, before: float) -> int:
        """Drop the rows that are older (epoch seconds), by whole quarters of an hour; returns how many."""
        with self._telling():
            least = int(before // SLOT) * SLOT * 1000
            gone = int(self._client.xtrim(STREAM, minid=least, approximate=False))
            self._client.incr(_EPOCH)
            return gone

    def forget(self, dim: str, name: str, key: bytes) -> int:
        """Put a keyed hash in the place of a name, in every row that has it; returns how many.

        Raises:
            ValueError: there is no such dimension.
            LogError: the server does not answer, or is written to so fast that nothing can be put in its place.
        """
        from langchain_costguard.observe.log.keeping import forgotten

        with self._telling():
            fresh, changed, last = f"{STREAM}:{key.hex()[:8]}", 0, "-"
            for _ in range(_TRIES):
                with self._client.pipeline() as pipe:
                    pipe.watch(STREAM)  # type: ignore[no-untyped-call]
                    for number, fields in self._rows_after(last):
                        entry = from_json(fields[b"row"])
                        after = forgotten(entry, dim, name, key)
                        changed += after is not entry
                        self._client.xadd(fresh, {"row": to_json(after)}, id=number)
                        last = f"({number.decode()}"
                    pipe.multi()
                    if last != "-":
                        pipe.rename(fresh, STREAM)
                    pipe.incr(_EPOCH)
                    try:
                        pipe.execute()
                    except WatchError:
                        continue  # rows came in between: they are put behind the others, and it is tried again
                    return changed
            self._client.delete(fresh)
            where = without_password(self.path)
            raise LogError(f"the spend log at {where} is written to too fast for a name to be forgotten")

    def shrink(self) -> None:
        """The server gives room back by itself."""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _afresh(self, epoch: Any) -> None:
        self._read, self._last, self._epoch = SQLiteLog(":memory:"), "-", epoch

    def _catch_up(self) -> None:
        with self._telling():
            epoch = self._client.get(_EPOCH)
            if epoch != self._epoch:
                self._afresh(epoch)
            while rows := self._rows_after(self._last, _AT_ONCE):
                self._read.write([from_json(fields[b"row"]) for _, fields in rows])
                self._last = f"({rows[-1][0].decode()}"

    def _rows_after(self, last: str, count: int | None = None) -> list[Any]:
        found: Any = self._client.xrange(STREAM, min=last, max="+", count=count)
        return list(found)

    def _telling(self) -> _Telling:
        return _Telling(self.path)


class _Telling:
    """Says of an outage which log it was."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RedisError):
            raise LogError(f"the spend log at {without_password(self._url)}: {error}") from error
