"""Answers in Redis or Valkey: many machines, one round trip each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from langchain_costguard.caching.base import counted
from langchain_costguard.caching.entry import Entry, Stock, Wanted
from langchain_costguard.caching.exact.cache import ExactCache
from langchain_costguard.caching.exact.server import Server
from langchain_costguard.caching.rules import Options

if TYPE_CHECKING:
    import redis
    from redis.cluster import RedisCluster

CLAIM = """
local held = redis.call('GET', KEYS[1])
if held then
  local till, holder = string.match(held, '^(%S+) (.*)$')
  if holder ~= ARGV[1] and tonumber(till) > tonumber(ARGV[3]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. ARGV[1], 'PX', ARGV[4])
return 1
"""
"""A claim is "until holder", and gone by itself. KEYS[1]: the claim. ARGV: holder, until, now, lifetime (ms)."""

RELEASE = """
local held = redis.call('GET', KEYS[1])
if held and string.match(held, '^%S+ (.*)$') == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""


class RedisCache(ExactCache):
    """Answers for many machines: ``RedisCache("redis://host:6379/0")``.

    Takes a URL (``redis://``, ``rediss://``, ``unix://``) or a sync redis-py client: ``redis.Redis`` or
    ``redis.cluster.RedisCluster``. With a URL, no wait is longer than ``timeout`` seconds; a client keeps the timeouts
    it was made with. A server that does not answer is left alone for 5 seconds.

    Each answer is a key of its own, ``<prefix>:answer:<64 hex digits>``, which expires by itself. How many there are is
    the server's to bound: set its ``maxmemory``, and its ``maxmemory-policy`` to ``allkeys-lru``. A server that holds
    balances, too, must not evict them: give the cache one of its own. ``forget`` and ``stock`` go through all keys of
    the server (``SCAN``), and read every answer. The other arguments are those of ``Rules``: ``ttl``, ``share``,
    ``deterministic``, ``tool_calls``, ``cache_if``, ``no_cache``.

    Raises:
        ValueError: the URL, the client or another argument cannot be used.
    """

    def __init__(
        self,
        url_or_client: str | redis.Redis | RedisCluster,
        *,
        prefix: str = "costguard:cache",
        timeout: float = 0.5,
        clock: Callable[[], float] = time.time,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(clock=clock, **options)
        if not isinstance(prefix, str) or not prefix:
            raise ValueError(f"prefix: {prefix!r} must be a name")
        self.prefix = prefix
        self._options = options
        self.server = Server(url_or_client, who="RedisCache", timeout=timeout, clock=clock)
        self._answer, self._claim = f"{prefix}:answer:", f"{prefix}:claim:"

    def __repr__(self) -> str:
        return f"<RedisCache: {self.server.where}, prefix {self.prefix!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.server.url is None:
            raise TypeError("a RedisCache made from a client cannot be pickled; make it from a URL")
        made = partial(RedisCache, prefix=self.prefix, timeout=self.server.timeout, **self._options)
        return made, (self.server.url,)

    def close(self) -> None:
        """Close the cache's own connections; a given client stays as it is."""
        self.server.close()

    def get(self, key: str, *, now: float) -> Entry | None:
        """The answer, if there is one and it has not expired."""
        text = self.server.ask("GET", self._answer + key)
        if text is None:
            return None
        entry = self._read_entry(text)
        return entry if entry is not None and entry.expires > now else None

    def put(self, key: str, entry: Entry, *, now: float) -> None:
        """Remember an answer."""
        left = int((entry.expires - now) * 1000)
        if left > 0:
            text = entry.to_json().encode("utf-8", "surrogatepass")
            self.server.ask("SET", self._answer + key, text, "PX", left)

    def claim(self, key: str, holder: str, *, until: float, now: float) -> bool:
        """Take it upon oneself to get the answer, until then at the longest; false while another has."""
        left = max(1, int((until - now) * 1000))
        arguments = (holder, f"{until:.3f}", f"{now:.3f}", left)
        return bool(self.server.ask("EVAL", CLAIM, 1, self._claim + key, *arguments))

    def release(self, key: str, holder: str) -> None:
        """Let others have a try."""
        self.server.ask("EVAL", RELEASE, 1, self._claim + key, holder)

    def forget(self, wanted: Wanted) -> int:
        """Forget these answers; returns how many."""
        if wanted == Wanted():
            return sum(self.server.drop(keys) for keys in self.server.scan(self._answer))
        return sum(self.server.drop([key for key, entry in found if wanted.fits(entry)]) for found in self._read())

    def stock(self, *, now: float) -> Iterable[Stock]:
        """What is held, by feature and model."""
        return counted(entry for found in self._read() for _, entry in found if entry.expires > now)

    def _read(self) -> Iterator[list[tuple[Any, Entry]]]:
        """Every answer, some at a time; what is none is passed over."""
        for keys in self.server.scan(self._answer):
            found = []
            for key, text in zip(keys, self.server.read(keys), strict=True):
                try:
                    found.append((key, Entry.from_json(text)))
                except (ValueError, TypeError):
                    continue
            yield found
