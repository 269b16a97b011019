"""The quick look at a reply: most report their usage in full and plainly, and need no detective work."""

from __future__ import annotations

from typing import Any

from langchain_costguard.vocabulary.usage import Usage

_TELLING = frozenset({"token_usage", "usage", "service_tier", "usage_metadata"})


def plain_usage(response: Any) -> tuple[Usage, str | None] | None:
    """Usage and reported model of an ``LLMResult`` that says both plainly; None where ``usage_of`` must look closer.

    Plain is: whole numbers that add up, no details above zero, no cache hit, and nothing else that speaks of usage.
    """
    try:
        message = response.generations[0][0].message
        metadata, facts = message.usage_metadata, message.response_metadata
        given, made = metadata["input_tokens"], metadata["output_tokens"]
    except (AttributeError, IndexError, KeyError, TypeError):
        return None
    if given.__class__ is not int or made.__class__ is not int or given < 0 or made < 0:
        return None
    if metadata.get("total_tokens") != given + made or "total_cost" in metadata or response.llm_output:
        return None
    for details in (metadata.get("input_token_details"), metadata.get("output_token_details")):
        if details and any(details.values()):
            return None
    if not facts:
        return Usage(given, made), None
    if not _TELLING.isdisjoint(facts) or message.content.__class__ is not str:
        return None
    model = facts.get("model_name")
    return Usage(given, made), model if isinstance(model, str) else None
