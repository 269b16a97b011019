"""What a policy would have come to on recorded conversations: money, tokens, and what is still there when it is used.

Nothing is asked of a model. A reply of the recording is one call, whose context is what the policy makes of the
messages before it. Money is that of a provider's cache that is always warm within a conversation: what begins like the
call before is read, the rest written. What cannot be seen: whether the model would have answered otherwise.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_costguard.context.facts import identifiers, words
from langchain_costguard.context.messages import by_user, text_of
from langchain_costguard.context.timing import Prices

Conversation = Sequence[BaseMessage]
RARE = 0.1
"""A plain word counts where at most this share of the conversations has it."""
_REQUEST = 60
"""Output tokens of a call that fetches something again."""
_LEAST = 1_024
"""Tokens that a prompt needs to be kept by the provider."""
_HALF = 2
"""A result is fetched again for the sake of words where at least one in so many of those used is gone."""


class View(NamedTuple):
    """What a policy sends: messages, and a version that changes with the old part of them."""

    messages: Sequence[BaseMessage]
    version: int
    summary: float = 0.0
    """Pico-USD paid for a summary on the way."""


Playing = Callable[[int], View]
Policy = Callable[[Conversation], Playing]
"""A policy is given a conversation, and then asked for the view before each reply by its position."""


class Used(NamedTuple):
    """A fact of a reply that came from an older tool result: its position, and whether it is a plain word."""

    source: int
    word: bool
    fact: str


@dataclass(slots=True)
class Outcome:
    """What a policy came to on one conversation. Money is pico-USD."""

    usd: float = 0.0
    refetched: float = 0.0
    calls: int = 0
    tokens: int = 0
    breaks: int = 0
    without_task: int = 0
    ids: list[int] = field(default_factory=lambda: [0, 0])
    words: list[int] = field(default_factory=lambda: [0, 0])
    """Still there, and used."""

    @property
    def money(self) -> float:
        """With what would have been fetched again."""
        return self.usd + self.refetched


class Measure:
    """Conversations, and what their replies refer to; ``size`` gives the tokens of a message."""

    def __init__(self, conversations: Sequence[Conversation], size: Callable[[BaseMessage], int]) -> None:
        self.conversations = list(conversations)
        self.size = size
        self._facts: dict[str, tuple[list[str], set[str]]] = {}
        found: Counter[str] = Counter()
        for conversation in self.conversations:
            found.update(set().union(*(self._read(said(m))[1] for m in conversation)) if conversation else ())
        most = max(2, int(len(self.conversations) * RARE))
        self._common = {word for word, times in found.items() if times > most}
        self.used = [self._used(conversation) for conversation in self.conversations]

    def only(self, positions: Sequence[int]) -> Measure:
        """The same for some of the conversations; what is rare stays as it is among all."""
        chosen = copy(self)
        chosen.conversations = [self.conversations[at] for at in positions]
        chosen.used = [self.used[at] for at in positions]
        return chosen

    def _read(self, text: str) -> tuple[list[str], set[str]]:
        if text not in self._facts:
            self._facts[text] = identifiers(text), words(text)
        return self._facts[text]

    def _used(self, conversation: Conversation) -> dict[int, list[Used]]:
        """By reply, the facts that came from a tool result which was not the newest then, and from nobody else."""
        first: dict[tuple[bool, str], int] = {}
        given: set[tuple[bool, str]] = set()
        used: dict[int, list[Used]] = {}
        newest = 0
        for at, message in enumerate(conversation):
            ids, plain = self._read(said(message))
            facts = {(False, each) for each in ids} | {(True, each) for each in plain - self._common}
            if isinstance(message, ToolMessage):
                if at == 0 or not isinstance(conversation[at - 1], ToolMessage):
                    newest = at
                for fact in facts:
                    first.setdefault(fact, at)
            elif isinstance(message, AIMessage):
                until = newest if at and isinstance(conversation[at - 1], ToolMessage) else at
                old = sorted(f for f in facts - given if first.get(f, until) < until)
                used[at] = [Used(first[fact], *fact) for fact in old]
            else:
                given |= facts
        return used

    def play(self, policy: Policy, prices: Prices) -> list[Outcome]:
        """What the policy comes to on each of the conversations."""
        return [
            self._play(conversation, policy(conversation), used, prices)
            for conversation, used in zip(self.conversations, self.used, strict=True)
        ]

    def _play(
        self, conversation: Conversation, playing: Playing, used: dict[int, list[Used]], prices: Prices
    ) -> Outcome:
        outcome, before, version, again = Outcome(), list[tuple[str, int]](), -1, set[int]()
        task = next((text_of(m) for m in conversation if by_user(m)), "")
        for at, message in enumerate(conversation):
            if not isinstance(message, AIMessage):
                continue
            view = playing(at)
            if view.version != version:
                version, again = view.version, set()
            segments = [(said(each), self.size(each)) for each in view.messages]
            same = next((n for n, (a, b) in enumerate(zip(before, segments, strict=False)) if a != b), None)
            same = min(len(before), len(segments)) if same is None else same
            outcome.breaks += same < len(before)
            total, read = sum(size for _, size in segments), sum(size for _, size in segments[:same])
            read = read if read >= _LEAST else 0
            spent = read * prices.read + (total - read) * prices.write
            outcome.usd += spent + self.size(message) * prices.output + view.summary
            outcome.calls, outcome.tokens, before = outcome.calls + 1, outcome.tokens + total, segments
            outcome.without_task += task not in "\n".join(text for text, _ in segments)
            if used.get(at):
                lost = self._recalled(outcome, used[at], segments) - again
                again |= lost
                fetched = sum(self.size(conversation[source]) for source in lost) * prices.write
                outcome.refetched += fetched + len(lost) * (total * prices.read + _REQUEST * prices.output)
        return outcome

    def _recalled(self, outcome: Outcome, used: Iterable[Used], segments: Sequence[tuple[str, int]]) -> set[int]:
        """Count what is still there; the results that would have to be fetched again."""
        text = "\n".join(text for text, _ in segments)
        small = text.lower()
        lost: dict[int, list[int]] = {}
        for source, word, fact in used:
            there = fact in (small if word else text)
            counts = outcome.words if word else outcome.ids
            counts[0] += there
            counts[1] += 1
            gone = lost.setdefault(source, [0, 0, 0])
            gone[0] += not word and not there
            gone[1] += word and not there
            gone[2] += word
        return {source for source, (ids, gone, all_) in lost.items() if ids or (gone and gone * _HALF >= all_)}


def said(message: BaseMessage) -> str:
    """All a message says, its tool calls included."""
    text = text_of(message)
    if isinstance(message, AIMessage) and message.tool_calls:
        text += "\n" + "\n".join(f"{c['name']} {json.dumps(c['args'], ensure_ascii=False)}" for c in message.tool_calls)
    return text


def whole(conversation: Conversation) -> Playing:
    """No policy: everything, always."""
    return lambda at: View(conversation[:at], 0)
