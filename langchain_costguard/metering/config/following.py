"""Follows a configuration file while a program runs: a change is taken over in seconds, whole or not at all."""

from __future__ import annotations

import logging
import os
import threading
from typing import Protocol
from weakref import WeakSet

from langchain_costguard.metering.config.file import Configuration, load

log = logging.getLogger("langchain_costguard")
EVERY = 1.0
"""Seconds between two looks at the file's time and size."""

Stamp = tuple[int, int, int]


class Change(Protocol):
    """What hears of a change."""

    def __call__(self, configuration: Configuration) -> bool:
        """Take over what the file says now; false where there is nobody any more to do it for."""

    def over(self) -> bool:
        """Whether there is nobody any more."""


class Follower:
    """Looks at a file on a thread of its own, for as long as somebody wants to hear of it.

    Args:
        path: The file.
        change: Takes what the file says now. Where it raises a ``ValueError``, what was stands.
        stamp: That of the file when it was read.
    """

    def __init__(self, path: str, change: Change, stamp: Stamp | None) -> None:
        self._path = path
        self._change = change
        self._stamp = stamp
        self._begin()
        _followers.add(self)

    def _begin(self) -> None:
        self._over = threading.Event()
        threading.Thread(target=self._run, args=(self._over,), name="costguard-config", daemon=True).start()

    def _run(self, over: threading.Event) -> None:
        while not over.wait(EVERY):
            if self._change.over():
                return
            self.look()

    def look(self) -> None:
        """Take the file over, if it is not as it was."""
        stamp = stamp_of(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._change(load(self._path))
        except ValueError as error:
            log.error("%s; what it said before stands", error)
        else:
            log.info("%s has changed, and is taken over", self._path)


def stamp_of(path: str) -> Stamp | None:
    """What changes when a file does; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


_followers: WeakSet[Follower] = WeakSet()


def _begin_again() -> None:
    """A forked child has none of its parent's threads."""
    for follower in list(_followers):
        follower._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again)
