"""What a prompt looks like in numbers: hashed words and pairs of words, and its shape; and a linear model of them.

Pure Python, and bounded: of a long prompt the beginning and the end are looked at. Hashes are CRC-32, so a model file
means the same in every process.
"""

from __future__ import annotations

import math
import re
import sys
import zlib
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

BUCKETS = 2**14
"""Features that words and pairs are hashed into."""

SHAPES = (
    "characters",
    "words",
    "length of words",
    "numbers",
    "share of numbers",
    "question marks",
    "lines",
    "length of lines",
    "sentences",
    "capitalised words",
    "mathematical signs",
    "code signs",
    "commas",
    "options",
    "different words",
    "quotes",
    "non-ASCII text",
    "tools",
    "tool parameters",
    "length of tool schemas",
)

_HEAD, _TAIL = 500, 200
"""Characters looked at: some 120 words, which take a tenth of a millisecond on an idle machine."""
_SHAPE_WEIGHT = 0.5 / math.sqrt(len(SHAPES))
_ASCII = re.compile(r"\w+|[^\w\s]")
_WORD = re.compile(r"[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s]|[\u3040-\u30ff\u3400-\u9fff]")
"""A word, a sign, or a character of a script that puts no spaces between words."""
_OPTION = re.compile(r"\n\s{0,8}\(?[A-Za-z0-9][.)]")
_MIX = 0x9E3779B1
_SHIFT = 32 - BUCKETS.bit_length() + 1
_TOOLS = 16
"""Tools looked at."""
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "the and for with that this from given using based returns return function value values get find calculate "
        "provide specific which their into over default optional list number string name data information",
    )
)


@dataclass(frozen=True, slots=True)
class Look:
    """A prompt's features: its words in order, the buckets they and their pairs fall into, and its shape.

    ``offered`` are what the tools are like and how they fit the prompt, in words and in buckets.
    """

    words: list[str]
    buckets: set[int]
    shape: list[float]
    offered: Mapping[str, int]


def look(prompt: str, tools: Sequence[Any] = ()) -> Look:
    """Read a prompt, and the tools offered with it."""
    text = prompt if len(prompt) <= _HEAD + _TAIL else f"{prompt[:_HEAD]}\n{prompt[-_TAIL:]}"
    words: list[str] = (_ASCII if text.isascii() else _WORD).findall(text)
    hashes = [_hash(word) for word in words]
    buckets = {one >> _SHIFT for one in hashes}
    buckets.update([((one * _MIX + two) & 0xFFFFFFFF) >> _SHIFT for one, two in pairwise(hashes)])  # no calls: faster
    return Look(words, buckets, _shape(prompt, text, words, tools), _offered(words, tools) if tools else {})


