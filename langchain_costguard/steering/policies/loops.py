"""Is an agent stuck? Judged from its last tool calls and what came of them, so nothing has to be remembered.

Every call of the window is judged against those before it:

* **news**: it tells something the window has not told before, or it is the first call of its tool.
* **again**: a call made before, or a question asked before in much the same words, and no news: 2 points.
* **dull**: any other call of a tool used before, and no news: 1 point.
* **moved**: a call made before that now has an answer never seen: the world moves (a poll, the next screen), and
  what was gathered before counts no longer.

Three points are a loop. Content (an edit, a letter) earns no points, for trying another text is work: it is a loop
when repeated to the letter, or as one of five calls of one tool that bring no news. Nor does an answer that hardly
says anything ("ok", or nothing at all) to another call: a list of deeds is worked through that way. Where results are
not known, no call brings news.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from langchain_costguard.steering.policies.likeness import alike, is_query, news, parsed, same, spoken, words
from langchain_costguard.steering.policies.steps import NUDGE, Step, nudges, recent
from langchain_costguard.vocabulary.slips import forgiving

__all__ = ["NUDGE", "Kind", "Loop", "LoopDetector", "Step", "nudges", "recent"]

Kind = Literal["repeat", "near-repeat", "cycle", "failures", "one-tool"]

_ACKNOWLEDGEMENT = 6
"""Words, but for those that echo the call, below which like answers to different calls ("ok", "deleted a.txt") say
nothing about progress either way."""


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
    NEWS, MOVED, DULL, AGAIN, SILENT = range(5)


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
        if not isinstance(self.by_name, bool):
            raise ValueError(f"by_name: {self.by_name!r} must be True or False")

    @classmethod
    def simple(cls) -> LoopDetector:
        """The base rule alone: of the last five calls more than 80 % are of one tool. Stops paging and lists, too."""
        return cls(window=5, by_name=True)

    def check(self, steps: Sequence[Step]) -> Loop | None:
        """The loop that the newest step completes, if any. Oldest first; only the last ``window`` are looked at."""
        seen = [_read(step) for step in steps[-self.window :]]
        if len(seen) < 2:
            return None
        if self.by_name:
            return self._one_tool(seen, [_Did.DULL] * len(seen))
        newest = self._did(seen[-1], seen[:-1])
        failures = self._failures(seen)
        if failures or newest in (_Did.NEWS, _Did.MOVED):
            return failures
        did = [self._did(step, seen[:i]) for i, step in enumerate(seen[:-1])] + [newest]
        since = max((i for i, what in enumerate(did) if what is _Did.MOVED), default=0)
        seen, did = seen[since:], did[since:]
        return self._repeat(seen) or _cycle(seen) or self._points(seen, did) or self._one_tool(seen, did)

    def _did(self, step: Step, before: Sequence[Step]) -> _Did:
        earlier = [other for other in before if other.name == step.name]
        if not earlier:
            return _Did.NEWS
        calls = [other for other in earlier if same(step.arguments, other.arguments)]
        if step.result is None:
            return _Did.AGAIN if calls or self._is_reworded(step, earlier) else _Did.DULL
        if calls:
            if all(other.result != step.result and other.result is not None for other in calls):
                return _Did.MOVED
            return _Did.AGAIN if words(step.result) else _Did.SILENT
        new, own = news(step.result, [other.result for other in before if other.result], step.arguments)
        if new <= self.reworded_news and self._is_reworded(step, earlier):
            return _Did.AGAIN
        if own > self.news:
            return _Did.NEWS
        return _Did.SILENT if _acknowledged(step, earlier) else _Did.DULL

    def _is_reworded(self, step: Step, earlier: Sequence[Step]) -> bool:
        return any(alike(step.arguments, other.arguments, self.likeness) for other in earlier)

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

    def _repeat(self, seen: Sequence[Step]) -> Loop | None:
        newest = seen[-1]
        times = sum(_same(newest, step) for step in seen)
        if times < self.repeats + (not is_query(newest.arguments)):
            return None
        return Loop("repeat", newest.name, times, f"{newest.name} was called {times} times with the same result")

    def _points(self, seen: Sequence[Step], did: Sequence[_Did]) -> Loop | None:
        asked = [what if is_query(step.arguments) else _Did.SILENT for step, what in zip(seen, did, strict=True)]
        again, dull = asked.count(_Did.AGAIN), asked.count(_Did.DULL)
        if asked[-1] is _Did.SILENT or 2 * again + dull < self.points:
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


def _acknowledged(step: Step, earlier: Sequence[Step]) -> bool:
    said = words(step.result or "") - spoken(step.arguments)
    return len(said) < _ACKNOWLEDGEMENT and (
        not said or any(said == words(other.result or "") - spoken(other.arguments) for other in earlier)
    )


def _same(one: Step, other: Step) -> bool:
    if one.name != other.name or not same(one.arguments, other.arguments):
        return False
    return one.result is None or other.result is None or one.result == other.result


def _error(step: Step) -> frozenset[str]:
    return frozenset(word for word in words(step.result or "") if word.isalpha())
