"""How alike two prompts are: the cosine of their embeddings, and what their words, numbers and names say beside it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from langchain_costguard.caching.semantic.conflicts import VETOES
from langchain_costguard.caching.semantic.reading import Reading
from langchain_costguard.caching.semantic.words import LIGHT

_PLAIN = (
    "cosine", "cosine above .8", "cosine above .9", "cosine x words",
    "words shared", "rare words shared", "words covered", "pairs of words", "letters", "function words",
    "numbers differ", "numbers shared", "names differ", "names of one", "names shared", "negation", "opposites",
    "question word", "kind of question", "question words", "first word", "last word", "all words",
    "length", "shorter", "longer", "words of one", "words of the other", "rare words of one", "rare words of the other",
    "rarest word",
)  # fmt: skip
_CORE = (
    "cosine",
    "rare words shared",
    "letters",
    "rare words of the other",
    "rare words of one",
    "longer",
    "rarest word",
)
"""Those of which the products count, too: how much a word that differs says depends on how near the prompts are."""
_PLACES = tuple((_PLAIN.index(name), 0.1 if name.startswith("rare words of") else 1.0) for name in _CORE)
FEATURES = (*_PLAIN, *(f"{one} x {other}" for i, one in enumerate(_CORE) for other in _CORE[i:]))
"""What is looked at, in the order of ``features``."""


@dataclass(frozen=True, slots=True)
class Rarity:
    """How much a word tells: by how many of ``total`` clusters of prompts it occurs in; by a list where none were read.

    ``counts`` are by the CRC of the stem: the words themselves are not kept.
    """

    total: int = 0
    counts: Mapping[int, int] = field(default_factory=dict)

    def of(self, stem: str, less: int = 0) -> float:
        """A word's weight; ``less`` clusters are left out of the count."""
        if not self.total:
            return 3.0 if stem in _LIGHT else 6.0
        seen = self.counts.get(zlib.crc32(stem.encode("utf-8", "surrogatepass")), 0)
        return math.log((self.total + 1) / (max(0, seen - less) + 1))

    @classmethod
    def learnt(cls, clusters: Iterable[Iterable[Reading]]) -> Rarity:
        """From prompts; those of one cluster count once."""
        counts: dict[int, int] = {}
        total = 0
        for readings in clusters:
            total += 1
            for stem in frozenset[str]().union(*(reading.content for reading in readings)):
                key = zlib.crc32(stem.encode("utf-8", "surrogatepass"))
                counts[key] = counts.get(key, 0) + 1
        return cls(total, counts)


_LIGHT = frozenset(LIGHT)


def features(a: Reading, b: Reading, cosine: float, rarity: Rarity, less: int = 0) -> list[float]:
    """The figures of ``FEATURES`` for two prompts; the same whichever comes first."""
    one, other = a.content - b.content, b.content - a.content
    shared = sum([rarity.of(stem, less) for stem in a.content & b.content])
    lone_words = [[rarity.of(stem, less) for stem in side] for side in (one, other)]
    low, high = sorted(map(sum, lone_words))
    few, many = sorted((len(one), len(other)))
    short, long = sorted((math.log1p(len(a.words)), math.log1p(len(b.words))))
    words = _jaccard(a.content, b.content)
    vs, ws = a.quantities.values | a.quantities.codes, b.quantities.values | b.quantities.codes
    lone, strange = len(a.names.difference(b.names, b.words)), len(b.names.difference(a.names, a.words))
    plain = [
        cosine,
        max(0.0, cosine - 0.8),
        max(0.0, cosine - 0.9),
        cosine * words,
        words,
        shared / (shared + low + high) if shared + low + high else 1.0,
        shared / (shared + low) if shared + low else 1.0,
        _jaccard(a.pairs, b.pairs),
        _jaccard(a.letters, b.letters),
        _jaccard(a.function, b.function),
        float(bool(vs - ws and ws - vs)),
        float(bool(vs & ws)),
        float(bool(lone and strange)),
        float(bool(lone) != bool(strange)),
        float(bool(a.names & b.names)),
        float(bool(VETOES["negation"](a, b))),
        float(bool(VETOES["comparatives"](a, b))),
        float(a.question != b.question),
        float(bool(a.question and b.question and a.question[0] != b.question[0])),
        float(a.asks != b.asks),
        float(a.stems[:1] == b.stems[:1]),
        float(a.stems[-1:] == b.stems[-1:]),
        float(a.content == b.content),
        long - short,
        short,
        long,
        float(few),
        float(many),
        low,
        high,
        max(chain(*lone_words), default=0.0),
    ]
    core = [plain[place] * scale for place, scale in _PLACES]
    return [*plain, *[x * y for i, x in enumerate(core) for y in core[i:]]]


def _jaccard(one: frozenset[Any], other: frozenset[Any]) -> float:
    shared = len(one & other)
    every = len(one) + len(other) - shared
    return shared / every if every else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """A logistic model of the features: how likely it is that two prompts ask the same.

    ``weights`` are of the features less ``mean``, in units of ``spread``.
    """

    weights: Sequence[float]
    bias: float
    mean: Sequence[float]
    spread: Sequence[float]
    rarity: Rarity = field(default_factory=Rarity)

    def of(self, a: Reading, b: Reading, cosine: float) -> float:
        """How likely they ask the same, from 0 to 1."""
        return self.likely(features(a, b, cosine, self.rarity))

    def likely(self, figures: Sequence[float]) -> float:
        """The same from the features. Nothing is taken to be further from the mean than five spreads."""
        z = self.bias
        for weight, value, mean, spread in zip(self.weights, figures, self.mean, self.spread, strict=True):
            z += weight * max(-5.0, min(5.0, (value - mean) / spread))
        return 1 / (1 + math.exp(-max(-40.0, min(40.0, z))))
