"""What LangChain gives a cache to keep, as text: lists of generations. Nothing but messages is ever made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_costguard.caching.keepable import ended_well, keepable
from langchain_costguard.caching.replies import decoded, encoded


def may_keep(generations: Sequence[Generation], tool_calls: bool) -> bool:
    """Whether all of them are whole answers."""
    return bool(generations) and all(_whole(generation, tool_calls) for generation in generations)


def to_text(generations: Sequence[Generation]) -> str:
    """The generations as JSON; messages are kept as a reply is.

    Raises:
        TypeError: one holds what is no JSON.
    """
    return json.dumps([_packed(generation) for generation in generations], ensure_ascii=False, separators=(",", ":"))


def from_text(text: str) -> list[Generation]:
    """The generations of such a text, their messages without ids: an answer given again is another message.

    Raises:
        ValueError: it is none.
    """
    try:
        return [_unpacked(said) for said in json.loads(text)]
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"no generations: {error!r}") from None


def _whole(generation: Generation, tool_calls: bool) -> bool:
    if not ended_well(generation.generation_info or {}):
        return False
    if isinstance(generation, ChatGeneration):
        message = generation.message
        return isinstance(message, AIMessage) and keepable(message, tool_calls, generation.generation_info)
    return bool(generation.text)


def _packed(generation: Generation) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    if generation.generation_info is not None:
        kept["info"] = generation.generation_info
    if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
        kept["message"] = encoded(generation.message)
    else:
        kept["text"] = generation.text
    return kept


def _unpacked(said: Mapping[str, Any]) -> Generation:
    if "message" in said:
        return ChatGeneration(message=decoded(said["message"]), generation_info=said.get("info"))
    return Generation(text=said["text"], generation_info=said.get("info"))
