"""How fast money is spent, by scope, and when that is far from usual. Pure: the time is an argument."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import NamedTuple

HOUR = 3_600
_BUCKET = 300
_DAY = 24 * HOUR
_MOST = 10_000
"""Scopes that are followed; beyond it the ones not heard of for longest are forgotten."""
Key = tuple[str, str]
"""A dimension and its value; ``("all", "")`` is everything."""


class Spike(NamedTuple):
    """Who spent how much in the last hour, and how much in an average hour of the day before it (nano-USD)."""

    key: Key
    spent: int
    average: int


class Rates:
    """Spending by scope, in buckets of five minutes, for a day and an hour.

    Args:
        times: How many times the average hour is a spike.
        floor: Nano-USD below which an hour is never one.
        warm_up: Seconds of history that an average needs.
    """

    def __init__(self, times: float, floor: int, warm_up: float) -> None:
        self._times, self._floor, self._warm_up = times, floor, warm_up
        self._spent: OrderedDict[Key, deque[tuple[int, int]]] = OrderedDict()
        self._told: dict[Key, float] = {}

    def spend(self, keys: Iterable[Key], charge: int, now: float) -> list[Spike]:
        """Count a charge; the scopes that this charge lifted over the line, each at most once an hour."""
        found = []
        for key in keys:
            self._add(key, charge, now)
            spike = self._spike(key, now)
            if spike is not None:
                self._told[key] = now
                found.append(spike)
        return found

    def seed(self, key: Key, charge: int, at: float) -> None:
        """Count what was spent before, in the order of time."""
        self._add(key, charge, at)

    def clear(self) -> None:
        """Forget what was spent, not what was told."""
        self._spent.clear()

    def keys(self) -> list[Key]:
        """The scopes that are followed."""
        return list(self._spent)

    def check(self, now: float) -> list[Spike]:
        """The scopes over the line, each at most once an hour."""
        found = [spike for key in self.keys() if (spike := self._spike(key, now)) is not None]
        self._told.update((spike.key, now) for spike in found)
        return found

    def _add(self, key: Key, charge: int, now: float) -> None:
        buckets = self._spent.setdefault(key, deque())
        self._spent.move_to_end(key)
        if len(self._spent) > _MOST:
            gone, _ = self._spent.popitem(last=False)
            self._told.pop(gone, None)
        if buckets and now - buckets[-1][0] < _BUCKET:
            buckets[-1] = (buckets[-1][0], buckets[-1][1] + charge)
        else:
            buckets.append((int(now), charge))
        while buckets[0][0] <= now - _DAY - HOUR:
            buckets.popleft()

    def _spike(self, key: Key, now: float) -> Spike | None:
        buckets = self._spent.get(key)
        if not buckets:
            return None
        # Of a scope that is new there is no usual: its average begins with its own first charge.
        past = now - HOUR - max(buckets[0][0], now - _DAY - HOUR)
        if past < self._warm_up or now - self._told.get(key, float("-inf")) < HOUR:
            return None
        before = sum(charge for at, charge in buckets if at <= now - HOUR)
        spent = sum(charge for at, charge in buckets if at > now - HOUR)
        average = int(before / past * HOUR)
        return Spike(key, spent, average) if spent >= self._floor and spent > self._times * average else None
