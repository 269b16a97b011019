"""How long to hold a call back near a limit, or above a rate. Pure: told the time and what was spent when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MINUTE = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Delays calls rather than refusing them.

    Args:
        throttle_at: Share of a budget (above 0, below 1) from which on calls are delayed, the longer the fuller it is.
        nano_per_minute: Rate (nano-USD) above which calls wait until the minute's spending has fallen below it.
        most: Seconds a call is delayed at the most for the first reason, where the budget is full.

    Raises:
        ValueError: names the field and the value.
    """

    throttle_at: float | None = None
    nano_per_minute: int | None = None
    most: float = 5.0

    def __post_init__(self) -> None:
        at = self.throttle_at
        if at is not None and (isinstance(at, bool) or not isinstance(at, (int, float)) or not 0 < at < 1):
            raise ValueError(f"throttle_at: {at!r} must be a share between 0 and 1, such as 0.8")
        if self.most <= 0:
            raise ValueError(f"most: {self.most!r} must be a number of seconds above zero")

    def near(self, share: float) -> float:
        """Seconds to wait where the fullest budget is used to this ``share``."""
        if self.throttle_at is None or share < self.throttle_at:
            return 0.0
        return self.most * min(1.0, (share - self.throttle_at) / (1 - self.throttle_at))

    def above(self, charges: Iterable[tuple[float, int]], now: float) -> float:
        """Seconds until the spending of a minute falls below the rate, if nothing is added to it.

        ``charges`` are those of the last minute (epoch seconds, nano-USD), the oldest first.
        """
        if self.nano_per_minute is None:
            return 0.0
        recent = [(at, amount) for at, amount in charges if at > now - MINUTE]
        total = sum(amount for _, amount in recent)
        for at, amount in recent:
            if total < self.nano_per_minute:
                break
            total -= amount
            if total < self.nano_per_minute:
                return at + MINUTE - now
        return 0.0
