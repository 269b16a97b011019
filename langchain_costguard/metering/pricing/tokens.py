"""Counting the tokens of a text, once: exact where tiktoken's vocabulary is at hand, by shape until then."""

from __future__ import annotations

import math
from collections.abc import Callable

from langchain_costguard.metering.pricing import encodings, shapes
from langchain_costguard.metering.pricing.families import family_of
from langchain_costguard.vocabulary.usage import ModelRef

GENERATION_CHARS = 2_000_000
"""Characters of text a generation of the memo may hold; there are two, the older is dropped whole."""

_LONGEST_EXACT = 65_536
"""Beyond this many characters (6 ms of tiktoken) a text is counted by shape, with that estimator's margin put in."""


class TextCounter:
    """Counts texts in one encoding and remembers the counts by the text itself.

    CPython keeps a string's hash, so that asking again for the same object takes some 50 ns. ``recent`` is public for
    that: a caller looks there first and calls ``count`` where it misses. ``exact`` says that counts are tiktoken's.
    """

    __slots__ = ("_chars", "_encode", "_old", "encoding", "exact", "recent")

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.exact = False
        self._encode: Callable[[str], list[int]] | None = None
        self.recent: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self._chars = 0

    def refresh(self) -> None:
        """Go over to the vocabulary if it has become ready; what was counted by shape is forgotten."""
        if self._encode is None:
            encode = encodings.encoder(self.encoding)
            if encode is not None:
                self.recent, self._old, self._chars, self._encode = {}, {}, 0, encode
                self.exact = True

    def count(self, text: str) -> int:
        """The tokens of a text."""
        recent = self.recent
        tokens = recent.get(text)
        if tokens is not None:
            return tokens
        tokens = self._old.get(text)
        if tokens is None:
            tokens = self._measure(text)
        size = len(text)
        if size > GENERATION_CHARS // 4:
            return tokens
        self._chars += size + 50
        if self._chars > GENERATION_CHARS:
            self._old, self._chars = recent, size
            self.recent = recent = {}
        recent[text] = tokens
        return tokens

    def _measure(self, text: str) -> int:
        encode = self._encode
        if encode is None:
            return shapes.count_by_shape(text, self.encoding)
        if len(text) > _LONGEST_EXACT:
            return math.ceil(shapes.count_by_shape(text, self.encoding) * (1 + shapes.MARGIN))
        try:
            return len(encode(text))
        except Exception:  # a lone surrogate in an old tiktoken, a panic in its regex: a count is owed all the same
            return math.ceil(shapes.count_by_shape(text, self.encoding) * (1 + shapes.MARGIN))


_counters: dict[str, TextCounter] = {}


def counter(encoding: str) -> TextCounter:
    """The process's counter for an encoding."""
    found = _counters.get(encoding)
    if found is None:
        found = _counters.setdefault(encoding, TextCounter(encoding))
    return found


def count_text(text: str, ref: ModelRef) -> int:
    """The likely tokens of a text for a model, rounded up."""
    family = family_of(ref.name)
    texts = counter(family.encoding)
    texts.refresh()
    return math.ceil(texts.count(text) * family.factor)
