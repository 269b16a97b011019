"""A thread as it is sent: results cut at birth, the edit of its last compaction, and whether another one is due."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING

from langchain_core.messages import BaseMessage, ToolMessage

from langchain_costguard.context.birth import FETCH, cut
from langchain_costguard.context.compaction import Aim, Cut, choose, record_of
from langchain_costguard.context.counting import Memo
from langchain_costguard.context.digest import digest
from langchain_costguard.context.messages import SUMMARY, calls_in, key_of, plain, text_of
from langchain_costguard.context.record import Record, edited, holds
from langchain_costguard.context.repeats import reference, without_repeats
from langchain_costguard.context.timing import Edit, Prices, break_even, due, gain, lot
from langchain_costguard.metering.pricing.shapes import count_by_shape

if TYPE_CHECKING:
    from langchain_costguard.context.context import Context

FLOOR = 4_000
"""Tokens below which a prompt is left as it is, but for its long results."""
CALLS = 8
"""Calls before which it is."""
SUMMARY_TOKENS = 600
ROOM = 500
"""Tokens of history that a compaction leaves beside what is protected: measured, see ``bench_context.py``."""
_FETCHED = 1_000, 60
"""Tokens of a result that is fetched again, and of the call for it, until they are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a decision depends on besides the messages.

    Attributes:
        prices: Of the model that will be called.
        overhead: Tokens of tools and system prompt that are not among the messages.
        scale: By which estimates are multiplied.
        window: Tokens that a prompt may have; None: unknown.
        refetches: Expected of a compaction.
        summary: Nano-USD that a summary will take, of so many tokens in a prompt of so many.
        expects: Calls to come in a thread that has had so many.
    """

    prices: Prices
    overhead: int = 0
    scale: float = 1.0
    window: int | None = None
    refetches: float = 1.0
    summary: Callable[[int, int], int] = lambda gone, prompt: 0
    expects: Callable[[int], float] = float


@dataclass(frozen=True, slots=True)
class Plan:
    """A compaction that is due by the lot, and what it would come to."""

    cut: Cut
    edit: Edit
    calls: int
    """Calls since the one before."""
    expected: float
    """Calls to come in the thread."""
    break_even: float
    saving: int
    """Nano-USD over those calls, less what it costs."""
    forced: bool = False
    """Whether the window binds."""

    @property
    def pays(self) -> bool:
        """Whether to make it."""
        return self.forced or self.saving > 0


@dataclass(slots=True)
class Born:
    """The thread with its long results cut, and the wholes that somebody may ask for.

    ``again`` says that results are sent whole each time, though the same is shown above.
    """

    messages: list[BaseMessage]
    wholes: list[tuple[str, str]] = field(default_factory=list)
    again: bool = False


class Shaper:
    """Makes of a thread what is sent. Pure but for what it remembers of single messages."""

    def __init__(self, chosen: Context) -> None:
        self.chosen = chosen
        self.aim = Aim(keep=chosen.keep, room=ROOM, protect=tuple(chosen.protect))
        self.key = Memo(key_of)
        self._cuts: dict[int, Memo[BaseMessage]] = {}
        self._again = Memo(self._repeated)

    def cap(self, window: int | None) -> int:
        """The tokens that stay of a result; 0: all."""
        if self.chosen.cap is None:
            return 0
        return self.chosen.cap if window is None else max(50, min(self.chosen.cap, window // 20))

    def born(self, messages: Sequence[BaseMessage], cap: int) -> Born:
        """The messages with long results cut, and the wholes of what is cut or said again."""
        if not cap:
            return Born(list(messages), again=True)
        memo = self._cuts.get(cap)
        if memo is None:
            memo = self._cuts[cap] = Memo(partial(self._cut, cap))
        born, seen = Born([]), set[str]()
        for message in messages:
            if not isinstance(message, ToolMessage):
                born.messages.append(message)
                continue
            short = memo(message)
            born.messages.append(short)
            id, again = self._again(short)
            if id and (short is not message or (id in seen and again is not short)):
                born.wholes.append((id, text_of(message)))
            seen.add(id)
        return born

    def _exempt(self, message: ToolMessage) -> bool:
        name = message.name or ""
        if message.status == "error" or name == FETCH or not plain(message):
            return True
        return any(fnmatchcase(name, each) for each in self.chosen.exclude_tools)

    def _cut(self, cap: int, message: BaseMessage) -> BaseMessage:
        assert isinstance(message, ToolMessage)
        if self._exempt(message):
            return message
        text = text_of(message)
        id = _id(text)
        short = cut(text, cap, count_by_shape, id)
        if short is None:
            return message
        extra = {**message.additional_kwargs, SUMMARY: id}
        return message.model_copy(update={"content": short, "additional_kwargs": extra})

    def _repeated(self, message: BaseMessage) -> tuple[str, BaseMessage]:
        assert isinstance(message, ToolMessage)
        if self._exempt(message):
            return "", message
        text = text_of(message)
        id = message.additional_kwargs.get(SUMMARY) or _id(text)
        told = reference(text, id)
        if told is None:
            return id, message
        extra = {**message.additional_kwargs, SUMMARY: id}
        return id, message.model_copy(update={"content": told, "additional_kwargs": extra})

    def view(self, record: Record, born: Sequence[BaseMessage], *, again: bool = False) -> list[BaseMessage]:
        """The messages as the record has them; unless ``again``, with references for results that are shown above."""
        shown = edited(record, born)
        return shown if again else without_repeats(shown, self._again)

    def holds(self, record: Record, messages: Sequence[BaseMessage]) -> bool:
        """Whether the record is about this thread."""
        return holds(record, messages, self.key)

    def plan(
        self, born: Sequence[BaseMessage], sizes: Sequence[int], view_tokens: int, record: Record, now: Situation
    ) -> tuple[Plan | None, float]:
        """The compaction that is due, if one is; and the calls since the last one before which none will be, or none
        will pay."""
        before = int((view_tokens + now.overhead) * now.scale)
        forced = now.window is not None and before > now.window
        total = calls_in(born)
        if not forced and (before < FLOOR or total < CALLS):
            return None, 0.0
        found = choose(born, sizes, self.aim)
        if forced and (found is None or self._edit(found, sizes, before, now).after > (now.window or 0)):
            found = choose(born, sizes, replace(self.aim, keep=1, room=0)) or found
        if found is None:
            return None, 0.0
        edit = self._edit(found, sizes, before, now)
        calls = max(1, total - record.calls)
        growth = edit.gone / calls
        if not (forced and edit.gone > 0) and not due(edit, now.prices, growth, calls):
            return None, lot(edit, now.prices, growth) * 0.8
        expected, pays_after = now.expects(total), break_even(edit, now.prices)
        plan = Plan(found, edit, calls, expected, pays_after, gain(edit, now.prices, expected), forced)
        return plan, total * pays_after / expected * 0.9 - record.calls if expected else 0.0

    def _edit(self, found: Cut, sizes: Sequence[int], before: int, now: Situation) -> Edit:
        gone = sum(sizes[at] for at in found.dropped)
        summary = min(SUMMARY_TOKENS, gone)
        head = sum(sizes[at] for at in found.kept if at < found.at)
        rest = sum(sizes[at] for at in found.kept if at >= found.at) + sum(sizes[found.covered :]) + summary
        after, rewritten = (int(tokens * now.scale) for tokens in (now.overhead + head + rest, rest))
        whole, asked = _FETCHED
        price = now.prices
        fetch = (price.read * before + price.write * whole + price.output * asked) / 1_000
        made = now.summary(int(gone * now.scale), before)
        return Edit(before, after, rewritten, summary, made, int(fetch * now.refetches))

    def digest(self, born: Sequence[BaseMessage], found: Cut) -> str:
        """The summary without a model."""
        return digest([born[at] for at in found.dropped], SUMMARY_TOKENS, count_by_shape)

    def compacted(
        self, born: Sequence[BaseMessage], thread: Sequence[BaseMessage], plan: Plan, summary: str, before: Record
    ) -> Record:
        """The record of a compaction that is made now."""
        calls = calls_in(born)
        return record_of(plan.cut, summary, thread, self.key, before, calls=calls, tokens=plan.edit.after)


def _id(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
