"""A shared store as one process last saw it, to go on from while it does not answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from langchain_costguard.metering.stores.base import MAX_AMOUNT, Claim, Grant, Refusal
from langchain_costguard.metering.stores.memory import MemoryStore
from langchain_costguard.observe.forks import held_over_forks


class Mirror:
    """What this process knows of the primary: the totals last seen, and its own holds. It goes on from there alone."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self._lock = held_over_forks(threading.RLock())
        # What of the holds is in this store alone. Holds of one account that expire in one second are alike, so it
        # does not matter whose is released where, as long as nothing is released in the primary that is not there.
        self._only_here: dict[tuple[str, int], int] = {}

    def held(self, claims: Sequence[Claim], grant: Grant, until: int, now: float) -> None:
        """The primary has granted this."""
        units = (grant.units, grant.units)
        with self._lock:
            if grant.started:
                clocks = [claim for claim in claims if claim.clock]
                for claim, started in zip(clocks, grant.started, strict=True):
                    self.store.reserve([claim], units=units, until=until, now=started / 1000)
                claims = [claim for claim in claims if not claim.clock]
            if isinstance(self.store.reserve(claims, units=units, until=until, now=now), Refusal):
                # More seems to be spent than the primary knows of now: its word counts.
                wide = [claim._replace(cap=MAX_AMOUNT) for claim in claims]
                self.store.reserve(wide, units=units, until=until, now=now)

    def reserve(self, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        """Grant by what is known here."""
        with self._lock:
            answer = self.store.reserve(claims, units=units, until=until, now=now)
            if isinstance(answer, Grant):
                for claim in claims:
                    amount = claim.fixed + claim.per_unit * answer.units
                    if amount and not claim.clock:
                        key = claim.account, until
                        self._only_here[key] = self._only_here.get(key, 0) + amount
                self._forget(now)
            return answer

    def split(self, claims: Sequence[Claim], held: Sequence[int], until: int) -> Sequence[int]:
        """What of these holds is to be released in the primary: that which is not in this store alone."""
        if not self._only_here:
            return held
        there = []
        with self._lock:
            for claim, amount in zip(claims, held, strict=True):
                key = claim.account, until
                here = min(amount, self._only_here.get(key, 0))
                if here:
                    self._only_here[key] -= here
                    if not self._only_here[key]:
                        del self._only_here[key]
                there.append(amount - here)
        return there

    def settle(
        self,
        claims: Sequence[Claim],
        held: Sequence[int],
        actual: Sequence[int],
        until: int,
        now: float,
        totals: Sequence[int] | None = None,
    ) -> list[int]:
        """The new totals as known here; where the primary says ``totals``, what others spent there counts, too."""
        with self._lock:
            if totals is not None:
                known = self.store.read([claim.account for claim in claims], now=now)
                seen = zip(actual, totals, known, strict=True)
                actual = [max(amount, total - balance.spent) for amount, total, balance in seen]
            return self.store.settle(claims, held, actual, until=until, now=now)

    def _forget(self, now: float) -> None:
        if len(self._only_here) > 1000:
            self._only_here = {key: amount for key, amount in self._only_here.items() if key[1] > now}
