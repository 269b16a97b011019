"""A conversation that several providers' models had, as one of them may read it: of what the others said, the text and
the calls. Their thoughts are signed for themselves, and what their own tools did has words of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from langchain_costguard.steering.translation.dialects import PROVIDERS

_MARKS = {"anthropic": ("prompt_cache_breakpoint",), "openai": ("cache_control",), "responses": ("cache_control",)}
_ALL_MARKS = ("cache_control", "prompt_cache_breakpoint")


def portable(messages: Sequence[BaseMessage], dialect: str, own: str) -> list[BaseMessage]:
    """The messages for a client of this dialect; those that need no change are the same objects.

    ``own`` is whose words replies are in that do not say.
    """
    marks = _MARKS.get(dialect, _ALL_MARKS)
    found = (_said(message, dialect, own) for message in messages)
    return [_unmarked(message, marks) for message in found if message is not None]


def _said(message: BaseMessage, dialect: str, own: str) -> BaseMessage | None:
    if not isinstance(message, AIMessage) or isinstance(message.content, str) or _native(message, dialect, own):
        return message
    text = str(message.text)
    if not text and message.content and not message.tool_calls and not message.invalid_tool_calls:
        return None
    return message.model_copy(update={"content": text})


def _native(message: AIMessage, dialect: str, own: str) -> bool:
    """Whether a reply of several blocks is in the words of this dialect. OpenAI's chat API has no such replies."""
    said = message.response_metadata.get("model_provider")
    if dialect == "openai":
        return False
    return bool(said == PROVIDERS.get(dialect) if said else own == dialect)


def _unmarked(message: BaseMessage, marks: Sequence[str]) -> BaseMessage:
    content = message.content
    if isinstance(content, str) or not any(isinstance(b, dict) and any(m in b for m in marks) for b in content):
        return message
    bare: list[Any] = [
        {key: value for key, value in block.items() if key not in marks} if isinstance(block, dict) else block
        for block in content
    ]
    return message.model_copy(update={"content": bare})
