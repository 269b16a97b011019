"""One call as attribution looks at it: what was paid, and digests of what was said (never the text)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef, Usage

_MARK = 16


class Piece(NamedTuple):
    """A message: a digest of its text, its length in characters, who it is from, and the digest of the tool calls it
    makes, where it makes any."""

    digest: bytes
    size: int
    role: str
    asks: bytes = b""


class Handed(NamedTuple):
    """What another agent had said: whose it is, the digests of its messages, and the input tokens that they are."""

    source: str
    messages: tuple[bytes, ...]
    tokens: int


class Given(NamedTuple):
    """What a call was given, in its input tokens, by their share of its characters.

    Attributes:
        history: What its session had been sent or had said before, but for hand-offs.
        documents: What tools and retrieval brought, for the first time.
        again: All that had been sent or said before, hand-offs included.
        handed: Hand-offs.
        retry: The same request had been made before.
        loop: It asks for the same tools as an earlier step of its agent.
    """

    history: int = 0
    documents: int = 0
    again: int = 0
    handed: tuple[Handed, ...] = ()
    retry: bool = False
    loop: bool = False


@dataclass(frozen=True, slots=True)
class Paid:
    """A call that was paid. ``at`` in epoch seconds, ``charge`` in nano-USD; ``given`` is None where nobody looked."""

    at: float
    scope: Scope
    kind: str
    name: str
    model: ModelRef
    usage: Usage
    charge: int
    seconds: float = 0.0
    given: Given | None = None


def pieces_of(messages: Any) -> tuple[Piece, ...]:
    """The messages of a request, or of an answer, as digests."""
    if isinstance(messages, str):
        return (Piece(_digest(messages), len(messages), "human"),)
    return tuple(_piece(message) for message in messages or ())


def reply_of(outcome: Any) -> list[tuple[Piece, str]]:
    """The reply of LangChain's ``LLMResult``, with its text."""
    groups = getattr(outcome, "generations", None) or ()
    messages = (getattr(generation, "message", None) for group in groups for generation in group)
    return [(_piece(message), text_of(message)) for message in messages if message is not None]


def text_of(message: Any) -> str:
    """What a message says; of content blocks, as JSON."""
    content = getattr(message, "content", message)
    return content if isinstance(content, str) else json.dumps(content, default=str, sort_keys=True)


def _piece(message: Any) -> Piece:
    text = text_of(message)
    asked = [(call.get("name"), call.get("args")) for call in getattr(message, "tool_calls", None) or ()]
    asks = json.dumps(asked, default=str, sort_keys=True) if asked else ""
    role = str(getattr(message, "type", "human"))
    # A reply comes back as part of a request with the same text, whatever class it has then.
    role = {"AIMessageChunk": "ai", "assistant": "ai", "user": "human"}.get(role, role)
    return Piece(_digest(text), len(text) + len(asks), role, _digest(asks) if asks else b"")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.strip().encode("utf-8", "surrogatepass"), digest_size=_MARK).digest()
