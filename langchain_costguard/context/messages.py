"""What is read in messages, whoever's they are: their text, their images, a key that tells them apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

SUMMARY = "costguard_context"
"""Marks messages that are ours, in ``additional_kwargs``: summaries, and tool results that are cut."""
_OTHERS = {SUMMARY, "costguard", "lc_source"}
"""In what is not said by a person: summaries, what steering tells the model, and what other middleware does."""
_IMAGES = ("image", "image_url", "input_image", "audio", "file", "video", "document")
_THINKING = ("thinking", "redacted_thinking")


def text_of(message: BaseMessage) -> str:
    """The text of a message; of content in blocks, that of its text blocks."""
    content = message.content
    if isinstance(content, str):
        return content
    return "\n".join(block if isinstance(block, str) else str(block.get("text") or "") for block in content).strip()


def plain(message: BaseMessage) -> bool:
    """Whether a message is text alone."""
    content = message.content
    return isinstance(content, str) or all(isinstance(b, str) or b.get("type") == "text" for b in content)


def has_images(message: BaseMessage) -> bool:
    """Whether there is an image, a file or a recording in it."""
    content = message.content
    return not isinstance(content, str) and any(isinstance(b, dict) and b.get("type") in _IMAGES for b in content)


def without_thinking(message: BaseMessage) -> BaseMessage:
    """The model's message without its reasoning, which some providers sign together with what went before it.

    https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking#preserving-thinking-blocks
    """
    content = message.content
    if isinstance(content, str):
        return message
    kept = [b for b in content if not (isinstance(b, dict) and b.get("type") in _THINKING)]
    if len(kept) == len(content) or (not kept and not getattr(message, "tool_calls", None)):
        return message
    return message.model_copy(update={"content": kept})


def cleared(message: BaseMessage) -> bool:
    """Whether LangChain's ``ContextEditingMiddleware`` has emptied this tool result on the way to us."""
    return bool((message.response_metadata.get("context_editing") or {}).get("cleared"))


def key_of(message: BaseMessage) -> str:
    """Tells a message from others by what it says, in every process alike."""
    content: Any = message.content
    said = content if isinstance(content, str) else json.dumps(content, sort_keys=True, default=str)
    hashed = blake2b(f"{message.type}\0{said}".encode("utf-8", "surrogatepass"), digest_size=6)
    if isinstance(message, AIMessage):
        for call in message.tool_calls:
            hashed.update(f"\0{call['id']}\0{call['name']}".encode("utf-8", "surrogatepass"))
    elif isinstance(message, ToolMessage):
        hashed.update(message.tool_call_id.encode("utf-8", "surrogatepass"))
    return hashed.hexdigest()


def calls_in(messages: Sequence[BaseMessage]) -> int:
    """How many replies of a model are among them."""
    return sum(isinstance(message, AIMessage) for message in messages)


def by_user(message: BaseMessage) -> bool:
    """Whether a person said it: not a summary, nor what other middleware says in a person's place."""
    extra = message.additional_kwargs
    return isinstance(message, HumanMessage) and _OTHERS.isdisjoint(extra)
