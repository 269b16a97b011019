"""What the checks of a semantic cache see of a prompt. Read once, and remembered for prompts that are met again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from langchain_costguard.caching.semantic.quantities import Quantities, plain, quantities
from langchain_costguard.caching.semantic.stems import stem
from langchain_costguard.caching.semantic.words import (
    DATES,
    HALF_NEGATIONS,
    LANGUAGES,
    LIGHT,
    NEGATIONS,
    SMALL,
    STOP,
    UNITS,
    WHEN,
)

_MOST = 4_000
"""Characters that are read; of a longer prompt, the first and the last half of them."""
_REMEMBERED = 20_000
_DENSE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Scripts that put no spaces between words: each character counts as a word."""
_WORD = re.compile(rf"[{_DENSE}]|[^\W_{_DENSE}]+(?:'[^\W\d_]+)?")
_ASCII = re.compile(r"[a-zA-Z0-9]+(?:'[a-zA-Z]+)?")
_SIGN = re.compile(
    r"(?<=[\w)\]])\s*(\*\*|[<>!=]=|[*+^%\u00d7\u00f7<>]|(?<=[\d)])\s*[-\u2212/]|\s[-\u2212/]\s)\s*(?=[\w(\[$€£.-])"
)
_INITIALS = 8
"""Letters that an abbreviation of names has at the most."""
_OPENERS = frozenset('.!?:;\n"“«([*#>-')
_COMMON = frozenset((*STOP, *LIGHT, *DATES, *UNITS, *SMALL, *WHEN))
"""Words that are no names, whatever their capitals."""
_SURE = 2
"""So many more function words of one language than of any other, and the language is taken to be known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is seen of a prompt.

    Attributes:
        words: All words in order, in lower case.
        stems: The same without their endings.
        content: The stems of the words that have a topic.
        function: The words that have none.
        pairs: Neighbouring stems.
        letters: All three letters that follow each other in the stems.
        question: The first question word and the word after it.
        names: What is written as a name, in lower case.
        initials: The first letters of neighbouring names, by which ``HF`` is ``Hugging Face``.
        quantities: Numbers, units and dates.
        negations: How many words turn the sentence round.
        half_negated: Whether a word says by itself what others say with a "not".
        signs: Operators between two operands, in order.
        asks: The kind of thing asked for: "who", "when", "where", "why", "how many", "anything"; "" where nothing is.
        script: Of most letters, such as "LATIN"; "" without letters.
        language: A language of the LATIN script, where enough of its function words were met; else "".
    """

    words: tuple[str, ...]
    stems: tuple[str, ...]
    content: frozenset[str]
    function: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    letters: frozenset[str]
    question: tuple[str, ...]
    names: frozenset[str]
    initials: frozenset[str]
    quantities: Quantities
    negations: int
    half_negated: bool
    signs: tuple[str, ...]
    asks: str
    script: str
    language: str


@lru_cache(maxsize=_REMEMBERED)
def read(prompt: str) -> Reading:
    """Read a prompt."""
    text = prompt if len(prompt) <= _MOST else f"{prompt[: _MOST // 2]}\n{prompt[-_MOST // 2 :]}"
    text = plain(text)
    spelt = [match.group() for match in (_ASCII if text.isascii() else _WORD).finditer(text)]
    words = tuple([word.lower().removesuffix("'s") for word in spelt])
    stems = tuple([stem(word.replace("'", "")) for word in words])
    function = frozenset([word for word in words if word in STOP])
    run = " ".join(stems)
    language = _language(words)
    names, initials = _names(text, language)
    return Reading(
        words=words,
        stems=stems,
        content=frozenset([s for word, s in zip(words, stems, strict=True) if word not in STOP]),
        function=function,
        pairs=frozenset(pairwise(stems)),
        letters=frozenset([run[i : i + 3] for i in range(len(run) - 2)]),
        question=_question(words),
        names=names,
        initials=initials,
        quantities=quantities(text),
        negations=_negations(words),
        half_negated=any(word in HALF_NEGATIONS or word.startswith(("un", "non")) for word in words),
        signs=tuple(["".join(sign.split()) for sign in _SIGN.findall(text)]),
        asks=_asks(words),
        script=_script(text),
        language=language,
    )


