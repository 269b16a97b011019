"""A long tool result is cut when it first enters the prompt: later the cut would break the provider's cache."""

from __future__ import annotations

from collections.abc import Callable

from langchain_costguard.context.facts import identifiers, line_of

HEAD = 0.6
"""The share of what stays that is from the beginning."""
_MOST_IDS = 60
_IDS = 0.5
"""The share of the cap that the line of identifiers may take besides."""
_WORTH = 0.95
"""A cut that leaves more than this is not worth it."""
FETCH = "fetch_result"

Counter = Callable[[str], int]


def cut(text: str, cap: int, count: Counter, id: str = "") -> str | None:
    """The text with its middle taken out, and a line of the identifiers that were in it; None where it may stay.

    Args:
        text: The whole result.
        cap: Tokens that stay of it, besides that line.
        count: The tokens of a text.
        id: By which the whole can be fetched; empty where nobody can.
    """
    if len(text) < cap:  # a token is a character at the least
        return None
    tokens = count(text)
    if tokens <= cap:
        return None
    characters = int(len(text) * cap / tokens)
    head, tail = _head(text, int(characters * HEAD)), _tail(text, characters - int(characters * HEAD))
    middle = text[len(head) : len(text) - len(tail)]
    shown = head + tail
    found = (each for each in identifiers(middle) if each not in shown)
    named = line_of(found, _MOST_IDS, int(characters * _IDS))
    how = f' {FETCH}(id="{id}", part=1) returns them.' if id else ""
    told = (
        f"[{len(middle):,} of {len(text):,} characters are left out here.{how}{f' In them: {named}' if named else ''}]"
    )
    short = f"{head}\n{told}\n{tail}"
    return short if len(short) < len(text) * _WORTH else None


def _head(text: str, characters: int) -> str:
    """The beginning, up to the end of a line where there is one near."""
    at = text.rfind("\n", characters * 3 // 4, characters)
    return text[: at if at > 0 else characters]


def _tail(text: str, characters: int) -> str:
    start = len(text) - characters
    at = text.find("\n", start, start + characters // 4)
    return text[at + 1 if at >= 0 else start :]


def part_of(text: str, part: int, cap: int, count: Counter) -> tuple[str, int]:
    """Part ``part`` (from 1) of a text in parts of at most ``cap`` tokens, and how many parts there are."""
    tokens = max(1, count(text))
    parts = -(-tokens // cap)
    size = -(-len(text) // parts) or 1
    parts = max(1, -(-len(text) // size))
    at = min(max(1, part), parts) - 1
    return text[at * size : (at + 1) * size], parts
