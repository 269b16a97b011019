"""The calls under way, and those whose end nobody will tell of: found by their parents, their tasks and their age."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_costguard.metering.aside import Aside
from langchain_costguard.metering.calls import Batch, Call
from langchain_costguard.observe.forks import held_over_forks

if TYPE_CHECKING:
    import asyncio

MAX_OPEN = 20_000
_SWEEP_EVERY = 64
_BATCHES = 1_000


class Books:
    """Calls by the number of their run id: a UUID hashes in Python, an int at once.

    ``orphaned`` is told of calls whose parent, or whose task, ended before them; ``expired`` of those never heard of.
    """

    def __init__(
        self,
        orphaned: Callable[[Iterable[Call]], None],
        expired: Callable[[Call], None],
        hold_seconds: float,
        aside: Aside,
    ) -> None:
        self.open: dict[int, Call] = {}
        self._orphaned = orphaned
        self._expired = expired
        self._hold_seconds = hold_seconds
        self._aside = aside
        self.parents: dict[int, set[int]] = {}
        """Runs, and the calls below them."""
        self._of_task: dict[int, set[int]] = {}
        self._batches: dict[int, Batch] = {}
        self._until_sweep = _SWEEP_EVERY
        self._sweeping = held_over_forks(threading.Lock())
        # asyncio is not light, and no loop runs that did not import it; a guard is made where the host's graphs are,
        # which do.
        from asyncio import _get_running_loop, current_task

        self._running_loop = _get_running_loop
        self._current_task = current_task

    def enter(self, call: Call) -> None:
        """Enter a call. A text model's is started in a task of its own, whose end says nothing of the call's.

        https://github.com/langchain-ai/langchain/blob/master/libs/core/langchain_core/language_models/llms.py
        """
        key = call.run_id.int
        self.open[key] = call
        if call.parent is not None:
            self.parents.setdefault(call.parent.int, set()).add(key)
        if not call.text and self._running_loop() is not None:
            self.belongs_here(call)
        self._until_sweep -= 1
        if self._until_sweep <= 0:
            self._until_sweep = _SWEEP_EVERY
            self._sweep(call.started)

    def batch(self, call: Call, params: Mapping[str, Any], size: int) -> None:
        """Enter a prompt that is sent in one request with others: they have the very same parameters."""
        found = self._batches.get(id(params))
        if found is None or found.params is not params:
            if len(self._batches) > _BATCHES:
                self._batches.clear()
            found = self._batches[id(params)] = Batch(params)
        found.calls.append(call)
        if len(found.calls) == size:
            del self._batches[id(params)]
        call.batch = found

    def take(self, run_id: UUID) -> Call | None:
        """Take a call out; None where it is not, or no longer, in the books."""
        key = run_id.int
        call = self.open.pop(key, None)
        if call is None:
            return None
        if call.parent is not None:
            siblings = self.parents.get(call.parent.int)
            if siblings is not None:
                siblings.discard(key)
                if not siblings:
                    self.parents.pop(call.parent.int, None)
        if call.task:
            of_task = self._of_task.get(call.task)
            if of_task is not None:
                of_task.discard(key)
        return call

    def parent_over(self, run_id: UUID) -> None:
        """A run ended: what is still open below it is an orphan."""
        keys = self.parents.pop(run_id.int, None)
        if keys:
            self._orphaned(self._found(keys))

    def concerns(self, run_id: UUID) -> bool:
        """Whether the run is a call under way, or has any below it."""
        return run_id.int in self.open or run_id.int in self.parents

    def belongs_here(self, call: Call) -> None:
        """The call is part of the task that runs here, and is an orphan when that is over.

        LangChain tells nothing of a cancelled ``ainvoke``; that its task is over does.

        https://github.com/langchain-ai/langchain/issues/38469
        """
        task = self._current_task()
        if task is None or call.task:
            return
        key = call.run_id.int
        call.task = id(task)
        of_task = self._of_task.get(call.task)
        if of_task is None:
            of_task = self._of_task[call.task] = set()
            task.add_done_callback(self._task_over)
        of_task.add(key)

    def _task_over(self, task: asyncio.Task[Any]) -> None:
        keys = self._of_task.pop(id(task), None)
        if keys:
            self._aside.later(self._orphaned, self._found(keys))

    def _found(self, keys: Iterable[int]) -> list[Call]:
        return [call for key in keys if (call := self.open.get(key)) is not None]

    def _sweep(self, now: float) -> None:
        """Let go of calls whose holds have expired; of the oldest, too, where there are absurdly many."""
        if not self._sweeping.acquire(blocking=False):
            return
        try:
            oldest = now - self._hold_seconds
            while self.open:
                call = next(iter(self.open.values()))
                if call.started >= oldest and len(self.open) <= MAX_OPEN:
                    return
                self.take(call.run_id)
                self._expired(call)
        except (RuntimeError, StopIteration):  # another thread changed the books meanwhile; the next sweep goes on
            return
        finally:
            self._sweeping.release()
