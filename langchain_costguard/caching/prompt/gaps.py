"""How soon a prefix is sent again: what is observed, and the odds that follow from it."""

from __future__ import annotations

from typing import NamedTuple

FIVE_MINUTES = 300.0
HOUR = 3_600.0
_KEPT = 64.0
"""Uses after which what was observed counts half: habits change."""


class Odds(NamedTuple):
    """The chances that a prefix is used again within five minutes, and within an hour (that includes the former)."""

    five: float
    hour: float


AGENT = Odds(0.9, 0.9)
"""Expected of an agent with tools before anything was observed. The answer to a tool call is the next request: in 104
runs of tau-bench's airline and 515 of SWE-agent, 91 % of all calls were followed by another."""
TALK = Odds(0.6, 0.6)
"""Expected of a conversation that has had an answer already."""
THREAD = Odds(0.5, 0.5)
"""Expected of the first call of a thread that somebody gave a name: a name is for coming back."""
UNLIKELY = Odds(0.2, 0.2)
"""Expected of a plain chain: just too little for a write of 1.25 to pay against reads of 0.1, so that the first sign of
reuse decides for it. A write takes 0.25 more and saves 0.9 where another call follows: it pays from 28 % on."""


def prior(*, tools: bool, forced: bool, talks: bool, named: bool) -> Odds:
    """What to expect of a call by its shape, before anything was observed.

    Args:
        tools: It may call tools.
        forced: It has to call one, as chains do for their structured output: that ends them.
        talks: The model has answered in it before.
        named: It is of a thread, or a session, that has a name.
    """
    if tools and not forced:
        return AGENT
    if talks:
        return TALK
    return THREAD if named else UNLIKELY


_WEIGHT = 2.0
"""Uses that the expectation before any observation counts for."""
_FEATURE_WEIGHT = 4.0
"""Uses of a session from which on it tells more of itself than its feature does."""


class Gaps:
    """Times between two uses of the same prefix, of one kind of call."""

    __slots__ = ("five", "hour", "uses")

    def __init__(self, uses: float = 0.0, five: float = 0.0, hour: float = 0.0) -> None:
        self.uses, self.five, self.hour = uses, five, hour

    def add(self, gap: float | None) -> None:
        """Count a use, so many seconds after the one before; None: the prefix was never seen."""
        if self.uses >= _KEPT:
            self.uses, self.five, self.hour = self.uses / 2, self.five / 2, self.hour / 2
        self.uses += 1
        if gap is not None and gap < HOUR:
            self.hour += 1
            if gap < FIVE_MINUTES:
                self.five += 1

    def odds(self, before: Odds, weight: float = _WEIGHT) -> Odds:
        """The chances by what was observed, and by what was expected ``before`` that."""
        all_uses = self.uses + weight
        return Odds((self.five + before.five * weight) / all_uses, (self.hour + before.hour * weight) / all_uses)


def odds(feature: Gaps, session: Gaps | None, before: Odds) -> Odds:
    """The chances for a session, as far as it is known, and else for its feature."""
    overall = feature.odds(before)
    return overall if session is None else session.odds(overall, _FEATURE_WEIGHT)
