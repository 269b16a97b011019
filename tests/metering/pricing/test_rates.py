"""Rates: the arithmetic of one call."""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_costguard.metering.pricing.rates import Rates
from langchain_costguard.vocabulary.usage import Usage

HIGH = Rates(
    input=4_000_000, output=20_000_000, cache_read=400_000, cache_write=5_000_000, cache_write_1h=8_000_000,
    input_audio=4_000_000, output_audio=20_000_000, output_image=20_000_000, reasoning=20_000_000,
)  # fmt: skip
RATES = Rates(
    input=2_000_000, output=10_000_000, cache_read=200_000, cache_write=2_500_000, cache_write_1h=4_000_000,
    input_audio=6_000_000, output_audio=40_000_000, output_image=30_000_000, reasoning=10_000_000,
    web_search=10_000_000, request=5_000_000, tiers=((1_000, HIGH),),
)  # fmt: skip
PLAIN = Rates(
    input=2_000_000, output=10_000_000, cache_read=200_000, cache_write=2_500_000, cache_write_1h=4_000_000,
    input_audio=2_000_000, output_audio=10_000_000, output_image=10_000_000, reasoning=10_000_000,
)  # fmt: skip


def test_every_bucket_is_charged_once_at_its_own_rate() -> None:
    usage = Usage(
        1_000, 500, cache_read=300, cache_write=200, cache_write_1h=50, input_audio=100, output_audio=20,
        output_image=30, reasoning=200, web_searches=2,
    )  # fmt: skip
    pico = (
        400 * 2_000_000 + 300 * 200_000 + 150 * 2_500_000 + 50 * 4_000_000 + 100 * 6_000_000
        + 20 * 40_000_000 + 30 * 30_000_000 + 200 * 10_000_000 + 250 * 10_000_000
    )  # fmt: skip
    assert RATES.charge(usage) == pico // 1_000 + 5_000_000 + 2 * 10_000_000


def test_a_tier_is_a_cliff_beyond_its_start() -> None:
    assert PLAIN.charge(Usage(1_000, 0)) == 2_000_000
    tiered = Rates(input=2_000_000, output=1, tiers=((1_000, Rates(input=4_000_000, output=2)),))
    assert tiered.charge(Usage(1_000, 0)) == 2_000_000
    assert tiered.charge(Usage(1_001, 0)) == 4_004_000
    assert tiered.at(1_000) is tiered
    assert tiered.at(1_001).input == 4_000_000


def test_of_several_tiers_the_highest_that_is_passed_holds() -> None:
    tiers = tuple((start, Rates(input=start)) for start in (100, 200, 300))
    rates = Rates(input=1, tiers=tiers)
    assert [rates.at(n).input for n in (100, 101, 200, 201, 999)] == [1, 100, 100, 200, 300]


def test_a_half_is_rounded_to_even() -> None:
    assert [Rates(input=500 * n).charge(Usage(1, 0)) for n in (1, 3, 5, 7)] == [0, 2, 2, 4]
    assert Rates(input=1_501).charge(Usage(1, 0)) == 2


@given(
    st.integers(0, 10**7), st.integers(0, 10**6), st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 999_999)
)  # fmt: skip
def test_charges_are_what_decimal_says(given_: int, made: int, read: int, write: int, odd: int) -> None:
    read, write = min(read, given_), min(write, max(0, given_ - read))
    rates = Rates(input=odd, output=3 * odd + 1, cache_read=odd // 7, cache_write=odd * 2, cache_write_1h=odd * 2)
    exact = (
        Decimal(given_ - read - write) * rates.input
        + Decimal(read) * rates.cache_read
        + Decimal(write) * rates.cache_write
        + Decimal(made) * rates.output
    ) / 1000
    usage = Usage(given_, made, cache_read=read, cache_write=write)
    assert rates.charge(usage) == int(exact.to_integral_value(ROUND_HALF_EVEN))


@given(
    st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 5_000)
)  # fmt: skip
def test_no_call_within_its_ceiling_costs_more(given_: int, made: int, read: int, write: int, audio: int) -> None:
    ceiling = RATES.ceiling(5_000, 5_000, audio=True)
    read = min(read, given_)
    write = min(write, given_ - read)
    audio = min(audio, given_ - read - write)
    usage = Usage(given_, made, cache_read=read, cache_write=write, input_audio=audio)
    assert RATES.charge(usage) <= ceiling


