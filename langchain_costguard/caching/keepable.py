"""Which replies may be remembered: whole ones that say something. One cut off, refused or filtered is asked for again.

How a reply ended is told under other names by each provider. What counts is that it ended *well*, by a word known
here: a reason nobody has heard of yet keeps a reply out, for a wrong answer remembered is worse than a right one
bought twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

_REASONS = ("finish_reason", "stop_reason", "stopReason", "done_reason", "completionReason", "finishReason")
"""OpenAI, Google, Mistral and most others; Anthropic; Bedrock Converse; Ollama; Amazon Titan; Google's raw name."""

# fmt: off
_WELL = frozenset({
    "stop", "tool_calls", "function_call",                      # OpenAI, Groq, Mistral, Ollama, Google (as STOP)
    "end_turn", "stop_sequence", "tool_use",                    # Anthropic, Bedrock Converse
    "complete", "tool_call",                                    # Cohere
    "eos", "eos_token", "endoftext", "finish", "finished",      # Together, Hugging Face and watsonx, AI21, Titan
    "completed", "success",
})
# fmt: on
_REFUSED = frozenset(
    {
        "refusal",
        "content_filter",  # Anthropic, OpenAI
        "safety",
        "prohibited_content",
        "blocklist",
        "spii",  # Google
        "guardrail_intervened",
        "content_filtered",  # Bedrock
    }
)  # fmt: skip
_UNFINISHED = frozenset({"incomplete", "failed", "cancelled", "in_progress", "queued"})
"""``status`` of OpenAI's Responses API."""
_TELL = ("openai", "azure", "anthropic", "google", "bedrock", "amazon", "mistral", "groq", "cohere", "deepseek", "xai")
"""Providers, as their clients name them in a reply, that tell of each reply how it ended."""
_SILENT = frozenset({"reasoning", "thinking", "redacted_thinking"})
_OURS = "costguard"
"""Key in a message's metadata by which replies of steering's own are known; no model gave them."""


def keepable(message: AIMessage, tool_calls: bool, info: Mapping[str, Any] | None = None) -> bool:
    """Whether a reply may be remembered; with ``tool_calls``, one that calls tools, too. ``info`` is as in ``cut_off``.

    Not one that was cut off (``length``, ``max_tokens``, ``MAX_TOKENS``, an ``incomplete`` response, ``pause_turn``),
    refused, filtered or blocked, whose tool calls cannot be parsed, that says nothing, or that no model gave.
    """
    facts, extra = message.response_metadata, message.additional_kwargs
    if cut_off(message, info) or not ended_well(facts) or _OURS in facts or _OURS in extra or extra.get("refusal"):
        return False
    if message.invalid_tool_calls or _refuses(message.content):
        return False
    if message.tool_calls or extra.get("tool_calls") or extra.get("function_call"):
        return tool_calls
    return _says_something(message.content)


def cut_off(message: AIMessage, info: Mapping[str, Any] | None = None) -> bool:
    """Whether a reply broke off: its provider tells how each reply ended, and of this one it does not.

    A connection that is closed in the middle of a stream looks to the clients like one that has ended. ``info`` is what
    the generation around the message says.
    """
    facts = {**(info or {}), **message.response_metadata}
    provider = str(facts.get("model_provider") or "")
    if not provider or any(facts.get(key) not in (None, "") for key in (*_REASONS, "status", "done", _OURS)):
        return False
    return message.usage_metadata is None or any(provider.startswith(known) for known in _TELL)


def refused(message: AIMessage) -> bool:
    """Whether the model, or a filter of its provider's, refused to answer: asked again, it would refuse again."""
    facts = message.response_metadata
    reasons = {str(facts.get(key)).rpartition(".")[2].lower() for key in _REASONS}
    said = message.additional_kwargs.get("refusal") or _refuses(message.content)
    return bool(said or reasons & _REFUSED or _blocked(facts))


def ended_well(facts: Mapping[str, Any]) -> bool:
    """Whether a reply's metadata tell of no end but a regular one. Where they tell of none at all, it is that."""
    for key in _REASONS:
        reason = facts.get(key)
        if reason is not None and str(reason).rpartition(".")[2].lower() not in _WELL:
            return False
    if facts.get("status") in _UNFINISHED or facts.get("incomplete_details") or facts.get("error"):
        return False
    return facts.get("done") is not False and not _blocked(facts)


def _blocked(facts: Mapping[str, Any]) -> bool:
    """Google, Bedrock's guardrails and Azure tell of what they blocked beside the reason, too."""
    if facts.get("is_blocked") or facts.get("amazon-bedrock-guardrailAction") == "INTERVENED":
        return True
    feedback = facts.get("prompt_feedback")
    reason = feedback.get("block_reason") if isinstance(feedback, Mapping) else None
    if reason and not str(reason).endswith("UNSPECIFIED"):
        return True
    ratings = facts.get("safety_ratings")
    if isinstance(ratings, list) and any(isinstance(each, Mapping) and each.get("blocked") for each in ratings):
        return True
    filters = facts.get("content_filter_results")
    results = filters.values() if isinstance(filters, Mapping) else ()
    return any(isinstance(each, Mapping) and each.get("filtered") for each in results)


def _refuses(content: Any) -> bool:
    if isinstance(content, str):
        return False
    blocks = [block for block in content if isinstance(block, Mapping)]
    inner = [block.get("value") for block in blocks if block.get("type") == "non_standard"]
    return any(block.get("type") == "refusal" for block in blocks) or any(
        isinstance(value, Mapping) and "refusal" in value for value in inner
    )


def _says_something(content: Any) -> bool:
    if isinstance(content, str):
        return bool(content.strip())
    return any(_heard(block) for block in content)


def _heard(block: Any) -> bool:
    if isinstance(block, str):
        return bool(block.strip())
    if block.get("type") in _SILENT:
        return False
    return bool(str(block.get("text") or "").strip()) if block.get("type") in ("text", "output_text") else True
