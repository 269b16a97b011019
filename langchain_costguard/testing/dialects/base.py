"""What every wire dialect of the fake provider has in common."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from langchain_costguard.testing.replies import Output
from langchain_costguard.testing.requests import Request
from langchain_costguard.vocabulary.usage import Usage


class Part(NamedTuple):
    """Bytes of a stream; ``piece`` tells whether they carry a piece of the output."""

    data: bytes
    piece: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything a dialect needs to write an answer down."""

    request: Request
    output: Output
    id: str
    """Unique in the process, and a suffix of every id in the answer."""
    created: int
    """Epoch seconds."""
    usage: Mapping[str, Any]
    """The usage block in the dialect's own words."""

    @property
    def model(self) -> str:
        """The model reported."""
        return self.output.reply.model or self.request.model

    def call_id(self, call: int, choice: int = 0) -> str:
        """Id of a tool call."""
        return f"call_{self.id}_{choice}_{call}"


class Dialect(Protocol):
    """One endpoint's way to write answers, usage and errors."""

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        """The usage block for these inclusive counts."""

    def billed(self, block: Mapping[str, Any]) -> Usage:
        """What a usage block bills."""

    def tells_usage(self, request: Request) -> bool:
        """Whether the client learns the usage."""

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The answer in one JSON body."""

    def parts(self, answer: Answer) -> Iterator[Part]:
        """The answer as a stream."""

    def error(self, status: int, message: str) -> dict[str, Any]:
        """The body of an error answer."""


def sse(payload: Mapping[str, Any], event: str | None = None) -> bytes:
    """One server-sent event."""
    data = json.dumps(payload, separators=(",", ":"))
    return (f"event: {event}\ndata: {data}\n\n" if event else f"data: {data}\n\n").encode()


def count(block: Mapping[str, Any], *path: str) -> int:
    """The number at ``path`` in nested blocks; 0 when a step is missing or null."""
    value: Any = block
    for name in path:
        value = (value or {}).get(name)
    return value or 0


def so_far(usage: Usage, sent: int, of: int) -> Usage:
    """What a stream is billed that broke off after ``sent`` of its ``of`` pieces: all input, part of the output."""
    output = usage.output_tokens * sent // of if of else 0
    return usage._replace(output_tokens=output, reasoning=min(usage.reasoning, output), output_audio=0)


def openai_error(status: int, message: str) -> dict[str, Any]:
    """An error body in OpenAI's words."""
    kinds = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}