def test_the_ceiling_knows_writes_lifetimes_audio_and_every_reachable_tier() -> None:
    assert PLAIN.ceiling(100, 10) == (100 * 2_500_000 + 10 * 10_000_000) // 1_000
    assert PLAIN.ceiling(100, 10, cache_write=False) == (100 * 2_000_000 + 10 * 10_000_000) // 1_000
    assert PLAIN.ceiling(100, 10, cache_write="1h") == (100 * 4_000_000 + 10 * 10_000_000) // 1_000
    assert RATES.ceiling(100, 0, audio=True) == 100 * 6_000 + RATES.request
    assert RATES.ceiling(2_000, 0) == 2_000 * 5_000 + RATES.request
    cheaper_beyond = Rates(input=4_000_000, output=0, tiers=((10, Rates(input=1_000_000)),))
    assert cheaper_beyond.ceiling(20, 0, cache_write=False) == 80_000
    assert Rates(input=1).ceiling(1, 0) == 1


def test_the_output_rate_is_rounded_up_and_the_dearest() -> None:
    assert Rates(output=1).output_rate(0) == 1
    assert RATES.output_rate(10) == 40_000
    assert PLAIN.output_rate(0) == 10_000


def test_what_the_providers_cache_saved_is_the_difference_to_plain_input() -> None:
    assert PLAIN.saved_by_cache(Usage(1_000, 5, cache_read=500)) == 500 * 1_800
    assert PLAIN.saved_by_cache(Usage(1_000, 5, cache_write=500)) == 0
    assert Rates(input=1, cache_read=5).saved_by_cache(Usage(10, 0, cache_read=10)) == 0


def test_cached_audio_is_not_charged_twice() -> None:
    rates = Rates(input=1_000, cache_read=100, input_audio=5_000)
    assert rates.charge(Usage(100, 0, cache_read=80, input_audio=50)) == 80 * 100 // 1000 + 20 * 5


def test_an_embedding_model_is_priced_by_input_alone() -> None:
    assert Rates(input=20_000).charge(Usage(1_000_000, 0)) == 20_000_000


PIECES = Rates(
    input=1_000, output=2_000, citation=3_000, web_search=70, file_search=500, container=11_000, request=13,
    request_by_context=(("low", 5), ("high", 13)),
)  # fmt: skip


@pytest.mark.parametrize(
    ("usage", "beyond"),
    [
        (Usage(0, 0), 13),
        (Usage(0, 0, web_searches=1), 13 + 70),
        (Usage(0, 0, web_searches=3), 13 + 3 * 70),
        (Usage(0, 0, file_searches=3), 13 + 3 * 500),
        (Usage(0, 0, containers=3), 13 + 3 * 11_000),
        (Usage(0, 0, web_searches=1, file_searches=2, containers=3), 13 + 70 + 1_000 + 33_000),
        (Usage(0, 0, search_context="low"), 5),
        (Usage(0, 0, search_context="high"), 13),
        (Usage(0, 0, search_context="unheard of"), 13),
        (Usage(0, 0, search_context="low", web_searches=2), 5 + 140),
        (Usage(0, 10, citations=4), 13 + 4 * 3 + 6 * 2),
        (Usage(0, 4, citations=10), 13 + 10 * 3),
    ],
)
def test_what_is_billed_by_the_piece_is_added_to_the_tokens(usage: Usage, beyond: int) -> None:
    assert PIECES.charge(usage) == beyond
    assert PIECES.charge(usage._replace(input_tokens=7)) == beyond + 7


def test_searches_that_are_billed_once_are_and_citations_without_a_price_are_output() -> None:
    once = Rates(web_search=70, grounded_once=True)
    assert [once.charge(Usage(0, 0, web_searches=n)) for n in (0, 1, 9)] == [0, 70, 70]
    assert Rates(output=2_000).charge(Usage(0, 10, citations=4)) == 20
    assert Rates(output=2_000).citation == 2_000


def test_thought_at_a_rate_of_its_own_is_taken_from_the_output() -> None:
    rates = Rates(output=2_000, reasoning=5_000)
    assert rates.charge(Usage(0, 10, reasoning=4)) == 4 * 5 + 6 * 2
    assert rates.charge(Usage(0, 4, reasoning=10)) == 10 * 5
    assert Rates(output=2_000, reasoning=2_000).charge(Usage(0, 4, reasoning=10)) == 4 * 2


def test_more_cached_and_spoken_than_there_was_is_no_reason_for_a_negative_charge() -> None:
    rates = Rates(input=1_000, cache_read=100, cache_write=2_000, input_audio=5_000)
    assert rates.charge(Usage(10, 0, cache_read=20)) == 2
    assert rates.charge(Usage(10, 0, cache_write=20)) == 40
    assert rates.charge(Usage(10, 0, input_audio=20)) == 10 * 5
    assert rates.charge(Usage(10, 0, input_audio=10)) == 10 * 5
    assert rates.charge(Usage(10, 0, cache_read=30, input_audio=5)) == 3
    assert rates.charge(Usage(10, 0, input_audio=4)) == 6 * 1 + 4 * 5
    assert rates.charge(Usage(11, 0, cache_write=10)) == 1 * 1 + 10 * 2
    assert rates.charge(Usage(10, 0, cache_write=6, input_audio=5)) == 6 * 2 + 4 * 5


