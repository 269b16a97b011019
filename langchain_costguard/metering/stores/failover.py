"""A store that may fail, made safe to lean on: a short wait, a stated policy, and every settlement counted once."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, cast

from langchain_costguard.metering.stores.base import (
    Balance,
    Claim,
    Grant,
    Refusal,
    Reservation,
    Settlement,
    Store,
    StoreBusyError,
    StoreError,
)
from langchain_costguard.metering.stores.mirror import Mirror
from langchain_costguard.metering.stores.outbox import RECEIPTS, Outbox
from langchain_costguard.metering.stores.remembered import Remembered
from langchain_costguard.metering.stores.spool import Spool
from langchain_costguard.observe.background import EXIT_SECONDS, Writer

__all__ = ["RECEIPTS", "FailoverStore", "FailurePolicy"]

FailurePolicy = Literal["refuse", "local"]
Forgotten = Literal["restore", "refuse"]
Turn = Callable[..., tuple[list[int], Grant | Refusal]]
log = logging.getLogger("langchain_costguard")

DOWN_AFTER = 3
"""Failures in a row after which a store is left alone: one, or two at once, may be a hiccup."""
PAUSES = (0.1, 2.0)
"""Seconds between the tries to deliver what waits: at first, and at the most."""
RETRY_AFTER = 1.0
"""Seconds a failed store is left alone, so that an outage costs a few time-outs a second and not one a call."""


class FailoverStore:
    """Passes to ``primary`` while it answers.

    While it does not: ``refuse`` raises ``StoreError`` from ``reserve``; ``local`` counts in this process, from what
    was last seen of the primary, so each process then has the whole of what was left to itself. Settlements wait
    either way, and reach the primary when it is back: a thread tries by itself, and whoever comes first brings them
    before anything is reserved there again. With a ``spool`` folder they wait on disk, and outlive the process.

    A ledger that has forgotten what it said before is told again, as far as this process knows it; or, ``forgotten``
    being ``"refuse"``, nothing more is reserved in it by this process, until a person has looked.

    ``clock`` measures waiting, in seconds that only go forward.
    """

    def __init__(
        self,
        primary: Store,
        policy: FailurePolicy,
        failed: Callable[[str], None],
        *,
        spool: str | os.PathLike[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        forgotten: Forgotten = "restore",
    ) -> None:
        self.primary = primary
        self.shared = primary.shared
        self._failed = failed
        self._clock = clock
        self._failures = 0
        self._down_until = 0.0
        self._down = False
        self._why = "the store of balances does not answer"
        self._outbox = Outbox(primary, None if spool is None else Spool(spool, of=repr(primary)), self._forgot)
        self._remembered = Remembered()
        self._forgotten, self._refuses, self._distrust = False, forgotten == "refuse", ""
        self.forgot: Callable[[], None] = lambda: None
        """Called when the ledger has forgotten: the holds that it had are gone, too."""
        self._looked = self._warned = False
        self._mirror = Mirror() if policy == "local" else None
        self._moment = time.time(), time.monotonic()
        self._writer: Writer[None] = Writer(
            self._bring, name="settlements", capacity=1, lost=self._give_up, pauses=PAUSES
        )
        if spool is not None:
            self._writer.wake(None)

    def reserve(self, claims: Sequence[Claim], *, units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        """As the primary does, or by the policy."""
        mirror = self._mirror
        if self._distrust:
            raise StoreError(self._distrust)
        if self._may_ask(now):
            try:
                self._catch_up(now)
                answer = self.primary.reserve(claims, units=units, until=until, now=now)
            except StoreError as error:
                self._fail(error)
            else:
                self._failures = 0
                if not self._looked:
                    self._looked = True
                    self._writer.wake(None)  # looks what may make it forget, behind the call
                if mirror is not None and isinstance(answer, Grant):
                    mirror.held(claims, answer, until, now)
                return answer
        if mirror is None:
            raise StoreError(self._why)
        return mirror.reserve(claims, units, until, now)

    def settle(
        self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], *, until: int, now: float
    ) -> list[int]:
        """As the primary does; while it does not answer, kept for later and counted here."""
        return self._settle(Settlement(claims, held, actual, until), now, None)

    def turn(
        self, settlement: Settlement, reservation: Reservation, *, now: float
    ) -> tuple[list[int], Grant | Refusal]:
        """Settle, then reserve: in one trip, where the primary can.

        Raises:
            StoreError: nothing was reserved; the settlement is kept for later.
        """
        both, answers = getattr(self.primary, "turn", None), list[Grant | Refusal]()

        def settle(*facts: Any, until: int, now: float) -> list[int]:
            claims, held, actual = facts
            totals, answer = cast("Turn", both)(Settlement(claims, held, actual, until), reservation, now=now)
            answers.append(answer)
            return totals

        alone = both is None or self._mirror is not None
        totals = self._settle(settlement, now, None if alone else settle)
        if answers:
            return totals, answers[0]
        claims, units, until = reservation
        return totals, self.reserve(claims, units=units, until=until, now=now)

    def _settle(self, settlement: Settlement, now: float, by: Callable[..., list[int]] | None) -> list[int]:
        claims, held, actual, until = settlement
        mirror, sent = self._mirror, False
        there = held if mirror is None else mirror.split(claims, held, until)
        if self._may_ask(now):
            try:
                self._catch_up(now)
                sent = True
                totals = self._outbox.send(claims, there, actual, until, now, by)
            except StoreError as error:
                self._fail(error)
            except BaseException:  # from outside, such as a worker's time limit: nobody may call again
                if not sent:
                    self._outbox.keep(claims, there, actual, until)
                self._writer.wake(None)
                raise
            else:
                self._failures = 0
                if self._forgotten:
                    totals = self._restored(claims, actual, totals, now)
                if self._forgotten:  # it could not be told again: what it says now is not what was spent
                    self._remembered.spent(claims, actual)
                else:
                    self._remembered.heard(claims, totals)
                if mirror is not None:
                    mirror.settle(claims, held, actual, until, now, totals)
                return totals
        if not sent:
            self._outbox.keep(claims, there, actual, until)
        self._writer.wake(None)
        return list(actual) if mirror is None else mirror.settle(claims, held, actual, until, now)

    def read(self, accounts: Sequence[str], *, now: float) -> list[Balance]:
        """The primary's balances; the local ones while it does not answer."""
        if self._may_ask(now):
            try:
                self._catch_up(now)
                return self.primary.read(accounts, now=now)
            except StoreError as error:
                self._fail(error)
        if self._mirror is None:
            raise StoreError(self._why)
        return self._mirror.store.read(accounts, now=now)

    def scan(self, *, now: float) -> Iterable[tuple[str, Balance]]:
        """The primary's accounts."""
        return ((name, balance) for name, balance in self.primary.scan(now=now) if not name.startswith(RECEIPTS))

    def flags(self) -> Mapping[str, str]:
        """The primary's flags."""
        return self.primary.flags()

    def flag(self, name: str, text: str | None) -> None:
        """Set a flag on the primary."""
        self.primary.flag(name, text)

    def _forgot(self) -> None:
        self._forgotten = True

    def _restored(self, claims: Sequence[Claim], actual: Sequence[int], totals: list[int], now: float) -> list[int]:
        """The totals, after what the ledger has forgotten was told to it again."""
        self._forgotten = False
        self.forgot()
        if self._refuses:
            why = f"{self.primary!r} has forgotten what was spent (emptied, evicted, restarted or failed over?)"
            self._distrust = f"{why}; restore it, or accept what it says, and start this process again"
            self._failed(self._distrust)
            log.error(self._distrust)
            return totals
        try:
            spent = {claim.account: amount for claim, amount in zip(claims, actual, strict=True)}
            fallen = self._remembered.restore(self.primary, spent, now)
            balances = self.primary.read([claim.account for claim in claims], now=now)
        except StoreError as error:
            self._forgotten = True
            self._fail(error)
            return totals
        self._failed(
            f"{self.primary!r} has forgotten what was spent (emptied, evicted, restarted or failed over?):"
            f" {fallen:,} accounts were raised again to what this process last saw"
        )
        log.error("%r has forgotten what was spent; %s accounts were raised again", self.primary, f"{fallen:,}")
        return [0 if claim.clock else balance.spent for claim, balance in zip(claims, balances, strict=True)]

    def close(self, timeout: float = EXIT_SECONDS) -> bool:
        """Deliver what waits, ``timeout`` seconds at most; whether all of it was."""
        done = self._writer.close(timeout)
        return done and not self._outbox

    def _may_ask(self, now: float) -> bool:
        self._moment = now, time.monotonic()
        return not self._down or self._clock() >= self._down_until

    def _catch_up(self, now: float) -> None:
        """Before anything is asked of the primary: is it back, and does it know all that happened?"""
        if self._down:
            self._down_until = self._clock() + RETRY_AFTER  # one caller looks; the others do without it until then
            self.primary.flags()  # a question that changes nothing, for it may be carried out unheard
        if self._outbox:
            self._outbox.flush(now)
        if self._down:
            self._down = False

    def _fail(self, error: StoreError) -> None:
        self._why = str(error)
        if not isinstance(error, StoreBusyError):
            self._failures += 1
            if self._down or self._failures >= DOWN_AFTER:
                self._down, self._down_until = True, self._clock() + RETRY_AFTER
        self._failed(self._why)

    def _bring(self, _: Sequence[None]) -> None:
        """Deliver what waits, this process' and what others left on disk.

        Raises:
            StoreError: the primary does not answer, or not now.
        """
        then, measured = self._moment
        now = then + time.monotonic() - measured
        if self._looked and not self._warned:
            self._warned = True
            for risk in getattr(self.primary, "risks", list)():
                log.warning("%r: %s", self.primary, risk)
        if self._down:
            self.primary.flags()
        if self._outbox or self._outbox.watches:
            self._outbox.flush(now)
        if self._outbox.spool is not None:
            for entry, receipt, count in self._outbox.spool.left_behind():
                self._outbox.deliver(entry, receipt, count, now)
        self._down, self._failures = False, 0
        if self._outbox.watches and self._writer.seconds_left == math.inf:
            raise StoreError("what was sent again may come late")  # so this is done once more, soon

    def _give_up(self, _: Sequence[None]) -> None:
        """Say what was not delivered, and where it is."""
        outbox, spool, where = self._outbox, self._outbox.spool, "and is lost"
        if outbox.count:
            if spool is not None:
                spool.catch_up()
                lost = f"and {spool.behind:,} could not be written to" if spool.behind else "but is kept in"
                where = f"{lost} {spool.folder}"
            what = "1 settlement" if outbox.count == 1 else f"{outbox.count:,} settlements"
            log.error("%s, $%.4f, not delivered to %r, %s: %s", what, outbox.nano / 1e9, self.primary, where, self._why)
