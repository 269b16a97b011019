"""Which of the nearest remembered answers may be given, if any: the pure part of a semantic cache."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from langchain_costguard.caching.entry import Entry
from langchain_costguard.caching.index.base import Neighbour
from langchain_costguard.caching.semantic.conflicts import conflicts
from langchain_costguard.caching.semantic.likeness import Likeness
from langchain_costguard.caching.semantic.reading import read

NEIGHBOURS = 10
"""Answers looked at: the nearest, and those that may contradict it."""
DOUBT = 0.3
"""What a score loses where all the weight is with other answers. Chosen with the margin on public data: from 0.2 to
0.5, and margins from 0.03 to 0.04, 99.4 to 99.7 % of the best 30 % of BANKING77 have the right intent, while of
GPTCache's sentences 75 to 87 % are answered at a score of 0.80, below 0.8 % of them wrongly: more doubt, fewer hits."""
AGREED = 0.6
"""The share of the weight that must be with the answer given: less is as good as a tie."""
_ALIKE = 0.8
"""The share of their words from which on two replies are one answer in other words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a semantic cache says of a question.

    Attributes:
        entry: The answer to give; None where none may be.
        score: How likely the nearest one's prompt asks the same, less what its age and the doubt about it take.
        similarity: The cosine of the two prompts' embeddings.
        reasons: Why no answer is given, or what speaks for the one that is: short sentences without their full stop.
        nearest: The answer that was judged, given or not; None where there was none.
    """

    entry: Entry | None = None
    score: float = 0.0
    similarity: float = 0.0
    reasons: tuple[str, ...] = ()
    nearest: Entry | None = None


class Found(NamedTuple):
    """A neighbour with nothing against it, how likely it asks the same, and the score that its age leaves of that."""

    neighbour: Neighbour
    likely: float
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """How a semantic cache decides; its arguments are those of ``SemanticCache``, which checks them.

    ``likeness`` is what was learnt from pairs; without it, the cosine is how alike two prompts are.
    """

    threshold: float
    margin: float | None
    max_age: float | None
    freshness: float
    vetoes: tuple[str, ...]
    likeness: Likeness | None = None

    def judge(self, prompt: str, context: str, found: Sequence[Neighbour], *, now: float) -> Verdict:
        """The verdict on a prompt by its neighbours, the nearest first. ``now`` is in epoch seconds."""
        kept: list[Found] = []
        aside: Verdict | None = None
        clash: Verdict | None = None
        for near in found:
            if why := self._elsewhere(context, near.entry, now):
                aside = aside or self._stopped(prompt, near, why)
            elif why := self._conflicts(prompt, near.entry):
                clash = clash or self._stopped(prompt, near, why)
            else:
                kept.append(self._found(prompt, near, now))
        if not kept:
            return clash or aside or Verdict(reasons=("nothing like it is remembered",))
        # What is clearly nearest is what the question is about: where that is in conflict, the next one is no answer.
        if clash and self.margin is not None and clash.similarity > kept[0].neighbour.score + self.margin / 2:
            return clash
        return self._best(kept)

    def alike(self, prompt: str, near: Neighbour) -> float:
        """How likely two prompts ask the same, from 0 to 1, by their words and embeddings alone."""
        if self.likeness is None or prompt == near.entry.prompt:
            return max(0.0, min(1.0, near.score))
        return self.likeness.of(read(prompt), read(near.entry.prompt), near.score)

    def _elsewhere(self, context: str, entry: Entry, now: float) -> tuple[str, ...]:
        """Why an answer is out of the question whatever the words."""
        if entry.context != context:
            return ("the turns before differ",)
        if self.max_age is not None and now - entry.created > self.max_age:
            return (f"older than {_span(self.max_age)}",)
        return ()

    def _conflicts(self, prompt: str, entry: Entry) -> tuple[str, ...]:
        return () if prompt == entry.prompt else conflicts(read(prompt), read(entry.prompt), self.vetoes)

    def _stopped(self, prompt: str, near: Neighbour, why: tuple[str, ...]) -> Verdict:
        return Verdict(score=self.alike(prompt, near), similarity=near.score, reasons=why, nearest=near.entry)

    def _found(self, prompt: str, near: Neighbour, now: float) -> Found:
        likely, entry = self.alike(prompt, near), near.entry
        life = entry.expires - entry.created
        spent = max(0.0, min(1.0, (now - entry.created) / life)) if life > 0 else 1.0
        return Found(near, likely, likely * (1 - self.freshness * spent))

    def _best(self, kept: Sequence[Found]) -> Verdict:
        best = kept[0]
        same = [_same(best.neighbour.entry, each.neighbour.entry) for each in kept]
        # Of those that give the same answer the best counts: it may be fresher, or better by its words.
        best = max((each for each, alike in zip(kept, same, strict=True) if alike), key=lambda each: each.score)
        share = self._share(kept, same)
        score = max(0.0, best.score - DOUBT * (1 - share))
        reasons = [f"likeness {best.likely:.2f} at a cosine of {best.neighbour.score:.2f}"]
        if best.score < best.likely:
            reasons.append(f"its age takes {best.likely - best.score:.2f}")
        if share < 1:
            reasons.append(f"others as near with another answer take {DOUBT * (1 - share):.2f}")
        given = True
        if share < AGREED:
            given, reasons = False, [*reasons, "the runner-up is as near and has another answer"]
        if score < self.threshold:
            given, reasons = False, [*reasons, f"the score {score:.3f} is below {self.threshold:.3f}"]
        entry = best.neighbour.entry
        return Verdict(
            entry=entry if given else None,
            score=score,
            similarity=best.neighbour.score,
            reasons=tuple(reasons),
            nearest=entry,
        )

    def _share(self, kept: Sequence[Found], same: Sequence[bool]) -> float:
        """The share of the neighbours' weight that is with the answer of the nearest."""
        if self.margin is None:
            return 1.0
        top = kept[0].neighbour.score
        weights = [math.exp((each.neighbour.score - top) / self.margin) for each in kept]
        return sum(weight for weight, alike in zip(weights, same, strict=True) if alike) / sum(weights)


def _same(one: Entry, other: Entry) -> bool:
    """Whether two entries give the same answer: word for word, or nearly and with nothing in conflict."""
    if one.reply == other.reply:
        return True
    (calls, text), (others, written) = _answer(one.reply), _answer(other.reply)
    if calls != others:
        return False
    if text == written:
        return True
    if calls or not text or not written:
        return False
    a, b = read(text), read(written)
    either = len(a.content | b.content)
    return bool(either) and len(a.content & b.content) >= _ALIKE * either and not conflicts(a, b)


@lru_cache(maxsize=4096)
def _answer(reply: str) -> tuple[str, str]:
    """What a reply answers: its tool calls without their ids, and its text without case and spacing."""
    try:
        message = json.loads(reply)
        calls = [(call["name"], call["args"]) for call in message.get("tool_calls", ())]
        content = message.get("content", "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "", reply
    told = json.dumps(calls, sort_keys=True) if calls else ""
    return told, " ".join(content.casefold().split()) if isinstance(content, str) else json.dumps(content)


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
