"""One cell while it runs: a bar that fills as it spends, and what it cost in the end."""

from __future__ import annotations

import contextvars
import threading
import time
from typing import TYPE_CHECKING, Any

from IPython import display as ipython

from langchain_costguard.cli.jupyter.panel import Panel
from langchain_costguard.metering.budgets.standing import standing
from langchain_costguard.observe.bars import Bar

if TYPE_CHECKING:
    from langchain_costguard.guard import CostGuard

_display: Any = ipython.display
_EVERY = 0.1
"""Seconds between two looks; a bar is drawn where something has changed."""
_SHARE, _SELDOM = 10, 1.0
"""Times as long as the last look took to wait before the next, and seconds at the most: a far store is not asked all
the time."""


class Cell:
    """Shows what the first of ``guards`` counts from now until ``end()``, and how the budgets of all of them stand.

    In a kernel it is one output, which is drawn anew; on a terminal, which cannot do that, it is printed in the end. A
    cell that spends nothing shows nothing, unless it ``always`` does.
    """

    def __init__(self, *guards: CostGuard, live: bool, always: bool) -> None:
        self._guards = guards
        self._always = always
        self._before = guards[0].report().total
        self._shown: Panel | None = None
        self._handle: Any = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if live:
            # What it shows belongs to the cell, which a kernel tells by the context.
            run = contextvars.copy_context().run
            self._thread = threading.Thread(target=run, args=(self._watch,), name="costguard-cell", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Show what it came to."""
        self.leave()
        self._show(over=True)

    def leave(self) -> None:
        """Show it no longer."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while True:
            began = time.perf_counter()
            self._show(over=False)
            took = time.perf_counter() - began
            if self._over.wait(max(_EVERY, min(_SHARE * took, _SELDOM))):
                return

    def _show(self, *, over: bool) -> None:
        panel = self._panel(over)
        if panel == self._shown:
            return
        if self._handle is not None:
            self._handle.update(panel)
        elif self._always or panel.spent or panel.calls or panel.tool_calls or panel.refused or _held(panel.bars):
            self._handle = _display(panel, display_id=True)
        self._shown = panel

    def _panel(self, over: bool) -> Panel:
        reports = [guard.report() for guard in self._guards]
        before, now = self._before, reports[0].total

        def since(name: str) -> int:
            return int(getattr(now, name)) - int(getattr(before, name))

        tokens = since("input_tokens") + since("output_tokens")
        bars = tuple(
            bar
            for guard, report in zip(self._guards, reports, strict=True)
            for bar in standing(guard.budgets, report.rows, guard.headroom)
        )
        names = ("calls", "tool_calls", "refused", "estimated")
        return Panel(since("spent"), tokens=tokens, bars=bars, over=over, **{name: since(name) for name in names})


def _held(bars: tuple[Bar, ...]) -> bool:
    return any(bar.held for bar in bars)
