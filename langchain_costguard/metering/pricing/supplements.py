"""What providers' own price pages list and the public table lacks, as read in November 2026.

Amounts are USD: per million tokens (``…_mtok``), per thousand uses (``…_kcount``). They only fill gaps: a price that
the table has wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache

CONTAINER = {"openai": 30_000_000, "azure": 30_000_000}
"""Nano-USD for a container of the code interpreter, of the size that comes by default.

https://platform.openai.com/docs/pricing#built-in-tools
"""

_SEARCH = {"x-ai": "25"}
"""Thousand sources of xAI's live search: https://docs.x.ai/docs/models#live-search-pricing."""

_BY_MODEL: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "openai": {
        # Models that search in every request: https://platform.openai.com/docs/pricing#built-in-tools
        "gpt-4o-search-preview": {"requests_kcount": "25"},
        "gpt-4o-mini-search-preview": {"requests_kcount": "25"},
        "gpt-5-search-api": {"requests_kcount": "10"},
        # https://platform.openai.com/docs/models/gpt-4o-audio-preview
        "gpt-4o-audio-preview": {"input_audio_mtok": "40", "output_audio_mtok": "80"},
        "gpt-4o-mini-audio-preview": {"input_audio_mtok": "10", "output_audio_mtok": "20"},
    },
}

_BY_CONTEXT = (
    ("sonar-deep-research", ()),
    ("sonar-pro", (6_000_000, 10_000_000, 14_000_000)),
    ("sonar-reasoning-pro", (6_000_000, 10_000_000, 14_000_000)),
    ("sonar", (5_000_000, 8_000_000, 12_000_000)),
)
"""Nano-USD a request of Perplexity's, by the search context: https://docs.perplexity.ai/getting-started/pricing."""

_FINE_TUNED = (
    ("gpt-4o-mini", "0.30", "0.15", "1.20"),
    ("gpt-4o", "3.75", "1.875", "15"),
    ("gpt-4.1-nano", "0.20", "0.05", "0.80"),
    ("gpt-4.1-mini", "0.80", "0.20", "3.20"),
    ("gpt-4.1", "3", "0.75", "12"),
    ("o4-mini", "4", "1", "16"),
    ("gpt-3.5-turbo", "3", "3", "6"),
    ("gpt-4", "30", "30", "60"),
    ("davinci-002", "12", "12", "12"),
    ("babbage-002", "1.6", "1.6", "1.6"),
)
"""Base model, and a fine-tuned one's input, cached input and output: https://platform.openai.com/docs/pricing."""

_FAST = (("claude-opus-4-6", 6), ("claude-opus-4.6", 6), ("claude-opus-4-7", 6), ("claude-opus-4.7", 6))
"""Anthropic's ``speed="fast"`` in multiples: https://platform.claude.com/docs/en/build-with-claude/fast-mode."""

_ONLINE = "20"
"""OpenRouter's ``:online``, a thousand requests of five results: https://openrouter.ai/docs/features/web-search."""
_SAME_PRICE = frozenset({"nitro", "floor", "exacto", "online", "thinking", "beta", "extended"})


@lru_cache(maxsize=4096)
def missing(provider: str, name: str) -> Mapping[str, Decimal]:
    """Prices of a model beside those in the table."""
    lowered = name.lower()
    found = dict(max(
        ((key, value) for key, value in _BY_MODEL.get(provider, {}).items() if lowered.startswith(key)),
        key=lambda item: len(item[0]),
        default=("", {}),
    )[1])  # fmt: skip
    if provider in _SEARCH:
        found["web_searches_kcount"] = _SEARCH[provider]
    return {key: Decimal(value) for key, value in found.items()}


def by_context(provider: str, name: str) -> tuple[tuple[str, int], ...]:
    """What a request costs by the size of its search context, in nano-USD."""
    if provider != "perplexity":
        return ()
    fees = next((fees for stem, fees in _BY_CONTEXT if name.startswith(stem)), ())
    return tuple(zip(("low", "medium", "high"), fees, strict=False))


def fine_tuned(name: str) -> tuple[str, Mapping[str, Decimal]] | None:
    """Base model and prices of a fine-tuned one of OpenAI's: ``ft:gpt-4o-mini-2024-07-18:acme::id``."""
    lowered = name.lower()
    if lowered.startswith("ft:"):
        base = lowered[3:].split(":", 1)[0]
    elif ".ft-" in lowered:
        base = lowered.split(".ft-", 1)[0]
    else:
        return None
    for stem, given, cached, made in _FINE_TUNED:
        if base == stem or base.startswith(f"{stem}-"):
            return base, {
                "input_mtok": Decimal(given),
                "cache_read_mtok": Decimal(cached),
                "output_mtok": Decimal(made),
            }
    return None


def suffix(name: str) -> tuple[str, Mapping[str, Decimal]] | None:
    """A model's name without what OpenRouter lets one add, and the prices that go with it."""
    stem, mark, end = name.rpartition(":")
    if not mark or not stem or end.lower() not in _SAME_PRICE:
        return None
    return stem, {"requests_kcount": Decimal(_ONLINE)} if end.lower() == "online" else {}


def faster(name: str, tier: str | None) -> int:
    """How many times as much a model costs at this tier, where the table has no price for it."""
    if tier != "fast":
        return 1
    return next((times for stem, times in _FAST if name.lower().startswith(stem)), 1)


def nearer(provider: str, geo: str | None) -> Decimal:
    """How many times as much inference in one place costs: https://platform.claude.com/docs/en/about-claude/pricing."""
    return Decimal("1.1") if geo == "us" and provider in ("anthropic", "") else Decimal(1)
