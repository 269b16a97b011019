"""Which thresholds a charge passed. Exactly once without any state: only one charge moves a total across a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from langchain_costguard.vocabulary.checks import listed

if TYPE_CHECKING:
    from langchain_costguard.metering.budgets.accounts import Account

DEFAULT_THRESHOLDS = (0.7, 1.0, 1.2)
"""Shares of the cap at which the field alerts."""


_PERCENT = 10
"""Nobody wants to hear of ten times a cap: it is a number of percent."""


def checked(thresholds: Any) -> tuple[float, ...]:
    """Validate the thresholds, and sort them.

    Raises:
        ValueError: names the value that is no share above zero.
    """
    listed("alerts", thresholds, "shares such as (0.7, 1.0)", lambda share: True)
    for share in thresholds:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 100:
            raise ValueError(f"alerts: {share!r} in {thresholds!r} must be a share of the cap above zero, such as 0.7")
        if share >= _PERCENT:
            raise ValueError(
                f"alerts: {share!r} is {share * 100:g} % of the cap; write {share / 100:g} for {share:g} %"
            )
    return tuple(sorted(set(thresholds)))


def passed(before: int, after: int, cap: int, thresholds: Sequence[float]) -> list[float]:
    """The thresholds of ``cap`` that lie above ``before`` and at or below ``after``, lowest first."""
    return [share for share in thresholds if before < line_at(share, cap) <= after]


def crossings(
    accounts: Sequence[Account], actual: Sequence[int], totals: Sequence[int], thresholds: Sequence[float]
) -> Iterator[tuple[Account, int, float]]:
    """The account, its new total and the threshold, for each that these charges (by measure) passed."""
    lowest = thresholds[0] * (1 - 1e-9) if thresholds else float("inf")
    for account, total in zip(accounts, totals, strict=True):
        amount = actual[account.measure]
        if total >= lowest * account.base:  # for most accounts there is nothing else to do
            for share in passed(total - amount, total, account.base, thresholds):
                yield account, total, share


def line_at(share: float, cap: int) -> int:
    """The first whole total at or above a share of the cap; 1.1 times 10 is 11, whatever floats make of it."""
    return ceil(share * cap * (1 - 1e-12))
