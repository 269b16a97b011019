"""What one process has seen a shared ledger say, for the day on which the ledger forgets it.

A server that is emptied, restarted without what it had, or replaced by a copy that lags behind starts again at zero,
and nothing in its answers says so. That a receipt of ours counts from the beginning again does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import RLock

from langchain_costguard.metering.stores.base import Claim, Refusal, Store
from langchain_costguard.observe.forks import held_over_forks

_KEPT = 10_000
_RESTORING = Claim("restoring|", 1, 1, ttl=60)
_SECONDS = 30


class Remembered:
    """The totals last heard of, by account; bounded in number."""

    def __init__(self) -> None:
        self._totals: OrderedDict[str, tuple[Claim, int]] = OrderedDict()
        self._lock = held_over_forks(RLock())
        self._at_it_until = 0
        """So long nobody else restores, where the store failed in the middle of it: whoever comes next begins again."""

    def heard(self, claims: Sequence[Claim], totals: Sequence[int]) -> None:
        """The ledger has said this."""
        with self._lock:
            for claim, total in zip(claims, totals, strict=True):
                if not claim.clock:
                    self._totals[claim.account] = claim, total
                    self._totals.move_to_end(claim.account)
            while len(self._totals) > _KEPT:
                self._totals.popitem(last=False)

    def spent(self, claims: Sequence[Claim], actual: Sequence[int]) -> None:
        """This was spent in a ledger that has forgotten what it said before."""
        with self._lock:
            for claim, amount in zip(claims, actual, strict=True):
                if claim.account in self._totals:
                    self._totals[claim.account] = claim, self._totals[claim.account][1] + amount

    def restore(self, store: Store, since: Mapping[str, int], now: float) -> int:
        """Raise what has fallen to what was heard last and what this process has spent ``since``; how many accounts it
        were. One process at a time: the others find it done.

        Raises:
            StoreError: the store does not answer.
        """
        with self._lock:
            known = dict(self._totals)
            until, self._at_it_until = self._at_it_until, 0
        if now >= until:
            until = int(now) + _SECONDS
            if isinstance(store.reserve([_RESTORING], units=(0, 0), until=until, now=now), Refusal):
                return 0
        try:
            fallen = []
            for (claim, total), balance in zip(known.values(), store.read(list(known), now=now), strict=True):
                missing = total + since.get(claim.account, 0) - balance.spent
                if missing > 0:
                    fallen.append((claim, missing))
            claims, raised = [claim for claim, _ in fallen] + [_RESTORING], [amount for _, amount in fallen]
            store.settle(claims, [0] * len(fallen) + [1], [*raised, 0], until=until, now=now)
        except BaseException:
            self._at_it_until = until
            raise
        return len(fallen)
