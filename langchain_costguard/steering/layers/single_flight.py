"""Who gets which answer: for others one of many, and in this context whoever it is that waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from langchain_costguard.caching.base import Answers

_PATIENCE = 120.0
"""Seconds for which others wait for an answer that one of them is getting."""


class Claim:
    """A claim to get an answer. Once dropped it is not held, even if a thread that nobody waits for is about to take
    it: that looks at ``dropped`` once it has taken, and who drops it looks at ``taken`` after saying so."""

    def __init__(self, cache: Answers, key: str) -> None:
        self.cache = cache
        self.key = key
        self.holder = uuid4().hex
        self.taken = False
        self.dropped = False

    def take(self, now: float) -> bool:
        """Whether it is ours now."""
        self.taken = self.cache.claim(self.key, self.holder, until=now + _PATIENCE, now=now)
        if self.dropped:
            self.cache.release(self.key, self.holder)
        return self.taken

    def drop(self) -> None:
        """Let others have a try."""
        self.dropped = True
        if self.taken:
            self.cache.release(self.key, self.holder)


class _Getting:
    """That the code which runs here gets an answer; ``over`` once it has."""

    __slots__ = ("key", "over")

    def __init__(self, key: str) -> None:
        self.key = key
        self.over = False


_getting: ContextVar[tuple[_Getting, ...]] = ContextVar("costguard_getting", default=())


@contextmanager
def getting(key: str) -> Iterator[None]:
    """Note that whoever runs here gets this answer: so does all it calls, and whatever it starts meanwhile."""
    this = _Getting(key)
    _getting.set((*(each for each in _getting.get() if not each.over), this))
    try:
        yield
    finally:
        this.over = True  # no reset: a stream may be closed in another context than it was read in


def gets_it_here(key: str) -> bool:
    """Whether whoever runs here gets this answer already, further out or in a stream not read yet, and would wait for
    itself."""
    return any(each.key == key and not each.over for each in _getting.get())
