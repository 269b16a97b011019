"""Rates: the arithmetic of one call."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

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
    assert Rates(output=1).output_rate() == 1
    assert RATES.output_rate(10) == 40_000
    assert PLAIN.output_rate() == 10_000


def test_what_the_providers_cache_saved_is_the_difference_to_plain_input() -> None:
    assert PLAIN.saved_by_cache(Usage(1_000, 5, cache_read=500)) == 500 * 1_800
    assert PLAIN.saved_by_cache(Usage(1_000, 5, cache_write=500)) == 0
    assert Rates(input=1, cache_read=5).saved_by_cache(Usage(10, 0, cache_read=10)) == 0


def test_cached_audio_is_not_charged_twice() -> None:
    rates = Rates(input=1_000, cache_read=100, input_audio=5_000)
    assert rates.charge(Usage(100, 0, cache_read=80, input_audio=50)) == 80 * 100 // 1000 + 20 * 5


def test_an_embedding_model_is_priced_by_input_alone() -> None:
    assert Rates(input=20_000).charge(Usage(1_000_000, 0)) == 20_000_000
