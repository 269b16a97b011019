"""Tiers by price, by the rule stated in the module."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from langchain_costguard import Price
from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.routing.abilities import profiles
from langchain_costguard.routing.tiers import TIERS, blended, dearest, tiers


def profile(released: str, **other: Any) -> dict[str, Any]:
    return {"release_date": released, "tool_calling": True, "text_outputs": True, "reasoning_output": True, **other}


PROFILES = {
    "acme-small-3": profile("2026-05-01", reasoning_output=False),
    "acme-small-2": profile("2026-04-01"),
    "acme-medium-3": profile("2026-05-10"),
    "acme-large-3": profile("2026-05-20"),
    "acme-thinker-3": profile("2026-05-30"),
    "acme-thinker-mute-3": profile("2026-05-30", reasoning_output=False),
    "acme-old-9": profile("2024-05-30"),
    "acme-gone-3": profile("2026-05-30", status="deprecated"),
    "acme-plain-3": profile("2026-05-30", tool_calling=False),
    "acme-audio-3": profile("2026-05-30"),
    "acme-unpriced-3": profile("2026-05-30"),
    "acme-undated": {"tool_calling": True},
}
USD = {
    "acme-small-3": "0.20",
    "acme-small-2": "0.01",
    "acme-medium-3": "1.50",
    "acme-large-3": "8",
    "acme-thinker-3": "40",
    "acme-thinker-mute-3": "90",
    "acme-old-9": "5",
    "acme-gone-3": "0.01",
    "acme-plain-3": "0.01",
    "acme-audio-3": "0.01",
    "acme-undated": "0.01",
}
BOOK = PriceBook({f"acme:{name}": Price(usd, usd) for name, usd in USD.items()})


@pytest.fixture(autouse=True)
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An integration of a provider called acme, with profiles as LangChain's have them."""
    folder = tmp_path / "langchain_acme" / "data"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('an integration must not be imported for this')")
    told = json.dumps(PROFILES).replace("true", "True").replace("false", "False")
    (folder / "_profiles.py").write_text(f"_PROFILES = {told}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    profiles.cache_clear()
    yield
    profiles.cache_clear()


def test_tiers_are_the_current_chat_models_by_price() -> None:
    assert tiers(provider="acme", prices=BOOK) == {
        "nano": "acme:acme-small-3",
        "mid": "acme:acme-medium-3",
        "frontier": "acme:acme-large-3",
        "reasoning": "acme:acme-thinker-3",
    }


def test_the_users_own_list_goes_first() -> None:
    found = tiers({"nano": "groq:llama", "reasoning": "openai:o3"}, provider="acme", prices=BOOK)
    assert found["nano"] == "groq:llama"
    assert found["reasoning"] == "openai:o3"
    assert found["mid"] == "acme:acme-medium-3"


def test_a_whole_list_of_ones_own_needs_no_provider() -> None:
    own = {tier: f"local:{tier}" for tier in TIERS}
    assert tiers(own, provider="nobody-knows") == own


def test_a_provider_with_one_model_has_it_for_all_tiers() -> None:
    book = PriceBook({"acme:acme-large-3": Price("8", "8")})
    assert set(tiers(provider="acme", prices=book).values()) == {"acme:acme-large-3"}


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_the_public_table_gives_each_provider_tiers_that_rise_in_price(provider: str) -> None:
    found, book = tiers(provider=provider), PriceBook()
    assert list(found) == list(TIERS)
    prices = [blended(model, book, 1_790_000_000) or 0 for model in found.values()]
    assert prices[0] > 0
    assert prices == sorted(prices)


@pytest.mark.parametrize(
    ("own", "provider", "named"),
    [
        ({"tiny": "openai:x"}, "openai", "own: 'tiny'"),
        ({"nano": 3}, "openai", "own['nano']: 3"),
        ({}, "nobody-knows", "provider: of 'nobody-knows'"),
        ({}, "", "provider: of ''"),
    ],
)
def test_what_cannot_be_resolved_is_named(own: Any, provider: str, named: str) -> None:
    with pytest.raises(ValueError) as error:
        tiers(own, provider=provider)
    assert str(error.value).startswith(named)


def test_the_dearest_of_some_models_is_the_one_that_costs_most_a_token() -> None:
    models = ["acme:acme-small-3", "acme:acme-large-3", "acme:unknown"]
    assert dearest(models, BOOK) == "acme:acme-large-3"
    assert dearest(models[:1], BOOK) is None
    assert dearest(["acme:unknown", "acme:nobody"], BOOK) is None
