"""What a reply says that it cost: the provider's own bill, where it sends one along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from langchain_costguard.metering.pricing.dialects import section
from langchain_costguard.metering.pricing.reading import parts, raw_usages
from langchain_costguard.vocabulary.money import NANO

BILLING = frozenset({"openrouter", "perplexity"})
"""Providers whose replies carry their bill; of others, and of gateways, only who is named in ``trust_cost_from``.

https://openrouter.ai/docs/use-cases/usage-accounting, https://docs.perplexity.ai/api-reference/chat-completions-post
"""

_COST, _MODEL = "x-litellm-response-cost", "x-litellm-model-name"
"""https://docs.litellm.ai/docs/proxy/response_headers: what LiteLLM's proxy says beside the body."""


def told_cost(response: Any) -> int | None:
    """The cost a reply states, in nano-USD; None where it states none, or none that can be."""
    message, blocks = parts(response)
    speaking = list(_speaking(message, blocks))
    for facts in speaking:
        cost = _amount(facts.get("cost", facts.get("total_cost", facts.get("response_cost"))))
        if cost is None:
            cost = _amount(section(facts, "cost").get("total_cost"))
        if cost is not None:
            return cost + _upstream(speaking, cost)
    return next((cost for headers in _headers(blocks) if (cost := _amount(headers.get(_COST))) is not None), None)


def written_cost(response: Any) -> int | None:
    """The cost, in nano-USD, that the model's own class has put into ``usage_metadata``: no host can, for clients copy
    counts alone. LangChain's cache writes 0 there, which is no cost: ``is_cache_hit``.

    https://docs.langchain.com/langsmith/cost-tracking
    """
    metadata = getattr(parts(response)[0], "usage_metadata", None)
    return (_amount(metadata.get("total_cost")) or None) if isinstance(metadata, Mapping) else None


def told_model(response: Any) -> str | None:
    """The model that a gateway says, beside the body, it has asked."""
    for headers in _headers(parts(response)[1]):
        name = headers.get(_MODEL)
        if isinstance(name, str) and name:
            return name
    return None


def _speaking(message: Any, blocks: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Whatever may hold a cost, the most particular first."""
    for block in blocks:
        yield from raw_usages(block)
    yield from blocks
    metadata = getattr(message, "usage_metadata", None)
    if isinstance(metadata, Mapping):
        yield metadata


def _upstream(speaking: list[Mapping[str, Any]], cost: int) -> int:
    """With a key of one's own OpenRouter bills its fee alone; what the provider bills to that key is on top.

    ``ChatOpenRouter`` puts it beside the usage, and drops whose key it was: then by the fee, which is the lesser.
    """
    told = (_amount(section(facts, "cost_details").get("upstream_inference_cost")) for facts in speaking)
    upstream = next((amount for amount in told if amount is not None), 0)
    own_key = next((facts["is_byok"] for facts in speaking if facts.get("is_byok") is not None), None)
    return upstream if own_key is True or (own_key is None and upstream > cost) else 0


def _headers(blocks: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for block in blocks:
        headers = section(block, "headers")
        if headers:
            yield {str(key).lower(): value for key, value in headers.items()}


_NO_BILL = NANO * 10**9
"""Nano-USD: what no call costs. Made an integer of, a number of a hundred thousand digits takes a quarter second."""


def _amount(value: object) -> int | None:
    """USD as a provider writes it, in nano-USD; a float is read by the digits it shows."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        amount = Decimal(str(value)) * NANO
        return int(amount.to_integral_value()) if 0 <= amount < _NO_BILL else None  # NaN is neither
    except (InvalidOperation, OverflowError):
        return None
