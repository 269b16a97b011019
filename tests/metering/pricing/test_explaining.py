"""What ``costguard prices`` prints."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from langchain_costguard.metering.pricing import Price, PriceBook, explain
from langchain_costguard.metering.pricing.explaining import parse, usd
from langchain_costguard.vocabulary.usage import ModelRef

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp()


def test_a_users_price_is_shown_with_where_it_is_from() -> None:
    book = PriceBook({"mine": Price(input="0.10", output="0.4", cache_read="0.025")})
    assert explain(book, "mine", NOON) == [
        ("model", "mine"),
        ("input", "$0.10 per 1M tokens"),
        ("output", "$0.40 per 1M tokens"),
        ("cached read", "$0.025 per 1M tokens"),
        ("source", "set by the user: prices['mine']"),
        ("estimated", "no"),
    ]


def test_tiers_and_the_public_source_are_shown() -> None:
    rows = dict(explain(PriceBook(), "google_genai:gemini-2.5-pro", NOON))
    assert rows["provider"] == "google"
    assert any(label.startswith("input, beyond 200,000") for label in rows)
    assert rows["source"].startswith("genai-prices ")


def test_an_unknown_model_is_said_to_be_estimated_or_refused() -> None:
    assert dict(explain(PriceBook(), "openai:nobody-knows-it", NOON))["estimated"] == "yes"
    refused = dict(explain(PriceBook(unpriced="refuse"), "openai:nobody-knows-it", NOON))
    assert refused["price"] == "no price is known for openai:nobody-knows-it"


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("gpt-4o", ModelRef("", "gpt-4o")),
        ("openai:gpt-4o", ModelRef("openai", "gpt-4o")),
        ("anthropic/claude-sonnet-4.5", ModelRef("", "anthropic/claude-sonnet-4.5")),
        ("us.anthropic.claude-sonnet-4-5-v1:0", ModelRef("", "us.anthropic.claude-sonnet-4-5-v1:0")),
    ],
)
def test_a_model_is_read_as_a_person_writes_it(text: str, ref: ModelRef) -> None:
    assert parse(text) == ref


@pytest.mark.parametrize(("amount", "text"), [(0, "0.00"), (2_500_000, "2.50"), (10_000_000, "10.00"), (1, "0.000001")])
def test_money_is_written_without_exponents(amount: int, text: str) -> None:
    assert usd(amount, 10**6) == text
