"""Words without their English endings."""

from __future__ import annotations

from functools import lru_cache

_ENDINGS = ("ingly", "edly", "ings", "ing", "ies", "ied", "ers", "er", "es", "ed", "ly", "s", "e")


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """A word without its English ending; words of three letters, and of other scripts, stay as they are."""
    for ending in _ENDINGS:
        rest = len(word) - len(ending)
        if rest >= 3 and word.endswith(ending):
            word = word[:rest] + ("y" if ending in ("ies", "ied") else "")
            if len(word) > 3 and word[-1] == word[-2] and ending in ("ing", "ed", "er", "ers"):
                word = word[:-1]
            break
    return f"{word[:-1]}y" if word.endswith("i") else word
