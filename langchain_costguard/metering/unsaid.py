"""What Anthropic bills and ``ChatAnthropic`` loses in streams, as far as the request and the reply's blocks tell it.

Each comes with whether it had to be estimated. A wrapped model hears the counts themselves (``seams.overheard``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from langchain_costguard.metering.calls import Call
from langchain_costguard.metering.pricing.dialects import section
from langchain_costguard.metering.pricing.offered import ADVICE_READS, ADVISES
from langchain_costguard.vocabulary.usage import Usage

SUMMARY = 4_000
"""Output tokens of a compaction that the reply does not show, at the most likely."""
ADVICE_WRITES = 1_800
"""Output tokens of an advice with the thinking before it, which the reply does not show.
https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool"""

Blocks = list[Mapping[str, Any]]


def with_unsaid(call: Call, usage: Usage, content: Any, raw: Blocks, count: Callable[[str], int]) -> tuple[Usage, bool]:
    """The usage with what is not said of it; ``content`` are the reply's blocks, ``raw`` the usage blocks it came with.
    ``count`` counts the tokens of a text."""
    usage, split = _kept(call, usage, raw)
    if any(block.get("iterations") for block in raw):
        return usage, split
    blocks = list(_items(content))
    usage, compacted = _compacted(call, usage, blocks, count)
    usage, advised = _advised(call, usage, blocks, count)
    return usage, split or compacted or advised


def _items(content: Any) -> Iterator[Mapping[str, Any]]:
    """The blocks as Anthropic writes them; LangChain's own format keeps what it has no name for inside."""
    for block in content if isinstance(content, list) else ():
        if isinstance(block, Mapping):
            yield section(block, "value") if block.get("type") == "non_standard" else block


def _kept(call: Call, usage: Usage, raw: Blocks) -> tuple[Usage, bool]:
    """For how long the cache keeps what was written: for an hour what stands up to the last such mark, as far as it was
    not read; the rest for five minutes."""
    written = usage.cache_write
    if not written or usage.cache_write_1h or call.writes_cache != "1h" or call.stream is None:
        return usage, False
    if any(isinstance(block.get("cache_creation"), Mapping) for block in raw):
        return usage, False
    if call.hour is None:
        return usage._replace(cache_write_1h=written), False
    before = call.hour * usage.input_tokens // max(1, call.tokens) - usage.cache_read
    return usage._replace(cache_write_1h=min(written, max(0, before))), True


def _compacted(call: Call, usage: Usage, blocks: Blocks, count: Callable[[str], int]) -> tuple[Usage, bool]:
    """The usage with that of a compaction: shown by its block, or by an input far below what was sent."""
    trigger = call.asks.compaction
    if not trigger or usage.input_tokens >= trigger:
        return usage, False
    for block in blocks:
        if block.get("type") == "compaction":
            return usage.plus(Usage(max(trigger, call.tokens), count(str(block.get("content") or "")))), True
    if call.tokens >= trigger:
        return usage.plus(Usage(call.tokens, min(SUMMARY, usage.input_tokens))), True
    return usage, False


def _advised(call: Call, usage: Usage, blocks: Blocks, count: Callable[[str], int]) -> tuple[Usage, bool]:
    """The usage with that of advisors who were asked: each has read the conversation, at its own model's price."""
    offer = next((offer for offer in call.asks.hosted if offer.tool == ADVISES and offer.model), None)
    if offer is None:
        return usage, False
    found = []
    for block in blocks:
        kind = section(block, "extras").get("block_type", block.get("type"))
        inside = section(block, "output") or section(block, "content")
        if kind == "advisor_tool_result" and not str(inside.get("type")).endswith("_error"):
            made = max(ADVICE_WRITES, count(str(inside.get("text") or "")))
            found.append((offer.model, Usage(call.tokens + ADVICE_READS, made)))
    return usage._replace(others=(*usage.others, *found)), bool(found)
