"""How many tokens each message has: counted once, and scaled by what the provider said of the prompt before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from langchain_core.messages import BaseMessage

if TYPE_CHECKING:
    from langchain_costguard.metering.pricing.estimate import Estimator
    from langchain_costguard.vocabulary.usage import ModelRef

_REMEMBERED = 4_000
_FAR = 3.0
"""A factor further from 1 than this says that something else is counted: images, a cache's own prompt."""

T = TypeVar("T")


class Memo(Generic[T]):
    """What was made of a message, by the object itself: asking again takes some 0.2 us."""

    __slots__ = ("_known", "_make")

    def __init__(self, make: Callable[[BaseMessage], T]) -> None:
        self._make = make
        self._known: dict[int, tuple[BaseMessage, object, T]] = {}

    def __call__(self, message: BaseMessage) -> T:
        """What is made of the message."""
        known = self._known.get(id(message))
        if known is not None and known[0] is message and known[1] is message.content:
            return known[2]
        made = self._make(message)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[id(message)] = message, message.content, made
        return made


class Sizes:
    """The tokens of messages one by one, for the family of a model."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._by_model: dict[str, Memo[int]] = {}

    def of(self, ref: ModelRef, messages: Sequence[BaseMessage]) -> list[int]:
        """The tokens of each message."""
        memo = self._by_model.get(ref.name)
        if memo is None:
            empty = self._estimator.estimate(ref, []).tokens
            memo = Memo(lambda message: max(1, self._estimator.estimate(ref, [message]).tokens - empty))
            if len(self._by_model) >= 16:
                self._by_model.clear()
            self._by_model[ref.name] = memo
        return list(map(memo, messages))


def scale(reported: int, estimated: int) -> float:
    """By what to multiply an estimate, given what the provider reported for the prompt before; both with system prompt
    and tools inside, without which the factor explodes: https://github.com/langchain-ai/langchain/pull/35002"""
    factor = reported / estimated if reported > 0 and estimated > 0 else 1.0
    return factor if 1 / _FAR <= factor <= _FAR else 1.0
