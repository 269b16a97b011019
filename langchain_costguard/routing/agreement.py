"""Whether replies give the same answer, however they are written, and whether enough of them do."""

from __future__ import annotations

import json
import operator
import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from langchain_core.messages import AIMessage

_NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?(e[-+]?\d{1,3})?")
_EDGES = " \t\r\n.,;:!?\"'`*()[]{}<>"
_FENCE = "```"
_LANGUAGE = re.compile(r"[a-z]*", re.IGNORECASE)
_LONGEST_NUMBER = 40

Same = Callable[[Any, Any], bool]
Pick = Callable[[AIMessage], Any]


def answer_of(reply: AIMessage) -> Any:
    """What a reply answers, in a form that compares: its tool calls (name and arguments), or else its text.

    Texts are compared as values where they are JSON or a number, else without case, spacing and the punctuation around
    them. None where it says nothing, or calls a tool with arguments that did not parse: that agrees with nothing.
    """
    if reply.invalid_tool_calls:
        return None
    if reply.tool_calls:
        calls = [(call["name"], _frozen(call["args"])) for call in reply.tool_calls]
        return "calls", tuple(sorted(calls, key=repr))
    return normal(str(reply.text))


def normal(text: str) -> Any:
    """A text's value: JSON and numbers as such, words without case, spacing and the punctuation around them."""
    text = unicodedata.normalize("NFKC", text).strip()
    if len(text) >= 2 * len(_FENCE) and text.startswith(_FENCE) and text.endswith(_FENCE):
        inner = text[len(_FENCE) : -len(_FENCE)]
        text = _LANGUAGE.sub("", inner, count=1).strip()
    if text[:1] in ("{", "["):
        try:
            return _frozen(json.loads(text, parse_float=Decimal))
        except (ValueError, RecursionError):
            pass
    bare = " ".join(text.casefold().split()).strip(_EDGES)
    number = _number(bare.lstrip("$€£").rstrip("% ")) if len(bare) <= _LONGEST_NUMBER else None
    # "-5": the minus is no punctuation, and "50%" is not 50.
    return bare or None if number is None else (number, bare.endswith("%"))


class Votes:
    """Answers as they come: which one most give, by the first reply that gave it, and how many do."""

    __slots__ = ("_groups", "_same", "first", "most", "taken")

    def __init__(self, same: Same = operator.eq) -> None:
        self._same = same
        self._groups: list[list[Any]] = []
        self.taken = 0
        self.first = 0
        self.most = 0

    def add(self, answer: Any) -> None:
        """Count one more; None agrees with nothing."""
        self.taken += 1
        if answer is None:
            return
        group = next((group for group in self._groups if self._same(group[0], answer)), None)
        if group is None:
            group = [answer, self.taken - 1, 0]
            self._groups.append(group)
        group[2] += 1
        if group[2] > self.most:
            self.first, self.most = group[1], group[2]

    def settled(self, samples: int, needed: int) -> bool:
        """Whether no further sample changes the outcome: enough agree, or too few are left for that."""
        return self.most >= needed or self.most + samples - self.taken < needed


def _frozen(value: Any) -> Any:
    """Any JSON value as one that compares and hashes: objects whatever the order of keys, 1.0 as 1, true as no 1."""
    if isinstance(value, dict):
        return "object", frozenset((key, _frozen(part)) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return "list", tuple(_frozen(part) for part in value)
    if isinstance(value, bool) or value is None:
        return "json", str(value)
    return " ".join(value.split()) if isinstance(value, str) else value


def _number(text: str) -> Decimal | None:
    if not text or not any(map(str.isdigit, text)) or not text.isascii() or not _NUMBER.fullmatch(text):
        return None
    return Decimal(text.replace(",", ""))
