"""The usage blocks of providers' own APIs, each in its own dialect, as inclusive counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langchain_costguard.vocabulary.usage import Usage

_NOTHING: Mapping[str, Any] = {}
CACHE_READS = (
    "cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens", "cached_prompt_text_tokens",
    "cache_read_input_tokens",
)  # fmt: skip
"""Where Together, Mistral, DeepSeek, xAI and gateways say, beside the main counts, what was cached."""
CACHE_WRITES = ("cache_creation_input_tokens", "cache_write_input_tokens")
_STANDARD = frozenset({"", "default", "standard", "auto", "on_demand", "standard_only", "not_available"})


def count(value: object) -> int | None:
    """The value if it can be a count, as an int (some clients report 12.0); else None."""
    if isinstance(value, int):
        return int(value) if value >= 0 and not isinstance(value, bool) else None
    if isinstance(value, float) and value >= 0 and value.is_integer():
        return int(value)
    return None


def section(block: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A mapping inside a mapping; empty where there is none."""
    value = block.get(key)
    return value if isinstance(value, Mapping) else _NOTHING


def normal_tier(value: object) -> str | None:
    """A service tier as the price tables name it; None for the standard one."""
    if not isinstance(value, str):
        return None
    tier = value.strip().lower().removeprefix("on_demand_")
    return None if tier in _STANDARD else tier


def geography(value: object) -> str | None:
    """Where inference ran, if that has a price of its own; None for anywhere."""
    geo = value.strip().lower() if isinstance(value, str) else ""
    return None if geo in ("", "global", "not_available") else geo


def from_raw(block: object) -> Usage | None:
    """Usage from a provider's own usage block; None where no dialect fits or a main count is malformed."""
    if not isinstance(block, Mapping):
        return None
    for marks, read in _DIALECTS:
        if not marks.isdisjoint(block):
            return read(block)
    return None


def _first(block: Mapping[str, Any], *keys: str) -> int:
    """The first of the keys that holds a count; 0 where none does."""
    for key in keys:
        value = count(block.get(key))
        if value is not None:
            return value
    return 0


def _main(block: Mapping[str, Any], *keys: str) -> int | None:
    """A main count: 0 where no key is there, None where one is there but holds no count."""
    present = [key for key in keys if key in block]
    if not present:
        return 0
    return next((value for value in (count(block[key]) for key in present) if value is not None), None)


def _settle(given: int | None, made: int | None, total: int | None) -> tuple[int, int] | None:
    """Input and output made consistent with the total: a missing one follows from it, and what exceeds both is output.

    Gemini's OpenAI-compatible endpoint and xAI leave reasoning out of ``completion_tokens`` but bill it as output.
    """
    if given is None and made is None:
        return None
    if given is None or made is None:
        if total is None:
            return None
        return (
            (max(0, total - made), made)
            if given is None and made is not None
            else (given or 0, max(0, total - (given or 0)))
        )
    if total is not None and total > given + made:
        made = total - given
    return given, max(0, made)


def _openai_chat(block: Mapping[str, Any]) -> Usage | None:
    """OpenAI chat completions, and all who speak it: Groq, Mistral, DeepSeek, Together, OpenRouter, xAI, vLLM ..."""
    inside, outside = section(block, "prompt_tokens_details"), section(block, "completion_tokens_details")
    read = _first(inside, "cached_tokens") or _first(block, *CACHE_READS)
    write = _first(inside, "cache_write_tokens", "cache_creation_tokens") or _first(block, *CACHE_WRITES)
    hour = _first(section(inside, "cache_creation_token_details"), "ephemeral_1h_input_tokens")
    given, made = _main(block, "prompt_tokens"), _main(block, "completion_tokens")
    total = count(block.get("total_tokens"))
    if given is not None:
        given, read, write = cached_inside(given, read, write, apart=total != given + (made or 0))
    settled = _settle(given, made, total)
    if settled is None:
        return None
    given, made = settled
    thought = _first(outside, "reasoning_tokens") or _first(block, "reasoning_tokens")
    cited = _first(block, "citation_tokens")
    if "citation_tokens" in block:
        made += thought  # Perplexity's deep research counts both beside the answer, and bills all three
    return Usage(
        input_tokens=given,
        output_tokens=made + cited,
        cache_read=read,
        cache_write=write,
        cache_write_1h=min(hour, write),
        reasoning=min(made, thought),
        input_audio=min(given, _first(inside, "audio_tokens")),
        output_audio=min(made, _first(outside, "audio_tokens")),
        output_image=min(made, _first(outside, "image_tokens")),
        web_searches=searches_said(block) or 0,
        citations=cited,
        tier=normal_tier(block.get("service_tier")),
    )


