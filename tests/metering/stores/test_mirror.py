"""A shared store as this process last saw it: what is held there and what is held here alone."""

from __future__ import annotations

from langchain_costguard.metering.stores import Balance, Claim, Grant, Refusal
from langchain_costguard.metering.stores.mirror import Mirror

USD, TOKENS = Claim("all|usd", 1_000, 11, 3), Claim("all|tokens", 900, 7)
CLOCK = Claim("all|seconds", 5_000, 13, clock=True)
NOW, UNTIL = 1_000.0, 1_060
NAMES = [USD.account, TOKENS.account, CLOCK.account]


def test_what_the_primary_granted_is_held_here_too_and_its_clocks_run_as_it_says() -> None:
    mirror = Mirror()
    mirror.held([CLOCK, USD, TOKENS], Grant(4, (996_000,)), UNTIL, NOW)
    assert mirror.store.read(NAMES, now=NOW) == [Balance(0, 23, 1_000), Balance(0, 7, 900), Balance(996_000, 0, 5_000)]
    assert mirror.split([CLOCK, USD, TOKENS], [0, 23, 7], UNTIL) == [0, 23, 7]
    mirror.held([USD, TOKENS], Grant(2), UNTIL + 1, NOW)
    assert [balance.held for balance in mirror.store.read(NAMES, now=NOW)] == [23 + 17, 7 + 7, 0]
    assert isinstance(mirror.reserve([CLOCK], (0, 0), UNTIL, NOW + 1.0), Refusal)
    mirror.settle([USD], [23], [900], UNTIL, NOW)
    mirror.held([USD], Grant(40), UNTIL, NOW)  # more than fits: its word counts
    assert mirror.store.read(NAMES[:1], now=NOW)[0][:2] == (900, 17 + 131)


def test_what_is_held_here_alone_is_not_released_there() -> None:
    mirror = Mirror()
    mirror.held([USD, TOKENS], Grant(1), UNTIL, NOW)  # 14 and 7, there
    assert mirror.reserve([CLOCK, USD, TOKENS], (2, 5), UNTIL, NOW) == Grant(5, (1_000_000,))  # 26 and 7, here
    assert mirror.reserve([USD._replace(fixed=0, per_unit=0), TOKENS], (0, 0), UNTIL + 9, NOW) == Grant(0)
    assert mirror._only_here == {("all|usd", UNTIL): 26, ("all|tokens", UNTIL): 7, ("all|tokens", UNTIL + 9): 7}
    for held, there in (((20, 3), [0, 0]), ((14, 7), [8, 3]), ((5, 5), [5, 5])):
        assert mirror.split([USD, TOKENS], held, UNTIL) == there
    assert mirror.split([USD, TOKENS], [1, 9], UNTIL + 9) == [1, 2]
    assert mirror._only_here == {}


def test_what_others_spent_there_counts_here_and_what_is_spent_here_counts_at_least() -> None:
    mirror = Mirror()
    for actual, totals, spent in ((5, None, 5), (7, 40, 40), (2, 42, 42), (3, 30, 45), (0, 44, 45), (1, None, 46)):
        said = None if totals is None else [totals]
        assert mirror.settle([USD], [0], [actual], UNTIL, NOW, said) == [spent]


def test_holds_that_have_expired_are_forgotten_when_there_are_many() -> None:
    mirror, claims = Mirror(), [Claim(f"{number}|usd", 9, 1) for number in range(1_001)]
    mirror.reserve(claims[:500], (0, 0), UNTIL, NOW)
    mirror.reserve(claims[500:1_000], (0, 0), UNTIL + 9, NOW)
    mirror.reserve(claims[:1], (0, 0), UNTIL + 8, UNTIL)
    assert len(mirror._only_here) == 501 + 500 - 500
    mirror.reserve(claims[:499], (0, 0), UNTIL + 10, UNTIL + 9)
    assert len(mirror._only_here) == 1_000
    mirror.reserve(claims[499:500], (0, 0), UNTIL + 10, UNTIL + 9)
    assert set(mirror._only_here) == {(claim.account, UNTIL + 10) for claim in claims[:500]}
