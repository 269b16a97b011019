"""The short way for accounts that one process asks for again and again: by their states, without naming them.

The same rules as in ``account.py``, for the case that nearly always holds: every account is known, nothing on it has
expired, and all fits. Whatever else is the case, the answer is None, nothing has changed, and the long way decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from langchain_costguard.stores.account import Account

Amounts = Sequence[int]


class Bound:
    """The states of some accounts: ``amounts`` as (state, measure, cap), ``clocks`` as (state, cap).

    ``accounts`` are the caller's own names of the amounts, in the same order.
    """

    __slots__ = ("accounts", "amounts", "clocks")

    def __init__(
        self, accounts: list[Any], amounts: list[tuple[Account, int, int]], clocks: list[tuple[Account, int]]
    ) -> None:
        self.accounts = accounts
        self.amounts = amounts
        self.clocks = clocks


def hold(
    bound: Bound, fixed: Amounts, per_unit: Amounts, units: tuple[int, int], until: int, now: float
) -> tuple[int, float] | None:
    """Hold ``fixed + per_unit * n`` on every account; returns n and when the first clock runs out (epoch seconds)."""
    least, n = units
    ends = inf
    for state, cap in bound.clocks:
        end = (state.spent + cap) / 1000
        if state.claim is None or now >= end:
            return None
        if end < ends:
            ends = end
    for state, measure, cap in bound.amounts:
        if state.claim is None or state.earliest <= now:
            return None
        room = cap - state.spent - state.held - fixed[measure]
        if n and (rate := per_unit[measure]):
            if rate * n > room:
                n = room // rate
        elif room < 0 and fixed[measure]:
            return None
    if n < least:
        return None
    for state, measure, _ in bound.amounts:
        amount = fixed[measure] + per_unit[measure] * n
        if amount:
            buckets = state.buckets
            buckets[until] = buckets.get(until, 0) + amount
            state.held += amount
            state.touched = now
            if until < state.earliest:
                state.earliest = until
    return n, ends


def settle(
    bound: Bound, fixed: Amounts, per_unit: Amounts, n: int, actual: Amounts, until: int, now: float
) -> list[int] | None:
    """Replace what ``hold`` held by what was really spent; returns the new totals."""
    for state, _, _ in bound.amounts:
        if state.claim is None:
            return None
    totals = []
    live = until > now
    for state, measure, _ in bound.amounts:
        held = fixed[measure] + per_unit[measure] * n
        if held and live:
            bucket = state.buckets.get(until, 0)
            if bucket > held:
                state.buckets[until] = bucket - held
                state.held -= held
            elif bucket:
                del state.buckets[until]
                state.held -= bucket
        if amount := actual[measure]:
            state.spent += amount
            state.touched = now
        totals.append(state.spent)
    return totals
