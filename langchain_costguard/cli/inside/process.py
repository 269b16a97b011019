"""One Python process of ``costguard run``: its guard, what it tells, and how it ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import astuple
from types import FrameType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from langchain_costguard.cli.inside.plan import Plan
from langchain_costguard.cli.inside.spool import Spool
from langchain_costguard.observe.background import EXIT_SECONDS
from langchain_costguard.vocabulary.scope import Within, said

if TYPE_CHECKING:
    from langchain_costguard.cli.inside.line import Line
    from langchain_costguard.cli.inside.streams import Terminal
    from langchain_costguard.guard import CostGuard


class Process:
    """Guards this process when it uses LangChain; of a program that never does, it only tells how it ended."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.spool = Spool(plan.folder)
        self._lock = threading.RLock()
        self._guard: CostGuard | None = None
        self._pid = os.getpid()
        self._terminal: Terminal | None = None
        self._line: Line | None = None
        self.spool.tell("begun", pid=self._pid, words=sys.orig_argv)

    def watch_children(self) -> None:
        """Tell of Python processes that are started without the guard."""
        from langchain_costguard.cli.inside.children import unguarded

        def hook(event: str, args: tuple[Any, ...]) -> None:
            for words in unguarded(event, args):
                self.spool.tell("unguarded", words=words)

        sys.addaudithook(hook)

    def show(self) -> None:
        """Show the status on the terminal, where there is one, and while nothing of the program is in the way."""
        if self.plan.quiet or os.name != "posix" or os.getppid() != self.plan.supervisor:
            return
        from langchain_costguard.cli.inside.streams import Terminal, on_one_terminal

        if on_one_terminal():
            self._terminal = Terminal()

    def attach(self, hooks: ModuleType) -> None:
        """Have LangChain call a guard, which is made at the first call: what it needs cannot be loaded yet."""
        hooks.register_configure_hook(_Late(self), True)

    def guard(self) -> CostGuard:
        """The guard of this process."""
        with self._lock:
            if self._guard is None:
                self._guard = self._made()
            return self._guard

    def _made(self) -> CostGuard:
        from langchain_costguard.cli.inside.gauge import Gauge
        from langchain_costguard.cli.inside.voice import Voice
        from langchain_costguard.guard import CostGuard
        from langchain_costguard.metering.seams.quiet import quiet_refusals

        budget = self.plan.made_budget()
        quiet_refusals()
        guard = CostGuard(
            *([budget] if budget else []),
            store=self.plan.made_store(),
            session=self.plan.tags.get("session"),
            sinks=[self.spool],
            log=self.plan.log or None,
        )
        if self._terminal is not None:
            from langchain_costguard.cli.inside.line import Line

            self._line = Line(self._terminal, Gauge(guard, budget))
            guard.add_sink(self._line.gauge)
        if not self.plan.quiet:
            guard.add_sink(Voice())
        # What the end needs is loaded now: loading runs generated code, and after that the interpreter has forgotten
        # that Ctrl-C ended the program, and would exit with 1.
        # https://github.com/python/cpython/blob/main/Python/pythonrun.c (run_eval_code_obj)
        guard.report()
        ending(None)
        previous = sys.excepthook
        sys.excepthook = lambda kind, error, trace: _told(previous, kind, error, trace)
        _deliver_at_sigterm(guard)
        return guard

    def end(self) -> None:
        """Tell what was spent, and what ended the process."""
        if os.getpid() != self._pid:
            return  # a child made by fork: what it did is told already, and its counts hold those of this process
        if self._line is not None:
            self._line.end()
        if self._guard is not None:
            rows = [[list(scope), list(astuple(tally))] for scope, tally in self._guard.report().rows]
            self.spool.tell("rows", rows=rows)
        error = getattr(sys, "last_value", None)  # what the interpreter printed at the end of the main thread
        self.spool.tell("end", pid=self._pid, **ending(error))


def _deliver_at_sigterm(guard: CostGuard) -> None:
    """Deliver what waits before SIGTERM does what it does: ends the process, or calls the program's own handler. One
    that the program sets later takes the place of this."""
    before = signal.getsignal(signal.SIGTERM)
    if before in (None, signal.SIG_IGN) or threading.current_thread() is not threading.main_thread():
        return

    def deliver(number: int, frame: FrameType | None) -> None:
        # On another thread: this one may hold, where it was interrupted, what the delivery waits for.
        thread = threading.Thread(target=guard.close, daemon=True)
        thread.start()
        thread.join(2 * EXIT_SECONDS)
        signal.signal(number, before)
        if callable(before):
            before(number, frame)
        else:
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, deliver)


def ending(error: BaseException | None) -> dict[str, Any]:
    """What ended a program: its error, and the refusal in it."""
    from langchain_costguard.cli.inside.refusal import refusal_in

    refusal = refusal_in(error)
    name = type(error).__name__ if error is not None else ""
    return {"error": name, "refusal": str(refusal) if refusal is not None else None}


def _told(previous: Any, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A refusal that nobody caught is told by the command in a sentence; all else as the program wants it told."""
    from langchain_costguard.vocabulary.errors import CostGuardError

    if not isinstance(error, CostGuardError):
        previous(kind, error, trace)


class _Late:
    """A configure hook's variable: LangChain only ever calls ``get()`` on it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._making = threading.local()

    def get(self) -> CostGuard | None:
        """The guard; none while that is being made, which may itself use LangChain.

        LangChain asks in the thread or task of the call, and a new thread starts without its parent's tags.
        """
        if self._process.plan.tags and not said():
            Within(self._process.plan.tags).__enter__()  # for as long as the thread or task lives
        if getattr(self._making, "now", False):
            return None
        self._making.now = True
        try:
            return self._process.guard()
        finally:
            self._making.now = False