def cached_inside(given: int, read: int, write: int, *, apart: bool) -> tuple[int, int, int]:
    """Input, cached reads and cache writes as inclusive counts.

    Where both together are more than the input they stood beside it, unless the total (not ``apart``) says that all is
    in: OpenRouter counts what Gemini read and kept in one call twice. What overlaps was read.
    """
    if read + write <= given:
        return given, read, write
    if apart or max(read, write) > given:
        return given + read + write, read, write
    return given, read, given - read


def _openai_responses(block: Mapping[str, Any]) -> Usage | None:
    """OpenAI Responses and whatever else counts ``input_tokens`` with the cached ones in."""
    inside = section(block, "input_tokens_details") or section(block, "input_token_details")
    outside = section(block, "output_tokens_details") or section(block, "output_token_details")
    settled = _settle(_main(block, "input_tokens"), _main(block, "output_tokens"), count(block.get("total_tokens")))
    if settled is None:
        return None
    given, made = settled
    return Usage(
        input_tokens=given,
        output_tokens=made,
        cache_read=min(given, _first(inside, "cached_tokens", "cache_read")),
        cache_write=min(given, _first(inside, "cache_write_tokens", "cache_creation")),
        reasoning=min(made, _first(outside, "reasoning_tokens", "reasoning")),
        input_audio=min(given, _first(inside, "audio_tokens", "audio")),
        output_audio=min(made, _first(outside, "audio_tokens", "audio")),
        output_image=min(made, _first(outside, "image_tokens", "image")),
        web_searches=searches_said(block) or 0,
        tier=normal_tier(block.get("service_tier")),
    )


def _anthropic(block: Mapping[str, Any]) -> Usage | None:
    """Anthropic messages (also on Bedrock and Vertex): ``input_tokens`` leaves cached reads and writes out."""
    given, made = _main(block, "input_tokens"), _main(block, "output_tokens")
    if given is None or made is None:
        return None
    split = section(block, "cache_creation")
    hour = _first(split, "ephemeral_1h_input_tokens")
    by_lifetime = hour + _first(split, "ephemeral_5m_input_tokens")
    write = max(by_lifetime, _first(block, "cache_creation_input_tokens", "cache_write_input_tokens"))
    read = _first(block, "cache_read_input_tokens")
    usage = Usage(
        input_tokens=given + read + write,
        output_tokens=made,
        cache_read=read,
        cache_write=write,
        cache_write_1h=hour,
        reasoning=min(made, _first(section(block, "output_tokens_details"), "thinking_tokens")),
        web_searches=searches_said(block) or 0,
        tier=normal_tier(block.get("speed")) or normal_tier(block.get("service_tier")),
        geo=geography(block.get("inference_geo")),
    )
    return _with_iterations(usage, block.get("iterations"))


def _with_iterations(usage: Usage, iterations: object) -> Usage:
    """The usage with what Anthropic lists beside the top-level counts: compactions, and what advisors used.

    https://platform.claude.com/docs/en/build-with-claude/compaction#understanding-usage
    """
    for entry in iterations if isinstance(iterations, list | tuple) else ():
        if not isinstance(entry, Mapping) or entry.get("type") in (None, "message"):
            continue
        extra = _anthropic({key: value for key, value in entry.items() if key != "iterations"})
        name = entry.get("model")
        if extra is None:
            continue
        if isinstance(name, str) and name:
            usage = usage._replace(others=(*usage.others, (name, extra)))
        else:
            usage = usage.plus(extra)
    return usage


