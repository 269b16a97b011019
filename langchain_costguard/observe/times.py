"""How long calls took, and how long until their first token: the latest of each scope, for medians and tails."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from langchain_costguard.vocabulary.scope import Scope

_LATEST = 256
"""Calls remembered of each scope."""
_SCOPES = 2_000
"""Scopes remembered; beyond it the oldest are let go."""


class Sample(NamedTuple):
    """One call: seconds until its end, and until its first token (None where it was not streamed)."""

    seconds: float
    first: float | None


_Key = tuple[tuple[str, ...], str]


class Times:
    """The latest calls of each scope, whatever their trace."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[_Key, deque[tuple[float, float | None]]] = {}

    def note(self, scope: Scope, seconds: float, first: float | None) -> None:
        """Note a call."""
        samples = self._latest.get((scope[:6], scope[7]))
        if samples is None:
            samples = self._begun((scope[:6], scope[7]))
        samples.append((seconds, first))

    def _begun(self, key: _Key) -> deque[tuple[float, float | None]]:
        with self._lock:
            if len(self._latest) >= _SCOPES:
                del self._latest[next(iter(self._latest))]
            return self._latest.setdefault(key, deque(maxlen=_LATEST))

    def rows(self) -> list[tuple[Scope, list[Sample]]]:
        """What was noted, by scope without trace."""
        with self._lock:
            latest = list(self._latest.items())
        return [(Scope._make((*key[0], "", key[1])), [Sample(*each) for each in found]) for key, found in latest]


class Latency(NamedTuple):
    """Seconds; None where nothing was measured."""

    median: float | None = None
    p95: float | None = None
    first_token: float | None = None
    """The median."""


def latency(samples: Iterable[Sample]) -> Latency:
    """Median, tail and first token of these calls."""
    samples = list(samples)
    took, first = sorted(s.seconds for s in samples), sorted(s.first for s in samples if s.first is not None)
    return Latency(_share(took, 0.5), _share(took, 0.95), _share(first, 0.5))


def _share(ranked: Sequence[float], share: float) -> float | None:
    """The value that this share of the values does not exceed."""
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else None
