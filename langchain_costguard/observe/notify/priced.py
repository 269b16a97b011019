"""How much of an hour's spending is at prices that nobody knows."""

from __future__ import annotations

from langchain_costguard.events.metered import CallSettled
from langchain_costguard.observe.notify.rates import HOUR
from langchain_costguard.vocabulary.usage import ModelRef


class Priced:
    """Calls and money of this hour, and how much of both had no price."""

    def __init__(self) -> None:
        self._models: set[ModelRef] = set()
        self._begin(0)

    def _begin(self, hour: int) -> None:
        self._hour, self.calls, self.without, self._spent, self._unknown, self._told = hour, 0, 0, 0, 0, False

    @property
    def dollars(self) -> float:
        """The share of the money."""
        return self._unknown / self._spent if self._spent else 0.0

    def unknown(self, model: ModelRef) -> None:
        """Nobody knows the price of this one."""
        self._models.add(model)

    def count(self, event: CallSettled, charge: int, share: float) -> float:
        """Count a call; the greater of the two shares, once an hour, where it is as large as that, of ten calls."""
        if self._hour != int(event.at // HOUR):
            self._begin(int(event.at // HOUR))
        without = event.model in self._models and event.source != "provider"
        self.calls, self.without = self.calls + 1, self.without + without
        self._spent, self._unknown = self._spent + charge, self._unknown + charge * without
        found = max(self.without / self.calls, self.dollars)
        if self._told or self.calls < 10 or not self.without or found < share:
            return 0.0
        self._told = True
        return found
