"""A server that failed is left alone for a while, so that an outage costs one time-out every few seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from langchain_costguard.caching.base import CacheError
from langchain_costguard.vocabulary.urls import worded

T = TypeVar("T")
REST = 5.0
"""Seconds. A cache is no store of balances: being without it is dear, but does no harm."""


class Outage:
    """Whether something answers, as far as is known."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = 0.0
        self._why = ""

    def ask(
        self,
        action: Callable[[], T],
        where: str,
        *,
        failing: tuple[type[Exception], ...],
        objecting: type[Exception],
    ) -> T:
        """What ``where`` answers. An objection is an answer, too: out of memory, a replica, another kind of key.

        Raises:
            CacheError: it did not answer, now or a moment ago.
        """
        self.check()
        try:
            answer = action()
        except objecting:
            self.over()
            raise
        except failing as error:
            raise self.failed(f"{where}: {worded(error)}") from error
        self.over()
        return answer

    def check(self) -> None:
        """Before it is asked; after an outage one caller looks, and the others do without it until that is known.

        Raises:
            CacheError: it failed a moment ago.
        """
        if self._until:
            now = self._clock()
            if now < self._until:
                raise CacheError(self._why)
            self._until = now + REST

    def over(self) -> None:
        """It answered."""
        if self._until:
            self._until = 0.0

    def failed(self, why: str) -> CacheError:
        """It did not answer; returns the error to raise."""
        self._until, self._why = self._clock() + REST, why
        return CacheError(why)
