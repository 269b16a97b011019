"""A reservation in which one account appears more than once: counted together, by the same rule in every store."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

from langchain_costguard.metering.stores.base import Claim, Grant, Refusal

Reserve = Callable[[Sequence[Claim], tuple[int, int], int, float], Grant | Refusal]
Settle = Callable[[Sequence[Claim], Sequence[int], Sequence[int], int, float], list[int]]


def repeated(claims: Sequence[Claim]) -> bool:
    """Whether some account appears in more than one of the claims."""
    return len({claim[0] for claim in claims}) < len(claims)


def reserve_together(
    reserve: Reserve, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float
) -> Grant | Refusal:
    """Reserve with one claim per account: the amounts added, the smallest cap kept."""
    merged: dict[str, Claim] = {}
    tightest: dict[str, int] = {}
    for index, claim in enumerate(claims):
        first = merged.get(claim.account)
        if first is None or claim.cap < first.cap:
            tightest[claim.account] = index
        merged[claim.account] = claim if first is None else _both(first, claim)
    answer = reserve(list(merged.values()), units, until, now)
    if isinstance(answer, Refusal):
        return replace(answer, index=list(tightest.values())[answer.index])
    clocks = [claim.account for claim in merged.values() if claim.clock]
    starts = dict(zip(clocks, answer.started, strict=True))
    return Grant(answer.units, tuple(starts[claim.account] for claim in claims if claim.clock))


def settle_together(
    settle: Settle,
    claims: Sequence[Claim],
    held: Sequence[int],
    actual: Sequence[int],
    until: int,
    now: float,
) -> list[int]:
    """Settle with one claim per account; each of its claims gets the account's total after all of them."""
    merged: dict[str, tuple[Claim, int, int]] = {}
    for claim, hold, amount in zip(claims, held, actual, strict=True):
        first = merged.get(claim.account)
        if first is None:
            merged[claim.account] = (claim, hold, amount)
        else:
            merged[claim.account] = (_both(first[0], claim), first[1] + hold, first[2] + amount)
    once, holds, amounts = zip(*merged.values(), strict=True)
    totals = dict(zip(merged, settle(once, holds, amounts, until, now), strict=True))
    return [totals[claim.account] for claim in claims]


def _both(first: Claim, second: Claim) -> Claim:
    return first._replace(
        cap=min(first.cap, second.cap),
        fixed=first.fixed + second.fixed,
        per_unit=first.per_unit + second.per_unit,
        ttl=max(first.ttl, second.ttl),
        reserve=max(first.reserve, second.reserve),
    )


class OncePerAccount:
    """``reserve`` and ``settle`` for stores whose own verbs want each account once in a call."""

    def reserve(self, claims: Sequence[Claim], *, units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        """Hold every claim's amount until ``until``, or none."""
        if repeated(claims):
            return reserve_together(self._reserve, claims, units, until, now)
        return self._reserve(claims, units, until, now)

    def settle(
        self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], *, until: int, now: float
    ) -> list[int]:
        """Replace what was held by what was really spent; returns each account's new total."""
        if repeated(claims):
            return settle_together(self._settle, claims, held, actual, until, now)
        return self._settle(claims, held, actual, until, now)

    @abstractmethod
    def _reserve(self, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        """As ``reserve``, of claims on different accounts."""

    @abstractmethod
    def _settle(
        self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], until: int, now: float
    ) -> list[int]:
        """As ``settle``, of claims on different accounts."""
