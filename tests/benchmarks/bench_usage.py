"""Whether every usage block that providers have sent is read, and counts what an independent formula makes of it.

    COSTGUARD_DATA=path/to/data python tests/benchmarks/bench_usage.py [dev|heldout]

The formula is written anew from the providers' documentation, bucket by bucket, without the package's code. Ends with 1
where a block is read differently, or not read though it counts a call.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from langchain_costguard.metering.pricing.dialects import from_raw
from langchain_costguard.metering.pricing.reading import from_usage_metadata
from langchain_costguard.vocabulary.usage import Usage
from tests.benchmarks.bench_prices import table

Block = dict[str, Any]
BUCKETS = (
    "input_tokens", "output_tokens", "cache_read", "cache_write", "cache_write_1h", "reasoning", "input_audio",
    "output_audio", "web_searches",
)  # fmt: skip


def at(block: Any, *path: str) -> int:
    """The count at a path; 0 where there is none."""
    for key in path:
        block = block.get(key) if isinstance(block, dict) else None
    return int(block) if isinstance(block, int | float) else 0


def heard(block: Block, key: str) -> int:
    """Gemini's tokens of audio."""
    return sum(at(entry, "tokenCount") for entry in block.get(key) or () if entry.get("modality") in ("AUDIO", 4))


def gemini(block: Block) -> dict[str, int]:
    """https://ai.google.dev/api/generate-content#UsageMetadata"""
    return {
        "input_tokens": at(block, "promptTokenCount") + at(block, "toolUsePromptTokenCount"),
        "output_tokens": at(block, "candidatesTokenCount") + at(block, "thoughtsTokenCount"),
        "cache_read": at(block, "cachedContentTokenCount"), "reasoning": at(block, "thoughtsTokenCount"),
        "input_audio": heard(block, "promptTokensDetails"), "output_audio": heard(block, "candidatesTokensDetails"),
    }  # fmt: skip


def interactions(block: Block) -> dict[str, int]:
    """https://ai.google.dev/api/interactions-api"""
    return {
        "input_tokens": at(block, "total_input_tokens") + at(block, "total_tool_use_tokens"),
        "output_tokens": at(block, "total_output_tokens") + at(block, "total_thought_tokens"),
        "cache_read": at(block, "total_cached_tokens"), "reasoning": at(block, "total_thought_tokens"),
    }  # fmt: skip


def converse(block: Block) -> dict[str, int]:
    """https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html"""
    read = at(block, "cacheReadInputTokens") or at(block, "cacheReadInputTokenCount")
    wrote = at(block, "cacheWriteInputTokens") or at(block, "cacheWriteInputTokenCount")
    long = sum(at(entry, "inputTokens") for entry in block.get("cacheDetails") or () if entry.get("ttl") == "1h")
    return {
        "input_tokens": at(block, "inputTokens") + read + wrote, "output_tokens": at(block, "outputTokens"),
        "cache_read": read, "cache_write": wrote, "cache_write_1h": long,
    }  # fmt: skip


def cohere(block: Block) -> dict[str, int]:
    """https://docs.cohere.com/docs/how-does-cohere-pricing-work"""
    given = at(block, "billed_units", "input_tokens")
    return {
        "input_tokens": given, "output_tokens": at(block, "billed_units", "output_tokens"),
        "cache_read": min(given, at(block, "cached_tokens")),
    }  # fmt: skip


def chat(block: Block) -> dict[str, int]:
    """https://platform.openai.com/docs/api-reference/chat/object and, of those who follow it, what they add: reasoning
    that only the total has in, and cached tokens beside the details."""
    inside, outside = "prompt_tokens_details", "completion_tokens_details"
    made = max(at(block, "completion_tokens"), at(block, "total_tokens") - at(block, "prompt_tokens"))
    read = at(block, inside, "cached_tokens") or at(block, "cached_tokens") or at(block, "num_cached_tokens")
    return {
        "input_tokens": at(block, "prompt_tokens"), "output_tokens": made, "cache_read": read,
        "cache_write": at(block, inside, "cache_write_tokens"),
        "reasoning": min(made, at(block, outside, "reasoning_tokens")),
        "input_audio": at(block, inside, "audio_tokens"), "output_audio": at(block, outside, "audio_tokens"),
        "web_searches": at(block, "num_search_queries") or at(block, "num_sources_used")
        or at(block, "server_tool_use", "web_search_requests")
        or at(block, "server_tool_use_details", "web_search_requests"),
    }  # fmt: skip


def anthropic(block: Block) -> dict[str, int]:
    """https://docs.anthropic.com/en/api/messages, and the compactions that it lists apart."""
    apart = [
        entry
        for entry in block.get("iterations") or ()
        if entry.get("type") not in ("message", "advisor_message") and not entry.get("model")
    ]

    def count(key: str) -> int:
        return at(block, key) + sum(at(entry, key) for entry in apart)

    read, wrote = count("cache_read_input_tokens"), count("cache_creation_input_tokens")
    return {
        "input_tokens": count("input_tokens") + read + wrote, "output_tokens": count("output_tokens"),
        "cache_read": read, "cache_write": wrote,
        "cache_write_1h": at(block, "cache_creation", "ephemeral_1h_input_tokens"),
        "reasoning": at(block, "output_tokens_details", "thinking_tokens"),
        "web_searches": at(block, "server_tool_use", "web_search_requests"),
    }  # fmt: skip


