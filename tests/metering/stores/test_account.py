"""The rules of an account, at their edges: what just fits, what just does not, and what a settlement leaves."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_costguard.metering.stores.account import Account, fit, hold, settle
from langchain_costguard.metering.stores.base import Claim, Grant, Refusal

NOW = 1_000.0


def account(spent: int = 0, **held: int) -> Account:
    """One that has spent so much, and holds the amounts until second 1,600 + n of ``n=amount``."""
    made = Account("a")
    made.spent = spent
    for until, amount in held.items():
        hold([made], [Claim("a", 10**9, amount)], 0, 1_600 + int(until[1:]), NOW)
    return made


@pytest.mark.parametrize(
    ("spent", "held", "claim", "units", "expected"),
    [
        (60, 30, {"fixed": 10}, (0, 0), 0),
        (60, 30, {"fixed": 11}, (0, 0), Refusal(0, 11, 60, 30, by_holds=True)),
        (60, 30, {"fixed": 40}, (0, 0), Refusal(0, 40, 60, 30, by_holds=True)),
        (60, 30, {"fixed": 41}, (0, 0), Refusal(0, 41, 60, 30, by_holds=False)),
        (60, 0, {"fixed": 10, "per_unit": 3}, (2, 10), 10),
        (60, 0, {"fixed": 10, "per_unit": 3}, (2, 11), 10),
        (60, 0, {"fixed": 10, "per_unit": 3}, (10, 11), 10),
        (60, 0, {"fixed": 10, "per_unit": 3}, (11, 20), Refusal(0, 43, 60, 0, by_holds=False)),
        (60, 10, {"fixed": 10, "per_unit": 3}, (7, 20), Refusal(0, 31, 60, 10, by_holds=True)),
        (60, 10, {"fixed": 10, "per_unit": 3}, (6, 20), 6),
        (100, 0, {"fixed": 0}, (0, 0), 0),
        (150, 0, {"fixed": 0}, (0, 0), 0),
        (150, 0, {"fixed": 1}, (0, 0), Refusal(0, 1, 150, 0, by_holds=False)),
        (60, 0, {"fixed": 30, "reserve": 10}, (0, 0), 0),
        (60, 0, {"fixed": 31, "reserve": 10}, (0, 0), Refusal(0, 31, 60, 0, by_holds=False)),
        (60, 1, {"fixed": 30, "reserve": 10}, (0, 0), Refusal(0, 30, 60, 1, by_holds=True)),
        (60, 0, {"fixed": 0, "per_unit": 5, "reserve": 10}, (1, 9), 6),
    ],
)
def test_what_fits_is_what_the_cap_leaves(
    spent: int, held: int, claim: dict[str, int], units: tuple[int, int], expected: Any
) -> None:
    asked = Claim("a", 100, **{"fixed": 0, **claim})
    assert fit([account(spent, u0=held)], [asked], units, NOW) == expected


def test_the_tightest_of_several_accounts_decides_and_what_waiting_cannot_cure_is_said_first() -> None:
    roomy, tight, held, full = account(10), account(70), account(10, u0=90), account(100)
    each = Claim("a", 100, 0, 10)
    assert fit([roomy, tight], [each, each], (1, 20), NOW) == 3
    assert fit([tight, roomy], [each, each], (1, 20), NOW) == 3
    assert fit([roomy, held], [each, each], (1, 20), NOW) == Refusal(1, 10, 10, 90, by_holds=True)
    assert fit([held, full], [each, each], (1, 20), NOW) == Refusal(1, 10, 100, 0, by_holds=False)
    assert fit([full, held], [each, each], (1, 20), NOW) == Refusal(0, 10, 100, 0, by_holds=False)
    assert fit([held, held], [each, each], (1, 20), NOW) == Refusal(0, 10, 10, 90, by_holds=True)
    assert fit([full, full], [each, each], (1, 20), NOW) == Refusal(0, 10, 100, 0, by_holds=False)


def test_a_clock_runs_from_the_first_claim_and_is_over_at_its_end() -> None:
    made, claim = account(), Claim("a", 5_000, 0, clock=True)
    assert fit([account()], [claim._replace(cap=0)], (0, 0), NOW) == Refusal(0, 0, 0, 0, by_holds=False)
    assert fit([made], [claim], (0, 0), NOW) == 0
    assert hold([made], [claim], 0, 1_600, NOW) == Grant(0, (1_000_000,))
    assert hold([made], [claim], 0, 1_600, NOW + 2) == Grant(0, (1_000_000,))
    assert (made.held, made.buckets) == (0, {})
    assert fit([made], [claim], (0, 0), NOW + 4.999) == 0
    assert fit([made], [claim], (0, 0), NOW + 5) == Refusal(0, 0, 5_000, 0, by_holds=False)
    waiting, asked = account(0, u0=100), Claim("a", 100, 1)
    assert fit([waiting, made], [asked, claim], (0, 0), NOW + 5) == Refusal(1, 0, 5_000, 0, by_holds=False)
    assert fit([account(100), made], [asked, claim], (0, 0), NOW + 5) == Refusal(0, 1, 100, 0, by_holds=False)
    assert settle([made], [claim], [0], [3_000], 1_600, NOW + 5) == [0]  # given: three seconds more
    assert fit([made], [claim], (0, 0), NOW + 5) == Refusal(0, 0, 8_000, 0, by_holds=False)
    fresh = account()
    assert settle([fresh], [claim], [0], [3_000], 1_600, NOW) == [0]
    assert (fresh.claim, fresh.spent) == (None, 0)


def test_a_hold_lasts_until_its_second_and_a_look_changes_nothing() -> None:
    made = account(5, u0=10, u1=20)
    assert (made.held, made.earliest) == (30, 1_600)
    assert [made.balance(now).held for now in (1_599.9, 1_600, 1_600.9, 1_601)] == [30, 20, 20, 0]
    assert made.balance(0) == (5, 30, 10**9)
    assert (made.held, made.earliest) == (30, 1_600)
    made.expire(1_599.9)
    assert made.held == 30
    made.expire(1_600)
    assert (made.held, made.earliest, made.buckets) == (20, 1_601, {1_601: 20})
    made.expire(1_601)
    assert (made.held, made.earliest, made.buckets) == (0, float("inf"), {})
    assert Account("b").balance(0) == (0, 0, 0)


@pytest.mark.parametrize(
    ("release", "until", "now", "left"),
    [
        (10, 1_600, 1_500, 20),
        (30, 1_600, 1_500, 0),
        (99, 1_600, 1_500, 0),  # a bucket shared with a hold of old: no more than there is
        (10, 1_600, 1_599, 20),
        (10, 1_600, 1_600, 30),  # it has expired by itself
        (10, 1_700, 1_500, 30),
        (0, 1_600, 1_500, 30),
    ],
)
def test_a_settlement_releases_its_own_hold_and_adds_what_was_spent(
    release: int, until: int, now: float, left: int
) -> None:
    made, claim = account(5, u0=10), Claim("a", 100, 0, ttl=50)
    hold([made], [claim._replace(fixed=20)], 0, 1_600, NOW)
    assert settle([made, account(1)], [claim, claim], [release, 0], [7, 3], until, now) == [12, 4]
    assert (made.held, sum(made.buckets.values())) == (left, left)
    assert (made.spent, made.touched, made.claim) == (12, now, claim)
    assert made.idle == (max(now + 50, 1_600) if left else now + 50)


def test_what_is_held_is_fixed_and_so_many_units_and_the_earliest_end_is_known() -> None:
    made = account()
    claims = [Claim("a", 100, 5, 3, ttl=9)]
    assert hold([made], claims, 4, 1_700, NOW) == Grant(4)
    assert (made.held, made.buckets, made.earliest) == (17, {1_700: 17}, 1_700)
    hold([made], claims, 1, 1_700, NOW)
    hold([made], claims, 0, 1_800, NOW)
    assert (made.held, made.buckets, made.earliest) == (30, {1_700: 25, 1_800: 5}, 1_700)
    hold([made], claims, 0, 1_650, NOW)
    assert made.earliest == 1_650
    hold([made], [Claim("a", 100, 0, ttl=9)], 7, 1_600, NOW)
    assert (made.held, made.earliest) == (35, 1_650)
    assert made.idle == 1_800


def test_a_hold_that_ends_in_this_second_is_in_nobodys_way() -> None:
    made, asked = account(60, u0=40), Claim("a", 100, 40)
    assert fit([made], [asked], (0, 0), 1_599.9) == Refusal(0, 40, 60, 40, by_holds=True)
    assert fit([made], [asked], (0, 0), 1_600) == 0


def test_every_account_is_asked_and_settled_whatever_was_said_of_those_before_it() -> None:
    full, last = account(100), Claim("a", 100, 1)
    clock, ticking = Account("t"), Claim("t", 1, 0, clock=True)
    assert fit([clock], [ticking], (0, 0), NOW) == 0  # it has not begun to run
    hold([clock], [ticking], 0, 1_600, NOW)
    for before, claim in (
        (clock, ticking._replace(cap=10)),
        (account(), Claim("b", 100, 0, 1)),
        (account(), Claim("b", 3, 0, 1)),
        (account(), Claim("b", 100, 0)),
    ):
        assert fit([before, full], [claim, last], (1, 5), NOW) == Refusal(1, 1, 100, 0, by_holds=False)
    assert settle([clock, full], [ticking, last], [0, 0], [0, 7], 1_600, NOW) == [0, 107]
