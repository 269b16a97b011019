"""Is an agent stuck? Judged from its last tool calls and what came of them, so nothing has to be remembered.

Every call of the window is judged against those before it:

* **news**: it tells something the window has not told before, or it is the first call of its tool.
* **again**: a call made before, or a question asked before in much the same words, and no news: 2 points.
* **dull**: any other call of a tool used before, and no news: 1 point.
* **moved**: a call made before that now has an answer never seen: the world moves (a poll, the next screen), and
  what was gathered before counts no longer.
* **checked**: a call made before, with the answer it had, but after work (an edit, a deed) or a pause, or the answer
  says that something is under way: constant results say nothing, what happened between them does.

Three points are a loop. A like question about another thing that is answered by something new is one of a batch,
whatever the wording. Queries and commands (code) are mended until they work: each further error that is another one
earns nothing, and one point more is asked for. Content (an edit, a letter) earns no points, for trying another text is
work: it is a loop when repeated to the letter, or as one of five calls of one tool that bring no news. Nor does an
answer that hardly says anything ("ok", or nothing at all) to another call: a list of deeds is worked through that way.
Where results are not known, no call brings news.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Literal

from langchain_costguard.steering.policies.likeness import is_query, news, parsed, reworded, same, spoken, words
from langchain_costguard.steering.policies.purpose import (
    is_barren,
    is_code,
    is_pause,
    is_under_way,
    other_thing,
    substituted,
)
from langchain_costguard.steering.policies.steps import NUDGE, Mark, Step, marked, nudges, recent
from langchain_costguard.vocabulary.checks import listed
from langchain_costguard.vocabulary.slips import forgiving

__all__ = ["NUDGE", "Kind", "Loop", "LoopDetector", "Step", "marked", "nudges", "recent"]

_NO_MARKS: Mapping[str, Mark] = MappingProxyType({})
Kind = Literal["repeat", "near-repeat", "cycle", "failures", "one-tool"]

_ACKNOWLEDGEMENT = 6
"""Words, but for those that echo the call, below which like answers to different calls ("ok", "deleted a.txt") say
nothing about progress either way."""
_POLITE = 20
"""The same for a longer sentence that has no figures and does not say that it failed."""
_ASIDE = ("transfer_to_*", "transfer_back_to_*", "handoff_*", "hand_off_*", "write_todos")
"""Tools whose answers are always the same: hand-offs of LangGraph's supervisor and swarm, LangChain's to-do list."""


@dataclass(frozen=True, slots=True)
class Loop:
    """The verdict: what kind of loop, its (first) tool, and how many of the window's calls belong to it.

    ``why`` is one sentence for people and traces: names of tools and counts, never what was said.
    """

    kind: Kind
    tool: str
    times: int
    why: str


class _Did(IntEnum):
    NEWS, MOVED, DULL, AGAIN, SILENT, CHECKED = range(6)


@forgiving()
@dataclass(frozen=True, kw_only=True)
class LoopDetector:
    """Says whether the newest call completes a loop.

    Args:
        window: Tool calls looked at.
        repeats: How often the same call has to have the same result; content one time more, for agents do get out
            of three identical edits. (OpenHands' stuck detector stops at 3 errors alike, and 4 other results.)
        same_tool: The base rule: of so many last calls more than 80 % are of one tool, and none brought news.
        likeness: Share of the shorter question's words, two at least, that make another one the same reworded.
        news: A result is news when more than this share of its words is new to the window and no echo of the call,
            or a number is.
        reworded_news: The same for the answer to a reworded question, all its words counted: such answers always
            differ a little.
        points: See the module; 3 are a loop.
        by_name: Judge by the base rule and the tools' names alone, whatever the calls brought.
        exempt: Names of tools, or patterns with ``*``, whose calls are no evidence: polls, notes. A tool can say so
            itself: ``tool.metadata = {"costguard": "poll"}``, or ``"handoff"``, ``"note"``.

    Raises:
        ValueError: names the field and the value.
    """

    window: int = 12
    repeats: int = 3
    same_tool: int = 5
    likeness: float = 0.5
    news: float = 0.1
    reworded_news: float = 0.8
    points: int = 3
    by_name: bool = False
    exempt: Collection[str] = ()

    def __post_init__(self) -> None:
        for name, least, most in (("window", 2, 100), ("repeats", 2, 100), ("same_tool", 2, 100), ("points", 1, 100)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"{name}: {value!r} must be a whole number from {least} to {most}")
        for name in ("likeness", "news", "reworded_news"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
                raise ValueError(f"{name}: {value!r} must be a share above 0, at most 1")
        for name in ("repeats", "same_tool"):
            if getattr(self, name) > self.window:
                raise ValueError(f"{name}: {getattr(self, name)!r} calls do not fit into a window of {self.window}")
        listed("exempt", self.exempt, "names of tools, such as ('job_status', 'wait_*')")
        if not isinstance(self.by_name, bool):
            raise ValueError(f"by_name: {self.by_name!r} must be True or False")

    @classmethod
    def simple(cls) -> LoopDetector:
        """The base rule alone: of the last five calls more than 80 % are of one tool. Stops paging and lists, too."""
        return cls(window=5, by_name=True)

    def check(self, steps: Sequence[Step], marks: Mapping[str, Mark] = _NO_MARKS) -> Loop | None:
        """The loop that the newest step completes, if any. Oldest first; only the last ``window`` are looked at.

        Args:
            steps: The calls and what came of them.
            marks: What tools say they are; see ``marked``.
        """
        last = steps[-self.window :]
        if self.by_name:
            return self._one_tool([_read(step) for step in last], [_Did.DULL] * len(last))
        if not last or self._is_aside(last[-1], marks):
            return self._handed_round(last, marks)
        seen = [_read(step) for step in last if not self._is_aside(step, marks)]
        if len(seen) < 2:
            return None
        if failures := self._failures(seen):
            return failures
        if self._is_news(seen[-1], seen[:-1]):
            return None
        did: list[_Did] = []
        for i, step in enumerate(seen):
            did.append(self._did(step, seen[:i], did))
        if all(_same(step, seen[-1]) for step in seen) and len(seen) == self.window:
            return _repeated(seen[-1], len(seen))
        if did[-1] in (_Did.NEWS, _Did.MOVED, _Did.CHECKED):
            return None
        since = max((i for i, what in enumerate(did) if what is _Did.MOVED), default=0)
        seen, did = seen[since:], did[since:]
        return self._repeat(seen, did) or _cycle(seen) or self._points(seen, did) or self._one_tool(seen, did)

    def _is_aside(self, step: Step, marks: Mapping[str, Mark]) -> bool:
        """Whether a call is no evidence of anything."""
        return step.name in marks or any(fnmatchcase(step.name, name) for name in (*_ASIDE, *self.exempt))

    def _handed_round(self, last: Sequence[Step], marks: Mapping[str, Mark]) -> Loop | None:
        """Hand-offs and notes alone, each of them made before: nothing happens between them."""
        alone = last[-2 * self.repeats :]
        if len(alone) < 2 * self.repeats or any(marks.get(step.name) == "poll" for step in alone):
            return None
        rounds, exempt = Counter((step.name, str(step.arguments)) for step in alone), self.exempt
        if min(rounds.values()) < 2 or not all(self._is_aside(step, marks) for step in alone):
            return None
        if any(fnmatchcase(step.name, name) for step in alone for name in exempt):
            return None
        return Loop("cycle", alone[-1].name, len(alone), f"{len(alone)} calls in a row only handed on or took notes")

    def _is_news(self, step: Step, before: Sequence[Step]) -> bool:
        """Whether the call needs no look at what the others did: most are news, and this is asked after each."""
        return not any(_is_call(step, other) for other in before) and self._did(step, before, ()) is _Did.NEWS

    def _did(self, step: Step, before: Sequence[Step], did: Sequence[_Did]) -> _Did:
        earlier = [other for other in before if other.name == step.name]
        if not earlier:
            return _Did.NEWS
        calls = [i for i, other in enumerate(before) if _is_call(step, other)]
        code = is_code(step.arguments)
        in_words = not calls and (step.result is None or not code)
        alike = [o for o in earlier if reworded(step.arguments, o.arguments, self.likeness)] if in_words else []
        if step.result is None:
            return _Did.AGAIN if calls or alike else _Did.DULL
        if calls:
            return self._made_before(step, before, did, calls)
        new, own = news(step.result, [other.result for other in before if other.result], step.arguments)
        barren = is_barren(step.result)
        if alike and own > self.news and not barren and _is_of_a_batch(step, alike):
            return _Did.NEWS
        acknowledged = _acknowledged(step, earlier)
        if alike and new <= self.reworded_news and not (acknowledged and _fills_in(step, alike)):
            return _Did.AGAIN
        if own > self.news:
            return _Did.NEWS
        if code and barren and words(step.result):
            return _Did.DULL if any(_answered(step, other) for other in earlier) else _Did.SILENT
        return _Did.SILENT if acknowledged else _Did.DULL

    def _made_before(self, step: Step, before: Sequence[Step], did: Sequence[_Did], calls: Sequence[int]) -> _Did:
        result = step.result or ""
        if all(before[i].result not in (result, None) for i in calls):
            return _Did.MOVED
        last = calls[-1] + 1
        if is_under_way(result) or any(is_pause(other.name, other.arguments) for other in (*before[last:], step)):
            return _Did.CHECKED
        if any(_is_work(step, other, what) for other, what in zip(before[last:], did[last:], strict=True)):
            return _Did.DULL if is_barren(result) and words(result) else _Did.CHECKED
        return _Did.AGAIN if words(result) else _Did.SILENT

    def _failures(self, seen: Sequence[Step]) -> Loop | None:
        """The last calls were of one tool and failed alike but for numbers (request ids), whatever their arguments."""
        newest = seen[-1]
        if not newest.failed:
            return None
        error = _error(newest)
        ended = (i for i, s in enumerate(reversed(seen)) if not s.failed or s.name != newest.name or _error(s) != error)
        times = next(ended, len(seen))
        if times < self.repeats:
            return None
        return Loop("failures", newest.name, times, f"{newest.name} failed {times} times in a row with the same error")

    def _repeat(self, seen: Sequence[Step], did: Sequence[_Did]) -> Loop | None:
        newest = seen[-1]
        counted = (_Did.NEWS, _Did.AGAIN, _Did.SILENT, _Did.MOVED)
        times = sum(_same(newest, step) and what in counted for step, what in zip(seen, did, strict=True))
        if did[-1] not in counted or times < self.repeats + (not is_query(newest.arguments)):
            return None
        return _repeated(newest, times)

    def _points(self, seen: Sequence[Step], did: Sequence[_Did]) -> Loop | None:
        asked = [what if is_query(step.arguments) else _Did.SILENT for step, what in zip(seen, did, strict=True)]
        again, dull = asked.count(_Did.AGAIN), asked.count(_Did.DULL)
        mending = seen[-1].result is not None and is_code(seen[-1].arguments)
        if asked[-1] is _Did.SILENT or 2 * again + dull < self.points + mending:
            return None
        why = f"{again + dull} of the last {len(seen)} calls brought nothing new, {again} of them asked again"
        return Loop("near-repeat", seen[-1].name, again + dull, why)

    def _one_tool(self, seen: Sequence[Step], did: Sequence[_Did]) -> Loop | None:
        name, last = seen[-1].name, range(max(0, len(seen) - self.same_tool), len(seen))
        times = sum(seen[i].name == name for i in last)
        # The first of them may have brought news; nobody knows of a call that came before the window.
        idle = all(did[i] in (_Did.DULL, _Did.AGAIN) for i in last[1:])
        if len(last) < self.same_tool or times * 5 <= self.same_tool * 4 or not idle:
            return None
        what = "" if self.by_name else " and brought nothing new"
        return Loop("one-tool", name, times, f"{times} of the last {len(last)} calls were of {name}{what}")


def _read(step: Step) -> Step:
    return step if type(step.arguments) is dict else step._replace(arguments=parsed(step.arguments))


def _cycle(seen: Sequence[Step]) -> Loop | None:
    """The last two calls, two different ones, came in this order before, with the same results."""
    if len(seen) < 4 or _same(a := seen[-2], b := seen[-1]):
        return None
    times = 1 + sum(_same(a, seen[i - 1]) and _same(b, seen[i]) for i in range(1, len(seen) - 2))
    if times < 2:
        return None
    return Loop("cycle", a.name, 2 * times, f"{a.name} and then {b.name}, {times} times with the same results")


def _repeated(step: Step, times: int) -> Loop:
    return Loop("repeat", step.name, times, f"{step.name} was called {times} times with the same result")


def _is_call(step: Step, other: Step) -> bool:
    return step.name == other.name and same(step.arguments, other.arguments)


def _is_of_a_batch(step: Step, alike: Sequence[Step]) -> bool:
    """Whether a question like others is about another thing than each: it fills in the same frame, or is told of it."""
    told = words(step.result or "").difference(*(words(other.result or "") for other in alike))
    things = [other_thing(step.arguments, other.arguments) for other in alike]
    return (all(things) and _fills_in(step, alike)) or all(thing & told for thing in things)


def _fills_in(step: Step, alike: Sequence[Step]) -> bool:
    return all(substituted(step.arguments, other.arguments) for other in alike)


def _answered(step: Step, other: Step) -> bool:
    return words(step.result or "") == words(other.result or "")


def _is_work(step: Step, other: Step, did: _Did) -> bool:
    """Whether something was done that makes it right to look again: an edit, a deed, or news where nothing is asked."""
    if other.result is not None and is_barren(other.result):
        return False
    if not is_query(other.arguments):
        return did is not _Did.AGAIN
    return did is _Did.SILENT or (did is _Did.NEWS and other.name != step.name and not spoken(step.arguments))


def _acknowledged(step: Step, earlier: Sequence[Step]) -> bool:
    said = words(step.result or "") - spoken(step.arguments)
    if not said:
        return True
    polite = len(said) < _POLITE and not is_barren(step.result or "") and not any(map(_has_digit, said))
    return (len(said) < _ACKNOWLEDGEMENT or polite) and any(
        said == words(other.result or "") - spoken(other.arguments) for other in earlier
    )


def _has_digit(word: str) -> bool:
    return any(map(str.isdigit, word))


def _same(one: Step, other: Step) -> bool:
    if one.name != other.name or not same(one.arguments, other.arguments):
        return False
    return one.result is None or other.result is None or one.result == other.result


def _error(step: Step) -> frozenset[str]:
    return frozenset(word for word in words(step.result or "") if word.isalpha())
