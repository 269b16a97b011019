"""The short way for accounts that one process asks for again and again: by their states, without naming them.

The same rules as in ``account.py``, for the case that nearly always holds: every account is known, nothing on it has
expired, and all fits. Whatever else is the case, the answer is None, nothing has changed, and the long way decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from langchain_costguard.metering.stores.account import Account

Amounts = Sequence[int]


class Bound:
    """The states of some accounts: ``amounts`` as (state, measure, cap), ``clocks`` as (state, cap).

    ``accounts`` are the caller's own names of the amounts, in the same order. It holds until the store drops one of
    the states, and with it begins another ``generation``.
    """

    __slots__ = ("accounts", "amounts", "clocks", "generation")

    def __init__(
        self,
        accounts: list[Any],
        amounts: list[tuple[Account, int, int]],
        clocks: list[tuple[Account, int]],
        generation: int,
    ) -> None:
        self.accounts = accounts
        self.amounts = amounts
        self.clocks = clocks
        self.generation = generation


def hold(
    bound: Bound, fixed: Amounts, per_unit: Amounts, units: tuple[int, int], until: int, now: float
) -> tuple[int, float] | None:
    """Hold ``fixed + per_unit * n`` on every account; returns n and when the first clock runs out (epoch seconds)."""
    least, n = units
    ends = inf
    for state, cap in bound.clocks:
        end = (state.spent + cap) / 1000
        if now >= end:
            return None
        if end < ends:
            ends = end
        state.touched = now
    for state, measure, cap in bound.amounts:
        if state.earliest <= now:
            return None
        room = cap - state.spent - state.held - fixed[measure]
        rate = per_unit[measure]
        if rate * n > room:
            if not rate:
                return None
            n = room // rate
    if n < least:
        return None
    for state, measure, _ in bound.amounts:
        amount = fixed[measure] + per_unit[measure] * n
        if amount:
            state.held += amount
            buckets = state.buckets
            if until in buckets:
                buckets[until] += amount
            else:
                buckets[until] = amount
                if until < state.earliest:
                    state.earliest = until
    return n, ends


def settle(
    bound: Bound, fixed: Amounts, per_unit: Amounts, n: int, actual: Amounts, until: int, now: float
) -> list[int]:
    """Replace what ``hold`` held by what was really spent; returns the new totals."""
    totals = []
    live = until > now
    for state, measure, _ in bound.amounts:
        if live:
            held = fixed[measure] + per_unit[measure] * n
            buckets = state.buckets
            bucket = buckets.get(until, 0)
            if bucket > held:
                buckets[until] = bucket - held
                state.held -= held
            elif bucket and held:
                del buckets[until]
                state.held -= bucket
        state.touched = now
        state.spent = total = state.spent + actual[measure]
        totals.append(total)
    return totals
