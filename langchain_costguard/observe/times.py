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


class Times:
    """The latest calls of each scope, whatever their trace."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[tuple[str, ...], deque[Sample]] = {}

    def note(self, scope: Scope, sample: Sample) -> None:
        """Note a call."""
        key = (*scope[:6], scope[7])
        samples = self._latest.get(key)
        if samples is None:
            with self._lock:
                if len(self._latest) >= _SCOPES:
                    del self._latest[next(iter(self._latest))]
                samples = self._latest.setdefault(key, deque(maxlen=_LATEST))
        samples.append(sample)

    def rows(self) -> list[tuple[Scope, list[Sample]]]:
        """What was noted, by scope without trace."""
        with self._lock:
            return [(Scope._make((*key[:6], "", key[6])), list(found)) for key, found in self._latest.items()]


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
