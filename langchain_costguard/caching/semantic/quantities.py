"""The numbers, units and dates of a text, written in one way: ``five``, ``5`` and ``5.00 USD`` are of the value 5.

Where a text can be read in two ways it is read as it stands (``3.10`` may be a version, so it is not ``3.1``): numbers
that are taken to differ cost one call to the model, and numbers that are taken to agree cost a wrong answer.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import NamedTuple

from langchain_costguard.caching.semantic.words import DATES, ORDINALS, SCALES, SMALL, UNITS

_NUMBER = re.compile(
    r"""
      (?P<word>(?!v\d)[^\W\d_]+(?:['\u2019][^\W\d_]+)?)
    | (?P<day>\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?!\d) | \d{1,2}/\d{1,2}/\d{2,4}(?!\d) | \d{1,2}\.\d{1,2}\.\d{4}(?!\d))
    | (?P<clock>\d{1,2}:\d{2})(?::\d{2})?(?!\d)(?:\s?(?P<half>[ap])\.?m\b)?
    | (?P<version>v\d+(?:\.\d+)* | \d+(?:\.\d+){2,})(?!\w)
    | (?:(?P<before>[$€£¥₹])\s?)?(?P<sign>(?<![\w)])[-\u2212])?
      (?P<value>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d) | \d+(?:[.,]\d+)? | (?<!\w)\.\d+)
      (?:\s?(?P<after>%|[$€£¥₹°]) | (?P<rank>st|nd|rd|th)(?!\w) | (?P<glued>[^\W\d_]{1,4})(?!\w))?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CODE = re.compile(r"(?<![\w.])(?!v\d)(?=[^\W\d_][\w.-]{0,120}\d)\w+(?:[-.]\w*\d\w*)*(?!\w)", re.IGNORECASE)
"""A name with a number in it. What the pattern finds without a digit is a word."""
_BETWEEN = re.compile(r"(?:(?<=[^\W\d])|-)0*-?0*(\d)")
"""What is written between the letters and digits of a name or not: S4E2 and S04E02, T-20 and T20."""
_ROMAN = re.compile(r"(?<=\w )(?:II|III|IV|VI{1,3}|IX|XI{0,3}|XIV|XV)(?!\w)")
_ROMANS = {
    n: i
    for i, n in enumerate(
        ["-", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV"]
    )
}
_SIGNS = {"%": "%", "$": "usd", "€": "eur", "£": "gbp", "¥": "jpy", "₹": "inr", "°": "degree"}
_SUFFIXES = {"k": 1_000, "bn": 10**9, "mn": 10**6, "mio": 10**6}
_MONEY = frozenset({"usd", "eur", "gbp", "jpy", "inr"})
_MOST_DIGITS = 4_000
"""Of a number as written: Python makes no text of a longer one."""
_LONGEST = 40
"""Digits of a number that is computed with."""


class Quantities(NamedTuple):
    """What was found: values, values with their units, dates and times, and names with a number such as ``mp3``."""

    values: frozenset[str]
    measured: frozenset[tuple[str, str]]
    dates: frozenset[tuple[str, str]]
    codes: frozenset[str]


def plain(text: str) -> str:
    """The text with the digits of any script as 0-9, full-width forms made narrow, and one kind of apostrophe."""
    if text.isascii():
        return text
    folded = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("\u2044", "/")
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in folded)


def quantities(text: str) -> Quantities:
    """The quantities of a text that ``plain`` has been over."""
    found = _Finder()
    codes = set()
    digits = _has_digit(text)
    if not digits and _TELLING.isdisjoint(_LETTERS.findall(text.lower())) and not _ROMAN.search(text):
        return _NONE
    if digits:
        named = (match.group().lower() for match in _CODE.finditer(text))
        codes = {_BETWEEN.sub(r"\1", code) for code in named if _has_digit(code)}
        text = _CODE.sub(lambda match: " " if _has_digit(match.group()) else match.group(), text)
    for match in _ROMAN.finditer(text):
        found.values.add(str(_ROMANS[match.group()]))
    for match in _NUMBER.finditer(text):
        found.take(match)
    found.flush()
    return Quantities(frozenset(found.values), frozenset(found.measured), frozenset(found.dates), frozenset(codes))


_LETTERS = re.compile(r"[^\W\d_]+")
_TELLING = frozenset((*SMALL, *SCALES, *ORDINALS, *DATES))
_NONE = Quantities(frozenset(), frozenset(), frozenset(), frozenset())


