"""Why two prompts cannot have the same answer, however near they are: the vetoes of a semantic cache.

Each check is a pure function of two readings and says what is in conflict, or nothing. A check stays silent where it
cannot tell: on one side alone a number or a name is no conflict, for "the iPhone" may well be "the iPhone 6".
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from langchain_costguard.caching.semantic.opposites import MOST, framed, opposed
from langchain_costguard.caching.semantic.reading import Reading
from langchain_costguard.caching.semantic.roles import reversed_roles
from langchain_costguard.caching.semantic.words import DATES, STOP, UNITS

_WHICH = frozenset(("last", "this", "next", "previous", "current", "coming", "past"))
_FEW = 9
"""Of so many pairs of words that differ, or fewer, a pair of opposites is no chance."""
_SPANS = frozenset(("quarter", "season", "night", "time", "semester", "term", "decade", "century"))
Check = Callable[[Reading, Reading], str]

_JOINTS = frozenset(
    {"to", "than", "from", "into", "over", "vs", "versus", "by", "against", "in", "for", "as", "without"}
)


def numbers(a: Reading, b: Reading) -> str:
    """Each has a number that the other lacks."""
    one, other = a.quantities.values, b.quantities.values
    if one != other and (less := one - other) and (more := other - one):
        return _differ("numbers", less, more)
    one, other = a.quantities.codes, b.quantities.codes
    if one != other and (less := one - other) and (more := other - one):
        return _differ("numbers", less, more)
    return ""


def units(a: Reading, b: Reading) -> str:
    """The same number of two different things: 5 km and 5 miles."""
    one, other = a.quantities.measured, b.quantities.measured
    if one == other:
        return ""
    for value, unit in sorted(one - other):
        against = {u for v, u in other - one if v == value}
        if against and unit not in against:
            return _differ("units", {f"{value} {unit}"}, {f"{value} {u}" for u in against})
    return ""


def dates(a: Reading, b: Reading) -> str:
    """Each has a date, a day of the week, a month or a time that the other lacks."""
    one, other = a.quantities.dates, b.quantities.dates
    if one == other:
        return ""
    for kind in sorted({kind for kind, _ in one ^ other}):
        less, more = ({date for k, date in x - y if k == kind} for x, y in ((one, other), (other, one)))
        if less and more:
            return _differ("dates", less, more)
    return ""


def names(a: Reading, b: Reading) -> str:
    """Each has a name that the other lacks, in any spelling and by its initials."""
    less = _unmet(a, b)
    if less and (more := _unmet(b, a)):
        return _differ("names", less, more)
    return ""


def _unmet(a: Reading, b: Reading) -> set[str]:
    if not a.names or a.names <= b.names:
        return set()
    words, run_together = set(b.words), "".join(b.words)
    return {
        name
        for name in a.names - b.names
        if name not in words
        and name not in b.initials
        and not (len(name) > 3 and name in run_together)
        and not any(_alike(name, word) for word in words)
        # The other may have the initials of what is written out here.
        and not any(short[:1] == name[:1] and short in a.initials for short in b.names)
    }


def _alike(one: str, other: str) -> bool:
    """Whether two words are one: a plural, or of five letters or more with one that differs, as in a slip."""
    if one.rstrip("s") == other.rstrip("s"):
        return True
    if min(len(one), len(other)) < 4 or max(len(one), len(other)) < 5 or abs(len(one) - len(other)) > 1:
        return False
    head = next((i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), None)
    if head is None:
        return True
    return one[head + 1 :] == other[head + 1 :] or one[head:] == other[head + 1 :] or one[head + 1 :] == other[head:]


def negation(a: Reading, b: Reading) -> str:
    """One is negated, and the other is not, nor does it say the same in half a word, as in "unavailable"."""
    if a.negations % 2 == b.negations % 2 or (a if b.negations % 2 else b).half_negated:
        return ""
    one, other = set(a.words), set(b.words)
    if opposed(one - other, other - one):
        return ""
    return "one is negated, and the other is not"


def comparatives(a: Reading, b: Reading) -> str:
    """One asks for the most, or before, or to buy, where the other asks for the least, after, to sell."""
    if a.words == b.words:
        return ""
    if found := _opposites(a, b) or _particles(a, b) or _frame(a, b):
        return _differ("opposites", {found[0]}, {found[1]})
    return ""


def _opposites(a: Reading, b: Reading) -> tuple[str, str] | None:
    """Two words that are opposites, of few that differ or in the same place.

    An opposite that is negated says the same ("optional", "not mandatory"), and so do two of them ("least painful",
    "most painless"). Of many words that differ, two are opposites by chance.
    """
    one, other = set(a.words), set(b.words)
    one, other = one - other, other - one
    if len(one) * len(other) > MOST:  # texts that differ so much are not told to say the same
        return min(one), min(other)
    found = opposed(one, other)
    if not found or a.negations % 2 != b.negations % 2:
        return None
    if len({x for x, _ in found}) == len({y for _, y in found}) == 2:
        return None
    few = len(one - STOP) * len(other - STOP) <= _FEW
    return next(((x, y) for x, y in found if few or _beside(a, x) & _beside(b, y)), None)


def _beside(a: Reading, word: str) -> set[str]:
    """The stems next to a word, which tell its place."""
    padded = ("", *a.stems, "")
    near = [(padded[i], padded[i + 2]) for i, each in enumerate(a.words) if each == word]
    return {f"{x} _" for x, _ in near if x} | {f"_ {y}" for _, y in near if y}


def _particles(a: Reading, b: Reading) -> tuple[str, str] | None:
    """Turned on and turned off; and after the same word in and out, up and down."""
    one, other = set(a.words), set(b.words)
    apart = one ^ other
    if {"on", "off"} <= apart and ("on" in one) != ("off" in one) and len(apart - STOP) <= _FEW:
        return ("on", "off") if "on" in one else ("off", "on")
    for here, there in (("in", "out"), ("up", "down"), ("on", "off"), ("into", "out")):
        for x, y in ((here, there), (there, here)):
            if _before(a, x) & _before(b, y) and not (here == "in" and "out of" in (_after(a, x), _after(b, y))):
                return x, y
    x, y = _after(a, "per"), _after(b, "per")
    return (x, y) if x and y and x != y else None


def _after(a: Reading, word: str) -> str:
    """A word and the one after it."""
    return next((f"{word} {after}" for each, after in zip(a.words, a.words[1:], strict=False) if each == word), "")


def _before(a: Reading, word: str) -> set[str]:
    return {stem for stem, after in zip(a.stems, a.words[1:], strict=False) if after == word}


def _frame(a: Reading, b: Reading) -> tuple[str, str] | None:
    """A word like "and", "all", in a sentence that is otherwise the same; or last week and this week."""
    if len(a.words) != len(b.words):
        return None
    odd = [i for i, (x, y) in enumerate(zip(a.words, b.words, strict=True)) if x != y]
    if len(odd) != 1:
        return None
    x, y = a.words[odd[0]], b.words[odd[0]]
    after = a.words[odd[0] + 1] if odd[0] + 1 < len(a.words) else ""
    timed = {x, y} <= _WHICH and (after in UNITS or after in DATES or after in _SPANS)
    return (x, y) if timed or framed(x, y) else None


def operators(a: Reading, b: Reading) -> str:
    """Another operator between the same operands: 7 * 8 and 7 / 8."""
    if a.signs == b.signs or not a.signs or not b.signs or {*a.signs, *b.signs} <= {"-", "/"}:
        return ""
    return _differ("operators", set(a.signs), set(b.signs))


def roles(a: Reading, b: Reading) -> str:
    """Who did what to whom is reversed: does Ann owe Bob, and does Bob owe Ann."""
    return "who does what to whom is the other way round" if reversed_roles(a, b) else ""


def question(a: Reading, b: Reading) -> str:
    """They ask for different kinds of things: who, when, where, why, how many."""
    if a.asks == b.asks or "anything" in (a.asks, b.asks) or not a.asks or not b.asks:
        return ""
    return _differ("question words", {a.asks}, {b.asks})


def language(a: Reading, b: Reading) -> str:
    """They are written in different scripts or languages, and an answer is read by who asked."""
    if a.script != b.script and a.script and b.script:
        return _differ("scripts", {a.script.lower()}, {b.script.lower()})
    if a.language != b.language and a.language and b.language:
        return _differ("languages", {a.language}, {b.language})
    return ""


def direction(a: Reading, b: Reading) -> str:
    """The same two things the other way round: from EUR to USD, from USD to EUR."""
    if a.content != b.content:
        return ""
    one, other = _turns(a), _turns(b)
    for x, joint, y in sorted(one):
        if (y, joint, x) in other and (x, joint, y) not in other:
            return _differ("directions", {f"{x} {joint} {y}"}, {f"{y} {joint} {x}"})
    return ""


def _turns(a: Reading) -> set[tuple[str, str, str]]:
    triples = zip(a.stems, a.words[1:], a.stems[2:], strict=False)
    return {
        (x, joint, y) for x, joint, y in triples if joint in _JOINTS and x in a.content and y in a.content and x != y
    }


VETOES: dict[str, Check] = {
    "numbers": numbers,
    "units": units,
    "dates": dates,
    "names": names,
    "negation": negation,
    "comparatives": comparatives,
    "question": question,
    "language": language,
    "direction": direction,
    "operators": operators,
    "roles": roles,
}
"""All checks, by the names under which a cache is told which of them to make."""


def conflicts(a: Reading, b: Reading, vetoes: Collection[str] = tuple(VETOES)) -> tuple[str, ...]:
    """What is in conflict, in words; empty where nothing is."""
    if a is b:
        return ()
    return tuple([why for name in vetoes if (why := VETOES[name](a, b))])


def checked_vetoes(given: Any) -> tuple[str, ...]:
    """The names of checks, each known; ValueError otherwise."""
    if isinstance(given, str) or not isinstance(given, Collection):
        raise ValueError(f"vetoes: {given!r} must be a list of {', '.join(VETOES)}")
    for name in given:
        if name not in VETOES:
            raise ValueError(f"vetoes: {name!r} is not one of {', '.join(VETOES)}")
    return tuple(name for name in VETOES if name in given)


def _differ(what: str, one: Collection[str], other: Collection[str]) -> str:
    return f"{what} differ: {', '.join(sorted(one)[:3])} / {', '.join(sorted(other)[:3])}"
