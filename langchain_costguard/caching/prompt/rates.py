"""How much of the prompts of a feature came from the provider's cache, and whether that has fallen."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

WINDOW = 20
"""Calls whose share is looked at."""
_HIGH = 0.5
"""A share of cached tokens from which on a fall is told."""
_FALL = 0.5
"""The part of the best share seen that has to be lost for it to be told."""


class Fall(NamedTuple):
    """The share of cached tokens as it was at its best, and as it is."""

    before: float
    now: float


class HitRate:
    """The share of cached among cacheable tokens over the last calls of one feature."""

    __slots__ = ("_best", "_calls", "_window")

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._calls: deque[tuple[int, int]] = deque(maxlen=window)
        self._best = 0.0

    def add(self, cached: int, cacheable: int) -> Fall | None:
        """Count a call (tokens); tells when the share fell to less than half of a best of 50 % or more, once."""
        self._calls.append((cached, cacheable))
        share = self.share
        if len(self._calls) < self._window:
            return None
        if self._best >= _HIGH and share < self._best * _FALL:
            fall, self._best = Fall(self._best, share), share
            return fall
        self._best = max(self._best, share)
        return None

    @property
    def share(self) -> float:
        """Cached tokens of those that could be."""
        cacheable = sum(tokens for _, tokens in self._calls)
        return sum(tokens for tokens, _ in self._calls) / cacheable if cacheable else 0.0
