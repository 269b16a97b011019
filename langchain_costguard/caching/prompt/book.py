"""What is known of the prompts that were sent: which are kept by the provider, and how soon each kind is sent again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import NamedTuple, TypeVar

from langchain_costguard.caching.prompt.breakpoints import SECONDS, Ttl
from langchain_costguard.caching.prompt.gaps import Gaps, Odds, odds

_MOST = 20_000
"""Prefixes remembered, and kinds of calls counted; those not seen for longest are forgotten."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kind(NamedTuple):
    """Calls that are alike: of one feature and model, and of one session where that is told apart."""

    place: str
    model: str
    feature: str
    session: str = ""


class Used(NamedTuple):
    """When a prefix was last sent (epoch seconds), and for how long it was kept then."""

    at: float
    ttl: Ttl | None = None


class PrefixBook:
    """Prefixes by digest, and the gaps between their uses. In this process alone; any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used: OrderedDict[bytes, Used] = OrderedDict()
        self._gaps: OrderedDict[Kind, Gaps] = OrderedDict()

    def used(self, prefix: bytes) -> Used | None:
        """The last use of a prefix."""
        return self._used.get(prefix)

    def kept(self, prefix: bytes, now: float) -> Ttl | None:
        """For how long a prefix is kept, if it still is."""
        used = self._used.get(prefix)
        return used.ttl if used is not None and used.ttl is not None and now - used.at < SECONDS[used.ttl] else None

    def gap(self, prefixes: Sequence[bytes], now: float) -> float | None:
        """Seconds since the last use of the longest of these prefixes that is known; None where none is."""
        for prefix in reversed(prefixes):
            if (used := self._used.get(prefix)) is not None:
                return max(0.0, now - used.at)
        return None

    def odds(self, kind: Kind, gap: float | None, before: Odds) -> Odds:
        """The chances that such a prefix is used again in time, the present use counted in."""
        with self._lock:
            feature = _copy(self._gaps.get(kind._replace(session="")))
            session = _copy(self._gaps.get(kind)) if kind.session else None
        feature.add(gap)
        if session is not None:
            session.add(gap)
        return odds(feature, session, before)

    def note(self, kind: Kind, prefix: bytes, gap: float | None, used: Used) -> None:
        """Count a use of a prefix."""
        with self._lock:
            for key in {kind, kind._replace(session="")}:
                gaps = self._gaps.get(key)
                if gaps is None:
                    gaps = Gaps()
                _put(self._gaps, key, gaps)
                gaps.add(gap)
            _put(self._used, prefix, used)


def _copy(gaps: Gaps | None) -> Gaps:
    return Gaps() if gaps is None else Gaps(gaps.uses, gaps.five, gaps.hour)


def _put(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > _MOST:
        kept.popitem(last=False)