@pytest.mark.parametrize("rest", [0, 1, 499, 500, 501, 999])
@pytest.mark.parametrize("whole", [0, 1, 2, 3])
def test_rounding_is_half_to_even_at_a_charge_and_up_at_a_ceiling(whole: int, rest: int) -> None:
    rates = Rates(input=1_000 * whole + rest, output=1_000 * whole + rest)
    up = whole + (rest > 0)
    assert rates.charge(Usage(1, 0)) == round(Decimal(1_000 * whole + rest) / 1_000)
    assert rates.ceiling(1, 0) == rates.ceiling(0, 1) == rates.ceiling(1, 0, audio=True) == rates.output_rate(0) == up


DEAR = Rates(input=9_000, output=70_000, cache_write=9_500, cache_write_1h=11_000, input_audio=10_000)
CLIFF = Rates(
    input=1_000,
    output=5_000,
    cache_write=2_000,
    cache_write_1h=4_000,
    input_audio=3_000,
    request=7,
    tiers=((10, DEAR),),
)


@pytest.mark.parametrize(
    ("tokens", "options", "each"),
    [
        (10, {"cache_write": False}, 1),
        (10, {}, 2),
        (10, {"cache_write": "1h"}, 4),
        (10, {"audio": True}, 3),
        (10, {"audio": True, "cache_write": False}, 3),
        (10, {"audio": True, "cache_write": "1h"}, 4),
        (1000, {"cache_write": False}, 9),
        (1000, {"cache_write": "1h"}, 11),
        (1000, {"audio": True}, 10),
    ],
)
def test_a_ceiling_is_of_the_dearest_that_could_be_billed(tokens: int, options: dict[str, Any], each: int) -> None:
    output = 70 if tokens > 10 else 5
    assert CLIFF.ceiling(tokens, 0, **options) == tokens * each + 7
    assert CLIFF.ceiling(tokens, 100, **options) == tokens * each + 100 * output + 7
    assert CLIFF.output_rate(tokens) == output


def test_what_is_heard_and_what_is_asked_for_once_count_into_a_ceiling_without_tiers_too() -> None:
    plain = Rates(input=1_000, input_audio=9_000, request=7)
    assert plain.ceiling(10, 0) == 10 + 7
    assert plain.ceiling(10, 0, audio=True) == 90 + 7


def test_a_factor_is_on_every_token_of_every_tier_and_on_nothing_else() -> None:
    half = replace(CLIFF, web_search=70).times(Decimal("0.5"))
    assert half.charge(Usage(10, 10)) == 5 + 25 + 7
    assert half.charge(Usage(11, 10)) == 400  # 399.5, and a half is rounded to even
    assert half.ceiling(1000, 0, cache_write="1h") == 5_500 + 7
    assert half.charge(Usage(0, 0, web_searches=1)) == 70 + 7


def test_what_the_cache_saved_is_reckoned_in_the_tier_that_holds() -> None:
    rates = Rates(input=3_000, cache_read=1_000, tiers=((10, Rates(input=9_000, cache_read=2_000)),))
    assert rates.saved_by_cache(Usage(10, 0, cache_read=5)) == 5 * 2
    assert rates.saved_by_cache(Usage(11, 0, cache_read=5)) == 5 * 7
    assert Rates(input=1_001, cache_read=2).saved_by_cache(Usage(5, 0, cache_read=1)) == 0


def test_what_has_no_rate_costs_nothing() -> None:
    n = 10_000  # of a rate of one pico-USD, enough to be seen
    free, every = Rates(), Usage(
        9 * n, 9 * n, cache_read=n, cache_write=2 * n, cache_write_1h=n, input_audio=n, output_audio=n, output_image=n,
        reasoning=n, citations=n, web_searches=2, file_searches=2, containers=2,
    )  # fmt: skip
    assert (free.charge(every), free.charge(Usage(n, n))) == (0, 0)
    assert (free.ceiling(n, n, cache_write="1h", audio=True), free.ceiling(n, n), free.output_rate(0)) == (0, 0, 0)
    assert Rates(output=1_000).charge(Usage(0, 9 * n, output_audio=n, output_image=n, reasoning=n)) == 6 * n
    drawn = Rates(output=1_000, output_audio=5_000, output_image=7_000)
    assert drawn.charge(Usage(0, 10, output_audio=4)) == 4 * 5 + 6
    assert drawn.charge(Usage(0, 10, output_image=4)) == 4 * 7 + 6
    assert Rates(web_search=70).charge(Usage(0, 0, web_searches=3)) == 210
    assert not free.estimated
