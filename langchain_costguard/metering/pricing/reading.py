"""Token usage and model names as replies report them, whatever dialect they are in.

A count that is no count (text, None, NaN, negative, a bool) is treated as not reported. Nothing here raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_costguard.metering.pricing.dialects import cached_inside, count, from_raw, normal_tier, section
from langchain_costguard.metering.pricing.hosted import hosted_use
from langchain_costguard.metering.pricing.images import DEFAULT_MODEL
from langchain_costguard.observe.exports.headers import answered_by_cache
from langchain_costguard.vocabulary.usage import Usage

__all__ = [
    "from_raw",
    "from_usage_metadata",
    "is_cache_hit",
    "parts",
    "raw_usages",
    "reported_model",
    "reported_provider",
    "says_tier",
    "usage_of",
]

_USAGE_KEYS = ("token_usage", "usage", "usage_metadata", "token_count", "usageMetadata")
_MODEL_KEYS = ("model_name", "model", "model_id", "model_version")

_INPUT_DETAILS = {
    "cache_read": "read",
    "cache_creation": "write",
    "ephemeral_5m_input_tokens": "write",
    "ephemeral_1h_input_tokens": "hour",
    "audio": "audio",
}
_OUTPUT_DETAILS = {"reasoning": "reasoning", "audio": "audio", "image": "image", "citation_tokens": "citations"}
_TIERS = ("flex", "priority", "batch")
_TIER_KEYS = ("speed", "service_tier", "serviceTier")


def from_usage_metadata(metadata: Mapping[str, Any]) -> Usage | None:
    """Usage from LangChain's ``UsageMetadata``; None where it holds no counts.

    Details prefixed by a service tier (``flex_cache_read``) set the tier. ChatAnthropic sets ``cache_creation`` to 0
    where it knows the split by lifetime, so the write is the sum of all three.
    """
    given, made = count(metadata.get("input_tokens")), count(metadata.get("output_tokens"))
    total = count(metadata.get("total_tokens"))
    if given is None or made is None:
        if total is None or (given is None and made is None):
            return None
        given = max(0, total - (made or 0)) if given is None else given
        made = max(0, total - given) if made is None else made
    tier, parts = _details(section(metadata, "input_token_details"), _INPUT_DETAILS)
    out_tier, out = _details(section(metadata, "output_token_details"), _OUTPUT_DETAILS)
    hour = parts.get("hour", 0)
    read, write = parts.get("read", 0), parts.get("write", 0) + hour
    extra = total - given - made if total is not None else 0
    if read + write and extra == read + write:
        given += read + write  # some integrations pass on counts that leave the cached tokens out
    elif read + write > given:
        given, read, write = cached_inside(given, read, write, apart=extra != 0)
    elif extra > 0:
        made += extra  # hidden reasoning: in the total and on the bill, but not in the visible output
    if "citation_tokens" in section(metadata, "output_token_details"):
        made += out.get("reasoning", 0) + out.get(
            "citations", 0
        )  # Perplexity counts, and bills, them beside the answer
    return Usage(
        input_tokens=given,
        output_tokens=made,
        cache_read=read,
        cache_write=write,
        cache_write_1h=min(hour, write),
        reasoning=min(out.get("reasoning", 0), made),
        citations=out.get("citations", 0),
        input_audio=min(parts.get("audio", 0), given),
        output_audio=min(out.get("audio", 0), made),
        output_image=min(out.get("image", 0), made),
        tier=tier or out_tier,
    )


def _details(details: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str | None, dict[str, int]]:
    """The counts by our names, and the service tier that a key was prefixed with."""
    tier: str | None = None
    counts: dict[str, int] = {}
    for key, value in details.items():
        name = names.get(key)
        number = count(value)
        if not number or not isinstance(key, str):
            continue
        if name is None:
            prefix, _, rest = key.partition("_")
            if prefix not in _TIERS:
                continue
            tier = prefix
            name = names.get(rest)
        if name is not None:
            counts[name] = counts.get(name, 0) + number
    return tier, counts


def usage_of(response: Any, drawing: str = DEFAULT_MODEL) -> Usage | None:
    """The usage of a reply (an ``LLMResult``), or None where it reports none. ``drawing`` is the model of the request's
    tool that draws.

    Only generation 0 is read: with n > 1 every generation carries the usage of the whole call.
    """
    message, blocks = parts(response)
    usage = None
    metadata = getattr(message, "usage_metadata", None)
    if isinstance(metadata, Mapping):
        usage = from_usage_metadata(metadata)
    raw = [found for block in blocks for found in raw_usages(block)]
    for block in raw:
        usage = _fuller(usage, block)
    if usage is None:
        return None
    used = hosted_use(message, blocks, raw, drawing)
    if used.drawn is not None:
        usage = usage._replace(others=(*usage.others, (drawing, used.drawn)))
    return usage._replace(
        tier=usage.tier or _tier(blocks, raw),
        web_searches=used.web_searches,
        file_searches=used.file_searches,
        containers=used.containers,
        output_image=usage.output_image or _drawn(usage, message),
        search_context=_search_context(blocks, raw),
    )


def _fuller(usage: Usage | None, block: Mapping[str, Any]) -> Usage | None:
    """The usage by the provider's own block, where that says more of the same call than the client's conversion does.

    Clients drop what LangChain's ``UsageMetadata`` has no name for: what was cached, where a gateway says so in its own
    words; Anthropic's iterations; tokens beside the main counts; what Cohere bills in the place of what it counts.
    """
    other = from_raw(block)
    if usage is None or other is None:
        return usage or other
    if "billed_units" in block:
        return other
    same = other.input_tokens == usage.input_tokens or other.output_tokens == usage.output_tokens
    more = other.input_tokens >= usage.input_tokens and other.output_tokens >= usage.output_tokens
    if not more or not (same or block.get("iterations")):
        return usage
    return other._replace(
        cache_read=max(usage.cache_read, other.cache_read),
        cache_write=max(usage.cache_write, other.cache_write),
        cache_write_1h=max(usage.cache_write_1h, other.cache_write_1h),
        reasoning=max(usage.reasoning, other.reasoning),
        tier=usage.tier or other.tier,
    )


def _search_context(blocks: list[Mapping[str, Any]], raw: list[Mapping[str, Any]]) -> str | None:
    """How much of the web Perplexity put before its model: what a request costs depends on it."""
    for block in (*raw, *blocks):
        size = block.get("search_context_size")
        if isinstance(size, str):
            return size
    return None


def _drawn(usage: Usage, message: Any) -> int:
    """Output tokens of images where the client has dropped the split: all but those of the text and the reasoning.

    A picture has a thousand tokens and more, a character of text one at the most.
    """
    content = getattr(message, "content", None)
    if not isinstance(content, list) or not any(isinstance(b, Mapping) and _is_picture(b) for b in content):
        return 0
    words = sum(
        len(str(b if isinstance(b, str) else b.get("text") or "")) for b in content if isinstance(b, str | dict)
    )
    return max(0, usage.output_tokens - usage.reasoning - words // 4)


def _is_picture(block: Mapping[str, Any]) -> bool:
    if block.get("type") in ("image_url", "image"):
        return True
    kind = block.get("mime_type") or section(block, "inline_data").get("mime_type")
    return isinstance(kind, str) and kind.startswith("image/")


def is_cache_hit(response: Any) -> bool:
    """Whether a cache gave this reply: LangChain's own, which replays the usage with ``total_cost`` 0 added, or that of
    a proxy (Helicone, Portkey, LiteLLM), where its headers are kept (``include_response_headers``)."""
    message, blocks = parts(response)
    metadata = getattr(message, "usage_metadata", None)
    cost = metadata.get("total_cost") if isinstance(metadata, Mapping) else None
    if isinstance(cost, int) and not isinstance(cost, bool) and cost == 0:
        return True
    headers = next((block["headers"] for block in blocks if isinstance(block.get("headers"), Mapping)), None)
    return headers is not None and answered_by_cache(headers)


def reported_model(response: Any) -> str | None:
    """The model that the provider says has answered; of Bedrock's prompt routers the one that was chosen."""
    for block in parts(response)[1]:
        chosen = section(section(block, "trace"), "promptRouter").get("invokedModelId")
        if isinstance(chosen, str) and chosen:
            return chosen
        for key in _MODEL_KEYS:
            name = block.get(key)
            if isinstance(name, str) and name:
                return name
    return None


