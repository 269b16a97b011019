"""Whether a request may write to the provider's prompt cache, which costs more than reading the input plainly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from langchain_costguard.metering.pricing.asks import cache_marks
from langchain_costguard.vocabulary.usage import ModelRef

_ASK_TO_WRITE = ("anthropic", "bedrock", "vertex")


def asks_to_write_cache(ref: ModelRef) -> bool:
    """Whether the provider's prompt cache is written to on request only; others write by themselves.

    https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching
    """
    return any(name in ref.provider for name in _ASK_TO_WRITE)


def may_write_cache(
    prompt: Sequence[Any] | str, params: Mapping[str, Any], facts: Mapping[str, Any]
) -> bool | Literal["1h"]:
    """Whether a request asks for a write to the prompt cache (``cache_control``), for five minutes or ``"1h"``.

    It may do so in its messages, its tools and at its top level, wherever the client lets one put that: ``facts`` are
    the client's fields.
    """
    marks = list(cache_marks(params, facts))
    for message in prompt:
        content = getattr(message, "content", None)
        if isinstance(content, list):
            marks += [block.get("cache_control") for block in content if isinstance(block, dict)]
    found = [mark for mark in marks if mark]
    if not found:
        return False
    return "1h" if any(isinstance(mark, dict) and mark.get("ttl") == "1h" for mark in found) else True


def kept_for_an_hour(
    prompt: Sequence[Any] | str, params: Mapping[str, Any], facts: Mapping[str, Any]
) -> list[Any] | None:
    """The messages up to the last mark that asks for an hour; None where every mark does.

    Those marks stand before the ones for five minutes, in the order of tools, system prompt and messages.
    """
    marks = [(-1, 0, mark) for mark in cache_marks(params, facts)]
    for place, message in enumerate(prompt):
        content = getattr(message, "content", None)
        if isinstance(content, list):
            marks += [
                (place, i, block.get("cache_control")) for i, block in enumerate(content) if isinstance(block, dict)
            ]
    found = [(*where, isinstance(mark, dict) and mark.get("ttl") == "1h") for *where, mark in marks if mark]
    if all(hour for _, _, hour in found):
        return None
    place, block, _ = max(each for each in found if each[2])
    if place < 0:
        return []
    last = prompt[place]
    return [*prompt[:place], last.model_copy(update={"content": last.content[: block + 1]})]  # type: ignore[union-attr]
