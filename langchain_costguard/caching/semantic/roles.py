"""Who does what to whom, as far as the order of words tells it."""

from __future__ import annotations

from langchain_costguard.caching.semantic.reading import Reading
from langchain_costguard.caching.semantic.words import STOP


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MUTUAL = _set(
    "and or vs versus v with between difference differences differ compare compared comparison similar similarities "
    "same equal equals like alike related relation relationship distance far near close next "
    "meet met marry married friends friend mix "
    "combine together correlate correlated apart"
)
"""Words by which it is all the same which of two comes first."""
_BE = _set("is are was were be been being get gets got getting am")
_AUXILIARIES = frozenset(("do", "does", "did"))
_ASKED = frozenset(("who", "whom", "what", "which"))


def reversed_roles(a: Reading, b: Reading) -> bool:
    """Whether the same words say that the other one does it."""
    if a.content != b.content or len(a.content) < 2 or a.words == b.words or not _MUTUAL.isdisjoint(a.words):
        return False
    return _exchanged(a.stems, b.stems) or _turned_passive(a, b) or _asked_of_the_other(a, b)


def _exchanged(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two parts have changed places around what stays between them, and nothing else is different."""
    if one == other or sorted(one) != sorted(other):
        return False
    first = next(i for i, (x, y) in enumerate(zip(one, other, strict=True)) if x != y)
    last = next(i for i in range(len(one), 0, -1) if one[i - 1] != other[i - 1])
    x, y = one[first:last], other[first:last]
    for here in range(1, len(x) - 1):
        for there in range(here + 1, len(x)):
            if x[there:] + x[here:there] + x[:here] == y:
                return True
    return False


def _turned_passive(a: Reading, b: Reading) -> bool:
    """Whether A did it to B, and A had it done by B: the order is the same, and one is passive."""
    if _is_passive(a) == _is_passive(b):
        return False
    return _content(a) == _content(b)


def _is_passive(a: Reading) -> bool:
    be = next((i for i, word in enumerate(a.words) if word in _BE), None)
    return be is not None and "by" in a.words[be + 1 :]


def _asked_of_the_other(a: Reading, b: Reading) -> bool:
    """Whether one asks who did it to A, and the other to whom A did it."""
    one, other = _does(a), _does(b)
    if one is None or other is None or one == other or not _BE.isdisjoint((*a.words, *b.words)):
        return False
    x, y = _content(a), _content(b)
    return len(x) == len(y) and x != y and sorted(x) == sorted(y)


def _does(a: Reading) -> bool | None:
    """Whether the one asked for is not who does it: who did A see. None where nobody is asked for."""
    if not a.words or a.words[0] not in _ASKED:
        return None
    return any(word in _AUXILIARIES for word in a.words[1:3])


def _content(a: Reading) -> list[str]:
    return [stem for word, stem in zip(a.words, a.stems, strict=True) if word not in STOP]
