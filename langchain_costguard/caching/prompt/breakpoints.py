"""Where Anthropic's breakpoints go, and for how long: where what is read again is expected to pay for the write.

A breakpoint keeps the prompt up to it. At most four may be set in a request, those kept for an hour before those kept
for five minutes, and a prompt is found again from a breakpoint that is at most 20 blocks behind where it was kept.
https://platform.claude.com/docs/en/build-with-claude/prompt-caching
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from langchain_costguard.caching.prompt.gaps import Odds

Ttl = Literal["5m", "1h"]
MOST = 4
"""Breakpoints of one request, the user's own and the automatic one among them."""
SECONDS: Mapping[Ttl, float] = {"5m": 300.0, "1h": 3_600.0}


class Costs(NamedTuple):
    """Rates of input tokens, in any one unit: plain, read from the cache, written to it for 5 minutes and an hour."""

    plain: float
    read: float
    five: float
    hour: float


DOCUMENTED = Costs(1.0, 0.1, 1.25, 2.0)
"""Where a price says nothing of the cache: what Anthropic multiplies the price of input by."""


class Place(NamedTuple):
    """A place in a prompt that a breakpoint may be put at.

    Attributes:
        name: ``tools``, ``system``, ``history`` (where the request before this one ended) or ``newest``.
        order: Its position among all places of the request, from the beginning.
        tokens: Of the prompt up to there.
        odds: The chances that a prompt that begins like this is sent again.
        kept: For how long it is kept already, where it is.
    """

    name: str
    order: int
    tokens: int
    odds: Odds
    kept: Ttl | None = None


class Mark(NamedTuple):
    """A breakpoint: where, and for how long."""

    order: int
    ttl: Ttl


_FIRST = ("newest", "history", "system", "tools")
"""Which places go first where there is room for few: the later ones keep what is before them, too."""


def lifetime(odds: Odds, costs: Costs, only: Ttl | None = None) -> Ttl | None:
    """The lifetime that makes a token cheapest from one use to the next; None where keeping it does not pay.

    With ``only`` that one: five minutes where they pay, an hour where anything does.

    With a chance p of being used again in time, a token costs p * read + (1 - p) * write, and else its plain price.
    """
    five = odds.five * costs.read + (1 - odds.five) * costs.five
    hour = odds.hour * costs.read + (1 - odds.hour) * costs.hour
    if (five if only == "5m" else min(five, hour)) >= costs.plain:
        return None
    return only or ("5m" if five <= hour else "1h")


def plan(
    places: Sequence[Place], given: Sequence[Mark], costs: Costs, minimum: int, ttl: Ttl | None = None
) -> dict[str, Ttl]:
    """The breakpoints to set, by the place's name, besides those ``given``.

    What is kept already is marked again, for a read is all that costs. With ``ttl`` everything is kept for so long.
    """
    wanted: dict[str, Ttl] = {}
    chosen = {place.name: place for place in places if place.tokens >= minimum}
    for place in chosen.values():
        if place.kept is not None:
            wanted[place.name] = ttl or place.kept
        elif place.name != "history" and (found := lifetime(place.odds, costs, ttl)) is not None:
            wanted[place.name] = found
    if "newest" in wanted and "history" in chosen:
        wanted.setdefault("history", wanted["newest"])
    orders = {mark.order for mark in given}
    for name in [name for name in wanted if chosen[name].order in orders]:
        del wanted[name]
    room = max(0, MOST - len(given))
    kept = sorted(wanted, key=_FIRST.index)[:room]
    return _in_order({name: wanted[name] for name in kept}, chosen, given)


def _in_order(wanted: Mapping[str, Ttl], places: Mapping[str, Place], given: Sequence[Mark]) -> dict[str, Ttl]:
    """The same with lifetimes that never rise from one breakpoint to the next, those given included."""
    found: dict[str, Ttl] = {}
    later = False
    for name in sorted(wanted, key=lambda name: -places[name].order):
        order = places[name].order
        hour = wanted[name] == "1h" or later or any(m.order > order and m.ttl == "1h" for m in given)
        if any(mark.order < order and mark.ttl == "5m" for mark in given):
            hour = False
        found[name] = "1h" if hour else "5m"
        later = later or hour
    return found
