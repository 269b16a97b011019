"""The status on a terminal: one line while a model is asked, gone before the program writes or reads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from langchain_costguard.cli.inside.gauge import Gauge
from langchain_costguard.cli.inside.streams import Terminal
from langchain_costguard.metering.seams.watching import watching

_EVERY = 0.1
_LONGEST = 600.0
_BAR = 12


class Line:
    """Shows a gauge while calls are under way."""

    def __init__(self, terminal: Terminal, gauge: Gauge) -> None:
        self.gauge = gauge
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._drawn: Any = None
        self._asked = _Asked(terminal.calls)
        self._over = threading.Event()
        self._terminal = terminal
        # It is written past the program's own streams, which would take it for the program's.
        self._console = Console(file=os.fdopen(os.dup(2), "w", encoding="utf-8"), markup=False, highlight=False)
        terminal.before = self.clear
        os.register_at_fork(after_in_child=self._abandon)
        watching(self._asked)  # to the end of the process
        threading.Thread(target=self._run, name="costguard-status", daemon=True).start()

    def clear(self) -> None:
        """Take the line away, if it is there."""
        if self._live is None:
            return
        with self._lock:
            if self._live is not None:
                self._live.stop()
                self._live = None

    def end(self) -> None:
        """Take it away for good."""
        self._over.set()
        self.clear()

    def _run(self) -> None:
        while not self._over.wait(_EVERY):
            if not self._asked.now() or not self._terminal.quiet():
                self.clear()
                continue
            facts = (self.gauge.used(), self.gauge.parts())  # reads the store: without the lock
            with self._lock:
                if not self._over.is_set() and self._terminal.quiet() and (self._live is None or facts != self._drawn):
                    self._drawn = facts
                    self._draw(*facts)

    def _draw(self, used: float | None, parts: list[str]) -> None:
        if self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
                transient=True,
            )
            self._live.start()
            self._console.show_cursor(True)
        self._live.update(_shown(used, parts), refresh=True)

    def _abandon(self) -> None:
        """A child made by fork has our lock, but not the thread that may hold it."""
        self._lock = threading.RLock()
        self._live = None
        self._over.set()


def _shown(used: float | None, parts: list[str]) -> Table:
    row: list[Any] = [Text("costguard")]
    if used is not None:
        row += [ProgressBar(total=1.0, completed=min(used, 1.0), width=_BAR), Text(f"{min(used, 9.99) * 100:.0f} %")]
    grid = Table.grid(padding=(0, 1))
    grid.add_row(*row, Text("  ".join(parts), no_wrap=True, overflow="ellipsis"))
    return grid


class _Asked(BaseCallbackHandler):
    """Which model calls are under way."""

    run_inline = True

    def __init__(self, began: Callable[[], None]) -> None:
        self._since: dict[UUID, float] = {}
        self._began = began

    def now(self) -> bool:
        """Whether a model is being asked; a call that was never heard of again does not count for ever."""
        latest = max(list(self._since.values()), default=None)
        return latest is not None and time.monotonic() - latest < _LONGEST

    def on_llm_start(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        self._began()
        self._since[run_id] = time.monotonic()

    on_chat_model_start = on_llm_start

    def on_llm_end(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        self._since.pop(run_id, None)

    def on_llm_error(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        self._since.pop(run_id, None)
