"""When to tell that an account crossed a threshold: exactly once among all the processes that share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from langchain_costguard.metering.budgets.accounts import Account
from langchain_costguard.metering.budgets.alerts import crossings
from langchain_costguard.metering.budgets.budget import MEASURES
from langchain_costguard.metering.budgets.holds import Amounts, Hold
from langchain_costguard.metering.budgets.ledger import Ledger
from langchain_costguard.metering.voice import Voice
from langchain_costguard.vocabulary.scope import Scope

if TYPE_CHECKING:
    from langchain_costguard.metering.stores.leases.leased import LeasedStore

_KEPT = 10_000


class Alerting:
    """Tells of the thresholds that settlements cross.

    What is spent from a lease moves no shared total until the shared store is told of it: then is the time to alert.

    Args:
        voice: Tells.
        shares: The thresholds, as shares of a cap.
        leases: Where calls are settled on leases; else None.
    """

    def __init__(self, voice: Voice, shares: Sequence[float], leases: LeasedStore | None) -> None:
        self.shares = shares
        self._voice = voice
        self._leases = leases
        self._last: dict[str, tuple[Account, Scope]] = {}
        if leases is not None:
            leases.heard = self._heard

    def settle(self, ledger: Ledger, scope: Scope, hold: Hold, actual: Amounts, now: float) -> list[int]:
        """Settle a hold, and tell whoever listens of what that crossed; returns the accounts' totals."""
        if not self._voice.sinks:
            return ledger.settle(hold, actual, now)
        if self._leases is not None:
            self._last |= {account.name: (account, scope) for account in hold.accounts}
            while len(self._last) > _KEPT:
                self._last.pop(next(iter(self._last)), None)
        totals = ledger.settle(hold, actual, now)
        crossed = crossings(hold.accounts, actual, totals, self.shares)
        if self._leases is None:
            self._voice.alerts(scope, crossed, now)
        elif next(crossed, None) is not None:
            self._leases.hurry()
        return totals

    def _heard(self, told: Sequence[tuple[str, int, int]], now: float) -> None:
        """The shared store was told what accounts have spent."""
        if not self._voice.sinks:
            return
        for name, amount, total in told:
            if name in self._last:
                account, scope = self._last[name]
                actual = [amount] * len(MEASURES)
                self._voice.alerts(scope, crossings([account], actual, [total], self.shares), now)
