"""Neighbours in Redis Search (the RediSearch module, Redis Stack, or Redis 8 built with its modules)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from redis.commands.search.field import NumericField, TagField, VectorField
from redis.commands.search.index_definition import IndexDefinition, IndexType
from redis.commands.search.query import Query
from redis.exceptions import ResponseError

from langchain_costguard.caching.base import CacheError
from langchain_costguard.caching.entry import Entry
from langchain_costguard.caching.index.base import Neighbour, entry_in, unit, wrong_size
from langchain_costguard.caching.index.redis_base import Link, RemoteIndex, lifetime
from langchain_costguard.metering.stores.dial import Client


class RedisSearchIndex(RemoteIndex):
    """The nearest answers, in hashes under one index of Redis Search: ``RedisSearchIndex("redis://host:6379")``.

    The index (``FLAT``, ``COSINE``) is created with the first answer. The search is exact, and compares all answers of
    the setting. How much is remembered is bounded by how long, and by the server's memory and eviction policy.

    Args:
        url_or_client: A URL, or a sync redis-py client. A client keeps the timeouts it has.
        prefix: What the keys begin with; the index is called ``{prefix}:index``.
        timeout: Seconds to wait for the server at most, with a URL.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(
        self, url_or_client: str | Client | Link, *, prefix: str = "costguard:nearest", timeout: float = 0.5
    ) -> None:
        super().__init__(url_or_client, prefix=prefix, timeout=timeout)
        self._size = 0

    def add(self, id: str, setting: str, vector: Sequence[float], entry: Entry, *, now: float) -> None:
        """Remember an answer; an earlier one of this id and setting is replaced.

        Raises:
            ValueError: the vector is of another size than the others, or has no direction.
            CacheError: the server did not answer in time, or has no Redis Search.
        """
        direction = unit(vector)
        self._size = self._size or self._asked(lambda client: self._created(client, len(direction)))
        self._check(len(direction))
        fields: dict[Any, Any] = {"setting": setting, "expires": entry.expires, "entry": entry.to_json()}
        fields["vector"] = direction.tobytes()
        key = self._key(setting, id)

        def put(client: Any) -> None:
            pipe = client.pipeline(transaction=True)
            pipe.hset(key, mapping=fields)
            pipe.pexpire(key, lifetime(entry, now))
            pipe.execute()

        self._asked(put)

    def search(self, setting: str, vector: Sequence[float], k: int, *, now: float) -> list[Neighbour]:
        """The nearest answers of this setting that have not expired, at most ``k``, the nearest first.

        Raises:
            ValueError: the vector is of another size than those of the index, or has no direction.
            CacheError: the server did not answer in time, or has no Redis Search.
        """
        direction = unit(vector)
        self._size = self._size or self._asked(self._known)
        if not self._size:
            return []
        self._check(len(direction))
        tag = re.sub(r"(\W)", r"\\\1", setting)
        living = f"@setting:{{{tag}}} @expires:[({now!r} +inf]"
        query = Query(f"({living})=>[KNN {int(k)} @vector $vector AS distance]")
        query = query.return_fields("entry", "distance").paging(0, k).dialect(2)
        blob = direction.tobytes()
        try:
            reply = self._link.ask(lambda client: client.ft(self._name).search(query, query_params={"vector": blob}))
        except ResponseError as error:
            if re.search(r"no such index|unknown index|not found", str(error), re.IGNORECASE):
                self._size = 0  # somebody emptied the database; the next answer creates the index again
                return []
            raise self._objection(error) from error
        return self._neighbours(reply.docs, now)

    def _neighbours(self, documents: list[Any], now: float) -> list[Neighbour]:
        found = []
        for document in documents:
            # A hash that expired during the search has no fields.
            entry = entry_in(getattr(document, "entry", None))
            if entry is not None and entry.expires > now:
                _, id = self._parts(document.id)
                found.append(Neighbour(id, 1 - float(document.distance), entry))
        return sorted(found, key=lambda near: -near.score)

    @property
    def _name(self) -> str:
        return f"{self.prefix}:index"

    def _created(self, client: Any, size: int) -> int:
        """Create the index where there is none; the size of its vectors. The size is kept beside it, for how the server
        tells it differs between versions."""
        shape = {"TYPE": "FLOAT32", "DIM": size, "DISTANCE_METRIC": "COSINE"}
        tags = [TagField("setting", case_sensitive=True), NumericField("expires")]
        fields = [*tags, VectorField("vector", "FLAT", shape)]
        where = IndexDefinition(  # type: ignore[no-untyped-call]
            prefix=[f"{self.prefix}:{{"], index_type=IndexType.HASH
        )
        try:
            client.ft(self._name).create_index(fields, definition=where)
            client.set(f"{self.prefix}:size", size)
        except ResponseError as error:
            if "already exists" not in str(error).lower():
                raise
            client.set(f"{self.prefix}:size", size, nx=True)
        return self._known(client)

    def _known(self, client: Any) -> int:
        return int(client.get(f"{self.prefix}:size") or 0)

    def _check(self, size: int) -> None:
        if size != self._size:
            raise wrong_size(size, self._size)

    def _objection(self, error: ResponseError) -> Exception:
        text = str(error).lower()
        if "unknown" in text and "command" in text:
            return CacheError(f"{self._link.where}: this server has no Redis Search; Redis Stack, and Redis 8, have")
        return super()._objection(error)

    def _read(self, pipe: Any, key: str, setting: str, id: str) -> None:
        pipe.hget(key, "entry")
        pipe.hstrlen(key, "vector")

    def _bytes(self, size: Any) -> int:
        return size if isinstance(size, int) else 0
