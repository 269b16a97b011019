"""Locks that a fork waits for: a child inherits each lock as it is, but not the thread that would give it back."""

from __future__ import annotations

import os
from typing import Protocol, TypeVar
from weakref import WeakSet


class Lock(Protocol):
    """As in ``threading``."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool:
        """Take it."""

    def release(self) -> None:
        """Give it back."""


L = TypeVar("L", bound=Lock)
_PATIENCE = 1.0
"""Seconds: of two threads, one may hold what the other wants, and the other what the fork has taken already."""
_locks: WeakSet[Lock] = WeakSet()
_taken: list[Lock] = []


def held_over_forks(lock: L) -> L:
    """The lock. Whoever forks takes it first, so that what it guards is whole in the child, and the lock free."""
    _locks.add(lock)
    return lock


def _take_all() -> None:
    for lock in sorted(_locks, key=id):
        if lock.acquire(timeout=_PATIENCE):
            _taken.append(lock)  # noqa: PERF401 - what was taken is given back, whatever becomes of the next


def _give_all_back() -> None:
    while _taken:
        _taken.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take_all, after_in_parent=_give_all_back, after_in_child=_give_all_back)
