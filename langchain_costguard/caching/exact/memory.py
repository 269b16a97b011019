"""Answers in this process: a dictionary, the one asked for last at its end."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from threading import RLock
from typing import Any, Unpack

from langchain_core.outputs import Generation

from langchain_costguard.caching.base import checked_most, counted
from langchain_costguard.caching.entry import Entry, Stock, Wanted
from langchain_costguard.caching.exact.cache import ExactCache
from langchain_costguard.caching.rules import Options
from langchain_costguard.observe.forks import held_over_forks

SWEEP = 2
"""Answers looked at for each one that is added: those not asked for longest, which expire first."""
_CLAIMS = 1_000


class MemoryCache(ExactCache):
    """Answers in this process: ``MemoryCache()``. They are gone when the process ends.

    It holds ``max_entries`` answers; beyond them, the one not asked for longest goes. The other arguments are those of
    ``Rules``: ``ttl``, ``share``, ``deterministic``, ``tool_calls``, ``cache_if``, ``no_cache``.

    Raises:
        ValueError: names the field and the value.
    """

    quick = True
    """Asked on the spot where an event loop runs: it takes less time than going to a thread."""

    def __init__(
        self, *, max_entries: int = 10_000, clock: Callable[[], float] = time.time, **options: Unpack[Options]
    ) -> None:
        super().__init__(clock=clock, **options)
        self.max_entries = checked_most(max_entries)
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._claims: dict[str, tuple[str, float]] = {}
        # Reentrant: the garbage collector may end a call, which releases its claim, while this thread is in here.
        self._lock = held_over_forks(RLock())

    def __repr__(self) -> str:
        return f"<MemoryCache: {len(self._entries):,} of {self.max_entries:,} answers>"

    def get(self, key: str, *, now: float) -> Entry | None:
        """The answer, if there is one and it has not expired."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if entry.expires <= now:
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return entry

    def put(self, key: str, entry: Entry, *, now: float) -> None:
        """Remember an answer."""
        with self._lock:
            self._entries[key] = entry
            self._entries.move_to_end(key)
            for old in list(islice(self._entries, SWEEP)):
                if self._entries[old].expires <= now:
                    del self._entries[old]
            if len(self._entries) > self.max_entries:
                self._entries.popitem(last=False)

    def claim(self, key: str, holder: str, *, until: float, now: float) -> bool:
        """Take it upon oneself to get the answer, until then at the longest; false while another has."""
        with self._lock:
            other, expires = self._claims.get(key, (holder, until))
            if other != holder and expires > now:
                return False
            self._claims[key] = holder, until
            if len(self._claims) > _CLAIMS:  # holders that never came back
                self._claims = {key: claim for key, claim in self._claims.items() if claim[1] > now}
            return True

    def release(self, key: str, holder: str) -> None:
        """Let others have a try."""
        with self._lock:
            if self._claims.get(key, ("", 0.0))[0] == holder:
                del self._claims[key]

    def forget(self, wanted: Wanted) -> int:
        """Forget these answers; returns how many."""
        with self._lock:
            found = [key for key, entry in self._entries.items() if wanted.fits(entry)]
            for key in found:
                del self._entries[key]
            return len(found)

    def stock(self, *, now: float) -> Iterable[Stock]:
        """What is held, by feature and model."""
        with self._lock:
            entries = [entry for entry in self._entries.values() if entry.expires > now]
        return counted(entries)

    async def alookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """As ``lookup``, here and now: it takes less time than going to a thread."""
        return self.lookup(prompt, llm_string)

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """As ``update``."""
        self.update(prompt, llm_string, return_val)

    async def aclear(self, **kwargs: Any) -> None:
        """As ``clear``."""
        self.clear(**kwargs)
