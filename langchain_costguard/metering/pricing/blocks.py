"""The tokens of message content that is not plain text: images, files, audio, tool calls, reasoning."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

BYTES_PER_FILE_TOKEN = 8
"""A dense page of PDF is some 30 KB and counts as text and as an image, 3,500 tokens together."""

BYTES_PER_MEDIA_TOKEN = 90
"""Gemini counts 32 tokens a second of audio; the thinnest usual encoding has 3 KB a second."""

REMOTE_FILE = 3_000
"""Tokens assumed for a file given by reference, whose size nobody here can see."""

CHARS_PER_HIDDEN_TOKEN = 7
HIDDEN_CHARS = 700
"""An encrypted reasoning item has so many characters for one token it stands for, and so many around them all."""

CHARS_PER_SIGNATURE_TOKEN = 5
"""Gemini bills a thought signature that is sent back by the thoughts in it; characters of base64 a token."""

_SIGNATURES = "__gemini_function_call_thought_signatures__"

_TEXTS = ("text", "thinking", "reasoning", "refusal")
_IMAGES = frozenset({"image", "image_url", "input_image"})
_FILES = frozenset({"file", "document", "input_file", "text-plain", "container_upload"})
_MEDIA = frozenset({"audio", "input_audio", "video", "media"})
_CALLS = frozenset({"tool_use", "tool_call", "function_call", "tool_call_chunk"})

Count = Callable[[str], int]


def count_blocks(content: Sequence[Any], count: Count, image: int, *, calls_counted: bool) -> tuple[int, int]:
    """Tokens of a content list: those that are text (to be scaled to the model's vocabulary), and the others.

    ``calls_counted`` says that the message lists its tool calls apart, as LangChain does beside Anthropic's blocks.
    """
    text = other = 0
    for block in content:
        if isinstance(block, str):
            text += count(block)
        elif isinstance(block, Mapping):
            kind = block.get("type")
            if kind in _IMAGES or "image" in block:
                other += image
            elif kind in _FILES or kind in _MEDIA:
                words, rest = _file(block, count, image, media=kind in _MEDIA)
                text, other = text + words, other + rest
            elif kind in _CALLS and calls_counted:
                continue
            else:
                words, rest = _other(block, count, image)
                text, other = text + words, other + rest
        else:
            text += count(str(block))
    return text, other


def _other(block: Mapping[str, Any], count: Count, image: int) -> tuple[int, int]:
    inner = block.get("content")
    if isinstance(inner, list):
        return count_blocks(inner, count, image, calls_counted=False)
    found = [block[key] for key in _TEXTS if isinstance(block.get(key), str)]
    summary = block.get("summary")
    if isinstance(summary, list):
        found += [part["text"] for part in summary if isinstance(part, Mapping) and isinstance(part.get("text"), str)]
    if isinstance(inner, str):
        found.append(inner)
    hidden = block.get("encrypted_content")
    extra = max(0, len(hidden) - HIDDEN_CHARS) // CHARS_PER_HIDDEN_TOKEN if isinstance(hidden, str) else 0
    if not found and not extra and block.get("type") not in ("thinking", "reasoning", "redacted_thinking"):
        found.append(as_json(block))
    return sum(map(count, found)), extra


def _file(block: Mapping[str, Any], count: Count, image: int, *, media: bool) -> tuple[int, int]:
    """A file, by the size of the data it carries; one that is text, by its text."""
    parts = [
        block,
        *(block[k] for k in ("file", "source", "input_audio") if isinstance(block.get(k), Mapping)),
    ]
    mime = next((str(p[k]) for p in parts for k in ("mime_type", "media_type") if p.get(k)), "")
    data = next((p[k] for p in parts for k in _DATA if isinstance(p.get(k), str | bytes) and p[k]), None)
    if isinstance(data, str) and (mime.startswith("text/") or block.get("type") == "text-plain"):
        return count(data), 0
    if mime.startswith("image/"):
        return 0, image
    if data is None:
        return 0, REMOTE_FILE
    size = len(data) * 3 // 4 if isinstance(data, str) else len(data)
    rate = BYTES_PER_MEDIA_TOKEN if media and "pdf" not in mime else BYTES_PER_FILE_TOKEN
    return 0, max(image if not media else 0, size // rate)


_DATA = ("data", "base64", "file_data", "bytes", "text")


def audio_tokens(messages: Sequence[Any]) -> int:
    """The likely tokens of the audio in these messages: 0 where there is none."""
    total = 0
    for message in messages:
        content = getattr(message, "content", None)
        for block in content if isinstance(content, list) else ():
            if isinstance(block, Mapping) and _is_audio(block):
                total += max(1, _file(block, len, 0, media=True)[1])
    return total


def _is_audio(block: Mapping[str, Any]) -> bool:
    if block.get("type") in ("audio", "input_audio"):
        return True
    return block.get("type") in _MEDIA | _FILES and str(block.get("mime_type") or "").startswith("audio/")


def count_signatures(extra: Any) -> int:
    """Tokens of the thought signatures that langchain-google-genai keeps in ``additional_kwargs``."""
    signatures = extra.get(_SIGNATURES) if isinstance(extra, Mapping) else None
    if not isinstance(signatures, Mapping):
        return 0
    return sum(len(each) for each in signatures.values() if isinstance(each, str | bytes)) // CHARS_PER_SIGNATURE_TOKEN


def as_json(value: Any) -> str:
    """The value as JSON text as a provider would write it; never raises."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)
