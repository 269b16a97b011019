"""A summary without a model: what was said and found, taken out word for word and put under four heads."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_costguard.context.facts import identifiers, words
from langchain_costguard.context.messages import SUMMARY, by_user, text_of

TokenCount = Callable[[str], int]
TITLE = "Summary of the earlier part of this conversation (its messages are not shown any more; this is not a request):"
_DECIDING = re.compile(
    r"\b(?:decid|choos|chose|will |going to|plan|must|should|because|confirm|conclu|agreed|instead|next|therefore)",
    re.IGNORECASE,
)
_SHARES = {"USER": 0.15, "DECISIONS": 0.35, "STATE": 0.15, "FACTS": 0.35}
_LINE = 240


def digest(messages: Sequence[BaseMessage], most: int, count: TokenCount) -> str:
    """What these messages came to, in at most about so many tokens. The same for the same messages, always."""
    characters = _characters(messages, most, count)
    sections = {
        "USER": _users(messages),
        "DECISIONS": _decisions(messages),
        "STATE": _state(messages),
        "FACTS": _facts(messages),
    }
    left, lines = 0, [TITLE]
    for title, found in sections.items():
        room = int(characters * _SHARES[title]) + left
        kept = _fitting(found, room)
        left = room - sum(len(line) + 1 for line in kept)
        if kept:
            lines += [title, *kept]
    return "\n".join(lines)


def _characters(messages: Sequence[BaseMessage], most: int, count: TokenCount) -> int:
    """As many characters as so many tokens have in these messages."""
    sample = "".join(text_of(message)[:400] for message in messages[-20:])[:4_000]
    return int(most * min(6.0, max(1.0, len(sample) / max(1, count(sample))))) if sample else most * 4


def _fitting(lines: Sequence[str], room: int) -> list[str]:
    """Of lines with the best first, those there is room for, in the order they came in."""
    kept: list[str] = []
    for line in lines:
        if len(line) + 1 > room:
            continue
        room -= len(line) + 1
        kept.append(line)
    return kept


def _users(messages: Sequence[BaseMessage]) -> list[str]:
    """What the user said, the latest first."""
    return [f"- {_short(text_of(m))}" for m in reversed(messages) if by_user(m) and text_of(m).strip()]


def _decisions(messages: Sequence[BaseMessage]) -> list[str]:
    """Sentences of the model's that decide something, the latest first; of each reply at least its last one."""
    found: dict[str, None] = {}
    for message in reversed(messages):
        if not isinstance(message, AIMessage) or message.additional_kwargs.get(SUMMARY):
            continue
        said = [s.strip() for s in re.split(r"(?<=[.!?:])\s+|\n+", text_of(message)) if len(s.strip()) > 20]
        for sentence in [s for s in said if _DECIDING.search(s)][:3] or said[-1:]:
            found.setdefault(f"- {_short(sentence)}")
    return list(found)


def _state(messages: Sequence[BaseMessage]) -> list[str]:
    """What was called and what came of it, the latest first."""
    outcome = {m.tool_call_id: m for m in messages if isinstance(m, ToolMessage)}
    found: dict[str, None] = {}
    for message in reversed(messages):
        for call in message.tool_calls if isinstance(message, AIMessage) else ():
            result = outcome.get(call["id"] or "")
            failed = result is not None and result.status == "error"
            said = json.dumps(call["args"], ensure_ascii=False, default=str) if call["args"] else ""
            found.setdefault(f"- {call['name']}({_short(said, 100)}): {'failed' if failed else 'done'}")
    return list(found)


def _facts(messages: Sequence[BaseMessage]) -> list[str]:
    """Lines of results that name what was referred to, or might be: identifiers first, then rare words."""
    used: Counter[str] = Counter()
    for message in messages:
        if isinstance(message, AIMessage):
            used.update(identifiers(text_of(message)))
    named: dict[str, None] = {}
    rare: dict[str, None] = {}
    seen: Counter[str] = Counter()
    results = [m for m in messages if isinstance(m, ToolMessage)]
    for message in reversed(results):
        text = text_of(message)
        found = identifiers(text)
        named.update(dict.fromkeys(sorted(found, key=lambda each: -used[each])[:12]))
        seen.update(words(text))
    for message in reversed(results):
        rare.update(dict.fromkeys(sorted(w for w in words(text_of(message)) if seen[w] == 1)[:8]))
    ranked = sorted(named, key=lambda each: -used[each])
    return [line for group in (ranked, list(rare)) for line in _lines(group)]


def _lines(found: Sequence[str]) -> list[str]:
    return ["- " + ", ".join(found[at : at + 12]) for at in range(0, len(found), 12)]


def _short(text: str, most: int = _LINE) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
