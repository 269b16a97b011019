"""Neighbours in Redis' vector sets: Redis 8 and later, without a module."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from langchain_costguard.caching.base import CacheError
from langchain_costguard.caching.entry import Entry
from langchain_costguard.caching.index.base import Neighbour, entry_in, unit, wrong_size
from langchain_costguard.caching.index.redis_base import Link, RemoteIndex, lifetime
from langchain_costguard.metering.stores.dial import Client

EFFORT = 200
"""Candidates looked at in the graph (``EF``); with more, hardly more of the nearest are found."""
SPARE = 8
"""Elements asked for beyond what is wanted: the answers of some may have expired."""
ROUNDS = 4

KEEP = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
for _, id in ipairs(redis.call('VRANDMEMBER', KEYS[1], 3) or {}) do
  if redis.call('EXISTS', ARGV[2] .. id) == 0 then redis.call('VREM', KEYS[1], id) end
end
"""
"""Elements of a set do not expire, so each that is added pays for looking at three others: at most a third of a set is
expired ones, once as many expire as are added."""

DROP = """
for _, id in ipairs(ARGV) do
  if redis.call('EXISTS', KEYS[1] .. ':' .. id) == 0 then redis.call('VREM', KEYS[1], id) end
end
"""


class RedisVectorSetIndex(RemoteIndex):
    """The nearest answers, in one vector set a setting: ``RedisVectorSetIndex("redis://host:6379")``.

    Redis 8 and later. The search is approximate (a graph), and done in threads of its own, so that others of the server
    need not wait. How much is remembered is bounded by how long, and by the server's memory and eviction policy.

    Args:
        url_or_client: A URL, or a sync redis-py client, of a cluster, too. A client keeps the timeouts it has.
        prefix: What the keys begin with.
        timeout: Seconds to wait for the server at most, with a URL.
        exact: Compare all answers of the setting, which never misses and takes time in proportion.
        quantized: Keep one byte a component, a quarter of the memory; scores are off by some thousandths, and about one
            nearest in a hundred is missed.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(
        self,
        url_or_client: str | Client | Link,
        *,
        prefix: str = "costguard:near",
        timeout: float = 0.5,
        exact: bool = False,
        quantized: bool = False,
    ) -> None:
        super().__init__(url_or_client, prefix=prefix, timeout=timeout)
        self.exact = exact
        self.quantized = quantized
        self._keep = self._link.client.register_script(KEEP)
        self._drop = self._link.client.register_script(DROP)

    def add(self, id: str, setting: str, vector: Sequence[float], entry: Entry, *, now: float) -> None:
        """Remember an answer; an earlier one of this id and setting is replaced.

        Raises:
            ValueError: the vector is of another size than the setting's others, or has no direction.
            CacheError: the server did not answer in time, or has no vector sets.
        """
        blob, kind = unit(vector).tobytes(), "Q8" if self.quantized else "NOQUANT"
        elements, key, left = self._set(setting), self._key(setting, id), lifetime(entry, now)

        def put(client: Any) -> None:
            client.set(key, entry.to_json(), px=left)
            try:
                # CAS looks for a place in the graph, which takes milliseconds, in a thread of its own.
                client.execute_command("VADD", elements, "FP32", blob, id, "CAS", kind)
            except ResponseError:
                client.delete(key)
                raise
            self._keep(keys=[elements], args=[left, self._key(setting, "")], client=client)

        self._asked(put)

    def search(self, setting: str, vector: Sequence[float], k: int, *, now: float) -> list[Neighbour]:
        """The nearest answers of this setting that have not expired, at most ``k``, the nearest first.

        Raises:
            ValueError: the vector is of another size than the setting's, or has no direction.
            CacheError: the server did not answer in time, or has no vector sets.
        """
        direction = unit(vector)
        found: list[Neighbour] = []
        count = k + SPARE
        for _ in range(ROUNDS):
            scores = self._similar(setting, direction, count)
            if not scores:
                return []
            found = self._living(setting, scores, now)
            if len(found) >= k or len(scores) < count:
                break
            count *= 4
        return found[:k]

    def _similar(self, setting: str, direction: array[float], count: int) -> list[tuple[str, float]]:
        options = ["TRUTH"] if self.exact else ["EF", max(EFFORT, count)]
        command = ["VSIM", self._set(setting), "FP32", direction.tobytes(), "WITHSCORES", "COUNT", count, *options]
        reply = self._asked(lambda client: client.execute_command(*command))
        # RESP3 has a map, but an empty list of a set there is not.
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        # The server tells (1 + cosine) / 2.
        return [(id.decode() if isinstance(id, bytes) else id, 2 * float(score) - 1) for id, score in pairs]

    def _living(self, setting: str, scores: list[tuple[str, float]], now: float) -> list[Neighbour]:
        keys = [self._key(setting, id) for id, _ in scores]
        texts = self._asked(lambda client: client.mget(keys))
        gone = [id for (id, _), text in zip(scores, texts, strict=True) if text is None]
        if gone:
            self._asked(lambda client: self._drop(keys=[self._set(setting)], args=gone, client=client))
        rows = zip(scores, map(entry_in, texts), strict=True)
        return [Neighbour(*near, entry) for near, entry in rows if entry is not None and entry.expires > now]

    def _objection(self, error: ResponseError) -> Exception:
        text = str(error)
        if sizes := re.search(r"dimension mismatch - got (\d+) but set has (\d+)", text):
            return wrong_size(int(sizes[1]), int(sizes[2]))
        if "unknown" in text.lower() and "command" in text.lower():
            return CacheError(f"{self._link.where}: this server has no vector sets; Redis 8 and later has")
        return super()._objection(error)

    def _set(self, setting: str) -> str:
        return f"{self.prefix}:{{{setting}}}"

    def _read(self, pipe: Any, key: str, setting: str, id: str) -> None:
        pipe.get(key)
        pipe.execute_command("VDIM", self._set(setting))

    def _bytes(self, size: Any) -> int:
        return (1 if self.quantized else 4) * size if isinstance(size, int) else 0

    def _drop_vector(self, pipe: Any, setting: str, id: str) -> None:
        pipe.execute_command("VREM", self._set(setting), id)
