"""The price book: whose price holds, at what time, and what becomes of a model nobody knows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price
from genai_prices.data_snapshot import DataSnapshot, set_custom_snapshot
from genai_prices.types import (
    ClauseContains,
    ClauseEquals,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from langchain_costguard.metering.pricing.prices import Price, PriceBook
from langchain_costguard.vocabulary.usage import ModelRef, Usage

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp()


def at(*when: int) -> float:
    return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]


def mtok(given: str, made: str | None = None, **others: Any) -> ModelPrice:
    prices: dict[str, Any] = {"input_mtok": Decimal(given), **others}
    if made is not None:
        prices["output_mtok"] = Decimal(made)
    return ModelPrice(**prices)


def model(name: str, prices: Any, **others: Any) -> ModelInfo:
    return ModelInfo(id=name, match=ClauseEquals(equals=name), prices=prices, **others)


@pytest.fixture
def small_table() -> Iterator[None]:
    """A table of our own in genai-prices' place: what it holds, no release of it can change."""
    openai = Provider(
        id="openai", name="OpenAI", api_pattern="x", model_match=ClauseStartsWith(starts_with="gpt-"),
        provider_match=ClauseContains(contains="openai"),
        models=[
            model(
                "gpt-one", mtok("2", "8", cache_read_mtok=Decimal("0.5"), web_searches_kcount=Decimal(10)),
                price_variants=[PriceVariant({"service_tier": "flex"}, mtok("1", "4"))],
            ),
            model("gpt-dear", mtok("30", "120")),
            model("gpt-retired", mtok("300", "1200"), deprecated=True),
            model("gpt-embed", mtok("900")),
            model("gpt-speech", ModelPrice(audio_hours=Decimal(2))),
            model(
                "gpt-dated",
                [
                    ConditionalPrice(prices=mtok("5", "5")),
                    ConditionalPrice(StartDateConstraint(date(2026, 3, 11)), prices=mtok("1", "1")),
                ],
            ),
        ],
    )  # fmt: skip
    deepseek = Provider(
        id="deepseek", name="DeepSeek", api_pattern="x", models=[
            model(
                "night",
                [
                    ConditionalPrice(prices=mtok("1", "1")),
                    ConditionalPrice(
                        TimeOfDateConstraint(time(16, 30, tzinfo=UTC), time(0, 30, tzinfo=UTC)), prices=mtok("3", "3")
                    ),
                ],
            ),
        ],
    )  # fmt: skip
    long = TieredPrices(base=Decimal("1.25"), tiers=[Tier(200_000, Decimal("2.5"))])
    google = Provider(
        id="google", name="Google", api_pattern="x", fallback_model_providers=["anthropic"],
        provider_match=ClauseContains(contains="google"), model_match=ClauseContains(contains="gemini"),
        models=[model("gemini-long", ModelPrice(input_mtok=long, output_mtok=Decimal(10)))],
    )  # fmt: skip
    anthropic = Provider(
        id="anthropic", name="Anthropic", api_pattern="x", model_match=ClauseStartsWith(starts_with="claude"),
        models=[
            model(
                "claude-one", mtok("3", "15", cache_write_mtok=Decimal("3.75"), cache_write_1h_mtok=Decimal(6))
            )
        ],
    )  # fmt: skip
    router = Provider(
        id="openrouter", name="OpenRouter", api_pattern="x", models=[model("maker/thing", mtok("0.123456", "1"))]
    )  # fmt: skip
    set_custom_snapshot(DataSnapshot([openai, deepseek, google, anthropic, router], from_auto_update=False))
    yield
    set_custom_snapshot(None)


@pytest.mark.parametrize(
    ("provider", "name", "at_provider", "usd_per_million", "estimated"),
    [
        ("openai", "gpt-one", "openai", 2_000_000, False),
        ("OpenAI", "GPT-ONE", "openai", 2_000_000, False),
        ("", "gpt-one", "openai", 2_000_000, False),
        ("google_genai", "models/gemini-long", "google", 1_250_000, False),
        ("google_vertexai", "claude-one", "google", 3_000_000, False),
        ("", "maker/thing", "openrouter", 123_456, False),
        ("", "anthropic/claude-one", "anthropic", 3_000_000, False),
        ("deepseek", "night", "deepseek", 1_000_000, False),
    ],
)
@pytest.mark.usefixtures("small_table")
def test_a_model_is_found_at_its_provider_or_by_its_name(
    provider: str, name: str, at_provider: str, usd_per_million: int, estimated: bool
) -> None:
    rates = PriceBook().rates(ModelRef(provider, name), NOON)
    assert rates is not None
    assert (rates.provider, rates.input, rates.estimated) == (at_provider, usd_per_million, estimated)
    assert "genai-prices" in rates.source


