"""How alike two calls are, and how much of a text is new: by words, in any script, at a bounded cost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

LONGEST_QUERY = 200
"""Characters of the longest argument that can be a question, a name or a number. A longer one, or one of several
lines, is content (code, a letter): every character of it counts."""

SAMPLE = 900
_KEPT = 8_000
MOST_FIELDS = 32
# Thai to Khmer, kana, Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
)
_ASCII = re.compile("[a-z0-9]+")
_PLAIN = re.compile(r"[^\W_]+")
_DIGIT = re.compile(r"\d")
_RUN = re.compile(f"[{_UNSPACED}]+")


def words(text: str) -> frozenset[str]:
    """The different words and numbers of a text, whatever their case.

    Of scripts without spaces, the characters two by two. Of a long text, the words of its beginning, middle and end:
    pages of one document often begin alike.
    """
    return _words(text) if len(text) <= _KEPT else _words(_sampled(text))


# An agent's steps are looked at again after each of its calls.
@lru_cache(maxsize=128)
def _words(text: str) -> frozenset[str]:
    text = (text if len(text) <= SAMPLE else _sampled(text)).casefold()
    if text.isascii():
        return frozenset(_ASCII.findall(text))
    runs = _RUN.findall(text)
    pairs = (run[i : i + 2] for run in runs for i in range(max(1, len(run) - 1)))
    return frozenset(_PLAIN.findall(_RUN.sub(" ", text) if runs else text)).union(pairs)


def _sampled(text: str) -> str:
    part, middle = SAMPLE // 3 - 1, len(text) // 2
    return f"{text[:part]} {text[middle - part // 2 : middle + part // 2]} {text[-part:]}"


def news(text: str, known: Iterable[str], asked: Any) -> tuple[float, float]:
    """The share of a text's words that no known text has: all of them, and those that do not echo what was asked.

    The second is 1 where a number is new: of ids, prices and line numbers one is enough.
    """
    own = words(text)
    new = own.difference(*map(words, known))
    if not new:
        return 0.0, 0.0
    own_news = 1.0 if _DIGIT.search(" ".join(new)) else len(new - spoken(asked)) / len(own)
    return len(new) / len(own), own_news


def spoken(arguments: Any, depth: int = 4) -> frozenset[str]:
    """The words of the names, texts and numbers among the arguments."""
    if isinstance(arguments, (str, int, float)):
        return words(str(arguments))
    if depth == 0 or not isinstance(arguments, (Mapping, list, tuple)):
        return frozenset()
    inner = [*arguments, *arguments.values()] if isinstance(arguments, Mapping) else arguments
    return frozenset[str]().union(*(spoken(value, depth - 1) for value in islice(inner, MOST_FIELDS)))


def same(one: Any, other: Any) -> bool:
    """Whether these are the same arguments, whatever the order of keys, and the spacing and case of queries."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return equal(one, other)
    if one.keys() != other.keys():
        return False
    for key, value in one.items():  # noqa: SIM110 - half the time of all()
        if not equal(value, other[key]):
            return False
    return True


def reworded(one: Any, other: Any, least: float) -> bool:
    """Whether these arguments ask the same in other words: queries that share two words, and ``least`` of the
    shorter one's.

    Only what is put in words can be put in other words: another number is the next page, and another name, path or
    list is another thing.
    """
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return _put_otherwise(one, other, least)
    if one.keys() != other.keys():
        return False
    return all(equal(value, other[key]) or _put_otherwise(value, other[key], least) for key, value in one.items())


def is_query(arguments: Any, depth: int = 3) -> bool:
    """Whether none of the arguments is content: so long, so many or so deeply nested that it had to be composed."""
    if isinstance(arguments, str):
        return _is_short(arguments)
    if isinstance(arguments, (Mapping, list, tuple)):
        inner = arguments.values() if isinstance(arguments, Mapping) else arguments
        return depth > 0 and len(arguments) <= MOST_FIELDS and all(is_query(value, depth - 1) for value in inner)
    return True


def parsed(arguments: Any) -> Any:
    """Arguments that are the text of a JSON object, not a long one, as that object; other mappings as a dict."""
    if isinstance(arguments, str) and len(arguments) <= SAMPLE and _is_data(arguments):
        try:
            return json.loads(arguments)
        except (ValueError, RecursionError):
            return arguments
    return dict(arguments) if isinstance(arguments, Mapping) else arguments


def _is_short(text: str) -> bool:
    return len(text) <= LONGEST_QUERY and "\n" not in text.strip()


def _is_data(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[")


def equal(one: Any, other: Any) -> bool:
    """Whether two arguments are the same, whatever the spacing and case of a query; never raises."""
    if not (isinstance(one, str) and isinstance(other, str)):
        try:
            return one is other or (type(one) is type(other) and bool(one == other))
        except Exception:  # the comparison is the argument's own: of an array, say
            return False
    if one == other or len(one) > LONGEST_QUERY or len(other) > LONGEST_QUERY:
        return one == other
    a, b = _query(one), _query(other)
    return a is not None and b is not None and a.folded == b.folded


def _put_otherwise(one: Any, other: Any, least: float) -> bool:
    if not (isinstance(one, str) and isinstance(other, str)) or max(len(one), len(other)) > LONGEST_QUERY:
        return False
    a, b = _query(one), _query(other)
    if a is None or b is None or not (a.is_phrase and b.is_phrase):
        return False
    if a.numbers != b.numbers and a.numbers - b.numbers and b.numbers - a.numbers:
        return False
    return len(a.words & b.words) >= max(2, least * min(len(a.words), len(b.words)))


class _Query(NamedTuple):
    folded: str
    words: frozenset[str]
    numbers: frozenset[str]
    is_phrase: bool
    """Put in words: no name, path or number, which have no spaces, and no data."""


@lru_cache(maxsize=512)
def _query(text: str) -> _Query | None:
    if not _is_short(text):
        return None
    folded = " ".join(text.casefold().split())
    numbers = frozenset(word for word in words(text) if _DIGIT.search(word))
    in_words = " " in folded or _RUN.search(text) is not None
    return _Query(folded, words(text), numbers, in_words and not _is_data(text))
