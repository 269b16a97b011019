"""The short way for accounts that one process asks for again and again: a page of running sums.

All the accounts that one scope counts into are asked for together, with the same amounts. So the store opens a *page*
for them: of each measure, the room of the tightest account, and what was held and spent since. A call then looks at one
number a measure, however many accounts there are. A page is posted to its accounts before anybody else looks at them.

The same rules as in ``account.py``, for the case that nearly always holds: every account is known, nothing on it has
expired, and all fits. Whatever else is the case, the answer is None, nothing has changed, and the long way decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from langchain_costguard.metering.stores.account import Account

Amounts = Sequence[int]
Brief = Sequence[tuple[Account, int]]
"""States of accounts that are on no page, for they are asked for a few times and then never again, each with its
measure."""

NO_BRIEF: Brief = ()

ROOMY = 64
"""A hold that is far too high does no harm where the room is so many times as large."""
SHARED = (0, 1, 2)
"""The measures (money, tokens, input tokens) that a coarse estimate makes too high."""


class Page:
    """The states of some accounts: ``amounts`` as (state, measure, cap), ``clocks`` as (state, cap).

    ``accounts`` are the caller's own names of the amounts, in the same order. It holds until the store drops one of
    the states, and with it begins another ``generation``. All else is used under the store's lock, while the page is
    open.
    """

    __slots__ = (
        "accounts", "amounts", "buckets", "clocks", "ends", "generation", "measures", "others", "room", "roomy",
        "shared", "spent", "stale", "touched", "used",
    )  # fmt: skip

    def __init__(
        self,
        accounts: list[Any],
        amounts: list[tuple[Account, int, int]],
        clocks: list[tuple[Account, int]],
        generation: int,
        roomy: int = ROOMY,
    ) -> None:
        self.accounts = accounts
        self.amounts = amounts
        self.clocks = clocks
        self.generation = generation
        self.roomy = roomy
        self.measures = tuple(sorted({measure for _, measure, _ in amounts}))
        self.shared = tuple(measure for measure in self.measures if measure in SHARED)
        self.others = tuple(measure for measure in self.measures if measure not in SHARED)
        size = max(self.measures, default=0) + 1
        self.room = [0] * size
        """Of each measure, what the tightest account still has."""
        self.spent = [0] * size
        """What was spent since the page was opened."""
        self.buckets: dict[int, list[int]] = {}
        """What was held since, by the second of expiry; below zero where an earlier hold was settled."""
        self.ends = inf
        """When the first clock runs out."""
        self.stale = inf
        """From when on the long way decides: something expires, or a clock runs out."""
        self.used = False
        self.touched = 0.0

    def open(self) -> None:
        """Read the accounts."""
        room = self.room
        for measure in self.measures:
            room[measure] = 2**62
        self.ends = self.stale = min([(state.spent + cap) / 1000 for state, cap in self.clocks], default=inf)
        for state, measure, cap in self.amounts:
            room[measure] = min(room[measure], cap - state.spent - state.held)
            self.stale = min(self.stale, state.earliest)

    def post(self) -> None:
        """Give each account its part."""
        if not self.used:
            return
        held = [(until, sums) for until, sums in self.buckets.items() if any(sums)]
        for state, measure, _ in self.amounts:
            for until, sums in held:
                _move(state, until, sums[measure])
            state.spent += self.spent[measure]
            state.touched = max(state.touched, self.touched)
        for state, _ in self.clocks:
            state.touched = max(state.touched, self.touched)
        self.buckets = {}
        self.spent = [0] * len(self.spent)
        self.used = False

    def take(self, amounts: Amounts, until: int, now: float, *, coarse: bool) -> bool:
        """Hold these amounts, if they fit; where they are ``coarse``, only if there is room for many times as much."""
        if self.stale <= now:
            return False
        room = self.room
        for measure in self.others if coarse else self.measures:
            if amounts[measure] > room[measure]:
                return False
        if coarse:
            for measure in self.shared:
                if amounts[measure] * self.roomy > room[measure]:
                    return False
        bucket = self.buckets.get(until) or self._begin(until)
        for measure in self.measures:
            amount = amounts[measure]
            room[measure] -= amount
            bucket[measure] += amount
        self.touched = now
        self.used = True
        return True

    def give(self, held: Amounts, actual: Amounts, until: int, now: float) -> None:
        """Replace what is held by what was really spent."""
        room, spent = self.room, self.spent
        bucket = self.buckets.get(until) or self._begin(until) if until > now else None
        for measure in self.measures:
            amount = actual[measure]
            spent[measure] += amount
            if bucket is not None:
                release = held[measure]
                bucket[measure] -= release
                amount -= release
            room[measure] -= amount
        self.touched = now
        self.used = True

    def affords(self, fixed: Amounts, per_unit: Amounts, units: tuple[int, int]) -> int | None:
        """The most units that fit; None where the least of them does not."""
        least, most = units
        for measure in self.measures:
            left, rate = self.room[measure] - fixed[measure], per_unit[measure]
            if rate * most > left:
                if not rate:
                    return None
                most = left // rate
        return most if most >= least else None

    def totals(self) -> list[int]:
        """What each account has spent."""
        return [state.spent + self.spent[measure] for state, measure, _ in self.amounts]

    def _begin(self, until: int) -> list[int]:
        found = self.buckets[until] = [0] * len(self.room)
        self.stale = min(self.stale, until)
        return found


def take_brief(brief: Brief, amounts: Amounts, until: int, now: float) -> None:
    """The same as ``Page.take`` for states that are on no page, of which it is known that they have room."""
    for state, measure in brief:
        _move(state, until, amounts[measure])
        state.touched = now


def give_brief(brief: Brief, held: Amounts, actual: Amounts, until: int, now: float) -> None:
    """The same as ``Page.give`` for states that are on no page."""
    for state, measure in brief:
        if until > now:
            _move(state, until, -held[measure])
        state.spent += actual[measure]
        state.touched = now


def _move(state: Account, until: int, amount: int) -> None:
    """Add to what is held until then, or take away from it: no more than there is."""
    if not amount:
        return
    before = state.buckets.get(until, 0)
    after = max(0, before + amount)
    if after:
        state.buckets[until] = after
        state.earliest = min(state.earliest, until)
    else:
        state.buckets.pop(until, None)
    state.held += after - before