@pytest.mark.usefixtures("small_table")
def test_an_unknown_model_has_no_price() -> None:
    book = PriceBook()
    assert book.rates(ModelRef("openai", "gpt-two"), NOON) is None
    assert book.rates(ModelRef("openai", "gpt-speech"), NOON) is None
    assert book.price(ModelRef("nobody", "nothing"), Usage(5, 5), NOON) is None


@pytest.mark.usefixtures("small_table")
def test_a_price_changes_on_its_day_whichever_way_one_asks() -> None:
    book, ref = PriceBook(), ModelRef("openai", "gpt-dated")
    before, after = at(2026, 3, 10, 23, 59), at(2026, 3, 11)
    asked = [book.price(ref, Usage(1_000_000, 0), t) for t in (before, after, before, after)]
    assert asked == [5_000_000_000, 1_000_000_000, 5_000_000_000, 1_000_000_000]


@pytest.mark.usefixtures("small_table")
def test_a_price_by_the_hour_holds_over_midnight_and_no_longer() -> None:
    book, ref = PriceBook(), ModelRef("deepseek", "night")
    hours = [(16, 29), (16, 30), (23, 59), (0, 0), (0, 29), (0, 30), (16, 29)]
    days = [10, 10, 10, 11, 11, 11, 11]
    prices = [book.price(ref, Usage(1, 0), at(2026, 3, day, *hour)) for day, hour in zip(days, hours, strict=True)]
    assert prices == [1_000, 3_000, 3_000, 3_000, 3_000, 1_000, 1_000]


@pytest.mark.usefixtures("small_table")
def test_a_service_tier_has_its_own_price_where_the_provider_lists_one() -> None:
    book, ref = PriceBook(), ModelRef("openai", "gpt-one")
    assert book.price(ref, Usage(1_000, 0, tier="flex"), NOON) == 1_000_000
    assert book.price(ref, Usage(1_000, 0, tier="unheard-of"), NOON) == 2_000_000
    assert book.price(ref, Usage(1_000, 0), NOON) == 2_000_000


@pytest.mark.usefixtures("small_table")
def test_buckets_without_a_price_of_their_own_cost_what_they_are_part_of() -> None:
    rates = PriceBook().rates(ModelRef("openai", "gpt-one"), NOON)
    assert rates is not None
    assert (rates.cache_read, rates.cache_write, rates.cache_write_1h) == (500_000, 2_000_000, 2_000_000)
    assert (rates.input_audio, rates.output_audio, rates.reasoning) == (2_000_000, 8_000_000, 8_000_000)
    assert rates.web_search == 10_000_000
    claude = PriceBook().rates(ModelRef("anthropic", "claude-one"), NOON)
    assert claude is not None
    assert (claude.cache_write, claude.cache_write_1h) == (3_750_000, 6_000_000)


@pytest.mark.usefixtures("small_table")
def test_the_long_context_price_is_a_cliff() -> None:
    book, ref = PriceBook(), ModelRef("google_genai", "gemini-long")
    assert book.price(ref, Usage(200_000, 0), NOON) == 250_000_000
    assert book.price(ref, Usage(200_001, 0), NOON) == 500_002_500


@pytest.mark.usefixtures("small_table")
def test_an_unknown_model_is_charged_as_the_dearest_of_its_provider_and_says_so() -> None:
    rates = PriceBook().quote(ModelRef("openai", "gpt-two"), NOON)
    assert (rates.model, rates.input, rates.estimated) == ("gpt-dear", 30_000_000, True)
    assert "no price known" in rates.source
    assert "dearest of openai" in rates.source
    elsewhere = PriceBook().quote(ModelRef("ollama", "mine"), NOON)
    assert elsewhere.provider in ("anthropic", "google")
    assert "'ollama'" in elsewhere.source
    assert elsewhere.estimated


@pytest.mark.usefixtures("small_table")
def test_an_unknown_model_is_refused_or_free_if_so_wished() -> None:
    with pytest.raises(LookupError, match="openai:gpt-two"):
        PriceBook(unpriced="refuse").quote(ModelRef("openai", "gpt-two"), NOON)
    free = PriceBook(unpriced="free").quote(ModelRef("openai", "gpt-two"), NOON)
    assert free.charge(Usage(1_000_000, 1_000_000)) == 0
    assert free.estimated


@pytest.mark.parametrize("key", ["mine", "vllm:mine", "vllm/mine", " VLLM:Mine "])
@pytest.mark.usefixtures("small_table")
def test_the_users_price_wins(key: str) -> None:
    book = PriceBook({key: Price(input="0.10", output="0.40", cache_read="0.05")})
    usage = Usage(1_000, 100, cache_read=400)
    assert book.price(ModelRef("vllm", "mine"), usage, NOON) == 600 * 100 + 400 * 50 + 100 * 400
    rates = book.quote(ModelRef("vllm", "mine"), NOON)
    assert not rates.estimated
    assert "set by the user" in rates.source


