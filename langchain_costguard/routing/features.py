"""What a prompt looks like in numbers: hashed words and pairs of words, and its shape.

Pure Python, and bounded: of a long prompt the beginning and the end are looked at. Hashes are CRC-32, so a model file
means the same in every process.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from operator import xor
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
"""Characters looked at: some 120 words, which take less than a tenth of a millisecond on an idle machine."""
_FIRST, _LAST = 120, 40
"""Words looked at of these: a text of signs, or of a script without spaces, has more."""
_SIGNS = "!\"#$%&'()*+,-./:;<=>?@[\\]^`{|}~"
_MATHS, _CODE = b"=+*/^<>%$\\", b"{}();_`"
_WORD = re.compile(r"[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s]|[\u3040-\u30ff\u3400-\u9fff]")
"""A word, a sign, or a character of a script that puts no spaces between words."""
_OPTION = re.compile(r"\n\s{0,8}\(?[A-Za-z0-9][.)]")
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
    every = _split(text) if text.isascii() else _WORD.findall(text)
    words = every if len(every) <= _FIRST + _LAST else every[:_FIRST] + every[-_LAST:]
    buckets: set[int] = set()
    if words:
        whole, first, second = zip(*map(_hashes, words), strict=True)
        buckets.update(whole)
        buckets.update(map(xor, first, second[1:]))
    shape = _shape(prompt, text, words, len(every), tools)
    return Look(words, buckets, shape, _offered(words, tools) if tools else {})


def spelt(words: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Each word and each pair as people read it, and its bucket."""
    for word in words:
        yield word.lower(), _hashes(word)[0]
    for one, two in pairwise(words):
        yield f"{one} {two}".lower(), _hashes(one)[1] ^ _hashes(two)[2]


def _split(text: str) -> list[str]:
    """Words and signs of an ASCII text; a third of the time that a regular expression takes."""
    for sign in _SIGNS:
        if sign in text:
            text = text.replace(sign, f" {sign} ")
    return text.split()


@lru_cache(maxsize=2**14)
def _hashes(word: str) -> tuple[int, int, int]:
    """A word's bucket; and its halves of the buckets of the pairs that it begins and ends."""
    one = zlib.crc32(word[:64].lower().encode("utf-8", "surrogatepass"))
    # Multiplied by odd numbers (of Knuth, and of MurmurHash) the bits are others, so that "a b" is not "b a".
    return one >> _SHIFT, (one * 0x9E3779B1 & 0xFFFFFFFF) >> _SHIFT, (one * 0x85EBCA6B & 0xFFFFFFFF) >> _SHIFT


def _shape(prompt: str, text: str, words: Sequence[str], total: int, tools: Sequence[Any]) -> list[float]:
    log, count, raw = math.log1p, text.count, text.encode("utf-8", "surrogatepass")
    many, seen = total or 1, len(words) or 1
    numbers = sum(map(str.isdigit, words))
    lines = count("\n") + 1
    # Counts are of what was looked at; only the length is of the whole.
    return [
        log(len(prompt)),
        log(total * len(prompt) / (len(text) or 1)),
        len(text) / many,
        log(numbers),
        numbers / seen,
        log(count("?")),
        log(lines),
        log(len(text) / lines),
        log(count(". ") + count(".\n") + count("? ") + count("! ")),
        log(sum(map(str.istitle, words))),
        log(len(raw) - len(raw.translate(None, _MATHS))),
        log(len(raw) - len(raw.translate(None, _CODE))),
        log(count(",")),
        log(len(_OPTION.findall(text))),
        len(set(words)) / seen,
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
    return {trait: _hashes(f"({trait})")[0] for trait in traits}


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
