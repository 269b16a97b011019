"""A thread in pieces that must not be split, each with its rank: what is protected, and what goes first."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage

from langchain_costguard.context.messages import by_user, has_images

Rule = Callable[[BaseMessage], bool]
RECENT_TURNS = 5


class Rank(IntEnum):
    """How much a piece matters; the lowest goes first."""

    LOW = 0
    MEDIUM = 1
    """Of the last five turns; of a turn with many steps, its last five."""
    HIGH = 2
    """A tool result of the current turn, or retrieved documents."""
    PROTECTED = 3


class Piece(NamedTuple):
    """Messages ``first`` to ``end`` (exclusive): one message, or a reply with its tool calls and all their results."""

    first: int
    end: int
    rank: Rank
    head: bool = False
    """Whether a summary comes after it rather than before: the system prompt and the thread's first message."""


def pieces_of(messages: Sequence[BaseMessage], protect: Sequence[Rule] = ()) -> list[Piece]:
    """The thread in pieces, in order. Results of one reply are one piece with it, for providers refuse one of the two.

    Protected are the system prompt, the thread's first and the current message of the user, calls that no reply has
    followed yet, images of the current turn, and what a rule of the user's says.
    """
    users = [at for at, message in enumerate(messages) if by_user(message)]
    first, current = (users[0], users[-1]) if users else (-1, -1)
    spans = list(_spans(messages))
    turns = _turns(messages, current)
    pieces = []
    for at, end in spans:
        part, later = messages[at:end], len(turns) - bisect_right(turns, at)
        head = isinstance(part[0], SystemMessage) and (first < 0 or at < first)
        pending = end == len(messages) and isinstance(part[0], AIMessage) and bool(part[0].tool_calls)
        if (
            head
            or at in (first, current)
            or pending
            or isinstance(part[0], SystemMessage)
            or any(rule(message) for rule in protect for message in part)
            or (at >= current and any(map(has_images, part)))
        ):
            rank = Rank.PROTECTED
        elif (at > current and end > at + 1) or any(map(_retrieved, part)):
            rank = Rank.HIGH
        else:
            rank = Rank.MEDIUM if later < RECENT_TURNS else Rank.LOW
        pieces.append(Piece(at, end, rank, head or at == first))
    return pieces


def _spans(messages: Sequence[BaseMessage]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for at, message in enumerate(messages):
        if isinstance(message, ToolMessage) and spans and isinstance(messages[spans[-1][0]], AIMessage):
            spans[-1] = spans[-1][0], at + 1
        else:
            spans.append((at, at + 1))
    return spans


def _turns(messages: Sequence[BaseMessage], current: int) -> list[int]:
    """Where turns begin: at each message of the user's; in the current one, at each reply that calls tools."""
    return [
        at
        for at, message in enumerate(messages)
        if by_user(message) or (at > current and isinstance(message, AIMessage) and message.tool_calls)
    ]


def _retrieved(message: BaseMessage) -> bool:
    artifact: Any = getattr(message, "artifact", None)
    return isinstance(artifact, (list, tuple)) and bool(artifact) and isinstance(artifact[0], Document)