def responses(block: Block) -> dict[str, int]:
    """https://platform.openai.com/docs/api-reference/responses/object"""
    inside = "input_tokens_details" if "input_tokens_details" in block else "input_token_details"
    outside = "output_tokens_details" if "output_tokens_details" in block else "output_token_details"
    return {
        "input_tokens": at(block, "input_tokens"), "output_tokens": at(block, "output_tokens"),
        "cache_read": at(block, inside, "cached_tokens"), "cache_write": at(block, inside, "cache_write_tokens"),
        "reasoning": at(block, outside, "reasoning_tokens"), "input_audio": at(block, inside, "audio_tokens"),
        "output_audio": at(block, outside, "audio_tokens"),
    }  # fmt: skip


FORMULAS: tuple[tuple[str, Callable[[Block], dict[str, int]]], ...] = (
    ("promptTokenCount", gemini), ("inputTokens", converse), ("total_input_tokens", interactions),
    ("billed_units", cohere), ("prompt_tokens", chat), ("cache_read_input_tokens", anthropic),
    ("input_tokens", responses),
)  # fmt: skip


def independent(block: Block) -> dict[str, int] | None:
    """What the block counts; None where it counts no call."""
    formula = next((formula for key, formula in FORMULAS if key in block), None)
    if formula is None or (formula is responses and "output_tokens" not in block):
        return None  # a guardrail's block, or a count of tokens without a call
    return {bucket: formula(block).get(bucket, 0) for bucket in BUCKETS}


def advised(block: Block) -> list[tuple[str, int, int]]:
    """What other models used inside the call."""
    entries = (entry for entry in block.get("iterations") or () if entry.get("model"))
    return [(entry["model"], at(entry, "input_tokens"), at(entry, "output_tokens")) for entry in entries]


def through_langchain(row: Block) -> Usage | None:
    """The block passed through the conversion of LangChain's own client, where that client is installed."""
    block = row["usage"]
    if "anthropic.com" in row["host"]:
        from anthropic.types import Usage as Wire
        from langchain_anthropic.chat_models import _create_usage_metadata as of_anthropic

        return from_usage_metadata(of_anthropic(Wire.model_construct(**block)))
    if "prompt_tokens" in block:
        from langchain_openai.chat_models.base import _create_usage_metadata as of_chat

        return from_usage_metadata(of_chat(block))
    if "input_tokens" in block and "total_tokens" in block:
        from langchain_openai.chat_models.base import _create_usage_metadata_responses as of_responses

        return from_usage_metadata(of_responses(block))
    return None


def same(ours: Usage | None, expected: dict[str, int], block: Block) -> bool:
    """Whether every bucket is as expected, and every other model's use."""
    if ours is None or any(getattr(ours, bucket) != count for bucket, count in expected.items()):
        return False
    return [(name, used.input_tokens, used.output_tokens) for name, used in ours.others] == advised(block)


def main() -> int:
    """Print the table, and what is read differently."""
    part = sys.argv[1] if len(sys.argv) > 1 else "dev"
    file = Path(os.environ.get("COSTGUARD_DATA", "")) / "tokens_provider_usage_cassettes" / f"{part}.jsonl.gz"
    if not os.environ.get("COSTGUARD_DATA") or not file.is_file():
        print("COSTGUARD_DATA names no folder with the usage blocks: nothing was measured.")
        return 0
    with gzip.open(file, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    sums: dict[str, Counter[str]] = {}
    wrong = []
    for row in rows:
        block, counts = row["usage"], sums.setdefault(row["host"], Counter())
        ours, expected = from_raw(block), independent(block)
        counts["blocks"] += 1
        counts["no call"] += expected is None
        counts["read"] += ours is not None
        if expected is None:
            continue
        equal = same(ours, expected, block)
        counts["equal"] += equal
        if not equal:
            wrong.append((row["host"], row["id"], expected, ours))
        passed = through_langchain(row) if row["kind"] == "chat" else None
        counts["passed on"] += passed is not None
        main_counts = [passed and getattr(passed, bucket) == expected[bucket] for bucket in BUCKETS[:4]]
        counts["as passed on"] += passed is not None and all(main_counts)
    ordered = sorted(sums.items(), key=lambda item: -item[1]["blocks"])
    total = sum(sums.values(), Counter())
    head = ("host", "blocks", "count no call", "read", "= own formula, all buckets", "= via LangChain client")
    table(head, [
        (host, c["blocks"], c["no call"], c["read"], f"{c['equal']}/{c['blocks'] - c['no call']}",
         f"{c['as passed on']}/{c['passed on']}")
        for host, c in [*ordered, ("all", total)]
    ])  # fmt: skip
    for line in wrong:
        print("differs:", *line)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
