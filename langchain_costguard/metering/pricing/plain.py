"""The quick look at a reply: most report their usage in full and plainly, and need no detective work."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

_SAID = frozenset({"input_tokens", "output_tokens", "total_tokens", "input_token_details", "output_token_details"})
"""What LangChain's own block of usage may hold: with anything else (``total_cost``) there is more to it."""
_FACTS = frozenset({
    "container", "created", "diagnostics", "finish_reason", "id", "logprobs", "model", "model_name", "model_provider",
    "object", "service_tier", "stop_details", "stop_reason", "stop_sequence", "system_fingerprint", "token_usage",
    "usage",
})  # fmt: skip
"""What a reply's facts may hold that says nothing of usage, or is looked at here."""
_OPENAI = frozenset({
    "completion_tokens", "completion_tokens_details", "prompt_tokens", "prompt_tokens_details", "total_tokens",
})  # fmt: skip
_ANTHROPIC = frozenset({
    "cache_creation", "cache_creation_input_tokens", "cache_read_input_tokens", "inference_geo", "input_tokens",
    "output_tokens", "output_tokens_details", "server_tool_use", "service_tier", "speed",
})  # fmt: skip
"""What the providers' own blocks may hold: the counts that the client has read already, and what is looked at here."""
_EXTRA = ("service_tier", "speed", "inference_geo", "server_tool_use", "container")
_EXTRAS, _UNSAID = itemgetter(*_EXTRA), dict.fromkeys(_EXTRA)
"""What older clients do not say is nothing."""
_PLACES = (None, "global", "not_available")
_NO_EXTRAS = frozenset({(tier, None, place, None, None) for tier in (None, "standard") for place in _PLACES})
_STANDARD = (None, "default", "standard", "auto")


def plain_usage(response: Any) -> tuple[int, int, str | None] | None:
    """Tokens in and out, and the reported model, of an ``LLMResult`` that says them plainly; None where ``usage_of``
    must look closer.

    Plain is: whole numbers above zero that add up, no details above zero, a text, no cache hit, and nothing besides in
    what the client passed on that this does not know: OpenAI's and Anthropic's own blocks of usage are looked through.
    """
    try:
        message = response.generations[0][0].message
        said, facts, output = message.usage_metadata, message.response_metadata, response.llm_output
        given, made = said["input_tokens"], said["output_tokens"]
        if given.__class__ is not int or made.__class__ is not int or not given > 0 < made:
            return None
        if said["total_tokens"] != given + made or not said.keys() <= _SAID or message.content.__class__ is not str:
            return None
        if "tool_outputs" in message.additional_kwargs:
            return None
        details = said.get("input_token_details")
        if details and any(details.values()):
            return None
        details = said.get("output_token_details")
        if details and any(details.values()):
            return None
        if not facts:
            return None if output else (given, made, None)
        raw = facts.get("token_usage") or facts.get("usage")
        if raw:
            plain = _openai if "token_usage" in facts else _anthropic
            if not plain(raw, facts, given, made):
                return None
        model = facts.get("model_name")
        if (model.__class__ is not str or not model) and (output or model is not None or "model" in facts):
            return None
        if not facts.keys() <= _FACTS or facts.get("service_tier") not in _STANDARD:
            return None
        if output and not (_silent(output) and (output.get("token_usage") or output.get("usage")) is raw):
            return None
        return given, made, model
    except (AttributeError, IndexError, KeyError, TypeError):
        return None


def _silent(facts: Any) -> bool:
    """Whether these say nothing of usage but what is looked at here."""
    return facts.keys() <= _FACTS and facts.get("service_tier") in _STANDARD


def _openai(raw: Any, facts: Any, given: int, made: int) -> bool:
    if raw["prompt_tokens"] != given or raw["completion_tokens"] != made or raw["total_tokens"] != given + made:
        return False
    details = raw.get("prompt_tokens_details")
    if details and any(details.values()):
        return False
    details = raw.get("completion_tokens_details")
    return not (details and any(details.values())) and raw.keys() <= _OPENAI and "usage" not in facts


def _anthropic(raw: Any, facts: Any, given: int, made: int) -> bool:
    if raw["input_tokens"] != given or raw["output_tokens"] != made:
        return False
    if raw.get("cache_creation_input_tokens") or raw.get("cache_read_input_tokens"):
        return False
    details = raw.get("cache_creation")
    if details and any(details.values()):
        return False
    return raw.keys() <= _ANTHROPIC and _EXTRAS({**_UNSAID, **facts, **raw}) in _NO_EXTRAS
