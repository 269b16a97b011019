"""Two texts side by side: which stretches they share, and which they do not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

# No attempt begins inside a run of signs: one that no letter ends is read once, not once for each sign.
_WORDS = re.compile(r"(?<![.:+/@-])(?:[.:+/@-]*+\w++)++|\s+|[^\w\s]")
_MOST = 4_000_000
"""Pairs of words (or lines) that are still compared one by one; longer texts, by their beginnings and ends alone."""

_MOST_ALIKE = 60_000
"""Of those, pairs of the same word: a text that says one thing a thousand times."""


class Stretch(NamedTuple):
    """A stretch of two texts (characters): the same in both, or not."""

    same: bool
    start_a: int
    end_a: int
    start: int
    end: int


def stretches(a: str, b: str) -> list[Stretch]:
    """The texts as stretches that are the same and that are not, in turn."""
    return _merged(_by_lines(a, b))


def _by_lines(a: str, b: str) -> list[Stretch]:
    found = []
    for each in _compared(a.splitlines(keepends=True), b.splitlines(keepends=True)):
        inner = None
        if not each.same and each.end_a > each.start_a and each.end > each.start:
            one, other = a[each.start_a : each.end_a], b[each.start : each.end]
            inner = _compared(_WORDS.findall(one), _WORDS.findall(other))
            found += [
                Stretch(s, each.start_a + w, each.start_a + x, each.start + y, each.start + z)
                for s, w, x, y, z in inner
            ]
        else:
            found.append(each)
    return found


def _compared(a: Sequence[str], b: Sequence[str]) -> list[Stretch]:
    """Stretches of characters, by what they are made of."""
    head = tail = 0
    while head < min(len(a), len(b)) and a[head] == b[head]:
        head += 1
    while tail < min(len(a), len(b)) - head and a[-1 - tail] == b[-1 - tail]:
        tail += 1
    middle_a, middle_b = a[head : len(a) - tail], b[head : len(b) - tail]
    places_a, places_b = _places(a), _places(b)
    codes = [(True, 0, head, 0, head)]
    if len(middle_a) * len(middle_b) > _MOST or _pairs(middle_a, middle_b) > _MOST_ALIKE:
        codes.append((False, head, head + len(middle_a), head, head + len(middle_b)))
    else:
        matcher = SequenceMatcher(str.isspace, middle_a, middle_b, autojunk=False)
        codes += [(tag == "equal", head + i, head + j, head + k, head + m) for tag, i, j, k, m in matcher.get_opcodes()]
    codes.append((True, len(a) - tail, len(a), len(b) - tail, len(b)))
    return [
        Stretch(same, places_a[i], places_a[j], places_b[k], places_b[m])
        for same, i, j, k, m in codes
        if j > i or m > k
    ]


def _pairs(a: Sequence[str], b: Sequence[str]) -> int:
    """How many words of the one are a word of the other: what the matcher goes through, again and again."""
    others = Counter(b)
    return sum(count * others[word] for word, count in Counter(a).items() if not word.isspace())


def _places(parts: Sequence[str]) -> list[int]:
    places = [0]
    for part in parts:
        places.append(places[-1] + len(part))
    return places


def _merged(found: Sequence[Stretch]) -> list[Stretch]:
    merged: list[Stretch] = []
    for each in found:
        if merged and merged[-1].same == each.same:
            merged[-1] = merged[-1]._replace(end_a=each.end_a, end=each.end)
        else:
            merged.append(each)
    return merged
