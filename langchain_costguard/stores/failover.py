"""A store that may fail, made safe to lean on: a short wait, a stated policy, and no settlement lost."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from .base import Balance, Claim, Grant, Refusal, Store, StoreError
from .memory import MemoryStore

FailurePolicy = Literal["refuse", "local"]

_RETRY_AFTER = 1.0
"""Seconds a failed store is left alone, so that an outage costs one time-out a second and not one a call."""
_QUEUE = 100_000
_SEEN = 10_000

_Settlement = tuple[Sequence[Claim], Sequence[int], Sequence[int], int]


class FailoverStore:
    """Passes to ``primary`` while it answers.

    While it does not: ``refuse`` raises ``StoreError`` from ``reserve``; ``local`` counts in this process, from the
    last totals it saw, so each process then has the whole of what was left to itself. Settlements wait in a queue
    either way and reach the primary when it is back.
    """

    def __init__(self, primary: Store, policy: FailurePolicy, failed: Callable[[str], None]) -> None:
        self.primary = primary
        self.shared = primary.shared
        self._policy = policy
        self._failed = failed
        self._down_until = 0.0
        self._waiting: deque[_Settlement] = deque(maxlen=_QUEUE)
        self._local: MemoryStore | None = None
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.RLock()

    def reserve(self, claims: Sequence[Claim], *, units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        """As the primary does, or by the policy."""
        if now >= self._down_until:
            try:
                if self._waiting:
                    self._flush(now)
                answer = self.primary.reserve(claims, units=units, until=until, now=now)
            except StoreError as error:
                self._fail(error, now)
            else:
                self._local = None
                return answer
        if self._policy == "refuse":
            raise StoreError("the store of balances does not answer")
        return self._here(claims, now).reserve(claims, units=units, until=until, now=now)

    def settle(
        self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], *, until: int, now: float
    ) -> list[int]:
        """As the primary does; while it does not answer, kept for later and counted here."""
        local = self._local
        if local is not None:
            totals = local.settle(claims, held, actual, until=until, now=now)
        if now >= self._down_until:
            try:
                if self._waiting:
                    self._flush(now)
                totals = self.primary.settle(claims, held, actual, until=until, now=now)
            except StoreError as error:
                self._fail(error, now)
            else:
                self._remember(claims, totals)
                return totals
        self._waiting.append((claims, list(held), list(actual), until))
        if local is None:
            with self._lock:
                totals = [self._seen.get(c.account, 0) + a for c, a in zip(claims, actual, strict=True)]
            self._remember(claims, totals)
        return totals

    def read(self, accounts: Sequence[str], *, now: float) -> list[Balance]:
        """The primary's balances; the local ones while it does not answer."""
        try:
            return self.primary.read(accounts, now=now)
        except StoreError:
            if self._local is None:
                raise
            return self._local.read(accounts, now=now)

    def scan(self, *, now: float) -> Iterable[tuple[str, Balance]]:
        """The primary's accounts."""
        return self.primary.scan(now=now)

    def flags(self) -> Mapping[str, str]:
        """The primary's flags."""
        return self.primary.flags()

    def flag(self, name: str, text: str | None) -> None:
        """Set a flag on the primary."""
        self.primary.flag(name, text)

    def _here(self, claims: Sequence[Claim], now: float) -> MemoryStore:
        with self._lock:
            if self._local is None:
                self._local = MemoryStore()
            known = [balance.spent or balance.held for balance in self._local.read([c.account for c in claims], now=now)]
            fresh = [c for c, k in zip(claims, known, strict=True) if not k and not c.clock and self._seen.get(c.account)]
            if fresh:
                spent = [self._seen[claim.account] for claim in fresh]
                self._local.settle(fresh, [0] * len(fresh), spent, until=int(now), now=now)
            return self._local

    def _flush(self, now: float) -> None:
        while True:
            try:
                claims, held, actual, until = self._waiting.popleft()
            except IndexError:
                return
            try:
                self.primary.settle(claims, held, actual, until=until, now=now)
            except StoreError:
                self._waiting.appendleft((claims, held, actual, until))
                raise

    def _fail(self, error: StoreError, now: float) -> None:
        self._down_until = now + _RETRY_AFTER
        self._failed(str(error))

    def _remember(self, claims: Sequence[Claim], totals: Sequence[int]) -> None:
        if self._policy != "local":
            return
        with self._lock:
            for claim, total in zip(claims, totals, strict=True):
                self._seen[claim.account] = total
                self._seen.move_to_end(claim.account)
            while len(self._seen) > _SEEN:
                self._seen.popitem(last=False)
