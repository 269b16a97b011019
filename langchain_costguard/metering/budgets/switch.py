"""The emergency brake: a stop for all agents or for one, re-read at most every five seconds."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, Literal

from langchain_costguard.metering.budgets.halts import ALL as ALL
from langchain_costguard.metering.budgets.halts import halts_in
from langchain_costguard.metering.stores.base import Store
from langchain_costguard.observe.forks import held_over_forks
from langchain_costguard.vocabulary.checks import filed
from langchain_costguard.vocabulary.urls import without_password

log = logging.getLogger("langchain_costguard")

Source = Callable[[], Any]
_PREFIX = "halt:"
_STALE = 5.0
"""Seconds within which a stop must reach every process: an older answer is not stood on without asking."""


class KillSwitch:
    """Says whether an agent must stop.

    Args:
        source: Where the answer is from: a store; a callable that returns a bool, a reason, a mapping of agent name
            (``"*"`` for all) to reason, names of agents, None, or a document as ``halts_in`` reads it; the path of a
            file (there: stop all, its text is the reason; JSON: as the callable returns); or an http(s) URL (the same;
            an empty body or a 404: go on). What cannot be read is no answer.
        ttl: Seconds an answer is used before it is asked for again; at most 5.
        timeout: Seconds a call waits for a source at the most, and only where the last answer is 5 s old or more.
        keep: Seconds the last answer stands while the source fails.
        on_failure: What a source that fails for longer than ``keep`` means: ``"refuse"`` everything, or ``"allow"``.
        clock: Seconds that only go forward; a test passes its own.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(
        self,
        source: Store | Source | str | Path,
        *,
        ttl: float = 2.0,
        timeout: float = 0.25,
        keep: float = 60.0,
        on_failure: Literal["refuse", "allow"] = "refuse",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value, most in (("ttl", ttl, 5.0), ("timeout", timeout, 5.0), ("keep", keep, 86_400.0)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
                raise ValueError(f"{name}: {value!r} must be a number of seconds above zero and at most {most:g}")
        if on_failure not in ("refuse", "allow"):
            raise ValueError(f"on_failure: {on_failure!r} is not 'refuse' or 'allow'")
        self._source = source
        self._ask, self._slow = _asker(source, timeout)
        self._ttl, self._timeout, self._keep, self._on_failure = ttl, timeout, keep, on_failure
        self._clock = clock
        self._answer: Mapping[str, str] = {}
        self._ask_at = float("-inf")
        self._heard_at = float("-inf")
        self._lock = held_over_forks(threading.Lock())
        self._asking: _Asking | None = None
        self._complained = False

    def __repr__(self) -> str:
        halted = f", halted: {', '.join(sorted(self._answer))}" if self._answer else ""
        return f"KillSwitch({without_password(self._source)!r}{halted})"

    def halts(self) -> Mapping[str, str]:
        """What is halted, and why: agent name (``"*"`` is all) to reason. Empty when nothing is."""
        now = self._clock()
        if now >= self._ask_at:
            self._refresh(now)
        if now - self._heard_at < self._ttl + self._keep:
            return self._answer
        return {} if self._on_failure == "allow" else {ALL: "the kill switch cannot be read"}

    def reason(self, agent: str) -> tuple[str, str] | None:
        """Why ``agent`` must stop, as (halted name or ``"*"``, reason); None when it may go on."""
        halts = self.halts()
        if not halts:
            return None
        if ALL in halts:
            return ALL, halts[ALL]
        return (agent, halts[agent]) if agent in halts else None

    def due(self) -> bool:
        """Whether the next look asks the source, and may have to wait for it."""
        return self._clock() >= self._ask_at

    def expire(self) -> None:
        """Ask again at the next check: somebody in this process knows that the answer has changed."""
        self._ask_at = float("-inf")

    def _refresh(self, now: float) -> None:
        """Have the source asked, by one caller at a time; wait for it only where no answer is fresh enough."""
        with self._lock:
            asking = self._asking
            # After a fork the thread that asked is the parent's: nobody here would ever answer.
            if asking is not None and asking.pid == os.getpid():
                first = False
            elif now < self._ask_at:  # answered while this caller waited for the lock
                return
            else:
                first, asking = True, _Asking(self._timeout)
                self._asking = asking
        if first and not self._slow:
            self._read(asking)
            return
        if first:
            self._read_on_a_thread(asking)
        if now - self._heard_at >= _STALE:
            asking.answered.wait(max(0.0, asking.until - time.monotonic()))

    def _read_on_a_thread(self, asking: _Asking) -> None:
        """A source that may take its time (HTTP, a user's function) is asked on a thread: the check also runs on
        event loops. One that hangs for ever keeps its one thread, and is taken for one that fails."""
        try:
            threading.Thread(target=self._read, args=(asking,), daemon=True, name="costguard-switch").start()
        except RuntimeError:  # no more threads to be had, or the interpreter is ending
            self._answered(asking, None)

    def _read(self, asking: _Asking) -> None:
        answer: Mapping[str, str] | None = None
        try:
            answer = self._ask()
        except TypeError as error:
            if not self._complained:
                self._complained = True
                log.warning("the kill switch cannot be read, which is taken for no answer: %s", error)
        except Exception as error:
            log.debug("the kill switch's source failed: %r", error)
        finally:
            self._answered(asking, answer)

    def _answered(self, asking: _Asking, answer: Mapping[str, str] | None) -> None:
        now = self._clock()
        with self._lock:
            if answer is not None:
                self._answer, self._heard_at = answer, now
            self._ask_at = now + self._ttl
            if self._asking is asking:
                self._asking = None
        asking.answered.set()


class _Asking:
    """One question under way."""

    __slots__ = ("answered", "pid", "until")

    def __init__(self, timeout: float) -> None:
        self.answered = threading.Event()
        self.pid = os.getpid()
        self.until = time.monotonic() + timeout


def halt(store: Store, agent: str | None, reason: str) -> None:
    """Stop ``agent``, or with None all of them, in every process that shares the store.

    Raises:
        ValueError: the name is empty: that is nobody, and surely not everybody.
    """
    store.flag(_PREFIX + named(agent), reason or "stopped by an operator")


def revive(store: Store, agent: str | None) -> None:
    """Let ``agent`` go on; with None take back the stop for all.

    Raises:
        ValueError: the name is empty.
    """
    store.flag(_PREFIX + named(agent), None)


def named(agent: str | None) -> str:
    """Whom a stop is for, as its flag says it.

    Raises:
        ValueError: the name is empty.
    """
    if agent is not None and (not isinstance(agent, str) or not agent.strip()):
        raise ValueError(f"agent: {agent!r} names nobody; give a name, or leave it out for all")
    return ALL if agent is None else agent


def halted(store: Store) -> dict[str, str]:
    """What a store's switch says now: agent name (``"*"`` is all) to reason."""
    return {name[len(_PREFIX) :]: text for name, text in store.flags().items() if name.startswith(_PREFIX)}


def _asker(source: Any, timeout: float) -> tuple[Callable[[], Mapping[str, str]], bool]:
    """What asks the source and reads its answer, and whether it may take its time. A store's is no document: whatever
    an agent is called there, it is that agent."""
    if isinstance(source, (str, Path)):
        text = filed("source", source)
        if isinstance(source, str) and re.match(r"https?://[^/\s]", text):
            return (lambda: halts_in(_fetch(text, timeout))), True
        if text not in ("", ".") and "://" not in text and not Path(text).is_dir():
            return (lambda: halts_in(_load(Path(text)))), False
    elif not isinstance(source, type):
        if hasattr(source, "flags") and hasattr(source, "reserve"):
            return (lambda: halted(source)), False
        if callable(source) and not _is_async(source):
            return (lambda: halts_in(source())), True
    raise ValueError(f"source: {without_password(source)!r} is no store, plain callable, file path or http(s) URL")


def _is_async(source: Any) -> bool:
    return iscoroutinefunction(source) or iscoroutinefunction(getattr(source, "__call__", None))  # noqa: B004


def _fetch(url: str, timeout: float) -> Any:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=timeout) as reply:
            text: str = reply.read(65_536).decode("utf-8", "replace")
    except HTTPError as error:
        if error.code == 404:
            return None
        raise
    return _parse(text) if text.strip() else None


def _load(path: Path) -> Any:
    try:
        text = path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return None
    return _parse(text) if text.strip() else f"the file {path.name} is there"


def _parse(text: str) -> Any:
    text = text.strip()
    if text[:1] in "{[tfn":
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
