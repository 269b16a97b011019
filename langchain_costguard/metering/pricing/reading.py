"""Token usage and model names as replies report them, whatever dialect they are in.

A count that is no count (text, None, NaN, negative, a bool) is treated as not reported. Nothing here raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_costguard.metering.pricing.dialects import count, from_raw, normal_tier, section
from langchain_costguard.observe.exports.headers import answered_by_cache
from langchain_costguard.vocabulary.usage import Usage

__all__ = ["from_raw", "from_usage_metadata", "is_cache_hit", "reported_model", "usage_of"]

_USAGE_KEYS = ("token_usage", "usage", "usage_metadata", "token_count", "usageMetadata")
_MODEL_KEYS = ("model_name", "model", "model_id", "model_version")

_INPUT_DETAILS = {
    "cache_read": "read",
    "cache_creation": "write",
    "ephemeral_5m_input_tokens": "write",
    "ephemeral_1h_input_tokens": "hour",
    "audio": "audio",
}
_OUTPUT_DETAILS = {"reasoning": "reasoning", "audio": "audio", "image": "image"}
_CACHED_ELSEWHERE = frozenset({"cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens"})
"""Where Together, Mistral and DeepSeek say what was cached, and ChatOpenAI pointed at them does not look."""

_TIERS = ("flex", "priority", "batch")


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
    if read + write and (extra == read + write or read + write > given):
        given += read + write  # some integrations pass on counts that leave the cached tokens out
    elif extra > 0:
        made += extra  # hidden reasoning: in the total and on the bill, but not in the visible output
    return Usage(
        input_tokens=given,
        output_tokens=made,
        cache_read=read,
        cache_write=write,
        cache_write_1h=hour,
        reasoning=min(out.get("reasoning", 0), made),
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


def usage_of(response: Any) -> Usage | None:
    """The usage of a reply (an ``LLMResult``), or None where it reports none.

    Only generation 0 is read: with n > 1 every generation carries the usage of the whole call.
    """
    message, blocks = _parts(response)
    usage = None
    metadata = getattr(message, "usage_metadata", None)
    if isinstance(metadata, Mapping):
        usage = from_usage_metadata(metadata)
    raw = [found for block in blocks for found in _raw_usages(block)]
    if usage is None:
        usage = next((u for u in map(from_raw, raw) if u is not None), None)
    elif not usage.cache_read and any(not _CACHED_ELSEWHERE.isdisjoint(block) for block in raw):
        usage = _with_cached(usage, raw)
    if usage is None:
        return None
    tier = usage.tier or _tier(blocks, raw)
    searches = usage.web_searches or _web_searches(message, raw)
    if tier == usage.tier and searches == usage.web_searches:
        return usage
    return usage._replace(tier=tier, web_searches=searches)


def is_cache_hit(response: Any) -> bool:
    """Whether a cache gave this reply: LangChain's own, which replays the usage with ``total_cost`` 0 added, or that of
    a proxy (Helicone, Portkey, LiteLLM), where its headers are kept (``include_response_headers``)."""
    message, blocks = _parts(response)
    metadata = getattr(message, "usage_metadata", None)
    cost = metadata.get("total_cost") if isinstance(metadata, Mapping) else None
    if isinstance(cost, int) and not isinstance(cost, bool) and cost == 0:
        return True
    headers = next((block["headers"] for block in blocks if isinstance(block.get("headers"), Mapping)), None)
    return headers is not None and answered_by_cache(headers)


def reported_model(response: Any) -> str | None:
    """The model that the provider says has answered."""
    for block in _parts(response)[1]:
        for key in _MODEL_KEYS:
            name = block.get(key)
            if isinstance(name, str) and name:
                return name
    return None


def _parts(response: Any) -> tuple[Any, list[Mapping[str, Any]]]:
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


def _raw_usages(block: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = [block[key] for key in _USAGE_KEYS if isinstance(block.get(key), Mapping)]
    if "prompt_eval_count" in block or "eval_count" in block:
        found.append(block)  # Ollama puts its counts beside everything else
    return found


def _tier(blocks: list[Mapping[str, Any]], raw: list[Mapping[str, Any]]) -> str | None:
    for block in (*raw, *blocks):
        for key in ("service_tier", "speed", "serviceTier"):
            tier = normal_tier(block.get(key))
            if tier is not None:
                return tier
    return None


def _web_searches(message: Any, raw: list[Mapping[str, Any]]) -> int:
    """Searches the provider ran: as its usage says, else by the blocks in the reply (streams lose the former)."""
    for block in raw:
        for name in ("server_tool_use", "server_tool_use_details"):
            searches = count(section(block, name).get("web_search_requests"))
            if searches:
                return searches
    content = getattr(message, "content", None)
    if not isinstance(content, list):
        return 0
    return sum(1 for block in content if isinstance(block, dict) and _is_search(block))


def _is_search(block: Mapping[str, Any]) -> bool:
    kind = block.get("type")
    return kind == "web_search_call" or (kind == "server_tool_use" and block.get("name") == "web_search")


def _with_cached(usage: Usage, raw: list[Mapping[str, Any]]) -> Usage:
    """The usage with the cached tokens that the client's conversion has left out, if the block is of the same call."""
    for other in map(from_raw, raw):
        if other is not None and other.cache_read and other.input_tokens == usage.input_tokens:
            return usage._replace(cache_read=other.cache_read)
    return usage
