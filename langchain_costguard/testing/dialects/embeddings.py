"""POST /v1/embeddings: vectors that are the same for the same text and close for texts that share words."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_costguard.testing.dialects.base import Answer, Part, count, openai_error
from langchain_costguard.testing.requests import Request
from langchain_costguard.vocabulary.usage import Usage

_DIMENSIONS = 256  # when the request does not say


class Embeddings:
    """OpenAI's embeddings, as lists of floats or base64."""

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        """The usage block for these counts; embeddings have no output tokens."""
        return {"prompt_tokens": input_tokens, "total_tokens": input_tokens}

    def billed(self, block: Mapping[str, Any]) -> Usage:
        """What a usage block bills."""
        return Usage(input_tokens=count(block, "prompt_tokens"))

    def tells_usage(self, request: Request) -> bool:
        """Always."""
        return True

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The answer in one JSON body."""
        body = answer.request.body
        size = body.get("dimensions") or _DIMENSIONS
        packed = body.get("encoding_format") == "base64"
        vectors = [vector(text, size) for text in _inputs(body.get("input", ""))]
        data = [
            {"object": "embedding", "index": index, "embedding": _pack(floats) if packed else floats}
            for index, floats in enumerate(vectors)
        ]
        return {"object": "list", "data": data, "model": answer.model, "usage": answer.usage}

    def parts(self, answer: Answer) -> Iterator[Part]:
        """Embeddings are never streamed."""
        raise NotImplementedError

    def error(self, status: int, message: str) -> dict[str, Any]:
        """The body of an error answer."""
        return openai_error(status, message)


def _inputs(given: Any) -> list[str]:
    """The texts to embed; token ids, one list or several, stand for themselves."""
    if not isinstance(given, list) or (given and isinstance(given[0], int)):
        given = [given]
    return [text if isinstance(text, str) else " ".join(map(str, text)) for text in given]


def vector(text: str, size: int) -> list[float]:
    """A unit vector that depends on the words of ``text`` alone."""
    floats = [0.0] * size
    for word in text.lower().split() or [""]:
        digest = zlib.crc32(word.encode())
        floats[digest % size] += 1.0
        floats[(digest >> 16) % size] += 0.5
    length = math.sqrt(sum(x * x for x in floats))
    return [x / length for x in floats]


def _pack(floats: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(floats)}f", *floats)).decode()