class _Finder:
    """Goes over the tokens of a text; a number is kept until it is known what follows it."""

    def __init__(self) -> None:
        self.values: set[str] = set()
        self.measured: set[tuple[str, str]] = set()
        self.dates: set[tuple[str, str]] = set()
        self._pending: Decimal | None = None
        self._raw = ""
        self._before = ""
        self._whole = Decimal(0)
        """The part of a number in words that is complete: the thousands of "two thousand five hundred"."""

    def take(self, match: re.Match[str]) -> None:
        kind = match.lastgroup
        if kind == "word":
            self._word(match["word"].lower())
            return
        self.flush()
        self._before = ""
        if match["day"]:
            self.dates.add(("date", re.sub(r"[/.]", "-", match["day"])))
        elif match["clock"]:
            self._clock(match["clock"], match["half"] or "")
        elif match["version"]:
            self.values.add(match["version"].lower().lstrip("v"))
        else:
            self._number(match)

    def _number(self, match: re.Match[str]) -> None:
        raw = match["value"]
        raw = raw.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", raw) else raw.replace(",", ".")
        raw = ("-" if match["sign"] else "") + (f"0{raw}" if raw.startswith(".") else raw)
        if match["rank"]:
            self.values.add(f"#{raw}")
            return
        value, glued = Decimal(raw[:_LONGEST]), (match["glued"] or "").lower()
        sign = _SIGNS.get(match["before"] or match["after"] or "", "")
        if glued in _SUFFIXES:
            value *= _SUFFIXES[glued]
        elif glued == "m" and sign in _MONEY:
            value *= 10**6
        elif glued in UNITS:
            sign = UNITS[glued]
        elif glued == "s":
            self.dates.add(("decade", f"{raw}s"))
            return
        elif glued in ("am", "pm"):
            self._clock(raw, glued)
            return
        if sign:
            self._keep(value, sign)
            return
        self._pending, self._raw = value, "" if glued in _SUFFIXES else raw

    def _clock(self, raw: str, half: str) -> None:
        hour, _, minute = raw.replace(".", ":").partition(":")
        hours = int(hour) % 12 if half else int(hour)
        self.dates.add(("time", f"{hours + 12 * half.lower().startswith('p')}:{minute or '00':0>2}"))

    def _word(self, word: str) -> None:
        before, self._before = self._before, word
        if self._pending is None and word not in _TELLING and word not in UNITS:
            return
        if word in ("am", "pm") and self._pending is not None and self._raw:
            raw, self._pending = self._raw, None
            self._clock(raw, word)
            return
        if word in SCALES and (self._pending is not None or before in ("a", "one")):
            self._scale(SCALES[word])
            return
        if word in SMALL and not (word == "one" and self._pending is None):
            self._small(SMALL[word])
            return
        if word == "and" and self._pending is not None and not self._raw and self._pending % 100 == 0:
            return
        unit = UNITS.get(word)
        if unit is not None and self._pending is None and before in ("one", "a", "an") and word != "second":
            # "One week" has a number; "which one" and "one day" (as in a tale) have none, nor has "a week".
            if before == "one":
                self._keep(Decimal(1), unit)
            return
        had = self._pending is not None
        self.flush(unit or "")
        if word in DATES:
            self.dates.add(DATES[word])
        elif word in ORDINALS and not (word == "second" and (had or before in ("a", "per", "every", "each"))):
            self.values.add(ORDINALS[word])

    def _scale(self, scale: int) -> None:
        pending = Decimal(1) if self._pending is None else self._pending
        if scale == 100:
            self._pending = pending * scale
        else:
            self._whole, self._pending = self._whole + pending * scale, Decimal(0)
        self._raw = ""

    def _small(self, value: int) -> None:
        pending = self._pending
        tens = pending is not None and pending % 10 == 0 and value < 10 <= pending
        if pending is not None and not self._raw and (pending % 100 == 0 or tens):
            self._pending = pending + value
            return
        self.flush()
        self._pending, self._raw = Decimal(value), ""

    def flush(self, unit: str = "") -> None:
        """Keep the number that is pending."""
        value, self._pending = self._pending, None
        whole, self._whole = self._whole, Decimal(0)
        if value is None:
            return
        if unit:
            self._keep(value + whole, unit)
        elif self._raw:
            # As written: 3.10 may be a version.
            whole_number = "." not in self._raw and len(self._raw) <= _MOST_DIGITS
            self.values.add(str(int(self._raw)) if whole_number else self._raw)
        else:
            self.values.add(_text(value + whole))

    def _keep(self, value: Decimal, unit: str) -> None:
        text = _text(value)
        self.values.add(text)
        self.measured.add((text, unit))


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


def _text(value: Decimal) -> str:
    return f"{value.normalize():f}"
