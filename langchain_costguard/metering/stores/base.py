"""What a store of balances must do: three atomic verbs over accounts, and a short list of flags.

An account is what one budget measure has *spent* for one scope value in one window, and the *holds* on it. A hold
carries no id: it sits in the bucket of the second it expires in, so the hold of a crashed worker vanishes with its
bucket and nobody has to clean up after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

MAX_AMOUNT = 2**53 - 1
"""Largest amount an account holds exactly: Redis' Lua counts in doubles. In nano-USD that is 9,007,199 USD."""


class StoreError(Exception):
    """The store did not answer, or not in time. The ledger turns it into the policy ``on_store_failure`` names."""


class StoreBusyError(StoreError):
    """The store works, for others, and this caller did not get its turn in time: no reason to leave it alone."""


class Claim(NamedTuple):
    """One account's part of a reservation.

    The amount is ``fixed + per_unit * units``, where ``units`` (output tokens) is granted by the store: one number
    for all the claims of a call, so that a ceiling nobody stated becomes what the tightest budget still affords.

    A ``clock`` claim is no amount: its account keeps the epoch millisecond of the first reservation, and refuses
    when ``now`` is ``cap`` milliseconds or more after it.

    With a ``reserve`` the claim is judged by ``cap - reserve``: that much of the cap is not for this reservation.

    A named tuple, for a call makes a dozen of them: building one takes a third of a frozen dataclass's time.
    """

    account: str
    cap: int
    fixed: int
    per_unit: int = 0
    clock: bool = False
    ttl: int = 86_400
    """Seconds without a granted reserve or a settle after which the account may be forgotten; never while it holds."""
    reserve: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """The claim that did not fit; nothing was reserved.

    Where several did not, the first that waiting cannot cure, else the first. ``needed`` is what the claim would have
    taken with the fewest units (with all of the reservation's claims on that account). ``by_holds`` is true when it
    would have fitted had nothing been held: waiting may help. For a clock, ``spent`` is the milliseconds since its
    start and ``needed`` is 0.
    """

    index: int
    needed: int
    spent: int
    held: int
    by_holds: bool


@dataclass(frozen=True, slots=True)
class Grant:
    """What was reserved: the output units granted, and when each clock claim's account started (epoch ms)."""

    units: int
    started: tuple[int, ...] = ()


class Balance(NamedTuple):
    """One account as it stands: spent and held (in the account's own unit), and the cap it was last asked with.

    Of a clock's account, ``spent`` is the epoch millisecond at which it started. After a grant, ``spent`` is less than
    what was spent, by what was granted, and may be negative.
    """

    spent: int
    held: int
    cap: int = 0

    @property
    def left(self) -> int:
        """What is neither spent nor held; negative after an overrun."""
        return self.cap - self.spent - self.held


ITS_OWN = (ValueError, TypeError, ArithmeticError, LookupError)
"""What carrying something out may raise that is its own fault, and would be again. Anything else (a signal's handler
that raises, as that of a worker's time limit does) comes from outside of it, and is no reason to lose it."""


class Settlement(NamedTuple):
    """What ``Store.settle`` is given."""

    claims: Sequence[Claim]
    held: Sequence[int]
    actual: Sequence[int]
    until: int


class Reservation(NamedTuple):
    """What ``Store.reserve`` is given."""

    claims: Sequence[Claim]
    units: tuple[int, int]
    until: int


class Store(Protocol):
    """Shared balances. Amounts are integers; ``now`` and ``until`` are epoch seconds."""

    shared: bool
    """True where other processes see the same balances."""

    def reserve(self, claims: Sequence[Claim], *, units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        """Hold every claim's amount until ``until``, or none; grants between ``units[0]`` and ``units[1]`` units.

        A hold lives while ``until`` is later than ``now``. Claims on one account are added up and judged by the
        smallest of their caps, less the largest of their reserves. After an overrun (more spent than that) nothing
        fits, not even no units of what costs by the unit; only who asks for nothing (neither ``fixed`` nor
        ``per_unit``) gets it.

        Raises:
            StoreError: the store did not answer in time.
        """

    def settle(
        self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], *, until: int, now: float
    ) -> list[int]:
        """Release ``held`` (where its bucket has not expired) and add ``actual``; returns each new total spent.

        Amounts go to ``claims[i].account``. ``actual`` may be negative: a correction of what was settled by estimate,
        or a grant; the total may be, too. A clock has no total (0); its amount, in milliseconds, moves the start of
        one that has started, a negative amount to a later time. Nothing is released twice by itself: settle a hold
        once.

        Raises:
            StoreError: the store did not answer in time; it may have settled nevertheless. Settling again then counts
                twice at worst, not settling again loses the amount: which, is the caller's choice.
        """

    def read(self, accounts: Sequence[str], *, now: float) -> list[Balance]:
        """The balances of these accounts; an unknown one is all zeros."""

    def scan(self, *, now: float) -> Iterable[tuple[str, Balance]]:
        """Every account there is, for a person to look at."""

    def flags(self) -> Mapping[str, str]:
        """The flags set on this store: name to text (the kill switch keeps its reasons here)."""

    def flag(self, name: str, text: str | None) -> None:
        """Set a flag, or with None remove it."""


def checked_timeout(timeout: Any) -> float:
    """The timeout, if it is a positive number of seconds.

    Raises:
        ValueError: it is not.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < 1e7:
        raise ValueError(f"timeout: {timeout!r} must be a number of seconds above 0")
    return float(timeout)
