"""How much a guard has spent in the last minute, in this process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from langchain_costguard.events.metered import CallSettled, Event, ToolSettled
from langchain_costguard.steering.policies.pace import MINUTE


class Rate:
    """A sink that remembers the charges of the last minute; asking it takes no longer the more there are."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._charges: deque[tuple[float, int]] = deque()
        self._total = 0
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Note what was settled."""
        if isinstance(event, (CallSettled, ToolSettled)) and event.charge:
            with self._lock:
                self._charges.append((event.at, event.charge))
                self._total += event.charge
                self._forget(event.at)

    def total(self) -> int:
        """Nano-USD spent in the last minute."""
        with self._lock:
            self._forget(self._clock())
            return self._total

    def charges(self) -> list[tuple[float, int]]:
        """The charges of the last minute: epoch seconds and nano-USD, the oldest first."""
        with self._lock:
            self._forget(self._clock())
            return list(self._charges)

    def _forget(self, now: float) -> None:
        charges = self._charges
        while charges and charges[0][0] <= now - MINUTE:
            self._total -= charges.popleft()[1]
