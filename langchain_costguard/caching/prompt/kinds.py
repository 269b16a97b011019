"""What it is that changes in a prompt: told by its looks, and by the words in front of it."""

from __future__ import annotations

import re
from typing import NamedTuple

TEXT = "changing text"

_MONTHS = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_LOOKS: tuple[tuple[str, str], ...] = (
    ("UUID", r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|\b[0-9a-f]{32}\b"),
    (
        "timestamp",
        r"\d{4}-\d{2}-\d{2}(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)?(?: ?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}))?"
        rf"|(?:\b(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?,? )?"
        rf"(?:\d{{1,2}}\.? {_MONTHS}\.?,? \d{{4}}|\b{_MONTHS}\.? \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}})"
        r"(?:,?(?: at)? \d{1,2}:\d{2}(?::\d{2})?(?: ?[ap]m)?)?"
        r"|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b|\b\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[ap]m)?\b"
        r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b|\b1[5-9]\d{8}(?:\d{3}|\.\d+)?\b",
    ),
    ("e-mail address", r"(?<![\w.+-])[\w.+-]++@[\w-]++\.[\w.-]*\w"),
    ("id", r"\b[a-z]{2,12}[-_](?=\w*\d)\w{5,}\b|\b(?=[0-9a-f]*\d)[0-9a-f]{12,}\b|\b[0-9A-HJKMNP-TV-Z]{26}\b"),
)
_PATTERNS = [(kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _LOOKS]
_BEFORE: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "id",
        re.compile(
            r"(?:(?:\b|_)id\b\W*|\b(?:request|trace|run|session|thread|ticket|order|nonce|seed|key)\s*[:=#]\W*)$",
            re.IGNORECASE,
        ),
    ),
    (
        "name",
        re.compile(
            r"\b(?:name|user|customer|client|member|hello|hi|dear|helping|help|assisting|serving|with|talking to)\b"
            r"(?: is| named| called)?\W*$",
            re.IGNORECASE,
        ),
    ),
)
_NAME = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+){0,3}")
_NUMBER = re.compile(r"(?=[.,%$€ ]*+\d)[\d.,%$€ ]++")
_LOOK_BACK = 40
_AROUND = 100
"""Characters to each side of a change that are looked at: a line may be the whole prompt."""


class Looks(NamedTuple):
    """What a change is, and its characters in the text it is in."""

    kind: str
    start: int
    end: int


def looks(text: str, start: int, end: int, other: str = "") -> Looks:
    """What the characters of a text are that were ``other`` in the request before."""
    first = max(text.rfind("\n", 0, start) + 1, start - _AROUND)
    last = text.find("\n", end, end + _AROUND)
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(text, first, last if last >= 0 else min(len(text), end + _AROUND)):
            low, high = match.span()
            if low < max(end, start + 1) and high > start and (start >= low or end <= high):
                return Looks(kind, min(low, start), max(high, end))
    changed = text[start:end].strip() or other.strip()
    if not changed:
        return Looks(TEXT, start, end)
    for kind, pattern in _PATTERNS:
        if start == end and pattern.fullmatch(changed):
            return Looks(kind, start, end)
    before = text[max(first, start - _LOOK_BACK) : start]
    for kind, pattern in _BEFORE:
        fits = _NAME.fullmatch(changed) and changed[0].isupper() if kind == "name" else " " not in changed
        if fits and pattern.search(before):
            return Looks(kind, start, end)
    return Looks("number" if _NUMBER.fullmatch(changed) else TEXT, start, end)
