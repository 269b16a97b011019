"""One call as attribution looks at it: what was paid, and digests of what was said (never the text)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

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


@dataclass(frozen=True, slots=True)
class Paid:
    """A call that was paid. ``at`` in epoch seconds, ``charge`` in nano-USD.

    ``sent`` are the messages it was given, ``reply`` is what it answered; both are empty where nobody looked.
    """

    at: float
    run_id: UUID
    scope: Scope
    kind: str
    name: str
    model: ModelRef
    usage: Usage
    charge: int
    seconds: float = 0.0
    sent: tuple[Piece, ...] = ()
    reply: tuple[Piece, ...] = field(default=())

    def tokens_of(self, chosen: list[Piece]) -> int:
        """The input tokens that these of its messages are, by their share of its characters."""
        whole = sum(piece.size for piece in self.sent)
        part = sum(piece.size for piece in chosen)
        return self.usage.input_tokens * part // whole if whole else 0


def pieces_of(messages: Any) -> tuple[Piece, ...]:
    """The messages of a request, or of an answer, as digests."""
    if isinstance(messages, str):
        return (Piece(_digest(messages), len(messages), "human"),)
    return tuple(_piece(message) for message in messages or ())


def reply_of(outcome: Any) -> tuple[Piece, ...]:
    """The reply of LangChain's ``LLMResult``."""
    groups = getattr(outcome, "generations", None) or ()
    messages = (getattr(generation, "message", None) for group in groups for generation in group)
    return pieces_of([message for message in messages if message is not None])


def _piece(message: Any) -> Piece:
    content = getattr(message, "content", message)
    text = content if isinstance(content, str) else json.dumps(content, default=str, sort_keys=True)
    asked = [(call.get("name"), call.get("args")) for call in getattr(message, "tool_calls", None) or ()]
    asks = json.dumps(asked, default=str, sort_keys=True) if asked else ""
    role = str(getattr(message, "type", "human"))
    # A reply comes back as part of a request with the same text, whatever class it has then.
    role = {"AIMessageChunk": "ai", "assistant": "ai", "user": "human"}.get(role, role)
    return Piece(_digest(text), len(text) + len(asks), role, _digest(asks) if asks else b"")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.strip().encode("utf-8", "surrogatepass"), digest_size=_MARK).digest()
