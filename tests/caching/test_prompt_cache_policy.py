"""Where marks go and for how long, by what is expected; what is a fall of the hit rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_costguard.caching.prompt.breakpoints import DOCUMENTED, MOST, Mark, Place, lifetime, plan
from langchain_costguard.caching.prompt.gaps import AGENT, TALK, THREAD, UNLIKELY, Gaps, Odds, odds, prior
from langchain_costguard.caching.prompt.rates import HitRate
from langchain_costguard.metering.pricing.minimums import least_tokens

SURE = Odds(0.9, 0.9)
SLOW = Odds(0.1, 0.9)
NEVER = Odds(0.0, 0.0)


@pytest.mark.parametrize(
    ("chances", "wanted"),
    [
        (NEVER, None),
        (Odds(0.21, 0.21), None),  # 0.25 / 1.15 is where five minutes begin to pay
        (Odds(0.22, 0.22), "5m"),
        (Odds(0.0, 0.52), None),  # 1 / 1.9 is where an hour does
        (Odds(0.0, 0.53), "1h"),
        (Odds(0.5, 0.69), "5m"),  # an hour has to bring in 0.75 more than five minutes do
        (Odds(0.5, 0.70), "1h"),
        (SURE, "5m"),
    ],
)
def test_the_lifetime_is_the_one_that_costs_least(chances: Odds, wanted: str | None) -> None:
    assert lifetime(chances, DOCUMENTED) == wanted


def places(*tokens: int, chances: Odds = SURE, kept: str | None = None) -> list[Place]:
    names = ("tools", "system", "history", "newest")
    orders = (0, 1, 4, 6)
    return [
        Place(name, order, count, chances, kept if name == "history" else None)  # type: ignore[arg-type]
        for name, order, count in zip(names, orders, tokens, strict=True)
    ]


def test_what_is_below_the_minimum_is_not_marked() -> None:
    assert plan(places(500, 1_100, 1_500, 2_000), [], DOCUMENTED, 1_024) == {
        "system": "5m",
        "history": "5m",
        "newest": "5m",
    }
    assert plan(places(500, 600, 700, 800), [], DOCUMENTED, 1_024) == {}


def test_what_is_not_expected_again_is_not_marked_but_what_is_kept_is_read() -> None:
    never = places(2_000, 3_000, 4_000, 5_000, chances=NEVER)
    assert plan(never, [], DOCUMENTED, 1_024) == {}
    assert plan(places(2_000, 3_000, 4_000, 5_000, chances=NEVER, kept="5m"), [], DOCUMENTED, 1_024) == {
        "history": "5m"
    }


def test_with_room_for_few_the_newest_and_the_step_before_come_first() -> None:
    all_places = places(2_000, 3_000, 4_000, 5_000)
    given_marks = [Mark(2, "5m"), Mark(3, "5m")]
    assert set(plan(all_places, given_marks, DOCUMENTED, 1_024)) == {"history", "newest"}
    assert plan(all_places, [Mark(2, "5m")] * 4, DOCUMENTED, 1_024) == {}


def test_a_place_that_is_marked_is_not_marked_again() -> None:
    found = plan(places(2_000, 3_000, 4_000, 5_000), [Mark(1, "5m"), Mark(6, "5m")], DOCUMENTED, 1_024)
    assert set(found) == {"tools", "history"}


Ttls = st.sampled_from(["5m", "1h"])
Chances = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda pair: Odds(min(pair), max(pair)))


@given(
    chances=st.lists(Chances, min_size=4, max_size=4),
    kept=st.lists(st.one_of(st.none(), Ttls), min_size=4, max_size=4),
    hours=st.integers(0, 3),
    orders=st.lists(st.integers(0, 7), max_size=3, unique=True),
    fixed=st.one_of(st.none(), Ttls),
)
def test_whatever_is_expected_and_given_the_provider_accepts_the_marks(
    chances: list[Odds], kept: list[str | None], hours: int, orders: list[int], fixed: str | None
) -> None:
    own = [Mark(order, "1h" if at < hours else "5m") for at, order in enumerate(sorted(orders))]
    made = [
        place._replace(odds=chance, kept=ttl)
        for place, chance, ttl in zip(places(2_000, 3_000, 4_000, 5_000), chances, kept, strict=True)
    ]
    found = plan(made, own, DOCUMENTED, 1_024, fixed)  # type: ignore[arg-type]

    by_name = {place.name: place.order for place in made}
    together = sorted([*own, *(Mark(by_name[name], ttl) for name, ttl in found.items())])
    assert len(together) <= MOST
    assert len({mark.order for mark in together}) == len(together)
    lives = [mark.ttl for mark in together]
    assert lives == sorted(lives)  # "1h" comes before "5m"


def test_what_was_expected_gives_way_to_what_was_observed() -> None:
    gaps = Gaps()
    assert lifetime(gaps.odds(TALK), DOCUMENTED) == "5m"
    assert lifetime(gaps.odds(UNLIKELY), DOCUMENTED) is None
    for _ in range(10):
        gaps.add(None)
    assert lifetime(gaps.odds(TALK), DOCUMENTED) is None
    for _ in range(40):
        gaps.add(1_000)
    assert lifetime(gaps.odds(TALK), DOCUMENTED) == "1h"
    for _ in range(200):
        gaps.add(10)
    assert lifetime(gaps.odds(UNLIKELY), DOCUMENTED) == "5m"


def test_a_session_is_judged_by_its_feature_until_it_is_known_itself() -> None:
    feature, session = Gaps(), Gaps()
    for _ in range(50):
        feature.add(10)
    assert odds(feature, session, UNLIKELY).five > 0.9
    for _ in range(20):
        session.add(7_200)
    assert odds(feature, session, UNLIKELY).five < 0.2


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("claude-sonnet-4-5-20250929", 1_024),
        ("claude-sonnet-5", 1_024),
        ("claude-opus-4-20250514", 1_024),
        ("claude-opus-4-1", 1_024),
        ("claude-opus-4-8", 1_024),
        ("claude-opus-4-5-20251101", 4_096),
        ("claude-opus-4-6", 4_096),
        ("claude-opus-4-7", 2_048),
        ("claude-haiku-4-5", 4_096),
        ("claude-3-5-haiku-latest", 2_048),
        ("claude-opus-5", 512),
        ("claude-sonnet-5-5", 512),
        ("claude-fable-5-1", 512),
        ("anthropic.claude-opus-4-6-v1:0", 4_096),
        ("gpt-4o", 1_024),
        ("my-own", 1_024),
    ],
)
def test_the_shortest_prompt_kept_is_the_documented_one(model: str, tokens: int) -> None:
    assert least_tokens(model) == tokens


def test_a_fall_is_told_once_and_again_only_after_it_has_recovered() -> None:
    rate = HitRate(window=10)
    falls = [rate.add(cached, 100) for cached in [80] * 10 + [0] * 20 + [90] * 10 + [10] * 20]
    told = [fall for fall in falls if fall is not None]
    assert [(round(fall.before, 2), fall.now < 0.5) for fall in told] == [(0.8, True), (0.9, True)]


def test_a_rate_that_never_was_high_or_only_wavers_is_no_fall() -> None:
    low, wavering = HitRate(window=10), HitRate(window=10)
    assert not any(low.add(cached, 100) for cached in [40] * 10 + [0] * 20)
    assert not any(wavering.add(cached, 100) for cached in [80, 60] * 20)
    assert HitRate().share == 0.0


@pytest.mark.parametrize(
    ("tools", "forced", "talks", "named", "expected"),
    [
        (True, False, False, False, AGENT),
        (True, True, False, False, UNLIKELY),  # structured output by a tool ends a chain
        (True, True, True, False, TALK),
        (False, False, True, False, TALK),
        (False, False, False, True, THREAD),
        (False, False, False, False, UNLIKELY),
    ],
)
def test_what_a_first_call_is_worth_is_told_by_its_shape(
    tools: bool, forced: bool, talks: bool, named: bool, expected: Odds
) -> None:
    before = prior(tools=tools, forced=forced, talks=talks, named=named)
    assert before == expected
    once = Gaps()
    once.add(None)  # the present use, of a prefix nobody has seen
    assert (lifetime(once.odds(before), DOCUMENTED) is not None) == (expected is not UNLIKELY)
