"""A model's reply as it is kept, and as it is given again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.messages.tool import tool_call_chunk
from pydantic import BaseModel

_OF_THE_CALL = frozenset(
    {"id", "token_usage", "usage", "headers", "system_fingerprint", "created", "created_at", "request_id"}
)
"""Response metadata that belongs to the call that was made, not to its answer."""


def encoded(message: AIMessage) -> str:
    """The message as JSON: content, tool calls, usage, and what the response says of the answer.

    Raises:
        TypeError: it holds what is no JSON.
    """
    if isinstance(message, AIMessageChunk):
        message = cast("AIMessage", message_chunk_to_message(message))
    facts = {key: value for key, value in message.response_metadata.items() if key not in _OF_THE_CALL}
    kept: dict[str, Any] = {
        "content": message.content,
        "tool_calls": message.tool_calls,
        "name": message.name,
        "additional_kwargs": message.additional_kwargs,
        "response_metadata": facts,
        "usage_metadata": message.usage_metadata,
    }
    said = {key: value for key, value in kept.items() if value}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"), default=_parsed)


def _parsed(value: Any) -> Any:
    """OpenAI's client puts the parsed reply beside its text; LangChain makes an object of a mapping again."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is no JSON")


def decoded(text: str) -> AIMessage:
    """The message, without an id.

    Raises:
        ValueError: the text is no such message.
    """
    try:
        return AIMessage(**{"content": "", **json.loads(text)})
    except (TypeError, RecursionError) as error:
        raise ValueError(f"no message: {error}") from None


_WORDS = re.compile(r"\s*\S+\s*$|\s*\S+|\s+")
_PIECES = 256
"""A text is streamed in no more pieces than that, however long it is."""


def pieces(message: AIMessage) -> Iterator[AIMessageChunk]:
    """The message as a provider would stream it: word by word, then its tool calls; what it says of itself comes last.

    Added up, the pieces are the message.
    """
    for index, block in enumerate(message.content if isinstance(message.content, list) else [message.content]):
        if isinstance(block, str):
            for text in _texts(block):
                yield AIMessageChunk(content=text)
        elif isinstance(block.get("text"), str) and block.get("type") == "text":
            for i, text in enumerate(_texts(block["text"])):
                more = block if i == 0 else {"type": "text"}
                yield AIMessageChunk(content=[{**more, "text": text, "index": block.get("index", index)}])
        else:
            yield AIMessageChunk(content=[{"index": index, **block}])
    for i, call in enumerate(message.tool_calls):
        part = tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=i)
        yield AIMessageChunk(content="", tool_call_chunks=[part])
    yield AIMessageChunk(
        content="",
        name=message.name,
        additional_kwargs=message.additional_kwargs,
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
        chunk_position="last",
    )


def _texts(text: str) -> list[str]:
    words = _WORDS.findall(text)
    size = -(-len(words) // _PIECES) or 1
    return ["".join(words[i : i + size]) for i in range(0, len(words), size)]
