"""LangSmith: our cost and tags on the runs it makes already; no request of our own.

Its tracer takes a run's cost from the message as it is serialized (``usage_metadata.total_cost``), which LangChain
itself uses for answers of caches. Written into ``usage_metadata``, a float breaks whoever adds usages up; so the
tracer, which comes after us, is shown a copy of the message that tells the cost when it is serialized, and only then.
https://github.com/langchain-ai/langchain/blob/master/libs/core/langchain_core/tracers/langchain.py (_on_llm_end)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, cast
from uuid import UUID

from langchain_costguard.events.metered import CallSettled, CallStarted, Event
from langchain_costguard.observe.witness import Began
from langchain_costguard.vocabulary.money import NANO
from langchain_costguard.vocabulary.scope import Scope

TAGS = ("model", "agent", "task", "feature", "user", "session")
"""What each run is told apart by, as metadata ``costguard_agent`` and so on; ``session_id`` makes a thread of runs."""
_KEPT = 10_000
_COST = "_costguard_cost"
_ENDS = "_costguard_ends"


class LangSmith:
    """A sink that puts what a call cost, and whose it was, on LangSmith's run of it.

    Where LangSmith's tracer is told of a run before the guard (under ``guard.watch()``, and where a wrapped model is
    streamed), the run's end is sent when it is paid, right after. That needs the tracer, which is found around the
    call: in a chain, a graph or an agent, and in ``tracing_v2_enabled``. A single call outside of these, watched, has
    LangSmith's own price: give the guard in its config, before the tracer.
    """

    def __init__(self) -> None:
        self._began: dict[int, Began] = {}
        self._runs: dict[int, list[Any]] = {}
        self._late: dict[int, list[Any]] = {}
        self._cost: dict[int, int] = {}

    def __call__(self, event: Event) -> None:
        """Note whose a call is, and what it cost."""
        if isinstance(event, CallStarted):
            self.whose(event.run_id, event.scope)
        elif isinstance(event, CallSettled):
            _keep(self._cost, event.run_id.int, event.charge)

    def began(self, run: Began) -> None:
        """Note the run's metadata, which is its own, and the runs of tracers that were told of it before us."""
        if run.kind == "chain":
            return
        _keep(self._began, run.run_id.int, run)
        if run.kind == "model" and (early := _runs_of(run.run_id, _tracers())):
            for one in early:
                _become(one, _waiting(_class(one)))
            for one in _keep(self._late, run.run_id.int, early) or ():
                _tell_late(one, None)

    def whose(self, run_id: UUID, scope: Scope) -> None:
        """Put the tags on the run, or where it will be made of."""
        key = run_id.int
        told = {f"costguard_{tag}": value for tag in TAGS if (value := getattr(scope, tag))}
        runs = [*self._runs.pop(key, ()), *self._late.get(key, ())]
        began = self._began.pop(key, None)
        for metadata in [*map(_metadata, runs), *([began.metadata] if began is not None else [])]:
            if isinstance(metadata, dict):
                metadata.update({"session_id": scope.session, **metadata, **told})

    def ended(self, run_id: UUID, outcome: Any, error: BaseException | None) -> None:
        """Show whoever comes after the cost of the reply, and whoever came before."""
        key = run_id.int
        self._began.pop(key, None)
        self._runs.pop(key, None)
        charge, late = self._cost.pop(key, None), self._late.pop(key, ())
        for run in late:
            _tell_late(run, charge)
        if charge is not None and not late:
            show_cost(outcome, charge)

    def beside(self, run_id: UUID, handlers: Sequence[Any]) -> None:
        """Note the runs of tracers, which hear of the end after us."""
        for run in self._late.pop(run_id.int, ()):
            _tell_late(run, None)
        if runs := _runs_of(run_id, handlers):
            _keep(self._runs, run_id.int, runs)

    def within(self, kind: str, run_id: UUID | None, name: str) -> AbstractContextManager[None]:
        """Nothing is traced here."""
        return nullcontext()


def _tracers() -> list[Any]:
    """The tracers around this call, as far as they can be found: a handler is not told who else is."""
    from langchain_core.runnables.config import var_child_runnable_config
    from langchain_core.tracers.context import tracing_v2_callback_var

    around = var_child_runnable_config.get() or {}
    return [*getattr(around.get("callbacks"), "handlers", ()), tracing_v2_callback_var.get()]


def _runs_of(run_id: UUID, handlers: Iterable[Any]) -> list[Any]:
    """The run as tracers have it that have been told of it."""
    maps = [known for handler in handlers if isinstance(known := getattr(handler, "run_map", None), dict)]
    return [run for known in maps if (run := known.get(str(run_id))) is not None]


def _metadata(run: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = run.extra.setdefault("metadata", {})
    return metadata


def _tell_late(run: Any, charge: int | None) -> None:
    """Send the run's end, with what it cost. An end that was sent already (by another version of the tracer) is not
    sent again: in the client's queue nothing says which of two would be the later."""
    if charge is not None:
        metadata = _metadata(run)
        metadata["usage_metadata"] = {**(metadata.get("usage_metadata") or {}), "total_cost": charge / NANO}
    ends = run.__dict__.pop(_ENDS, None)
    _become(run, _class(run).__mro__[1])
    if ends is not None:
        run.patch(**ends)


@cache
def _waiting(cls: type[Any]) -> type[Any]:
    """A subclass of the run's class whose end is not sent yet."""

    def patch(self: Any, **kwargs: Any) -> None:
        self.__dict__[_ENDS] = kwargs

    made = _class(cls)(cls.__name__, (cls,), {"__module__": cls.__module__, "patch": patch})
    return cast("type[Any]", made)


def _class(thing: Any) -> Any:
    return type(thing)


def _become(thing: Any, cls: type[Any]) -> None:
    object.__setattr__(thing, "__class__", cls)


def show_cost(outcome: Any, charge: int) -> None:
    """Put a copy of the message in the place of the first reply: it says what it cost when it is serialized."""
    groups = getattr(outcome, "generations", None)
    if not groups or not groups[0]:
        return
    generation = groups[0][0]
    message = getattr(generation, "message", None)
    if message is None or not getattr(message, "usage_metadata", None):
        return
    copy = message.model_copy()
    _become(copy, _telling(_class(message)))
    copy.__dict__[_COST] = charge / NANO
    groups[0][0] = generation.model_copy(update={"message": copy})


@cache
def _telling(cls: type[Any]) -> type[Any]:
    """A subclass of the message's class, of the same name to whoever loads it again."""

    def to_json(self: Any) -> Any:
        told = super(made, self).to_json()
        kwargs = told.get("kwargs", {})
        kwargs.pop(_COST, None)
        kwargs["usage_metadata"] = {**(self.usage_metadata or {}), "total_cost": self.__dict__[_COST]}
        return told

    namespace = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "to_json": to_json}
    made = _class(cls)(cls.__name__, (cls,), namespace)
    return cast("type[Any]", made)


def _keep(noted: dict[int, Any], key: int, value: Any) -> Any:
    """Note a value; returns the one that is forgotten for it."""
    noted[key] = value
    return noted.pop(next(iter(noted)), None) if len(noted) > _KEPT else None
