"""A thread as it is sent: results cut at birth, the edit of its last compaction, and whether another one is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage, ToolMessage

from langchain_costguard.context.birth import FETCH, cut
from langchain_costguard.context.compaction import Aim, Cut, choose, record_of
from langchain_costguard.context.counting import Memo
from langchain_costguard.context.digest import digest
from langchain_costguard.context.messages import SUMMARY, calls_in, key_of, plain, text_of
from langchain_costguard.context.record import Record, edited, holds
from langchain_costguard.context.timing import Edit, Prices, break_even, due, lot
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
        summary: Nano-USD that a summary will take.
    """

    prices: Prices
    overhead: int = 0
    scale: float = 1.0
    window: int | None = None
    refetches: float = 1.0
    summary: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A compaction that is due, and why."""

    cut: Cut
    edit: Edit
    calls: int
    """Calls since the one before."""
    growth: float
    expected: float
    """Calls to the next one: the economic lot."""
    break_even: float
    forced: bool = False
    """Whether the window binds."""


@dataclass(slots=True)
class Born:
    """The thread with its long results cut, and of those the wholes that were not stashed before."""

    messages: list[BaseMessage]
    wholes: list[tuple[str, str]] = field(default_factory=list)


class Shaper:
    """Makes of a thread what is sent. Pure but for what it remembers of single messages."""

    def __init__(self, chosen: Context) -> None:
        self.chosen = chosen
        self.aim = Aim(keep=chosen.keep, room=ROOM, protect=tuple(chosen.protect))
        self.key = Memo(key_of)
        self._cuts: dict[tuple[int, bool], Memo[tuple[BaseMessage, str]]] = {}

    def cap(self, window: int | None) -> int:
        """The tokens that stay of a result; 0: all."""
        if self.chosen.cap is None:
            return 0
        return self.chosen.cap if window is None else max(50, min(self.chosen.cap, window // 20))

    def born(self, messages: Sequence[BaseMessage], cap: int, stashed: Any, *, fetchable: bool) -> Born:
        """The messages with long results cut; ``stashed`` tells which ids are kept already."""
        if not cap:
            return Born(list(messages))
        memo = self._cuts.get((cap, fetchable))
        if memo is None:
            memo = self._cuts[cap, fetchable] = Memo(partial(self._cut, cap, fetchable))
        born = Born([])
        for message in messages:
            if not isinstance(message, ToolMessage):
                born.messages.append(message)
                continue
            short, id = memo(message)
            born.messages.append(short)
            if id and id not in stashed:
                born.wholes.append((id, text_of(message)))
        return born

    def _cut(self, cap: int, fetchable: bool, message: BaseMessage) -> tuple[BaseMessage, str]:
        assert isinstance(message, ToolMessage)
        name = message.name or ""
        exempt = message.status == "error" or name == FETCH or not plain(message)
        if exempt or any(fnmatchcase(name, each) for each in self.chosen.exclude_tools):
            return message, ""
        text = text_of(message)
        id = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
        short = cut(text, cap, count_by_shape, id if fetchable else "")
        if short is None:
            return message, ""
        extra = {**message.additional_kwargs, SUMMARY: id}
        return message.model_copy(update={"content": short, "additional_kwargs": extra}), id

    def view(self, record: Record, born: Sequence[BaseMessage]) -> list[BaseMessage]:
        """The messages as the record has them."""
        return edited(record, born)

    def holds(self, record: Record, messages: Sequence[BaseMessage]) -> bool:
        """Whether the record is about this thread."""
        return holds(record, messages, self.key)

    def plan(
        self, born: Sequence[BaseMessage], sizes: Sequence[int], view_tokens: int, record: Record, now: Situation
    ) -> tuple[Plan | None, float]:
        """The compaction that is due, if one is; and the calls since the last one before which none will be."""
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
        expected = lot(edit, now.prices, growth)
        if not (forced and edit.gone > 0) and not due(edit, now.prices, growth, calls):
            return None, expected * 0.8
        return Plan(found, edit, calls, growth, expected, break_even(edit, now.prices), forced), 0.0

    def _edit(self, found: Cut, sizes: Sequence[int], before: int, now: Situation) -> Edit:
        summary = min(SUMMARY_TOKENS, sum(sizes[at] for at in found.dropped))
        head = sum(sizes[at] for at in found.kept if at < found.at)
        rest = sum(sizes[at] for at in found.kept if at >= found.at) + sum(sizes[found.covered :]) + summary
        after, rewritten = (int(tokens * now.scale) for tokens in (now.overhead + head + rest, rest))
        whole, asked = _FETCHED
        price = now.prices
        fetch = (price.read * before + price.write * whole + price.output * asked) / 1_000
        return Edit(before, after, rewritten, summary, now.summary, int(fetch * now.refetches))

    def digest(self, born: Sequence[BaseMessage], found: Cut) -> str:
        """The summary without a model."""
        return digest([born[at] for at in found.dropped], SUMMARY_TOKENS, count_by_shape)

    def compacted(
        self, born: Sequence[BaseMessage], thread: Sequence[BaseMessage], plan: Plan, summary: str, before: Record
    ) -> Record:
        """The record of a compaction that is made now."""
        calls = calls_in(born)
        return record_of(plan.cut, summary, thread, self.key, before, calls=calls, tokens=plan.edit.after)
