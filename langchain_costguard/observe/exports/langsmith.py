"""LangSmith: our cost and tags on the runs it makes already; no request of our own.

Its tracer takes a run's cost from the message as it is serialized (``usage_metadata.total_cost``), which LangChain
itself uses for answers of caches. Written into ``usage_metadata``, a float breaks whoever adds usages up; so the
tracer, which comes after us, is shown a copy of the message that tells the cost when it is serialized, and only then.
https://github.com/langchain-ai/langchain/blob/master/libs/core/langchain_core/tracers/langchain.py (_on_llm_end)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, cast
from uuid import UUID

from langchain_costguard.events.metered import CallSettled, CallStarted, Event
from langchain_costguard.observe.witness import Began
from langchain_costguard.vocabulary.money import NANO

TAGS = ("model", "agent", "task", "feature", "user", "session")
"""What each run is told apart by, as metadata ``costguard_agent`` and so on; ``session_id`` makes a thread of runs."""
_KEPT = 10_000
_COST = "_costguard_cost"


class LangSmith:
    """A sink that puts what a call cost, and whose it was, on LangSmith's run of it.

    Works where the guard comes before LangSmith's tracer: in ``config``, on a graph, around a wrapped model, in
    steering. Under ``guard.watch()``, and around a wrapped model that is streamed on its own, the tracer is first, and
    a run has LangSmith's own price: give the guard in the config there (and the tags by the config's metadata).
    """

    def __init__(self) -> None:
        self._began: dict[int, Began] = {}
        self._runs: dict[int, list[Any]] = {}
        self._cost: dict[int, int] = {}

    def __call__(self, event: Event) -> None:
        """Note whose a call is, and what it cost."""
        if isinstance(event, CallStarted):
            began, key, scope = self._began.pop(event.run_id.int, None), event.run_id.int, event.scope
            told = {f"costguard_{tag}": value for tag in TAGS if (value := getattr(scope, tag))}
            of_runs = [run.extra.setdefault("metadata", {}) for run in self._runs.pop(key, ())]
            for metadata in [*of_runs, *([began.metadata] if began is not None else [])]:
                if isinstance(metadata, dict):
                    metadata.update({"session_id": scope.session, **metadata, **told})
        elif isinstance(event, CallSettled):
            _keep(self._cost, event.run_id.int, event.charge)

    def began(self, run: Began) -> None:
        """Note the run's metadata, which is its own."""
        if run.kind != "chain":
            _keep(self._began, run.run_id.int, run)

    def ended(self, run_id: UUID, outcome: Any, error: BaseException | None) -> None:
        """Show whoever comes after the cost of the reply."""
        self._began.pop(run_id.int, None)
        self._runs.pop(run_id.int, None)
        charge = self._cost.pop(run_id.int, None)
        if charge is not None:
            show_cost(outcome, charge)

    def beside(self, run_id: UUID, handlers: Sequence[Any]) -> None:
        """Note the runs of tracers that came before us."""
        maps = [known for handler in handlers if isinstance(known := getattr(handler, "run_map", None), dict)]
        runs = [run for known in maps if (run := known.get(str(run_id))) is not None]
        if runs:
            _keep(self._runs, run_id.int, runs)

    def within(self, kind: str, run_id: UUID | None, name: str) -> AbstractContextManager[None]:
        """Nothing is traced here."""
        return nullcontext()


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
    object.__setattr__(copy, "__class__", _telling(cast("Any", type(message))))
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
    made = cast("Any", type(cls))(cls.__name__, (cls,), namespace)
    return cast("type[Any]", made)


def _keep(noted: dict[int, Any], key: int, value: Any) -> None:
    noted[key] = value
    if len(noted) > _KEPT:
        noted.pop(next(iter(noted)), None)
