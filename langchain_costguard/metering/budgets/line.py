"""Waiting for holds to settle: first come first served, for threads and tasks alike."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future

from langchain_costguard.observe.forks import held_over_forks


class Ticket:
    """One caller's place in line. ``turn`` is done when it may try."""

    __slots__ = ("turn",)

    def __init__(self) -> None:
        self.turn: Future[None] = Future()


class Line:
    """The callers that wait because of holds on one account, in the order they came. Only the head of it tries."""

    def __init__(self, account: str) -> None:
        self.account = account
        self._lock = held_over_forks(threading.Lock())
        self._waiting: deque[Ticket] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self) -> Ticket:
        """Take the last place."""
        ticket = Ticket()
        with self._lock:
            self._waiting.append(ticket)
            self._wake()
        return ticket

    def leads(self, ticket: Ticket) -> bool:
        """Whether it is this caller's turn."""
        with self._lock:
            return bool(self._waiting) and self._waiting[0] is ticket

    def wait_again(self, ticket: Ticket) -> None:
        """Call it before a try: a settlement during the try is then not missed."""
        with self._lock:
            if ticket.turn.done():
                ticket.turn = Future()

    def leave(self, ticket: Ticket) -> None:
        """Give the place up, served or not; the next one gets its turn."""
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            self._wake()

    def wake(self) -> None:
        """Something settled: the head may try again."""
        with self._lock:
            self._wake()

    def _wake(self) -> None:
        if self._waiting and not self._waiting[0].turn.done():
            self._waiting[0].turn.set_result(None)


class Lines(dict[str, Line]):
    """The lines there are now, by account: each is there as long as somebody stands in it."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = held_over_forks(threading.Lock())

    def join(self, account: str) -> tuple[Line, Ticket]:
        """Take the last place in an account's line, which may begin with it."""
        with self._lock:
            line = self.get(account)
            if line is None:
                line = self[account] = Line(account)
            return line, line.join()

    def leave(self, line: Line, ticket: Ticket) -> None:
        """Give a place up; an empty line ends."""
        with self._lock:
            line.leave(ticket)
            if not len(line) and self.get(line.account) is line:
                del self[line.account]

    def wake(self, accounts: Iterable[str]) -> None:
        """Something settled on these accounts, or was granted to them: whoever waits for one may try again."""
        for account in accounts:
            line = self.get(account)
            if line is not None:
                line.wake()
