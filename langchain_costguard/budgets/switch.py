"""The emergency brake: a stop for all agents or for one, re-read at most every five seconds."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import urlopen

from ..stores.base import Store

ALL = "*"
"""The flag that halts every agent; an agent's own flag is its name."""

Source = Callable[[], Any]
_PREFIX = "halt:"


class KillSwitch:
    """Says whether an agent must stop.

    Args:
        source: Where the answer is from: a store; a callable that returns a bool, a reason, a mapping of agent name
            (``"*"`` for all) to reason, or None; the path of a file (there: stop all, its text is the reason; a JSON
            object: agent to reason); or an http(s) URL (the same texts; an empty body or a 404 means go on).
        ttl: Seconds an answer is used before it is asked for again; at most 5.
        timeout: Seconds a source may take.
        keep: Seconds the last answer stands while the source fails.
        on_failure: What a source that fails for longer than ``keep`` means: ``"refuse"`` everything, or ``"allow"``.

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
    ) -> None:
        for name, value, most in (("ttl", ttl, 5.0), ("timeout", timeout, 5.0), ("keep", keep, 86_400.0)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
                raise ValueError(f"{name}: {value!r} must be a number of seconds above zero and at most {most:g}")
        if on_failure not in ("refuse", "allow"):
            raise ValueError(f"on_failure: {on_failure!r} is not 'refuse' or 'allow'")
        self._ask, self._slow = _asker(source, timeout)
        self._ttl, self._timeout, self._keep, self._on_failure = ttl, timeout, keep, on_failure
        self._answer: Mapping[str, str] = {}
        self._fresh_until = float("-inf")
        self._trusted_until = float("-inf")
        self._asking = threading.Lock()
        self._first = threading.Event()

    def halts(self) -> Mapping[str, str]:
        """What is halted, and why: agent name (``"*"`` is all) to reason. Empty when nothing is."""
        now = time.monotonic()
        if now >= self._fresh_until:
            self._refresh(now)
            now = time.monotonic()
        if now < self._trusted_until or self._on_failure == "allow":
            return self._answer
        return {ALL: "the kill switch cannot be read"}

    def reason(self, agent: str) -> tuple[str, str] | None:
        """Why ``agent`` must stop, as (halted name or ``"*"``, reason); None when it may go on."""
        halts = self.halts()
        if not halts:
            return None
        if ALL in halts:
            return ALL, halts[ALL]
        return (agent, halts[agent]) if agent in halts else None

    def _refresh(self, now: float) -> None:
        if not self._asking.acquire(blocking=False):
            return
        # A source that may take its time (HTTP, a user's function) is asked on a thread: the check also runs on
        # event loops. Only while there is no answer to stand on does the call wait for one, for the timeout.
        if not self._slow:
            self._read(now)
            return
        threading.Thread(target=self._read, args=(now,), daemon=True, name="costguard-switch").start()
        if now >= self._trusted_until:
            self._first.wait(self._timeout)

    def _read(self, now: float) -> None:
        try:
            try:
                self._answer = _halts(self._ask())
                self._trusted_until = time.monotonic() + self._ttl + self._keep
            except Exception:
                if self._trusted_until == float("-inf"):
                    self._trusted_until = now
            self._fresh_until = time.monotonic() + self._ttl
            self._first.set()
        finally:
            self._asking.release()


def halt(store: Store, agent: str | None, reason: str) -> None:
    """Stop ``agent``, or with None all of them, in every process that shares the store."""
    store.flag(_PREFIX + (agent or ALL), reason or "stopped by an operator")


def revive(store: Store, agent: str | None) -> None:
    """Let ``agent`` go on; with None take back the stop for all."""
    store.flag(_PREFIX + (agent or ALL), None)


def halted(store: Store) -> dict[str, str]:
    """What a store's switch says now: agent name (``"*"`` is all) to reason."""
    return {name[len(_PREFIX) :]: text for name, text in store.flags().items() if name.startswith(_PREFIX)}


def _asker(source: Any, timeout: float) -> tuple[Source, bool]:
    if hasattr(source, "flags") and hasattr(source, "reserve"):
        return (lambda: halted(source)), False
    if isinstance(source, str) and urlsplit(source).scheme in ("http", "https"):
        return (lambda: _fetch(source, timeout)), True
    if isinstance(source, (str, Path)) and "://" not in str(source):
        return (lambda: _load(Path(source))), False
    if callable(source):
        return source, True
    raise ValueError(f"source: {source!r} is no store, callable, file path or http(s) URL")


def _fetch(url: str, timeout: float) -> Any:
    from urllib.error import HTTPError

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


def _halts(answer: Any) -> Mapping[str, str]:
    if answer is None or answer is False:
        return {}
    if answer is True:
        return {ALL: "stopped by the kill switch"}
    if isinstance(answer, str):
        return {ALL: answer} if answer else {}
    if isinstance(answer, Mapping):
        return {str(name): str(reason) for name, reason in answer.items() if reason not in (None, False, "")}
    raise TypeError(f"the kill switch's source returned {answer!r}")
