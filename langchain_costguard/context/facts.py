"""What in a text can be referred to later: identifiers, and plain words that are rare enough to carry something."""

from __future__ import annotations

import re
from collections.abc import Iterable

IDENTIFIER = re.compile(
    r"(?<![\w.+-])[\w.+-]++@[\w-]++\.[\w.-]*\w"  # e-mail
    r"|https?://[^\s\"'<>)\]]+"
    r"|(?<![\w.-])(?:[\w.-]++)?(?:/[\w.@-]++){2,}|\b\w[\w.-]{0,80}+/[\w./@-]{0,200}\w"  # paths
    r"|\b\d{4}-\d{2}-\d{2}(?:T[\d:.]+Z?)?\b"
    r"|\b[a-z][a-z0-9]*+(?:_[a-z0-9]++)++\b|\b[A-Z][A-Z0-9]*+(?:_[A-Z0-9]++)++\b"  # snake_case
    r"|\b[a-z]++[A-Z]\w*+|\b(?:[A-Z][a-z0-9]++){2,}+\b"  # camelCase
    r"|\b(?=\w*\d)(?=\w*[A-Za-z])[\w-]{4,}\b"  # letters and digits
    r"|\b\w++\.(?:py|js|ts|go|rs|java|c|h|cpp|md|txt|json|ya?ml|toml|csv|html|pdf|xlsx?|db|sql|sh)\b"
    r"|\b\d[\d,.]{2,}\b"  # numbers of three digits and more
    r"|\b[A-Z]{3}\b"  # airports, currencies
)
"""Identifiers by their looks; nothing is looked at twice, whatever the text: no attempt begins in the middle of a run,
and none goes back into one. https://github.com/chopratejas/headroom keeps such lines, too."""
_WORD = re.compile(r"[^\W\d_]{5,}")
_LONGEST = 80
_READ = 200_000
"""Characters of a text that are looked at: what follows is not looked for, as in a log of megabytes."""


def identifiers(text: str) -> list[str]:
    """The identifiers in a text, each once, in order."""
    found = dict.fromkeys(each.group().rstrip(".,;:") for each in IDENTIFIER.finditer(text[:_READ]))
    return [each for each in found if 3 <= len(each) <= _LONGEST]


def words(text: str) -> set[str]:
    """The plain words of a text in small letters: five letters or more, and no part of an identifier."""
    return {each.lower() for each in _WORD.findall(IDENTIFIER.sub(" ", text[:_READ]))}


def line_of(found: Iterable[str], most: int, characters: int) -> str:
    """So many of the identifiers in one line, and no more characters than that: of a long list, its beginning."""
    kept: list[str] = []
    for each in found:
        characters -= len(each) + 2
        if len(kept) == most or characters < 0:
            break
        kept.append(each)
    return ", ".join(kept)
