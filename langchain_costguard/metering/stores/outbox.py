"""Settlements on their way to a shared store: each is carried out once, however often it has to be asked for.

A settlement that timed out may have been carried out all the same. So that it is not sent a second time, each one
counts up a receipt in its own atomic step: an account of this process, one for each settlement under way at once.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple
from uuid import uuid4

from langchain_costguard.metering.stores.base import ITS_OWN, MAX_AMOUNT, Claim, Store
from langchain_costguard.metering.stores.spool import Entry, Spool

RECEIPTS = "receipts|"
"""What the accounts begin with in which a store keeps how many settlements it has carried out."""
RECEIPT_TTL = 2 * 86_400
"""Seconds a receipt is kept: longer than any hold, and than clocks differ."""
WATCHED = 60.0
"""Seconds for which a settlement that was sent again is looked after, for the first of the two may come late."""
SPOOLED_TTL = 30 * 86_400
"""The same of a settlement that waits on disk for another process."""


class Worth(NamedTuple):
    """How many settlements are in what waits, and their money (nano-USD)."""

    settlements: int
    nano: int


class Receipt:
    """An account that counts the settlements sent with it, one at a time."""

    __slots__ = ("claim", "count")

    def __init__(self, account: str, count: int, ttl: int) -> None:
        self.claim = Claim(account, MAX_AMOUNT, 0, 0, False, ttl)
        self.count = count


class Late(NamedTuple):
    """A settlement that had not been carried out when the store was asked, was sent again, and may come still: a server
    that was held up does what it was told, though nobody waits for it any more."""

    entry: Entry
    account: str
    seen: int
    until: float


class Outbox:
    """What the store has not been told, or may not have heard. With a ``spool`` it is on disk, too."""

    def __init__(self, primary: Store, spool: Spool | None, forgot: Callable[[], None]) -> None:
        self._primary = primary
        self.spool = spool
        self._forgot = forgot
        self._mine()

    def _mine(self) -> None:
        # Reentrant: the garbage collector may close an abandoned stream, which settles, while this thread is in here.
        self._flushing, self._keeping = threading.RLock(), threading.RLock()
        self._pid = os.getpid()
        self._busy = 0
        self._owner = uuid4().hex[:12]
        self._made = 0
        self._free: deque[Receipt] = deque()
        # By when its holds expire, then by account: what was held, and what was really spent.
        self._kept: dict[int, tuple[dict[str, tuple[Claim, int, int]], Worth]] = {}
        self._doubtful: deque[tuple[Entry, Receipt, Worth]] = deque()
        self._late: deque[Late] = deque(maxlen=1000)
        self.count = self.nano = 0
        """Settlements that wait, and their money (nano-USD)."""

    def __bool__(self) -> bool:
        return bool(self._kept or self._doubtful or self._busy)

    @property
    def watches(self) -> bool:
        """Whether something that was sent again may come late."""
        return bool(self._late)

    def keep(self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], until: int) -> None:
        """Keep a settlement for later."""
        with self._keeping:
            self._check_fork()
            entry = Entry(claims, list(held), list(actual), until)
            worth = self._wait(entry)
            if self.spool is None:
                self._add_up(entry, worth)
            else:
                receipt = self._receipt()
                self.spool.write(entry, receipt.claim.account, receipt.count)
                self._doubtful.append((entry, receipt, worth))

    def send(
        self,
        claims: Sequence[Claim],
        held: Sequence[int],
        actual: Sequence[int],
        until: int,
        now: float,
        by: Callable[..., list[int]] | None = None,
    ) -> list[int]:
        """Have the primary settle, ``by`` another verb than its own; where it does not answer, find out later whether
        it did."""
        self._check_fork()
        entry, receipt = Entry(claims, held, actual, until), self._receipt()
        try:
            totals = self._send(entry, receipt, now, by)
        except BaseException as error:
            if not isinstance(error, ITS_OWN):
                with self._keeping:
                    kept = Entry(claims, list(held), list(actual), until)
                    worth = self._wait(kept)
                    if self.spool is not None:
                        self.spool.write(kept, receipt.claim.account, receipt.count)
                    self._doubtful.append((kept, receipt, worth))
            raise
        self._free.append(receipt)
        return totals

    def flush(self, now: float) -> None:
        """Bring the primary up to date."""
        self._check_fork()
        with self._flushing:
            self._busy += 1
            try:
                self._look(now)
                self._resolve(now)
                while self._kept:
                    self._send_kept(now)
                with self._keeping:
                    if self.spool is not None and not self._doubtful:
                        self.spool.clear()
            finally:
                self._busy -= 1

    def deliver(self, entry: Entry, account: str, count: int, now: float) -> None:
        """Carry out what another process left on disk, unless it was."""
        self._check_fork()
        receipt = Receipt(account, count, SPOOLED_TTL)
        if self._primary.read([account], now=now)[0].spent == count:
            self._again(entry, receipt, now)

    def _receipt(self) -> Receipt:
        try:
            return self._free.pop()
        except IndexError:
            self._made += 1
            ttl = RECEIPT_TTL if self.spool is None else SPOOLED_TTL
            return Receipt(f"{RECEIPTS}{self._owner}|{self._made}", 0, ttl)

    def _send(
        self, entry: Entry, receipt: Receipt, now: float, by: Callable[..., list[int]] | None = None
    ) -> list[int]:
        (claims, held, actual, until), settle = entry, by or self._primary.settle
        totals = settle([*claims, receipt.claim], [*held, 0], [*actual, 1], until=until, now=now)
        before, receipt.count = receipt.count, totals.pop()
        if receipt.count <= before:
            self._forgot()
        return totals

    def _send_kept(self, now: float) -> None:
        with self._keeping:
            until, (rows, worth) = self._kept.popitem()
        claims, held, actual = zip(*rows.values(), strict=True)
        entry, receipt = Entry(claims, list(held), list(actual), until), self._receipt()
        try:
            self._send(entry, receipt, now)
        except BaseException:
            self._doubtful.append((entry, receipt, worth))
            raise
        self._free.append(receipt)
        self._arrived(worth)

    def _resolve(self, now: float) -> None:
        while self._doubtful:
            entry, receipt, worth = doubt = self._doubtful.popleft()
            try:
                spent = self._primary.read([receipt.claim.account], now=now)[0].spent
                if spent not in (0, receipt.count):
                    self._undo(entry, spent - receipt.count - 1)
                    receipt.count = spent
                    self._free.append(receipt)
                elif self.spool is not None:
                    self._again(entry, receipt, now)
                else:
                    self._late.append(Late(entry, receipt.claim.account, spent, now + WATCHED))
                    self._add_up(entry, worth)
                    continue
            except BaseException:
                self._doubtful.appendleft(doubt)
                raise
            self._arrived(worth)

    def _again(self, entry: Entry, receipt: Receipt, now: float) -> None:
        before = receipt.count
        self._send(entry, receipt, now)
        self._undo(entry, receipt.count - before - 1)
        self._late.append(Late(entry, receipt.claim.account, receipt.count, now + WATCHED))

    def _look(self, now: float) -> None:
        """Take back what was carried out a second time after all."""
        late = [self._late.popleft() for _ in range(len(self._late))]
        try:
            found = self._primary.read([each.account for each in late], now=now) if late else []
        except BaseException:
            self._late.extend(late)
            raise
        for each, balance in zip(late, found, strict=True):
            self._undo(each.entry, balance.spent - each.seen)
            if now < each.until:
                self._late.append(each._replace(seen=max(balance.spent, each.seen)))

    def _undo(self, entry: Entry, times: int) -> None:
        if times > 0:
            claims, held, actual, until = entry
            self.keep(claims, [0] * len(held), [-times * amount for amount in actual], until)

    def _add_up(self, entry: Entry, worth: Worth) -> None:
        """What goes to one account is added up, so that an outage takes little memory."""
        with self._keeping:
            rows, others = self._kept.get(entry.until, ({}, Worth(0, 0)))
            self._kept[entry.until] = rows, Worth(others.settlements + worth.settlements, others.nano + worth.nano)
            for claim, release, amount in zip(entry.claims, entry.held, entry.actual, strict=True):
                _, before, spent = rows.get(claim.account, (claim, 0, 0))
                rows[claim.account] = (claim, before + release, spent + amount)

    def _wait(self, entry: Entry) -> Worth:
        """Count what waits from now on. A hold that is given back is no settlement."""
        spent = (amount for claim, amount in zip(entry.claims, entry.actual, strict=True) if "|usd" in claim.account)
        worth = Worth(int(any(entry.actual)), max(spent, default=0))
        with self._keeping:
            self.count, self.nano = self.count + worth.settlements, self.nano + worth.nano
        return worth

    def _arrived(self, worth: Worth) -> None:
        with self._keeping:
            self.count, self.nano = self.count - worth.settlements, self.nano - worth.nano

    def _check_fork(self) -> None:
        """After a fork, what was on its way is the parent's to bring."""
        if self._pid != os.getpid():
            if self.spool is not None:
                self.spool.leave_parent()
            self._mine()
