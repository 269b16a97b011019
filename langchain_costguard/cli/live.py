"""The status while a program runs: one line that renews itself on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from types import TracebackType
from typing import Any, TextIO

from langchain_costguard.cli.gauge import Gauge
from langchain_costguard.cli.words import amount
from langchain_costguard.events.metered import Alert, Event, Refused

_REDRAW = 0.1
_PLAIN_EVERY = 5.0
_REFUSALS_SHOWN = 3
_BAR = 10


def is_terminal(stream: Any) -> bool:
    """Whether a line there can be drawn again."""
    try:
        return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):
        return False


def speaks_unicode(stream: Any) -> bool:
    """Whether more than ASCII can be printed there."""
    return str(getattr(stream, "encoding", "") or "").lower().replace("-", "") in ("utf8", "utf8sig")


class Live:
    """Shows a gauge on ``stream`` while its block runs. A sink of the guard: an event only sets a flag."""

    def __init__(self, gauge: Gauge, stream: TextIO) -> None:
        self.gauge = gauge
        self.stream = stream
        self.terminal = is_terminal(self.stream)
        self._lock = threading.RLock()
        self._drawn = False
        self._at_line_start = True
        self._changed = threading.Event()
        self._over = threading.Event()
        self._said = 0
        self._wrapped: dict[str, _Above] = {}
        # A child made by fork has our lock, but not the thread that may hold it.
        os.register_at_fork(after_in_child=self._abandon)

    def __enter__(self) -> Live:
        if self.terminal:
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                if is_terminal(stream):
                    self._wrapped[name] = above = _Above(stream, self)
                    setattr(sys, name, above)
        threading.Thread(target=self._run, name="costguard-status", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._over.set()
            self._changed.set()
            self.clear()
        for name, above in self._wrapped.items():
            if getattr(sys, name) is above:
                setattr(sys, name, above.inner)
        if not self._at_line_start:
            self.stream.write("\n")

    def __call__(self, event: Event) -> None:
        """Take note of an event; alerts and the first refusals get a line of their own."""
        self.note(event)
        if isinstance(event, Alert):
            spent, cap = amount(event.measure, event.spent), amount(event.measure, event.cap)
            self.say(f"costguard: {event.threshold * 100:.0f} % of {event.measure} reached: {spent} of {cap}")
        elif isinstance(event, Refused) and self._said < _REFUSALS_SHOWN:
            self._said += 1
            last = self._said == _REFUSALS_SHOWN
            more = " (Further refusals are counted at the end.)" if last else ""
            self.say(f"costguard: {event.message}{more}")

    def note(self, event: Event) -> None:
        """Take note of an event without a word."""
        self.gauge(event)
        self._changed.set()

    def say(self, text: str) -> None:
        """Print a line above the status."""
        with self._lock:
            self.clear()
            start = "" if self._at_line_start else "\n"
            self._at_line_start = True
            self._write(f"{start}{text}\n")

    def clear(self) -> None:
        """Take the status line away, if it is there."""
        if self._drawn:
            self._drawn = False
            self._write("\r\x1b[K")

    def write_above(self, inner: TextIO, text: str) -> int:
        """Print for the program, in the place of the status line."""
        with self._lock:
            self.clear()
            if text:
                self._at_line_start = text.endswith("\n")
                self._changed.set()
            return inner.write(text)

    def flush_above(self, inner: TextIO) -> None:
        """Flush for the program: ``input()`` does before it asks, so the status line makes room."""
        with self._lock:
            self.clear()
            inner.flush()

    def _run(self) -> None:
        interval = _REDRAW if self.terminal else _PLAIN_EVERY
        if not self.terminal:
            self._over.wait(interval)
        while not self._over.is_set():
            self._changed.wait()
            self._changed.clear()
            text = self._text()  # reads the store: without the lock
            with self._lock:
                if self._over.is_set():
                    return
                if not self.terminal:
                    self._write(f"costguard: {text}\n")
                elif self._at_line_start:
                    width = shutil.get_terminal_size().columns - 1
                    self._write(f"\r{text[:width]}\x1b[K")
                    self._drawn = True
            self._over.wait(interval)

    def _text(self) -> str:
        facts = self.gauge.parts()
        if not self.terminal:
            return ", ".join(facts)
        used = self.gauge.used()
        if used is None:
            return f"costguard  {'  '.join(facts)}"
        full = min(_BAR, int(used * _BAR))
        bar = "█" * full + "░" * (_BAR - full) if speaks_unicode(self.stream) else "#" * full + "-" * (_BAR - full)
        return f"costguard {bar} {min(used, 9.99) * 100:3.0f} %  {'  '.join(facts)}"

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):  # the program closed stderr
            self._over.set()

    def _abandon(self) -> None:
        self._lock = threading.RLock()
        self._drawn = False
        self._over.set()


class _Above:
    """A terminal stream of the program that makes room before it prints; in all else, the stream itself."""

    def __init__(self, inner: TextIO, live: Live) -> None:
        self.inner = inner
        self._live = live

    def write(self, text: str) -> int:
        return self._live.write_above(self.inner, text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._live.flush_above(self.inner)

    def __iter__(self) -> Any:
        return iter(self.inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