def _names(text: str, language: str) -> tuple[frozenset[str], frozenset[str]]:
    """Words written as names, and the initials of those that stand side by side."""
    found: set[str] = set()
    initials: set[str] = set()
    if text.islower():
        return frozenset(), frozenset()
    run, last, seen, raised, first = "", -1, 0, 0, len(text) - len(text.lstrip())
    for match in (_ASCII if text.isascii() else _WORD).finditer(text):
        word = match.group()
        seen += 1
        if word.islower() or not word.isalpha():
            run = ""
            continue
        start = match.start()
        upper, lower = word[0].isupper(), word.lower()
        raised += upper
        odd = len(word) > 1 and not word[1:].islower() and word[1:] != word[1:].lower()
        if odd or (upper and len(word) > 1 and lower not in _COMMON and not _opens(text, start, first)):
            found.add(lower)
        if upper:
            run = (run + lower[0])[-_INITIALS:] if start - last <= 1 else lower[0]
            initials.update([run[i:] for i in range(len(run) - 1)])
        last = match.end()
    # Titles, shouting, and German, where every noun is written so, have no names that can be told by their capitals.
    if language == "German" or (seen > 3 and raised > 0.6 * seen):
        return frozenset(), frozenset(initials)
    return frozenset(found), frozenset(initials)


def _opens(text: str, start: int, first: int) -> bool:
    """Whether what starts here opens a sentence, a line, a quotation or (``first``) the text, where every word has a
    capital."""
    before = text[max(0, start - 8) : start].rstrip(" \t\r")
    return before[-1] in _OPENERS if before else start <= first


def _negations(words: tuple[str, ...]) -> int:
    """Those that turn it round: not the "no" that answers, nor "not only", "or not", "not just"."""
    found = [i for i, word in enumerate(words) if word in NEGATIONS or word.endswith("n't")]
    last = len(words) - 1
    return sum(
        not (words[i] == "no" and i == 0)
        and not (words[i] == "not" and i < last and words[i + 1] in ("only", "just", "merely"))
        and not (words[i] in ("not", "no") and i > 0 and words[i - 1] == "or")
        for i in found
    )


def _question(words: tuple[str, ...]) -> tuple[str, ...]:
    place = next((i for i, word in enumerate(words) if word in WHEN or word in ("what", "which", "how")), None)
    return () if place is None else words[place : place + 2]


def _asks(words: tuple[str, ...]) -> str:
    for word, after in zip(words, (*words[1:], ""), strict=False):
        if word == "how" and after in ("many", "much", "long", "old", "often", "far", "big", "tall", "fast", "high"):
            return f"how {after}"
        if word == "how" and after == "come":
            return "why"
        if word in WHEN:
            return WHEN[word]
        if word in ("what", "which", "how"):
            return "anything"
    return ""


def _script(text: str) -> str:
    if text.isascii():
        return "LATIN" if any(map(str.isalpha, text)) else ""
    import unicodedata

    counts: dict[str, int] = {}
    for letter in text[:400]:
        if letter.isalpha():
            name = unicodedata.name(letter, "").split(" ")[0].removesuffix("-")
            # Japanese is written in three scripts at once.
            name = "CJK" if name in ("HIRAGANA", "KATAKANA") else name
            counts[name] = counts.get(name, 0) + 1
    return max(counts, key=lambda name: (counts[name], name)) if counts else ""


def _language(words: tuple[str, ...]) -> str:
    said = set(words)
    counts = {name: len(said & known) for name, known in LANGUAGES.items()}
    first, second = sorted(counts.values())[-1:-3:-1]
    return max(counts, key=lambda name: counts[name]) if first - second >= _SURE else ""
