"""How much of an account a process takes for itself: pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, DecimalException
from typing import Any, NamedTuple

from langchain_costguard.metering.stores.base import Claim
from langchain_costguard.vocabulary.money import nano

SHARE = Decimal("0.02")
"""Of every cap, where only an amount of money is given."""
PARTS = 8
"""A slice is no more than this part of what is left, and no slice is taken where less than so many calls are left: so
many processes come to the end of a budget together, none of them with a lease that the others are refused for."""


class Size(NamedTuple):
    """What ``lease=`` says: a share of each cap; of money, an amount (nano-USD) instead where one is given."""

    share: Decimal
    money: int | None = None

    def of(self, claim: Claim) -> int:
        """The slice of an account."""
        if self.money is not None and claim.account.endswith("|usd"):
            return self.money
        return int(claim.cap * self.share)


def checked(lease: Any) -> Size | None:
    """What ``lease=`` says: ``"2%"`` of each cap, or USD; None for no leases.

    Raises:
        ValueError: it says neither.
    """
    if lease is None:
        return None
    if isinstance(lease, str) and lease.rstrip().endswith("%"):
        try:
            share = Decimal(lease.rstrip()[:-1]) / 100
        except DecimalException:
            share = Decimal(0)
        if not 0 < share <= Decimal("0.5"):
            raise ValueError(f'lease: {lease!r} must be a share of each cap above 0 and up to 50%, such as "2%"')
        return Size(share)
    if isinstance(lease, float):
        raise ValueError(f'lease: {lease!r} is no share and no amount: write "{lease:.0%}", or USD like "0.25"')
    return Size(SHARE, nano(lease, "lease"))


def of_store(store: Any) -> Size | None:
    """What a store says of itself."""
    return checked(getattr(store, "lease", None))


def slices(size: Size, claims: Sequence[Claim], units: int, left: Sequence[int], *, others: int) -> list[int] | None:
    """What to take of each account on top of a call, of so many units; None where the call is to be asked for alone.

    ``left`` is what each account has, as far as is known; ``others`` are the calls that wait for the same.
    """
    found = []
    for claim, room in zip(claims, left, strict=True):
        if claim.clock:
            found.append(0)
            continue
        need, slice_ = claim.fixed + claim.per_unit * units, min(size.of(claim), room // PARTS)
        if need * PARTS > room or (need and slice_ <= 0):
            return None
        found.append(max(slice_, min(others * need, room // PARTS), 0))
    return found