@pytest.mark.usefixtures("small_table")
def test_the_users_price_for_one_provider_leaves_the_others_alone() -> None:
    book = PriceBook({"azure:gpt-one": Price(input=1, output=1)})
    assert book.price(ModelRef("azure", "gpt-one"), Usage(1_000, 0), NOON) == 1_000_000
    assert book.price(ModelRef("openai", "gpt-one"), Usage(1_000, 0), NOON) == 2_000_000


@pytest.mark.parametrize(
    ("price", "nano_per_1000"),
    [
        (Price(input="0.10"), 100_000),
        (Price(input=2, per="1M"), 2_000_000),
        (Price(input=Decimal("0.002"), per="1K"), 2_000_000),
        (Price(input="0.000002", per="1"), 2_000_000),
        (Price(input="1e-6", per="1"), 1_000_000),
        (Price(input="0"), 0),
    ],
)
def test_a_price_may_be_per_token_thousand_or_million(price: Price, nano_per_1000: int) -> None:
    assert PriceBook({"m": price}).price(ModelRef("", "m"), Usage(1_000, 0), NOON) == nano_per_1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input": 0.1}, r"Price.input must be exact: write 0.1 as text, '0.1'"),
        ({"input": "-1"}, r"Price.input .* not '-1'"),
        ({"input": "NaN"}, r"Price.input .* not 'NaN'"),
        ({"input": "Infinity"}, r"Price.input .* not 'Infinity'"),
        ({"input": True}, r"Price.input .* not True"),
        ({"input": None}, r"Price.input .* not None"),
        ({"input": "cheap"}, r"Price.input .* not 'cheap'"),
        ({"input": "1", "output": [2]}, r"Price.output .* not \[2\]"),
        ({"input": "1", "cache_read": -3}, r"Price.cache_read .* not -3"),
        ({"input": "1", "per": "1B"}, r"Price.per .* not '1B'"),
    ],
)
def test_a_bad_price_is_named_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Price(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unpriced": "ignore"}, r"unpriced .* not 'ignore'"),
        ({"prices": {"": Price(input=1)}}, r"prices: .* not ''"),
        ({"prices": {"m": "0.10"}}, r"prices\['m'\] must be a Price, not '0.10'"),
    ],
)
def test_a_bad_book_is_named_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PriceBook(**arguments)


@pytest.mark.usefixtures("small_table")
def test_the_reported_model_is_charged_unless_the_user_priced_the_one_asked_for() -> None:
    book = PriceBook({"my-deployment": Price(input=1)})
    asked = ModelRef("openai", "alias")
    assert book.billed(asked, "gpt-one", NOON) == ModelRef("openai", "gpt-one")
    assert book.billed(asked, "gateways-own-name", NOON) == asked
    assert book.billed(asked, None, NOON) == asked
    assert book.billed(ModelRef("azure", "my-deployment"), "gpt-one", NOON).name == "my-deployment"


@pytest.mark.usefixtures("small_table")
def test_many_threads_and_many_models_get_right_prices_and_the_memo_stays_small() -> None:
    book, wrong = PriceBook(), []

    def ask(worker: int) -> None:
        for i in range(1_500):
            if book.price(ModelRef("openai", f"nothing-{worker}-{i}"), Usage(1, 1), NOON) is not None:
                wrong.append((worker, i))
            if book.price(ModelRef("openai", "gpt-one"), Usage(1_000, 0), NOON) != 2_000_000:
                wrong.append((worker, i))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(book._memo) <= 4_096


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "gpt-4o"),
        ("openai", "gpt-5"),
        ("anthropic", "claude-sonnet-4-6"),
        ("google", "gemini-2.5-pro"),
    ],
)
@pytest.mark.parametrize("given", [10, 199_999, 200_001, 300_001])
def test_the_public_tables_own_arithmetic_gives_the_same(provider: str, name: str, given: int) -> None:
    when = datetime(2026, 3, 10, 12, tzinfo=UTC)
    theirs = calc_price(
        TheirUsage(input_tokens=given, output_tokens=777, cache_read_tokens=given // 3),
        name,
        provider_id=provider,
        genai_request_timestamp=when,
    ).total_price
    ours = PriceBook().price(ModelRef(provider, name), Usage(given, 777, cache_read=given // 3), when.timestamp())
    assert ours is not None
    assert abs(Decimal(ours) / 10**9 - theirs) <= Decimal("0.0000000005")


def test_an_embedding_model_of_the_public_table_has_a_price() -> None:
    assert PriceBook().price(ModelRef("openai", "text-embedding-3-small"), Usage(1_000_000, 0), NOON) == 20_000_000