def reported_provider(response: Any) -> str | None:
    """The provider whose client LangChain says has answered."""
    for block in parts(response)[1]:
        name = block.get("model_provider")
        if isinstance(name, str) and name:
            return name
    return None


def says_tier(response: Any) -> bool:
    """Whether a reply says at which service tier, or speed, it was made, be it the standard one."""
    blocks = parts(response)[1]
    raw = [found for block in blocks for found in raw_usages(block)]
    return any(isinstance(block.get(key), str) for block in (*raw, *blocks) for key in _TIER_KEYS)


def parts(response: Any) -> tuple[Any, list[Mapping[str, Any]]]:
    """Generation 0's message, and what else of the reply may hold facts, the most particular first."""
    try:
        generation = response.generations[0][0]
    except (AttributeError, IndexError, KeyError, TypeError):
        generation = None
    message = getattr(generation, "message", None)
    blocks = (
        getattr(message, "response_metadata", None),
        getattr(response, "llm_output", None),
        getattr(generation, "generation_info", None),
    )
    return message, [block for block in blocks if isinstance(block, Mapping) and block]


def raw_usages(block: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The usage blocks in a reply's metadata."""
    found = [block[key] for key in _USAGE_KEYS if isinstance(block.get(key), Mapping)]
    if "prompt_eval_count" in block or "eval_count" in block:
        found.append(block)  # Ollama puts its counts beside everything else
    return found


def _tier(blocks: list[Mapping[str, Any]], raw: list[Mapping[str, Any]]) -> str | None:
    for block in (*raw, *blocks):
        for key in _TIER_KEYS:
            tier = normal_tier(block.get(key))
            if tier is not None:
                return tier
    return None