def spelt(words: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Each word and each pair as people read it, and its bucket."""
    for word in words:
        yield word.lower(), _hash(word) >> _SHIFT
    for one, two in pairwise(words):
        yield f"{one} {two}".lower(), _pair(_hash(one), _hash(two))


@lru_cache(maxsize=2**14)
def _hash(word: str) -> int:
    return zlib.crc32(word[:64].lower().encode("utf-8", "surrogatepass"))


def _pair(one: int, two: int) -> int:
    return ((one * _MIX + two) & 0xFFFFFFFF) >> _SHIFT


def _shape(prompt: str, text: str, words: Sequence[str], tools: Sequence[Any]) -> list[float]:
    log, count, many = math.log1p, text.count, len(words) or 1
    numbers = sum(map(str.isdigit, words))
    lines = count("\n") + 1
    # Counts are of what was looked at; only the length is of the whole.
    return [
        log(len(prompt)),
        log(len(words) * len(prompt) / (len(text) or 1)),
        len(text) / many,
        log(numbers),
        numbers / many,
        log(count("?")),
        log(lines),
        log(len(text) / lines),
        log(count(". ") + count(".\n") + count("? ") + count("! ")),
        log(sum(map(str.istitle, words))),
        log(sum(map(count, "=+*/^<>%$\\"))),
        log(sum(map(count, "{}();_`"))),
        log(count(",")),
        log(len(_OPTION.findall(text))),
        len(set(words)) / many,
        log(count('"') + count("'")),
        0.0 if text.isascii() else 1.0,
        *(map(log, sizes(tools)) if tools else (0.0, 0.0, 0.0)),
    ]


def sizes(tools: Sequence[Any]) -> tuple[int, int, int]:
    """How many tools, how many parameters they take together, and how long their schemas are."""
    read = [_schema(tool) for tool in tools[:_TOOLS]]
    return len(tools), sum(len(p) for _, _, p in read), sum(len(d) + 40 * len(p) for _, d, p in read)


def _schema(tool: Any) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Name, description, and the parameters with their types; of a tool of LangChain without building its schema."""
    if not isinstance(tool, Mapping):
        fields = getattr(getattr(tool, "args_schema", None), "model_fields", None) or {}
        name, described = getattr(tool, "name", ""), getattr(tool, "description", "")
        return str(name), str(described)[:_HEAD], tuple((str(field), "") for field in fields)
    inner = tool.get("function")
    schema = inner if isinstance(inner, Mapping) else tool
    given = schema.get("parameters") or schema.get("input_schema")
    properties = given.get("properties") if isinstance(given, Mapping) else None
    fields = properties if isinstance(properties, Mapping) else {}
    types = tuple((str(f), str(p.get("type", "")) if isinstance(p, Mapping) else "") for f, p in fields.items())
    return str(schema.get("name", "")), str(schema.get("description", ""))[:_HEAD], types


def _offered(words: Sequence[str], tools: Sequence[Any]) -> dict[str, int]:
    """What the tools are like, and how well the one that fits best fits: how much of its words the prompt says."""
    said = {word[:5].lower() for word in words}
    traits: set[str] = set()
    fits = []
    for tool in tools[:_TOOLS]:
        name, described, fields, own = _tool(*_schema(tool))
        traits |= own
        fits.append((_share(name, said), _share(described, said), _share(fields, said)))
    best = max(fits, key=lambda fit: fit[0] + fit[1] + fit[2] / 2)
    named = sum(fit[0] >= 0.5 for fit in fits)
    asked = min(3, sum(word in (",", "and", "also", "then") for word in words) // 2)
    many = f"tools: {min(len(tools), 4)}"
    fit = f"fit of a tool: {int((best[0] + best[1] + best[2] / 2) * 3.19)} of 7"
    traits |= {
        many,
        fit,
        f"{fit}, {many}",
        f"tool named: {int(best[0] * 2.99)} of 2",
        f"tool described: {int(best[1] * 4.99)} of 4",
        f"tool named: {int(best[0] * 2.99)} of 2, described: {int(best[1] * 3.99)} of 3",
        f"parameters named: {int(best[2] * 2.99)} of 2",
        f"tools named: {min(named, 3)}",
        f"tools named: {min(named, 3)}, {many}",
        f"things asked: {asked}",
    }
    return {trait: _hash(f"({trait})") >> _SHIFT for trait in traits}


@lru_cache(maxsize=1024)
def _tool(
    name: str, described: str, fields: tuple[tuple[str, str], ...]
) -> tuple[frozenset[str], frozenset[str], frozenset[str], frozenset[str]]:
    """The stems of a tool's name, description and parameters; and its traits whatever the prompt."""
    stems = _stems(name)
    traits = {f"tool word {stem}" for stem in stems} | {f"parameter of type {kind}" for _, kind in fields}
    traits |= {f"parameters: {min(len(fields), 6)}", *(["tool with a dotted name"] if "." in name else [])}
    return stems, _stems(described), _stems(" ".join(field for field, _ in fields)), frozenset(traits)


def _stems(text: str) -> frozenset[str]:
    lower = (word.lower() for word in _PART.findall(text) if len(word) > 2)
    return frozenset(word[:5] for word in lower if word not in _COMMON)


def _share(stems: frozenset[str], said: set[str]) -> float:
    return len(stems & said) / (len(stems) or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear model of the features. ``weights`` are of the buckets, in steps of ``step``.

    ``shape`` are weights of the shape's figures, less ``mean`` and in units of ``spread``; ``dense`` are weights of an
    embedding, empty where it was trained without one.
    """

    weights: array[int]
    step: float
    shape: Sequence[float]
    mean: Sequence[float]
    spread: Sequence[float]
    bias: float
    dense: Sequence[float] = ()

    def score(self, seen: Look, vector: Sequence[float] = ()) -> float:
        """The prediction."""
        weights = self.weights
        total = self.bias + sum(map(float.__mul__, self.shape, self.standard(seen.shape)))
        if seen.buckets:
            total += sum(map(weights.__getitem__, seen.buckets)) * self.step / math.sqrt(len(seen.buckets))
        if seen.offered:
            total += sum(map(weights.__getitem__, seen.offered.values())) * self.step / math.sqrt(len(seen.offered))
        if self.dense:
            total += sum(a * b for a, b in zip(self.dense, vector, strict=True))
        return total

    def standard(self, shape: Sequence[float]) -> list[float]:
        """The shape as the model takes it: nothing is taken to be further out than three spreads."""
        return standard(shape, self.mean, self.spread)

    def parts(self, seen: Look) -> dict[str, float]:
        """What each word, pair of words and figure of the shape adds to the score."""
        unit = self.step / math.sqrt(len(seen.buckets) or 1)
        found = {name: self.weights[bucket] * unit for name, bucket in spelt(seen.words)}
        each = self.step / math.sqrt(len(seen.offered) or 1)
        found |= {f"({name})": self.weights[bucket] * each for name, bucket in seen.offered.items()}
        shape = zip(SHAPES, self.shape, self.standard(seen.shape), strict=True)
        return {**{f"({name})": weight * value for name, weight, value in shape}, **found}

    def packed(self) -> dict[str, Any]:
        """As JSON."""
        words = {"step": self.step, "weights": b64encode(_little(self.weights).tobytes()).decode()}
        other = {
            name: [float(f"{v:.6g}") for v in getattr(self, name)] for name in ("shape", "mean", "spread", "dense")
        }
        return {**words, **other, "bias": self.bias}

    @classmethod
    def unpacked(cls, packed: Mapping[str, Any]) -> Linear:
        """From JSON; ValueError where it is none of ours."""
        try:
            weights = array("h", b64decode(packed["weights"], validate=True))
            lists = {name: tuple(map(float, packed[name])) for name in ("shape", "mean", "spread", "dense")}
            made = cls(weights=_little(weights), step=float(packed["step"]), bias=float(packed["bias"]), **lists)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"weights: unreadable ({type(error).__name__}: {error})") from None
        figures = (made.step, made.bias, *made.shape, *made.mean, *made.spread, *made.dense)
        if len(weights) != BUCKETS or any(len(lists[n]) != len(SHAPES) for n in ("shape", "mean", "spread")):
            raise ValueError("weights: they are of other features than this version reads; train again")
        if not all(map(math.isfinite, figures)) or not all(made.spread):
            raise ValueError("weights: not all of them are numbers")
        return made


def standard(shape: Sequence[float], mean: Sequence[float], spread: Sequence[float]) -> list[float]:
    """A shape less the mean, in spreads, cut at three of them, as heavy as the model takes it."""
    return [
        _SHAPE_WEIGHT * (3.0 if z > 3 else -3.0 if z < -3 else z)
        for z in [(v - m) / s for v, m, s in zip(shape, mean, spread, strict=True)]
    ]


def _little(values: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return values
    turned = values[:]
    turned.byteswap()
    return turned