def _converse(block: Mapping[str, Any]) -> Usage | None:
    """Bedrock's converse: ``inputTokens`` leaves cached reads and writes out."""
    given, made = _main(block, "inputTokens"), _main(block, "outputTokens")
    if given is None or made is None:
        return None
    read = _first(block, "cacheReadInputTokens", "cacheReadInputTokenCount")
    write = _first(block, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    details = block.get("cacheDetails")
    hour = sum(
        _first(entry, "inputTokens")
        for entry in (details if isinstance(details, list) else [])
        if isinstance(entry, Mapping) and entry.get("ttl") == "1h"
    )
    return Usage(
        input_tokens=given + read + write,
        output_tokens=made,
        cache_read=read,
        cache_write=write,
        cache_write_1h=min(hour, write),
    )


def _gemini(block: Mapping[str, Any]) -> Usage | None:
    """Gemini and Vertex, in camel case (REST) or snake case (SDK): thoughts and tool prompts come on top."""
    camel = {_camel(key): value for key, value in block.items() if isinstance(key, str)}
    given, made = _main(camel, "promptTokenCount"), _main(camel, "candidatesTokenCount", "responseTokenCount")
    thoughts = _first(camel, "thoughtsTokenCount")
    settled = _settle(
        None if given is None else given + _first(camel, "toolUsePromptTokenCount"),
        None if made is None else made + thoughts,
        count(camel.get("totalTokenCount")),
    )
    if settled is None:
        return None
    given, made = settled
    return Usage(
        input_tokens=given,
        output_tokens=made,
        cache_read=min(given, _first(camel, "cachedContentTokenCount")),
        reasoning=min(made, thoughts),
        input_audio=min(given, _modality(camel.get("promptTokensDetails"), "AUDIO", 4)),
        output_audio=min(made, _modality(camel.get("candidatesTokensDetails"), "AUDIO", 4)),
        output_image=min(made, _modality(camel.get("candidatesTokensDetails"), "IMAGE", 2)),
        tier=normal_tier(camel.get("serviceTier")) or normal_tier(camel.get("trafficType")),
    )


def _camel(key: str) -> str:
    head, *rest = key.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _modality(details: object, name: str, number: int) -> int:
    """The tokens of one modality; the protobuf client gives its number, REST its name."""
    total = 0
    for entry in details if isinstance(details, list) else []:
        if isinstance(entry, Mapping) and entry.get("modality") in (name, number):
            total += _first(entry, "tokenCount", "token_count")
    return total


def _interactions(block: Mapping[str, Any]) -> Usage | None:
    """Google's interactions API."""
    given, made = _main(block, "total_input_tokens"), _main(block, "total_output_tokens")
    if given is None or made is None:
        return None
    thoughts = _first(block, "total_thought_tokens")
    given += _first(block, "total_tool_use_tokens")
    return Usage(
        input_tokens=given,
        output_tokens=made + thoughts,
        cache_read=min(given, _first(block, "total_cached_tokens")),
        reasoning=thoughts,
    )


def _ollama(block: Mapping[str, Any]) -> Usage | None:
    given, made = _main(block, "prompt_eval_count"), _main(block, "eval_count")
    return None if given is None or made is None else Usage(input_tokens=given, output_tokens=made)


def _cohere(block: Mapping[str, Any]) -> Usage | None:
    """Cohere: it bills ``billed_units``, which leave its own prompt template out of ``tokens``."""
    units = section(block, "billed_units") or section(block, "tokens")
    given, made = _main(units, "input_tokens"), _main(units, "output_tokens")
    if given is None or made is None or not units:
        return None
    return Usage(input_tokens=given, output_tokens=made, cache_read=min(given, _first(block, "cached_tokens")))


def searches_said(block: Mapping[str, Any]) -> int | None:
    """The searches that the provider itself counts in a usage block; None where it counts none, not even zero.

    Of xAI's live search the sources are what is billed.
    """
    for name in ("server_tool_use", "server_tool_use_details", "server_side_tool_usage_details"):
        tools = section(block, name)
        for key in ("web_search_requests", "web_search_calls"):
            if (said := count(tools.get(key))) is not None:
                return said
    for name in ("num_search_queries", "num_sources_used"):
        if (said := count(block.get(name))) is not None:
            return said
    return None


_DIALECTS: tuple[tuple[frozenset[str], Callable[[Mapping[str, Any]], Usage | None]], ...] = (
    (
        frozenset({"promptTokenCount", "candidatesTokenCount", "prompt_token_count", "candidates_token_count"}),
        _gemini,
    ),
    (frozenset({"inputTokens", "outputTokens"}), _converse),
    (frozenset({"total_input_tokens", "total_output_tokens"}), _interactions),
    (frozenset({"prompt_eval_count", "eval_count"}), _ollama),
    (frozenset({"billed_units", "tokens"}), _cohere),
    (frozenset({"prompt_tokens", "completion_tokens"}), _openai_chat),
    (
        frozenset({"cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation", "iterations"}),
        _anthropic,
    ),
    (frozenset({"input_tokens", "output_tokens"}), _openai_responses),
)
"""Keys that give a dialect away, and its reader; the first that fits is used."""
