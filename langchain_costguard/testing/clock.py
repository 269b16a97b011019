"""A clock that moves only when told to."""

from __future__ import annotations

import math


class ManualClock:
    """Stands in for ``time.time``: call it for the time in epoch seconds, ``advance`` it by seconds.

    The default start is 2025-01-01T00:00:00Z, a Wednesday.
    """

    def __init__(self, start: float = 1_735_689_600.0) -> None:
        if isinstance(start, bool) or not isinstance(start, (int, float)) or not abs(start) < 1e300:
            raise ValueError(f"ManualClock(start={start!r}): must be epoch seconds")
        self._now = float(start)

    def __call__(self) -> float:
        """Now, in epoch seconds."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Move forward by ``seconds`` and return the new time; a clock does not go back."""
        if not (seconds >= 0 and math.isfinite(seconds)):
            raise ValueError(f"advance(seconds={seconds!r}): must be a number that is not negative")
        self._now += seconds
        return self._now
