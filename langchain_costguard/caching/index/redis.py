"""Neighbours in Redis, by what the server has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from redis.exceptions import ResponseError

from langchain_costguard.caching.base import CacheError
from langchain_costguard.caching.entry import Entry, Stock, Wanted
from langchain_costguard.caching.index.base import Neighbour
from langchain_costguard.caching.index.redis_base import Link
from langchain_costguard.caching.index.redis_search import RedisSearchIndex
from langchain_costguard.caching.index.redis_sets import RedisVectorSetIndex
from langchain_costguard.metering.stores.dial import Client

_NEITHER = (
    "this server can look up no vectors: take Redis 8 or later (vector sets), or a server with Redis Search, such as "
    "Redis Stack; for one machine, take SQLiteIndex"
)


class RedisIndex:
    """The nearest answers, for many machines: ``RedisIndex("redis://host:6379")``.

    In vector sets (Redis 8 and later) where the server has them, which stay fast with many answers; else in Redis
    Search. To decide yourself, or for their options, take ``RedisVectorSetIndex`` or ``RedisSearchIndex``. What the
    server has is asked at once, or when first used where it does not answer now.

    Args:
        url_or_client: A URL, or a sync redis-py client. A client keeps the timeouts it has.
        prefix: What the keys begin with.
        timeout: Seconds to wait for the server at most, with a URL.

    Raises:
        ValueError: names the field and the value; or the server has neither, and what would have.
    """

    def __init__(self, url_or_client: str | Client, *, prefix: str = "costguard:near", timeout: float = 0.5) -> None:
        self._link = Link(url_or_client, timeout=timeout)
        self._sets = RedisVectorSetIndex(self._link, prefix=prefix)
        self._search = RedisSearchIndex(self._link, prefix=f"{prefix}est")
        self._chosen: RedisVectorSetIndex | RedisSearchIndex | None = None
        try:
            self._chosen = self._choose()
        except CacheError:
            return
        if self._chosen is None:
            raise ValueError(f"{self._link.where}: {_NEITHER}")

    def __repr__(self) -> str:
        return repr(self._chosen) if self._chosen else f"<RedisIndex: {self._link.where}>"

    def close(self) -> None:
        """Close the index' own connections; a given client stays as it is."""
        self._link.close()

    def add(self, id: str, setting: str, vector: Sequence[float], entry: Entry, *, now: float) -> None:
        """Remember an answer; an earlier one of this id and setting is replaced.

        Raises:
            ValueError: the vector is of another size than the setting's others, or has no direction.
            CacheError: the server did not answer in time, or cannot look up vectors.
        """
        self._index.add(id, setting, vector, entry, now=now)

    def search(self, setting: str, vector: Sequence[float], k: int, *, now: float) -> list[Neighbour]:
        """The nearest answers of this setting that have not expired, at most ``k``, the nearest first.

        Raises:
            ValueError: the vector is of another size than the setting's, or has no direction.
            CacheError: the server did not answer in time, or cannot look up vectors.
        """
        return self._index.search(setting, vector, k, now=now)

    def forget(self, wanted: Wanted) -> int:
        """Forget these answers; returns how many. Goes through all keys of the database.

        Raises:
            CacheError: the server did not answer in time, or cannot look up vectors.
        """
        return self._index.forget(wanted)

    def stock(self, *, now: float) -> Iterable[Stock]:
        """What is held, by feature and model. Goes through all keys of the database.

        Raises:
            CacheError: the server did not answer in time, or cannot look up vectors.
        """
        return self._index.stock(now=now)

    @property
    def _index(self) -> RedisVectorSetIndex | RedisSearchIndex:
        self._chosen = self._chosen or self._choose()
        if self._chosen is None:
            raise CacheError(f"{self._link.where}: {_NEITHER}")
        return self._chosen

    def _choose(self) -> RedisVectorSetIndex | RedisSearchIndex | None:
        if self._has("VCARD", self._sets.prefix):
            return self._sets
        return self._search if self._has("FT._LIST") else None

    def _has(self, *command: str) -> bool:
        def known(client: Any) -> bool:
            try:
                client.execute_command(*command)
            except ResponseError as error:
                if "unknown command" in str(error).lower():
                    return False
                raise
            return True

        try:
            return self._link.ask(known)
        except ResponseError as error:
            raise CacheError(f"{self._link.where}: {error}") from error
