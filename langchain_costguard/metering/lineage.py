"""Whose run is it: which trace a run belongs to, who is spending in it, and which execution of a node it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from langchain_costguard.metering.runs import run_of
from langchain_costguard.vocabulary import scope as scopes
from langchain_costguard.vocabulary.scope import Scope

_KEPT_TRACES = 50_000


class Lineage:
    """Follows runs from parent to child, for LangChain tells of each run nothing but its parent.

    Args:
        session: The session of calls that name none.
    """

    def __init__(self, session: str) -> None:
        # LangChain's own module of it is not light; a program that makes a guard has it, one that imports ours may not.
        from langchain_core.runnables.config import var_child_runnable_config

        self.session = session
        self.enclosing = var_child_runnable_config.get
        """The config of the runnable that this code runs in; None outside any."""
        self._traces: dict[int, str] = {}
        self._said: dict[str, Mapping[str, str]] = {}

    def trace(self, run_id: UUID, parent: UUID | None, config: Mapping[str, Any] | None) -> str:
        """The id of the run's root."""
        if parent is None:
            # A child call that replaces `callbacks` has no parent, but still runs inside its node's context.
            manager = config.get("callbacks") if config else None
            parent = getattr(manager, "parent_run_id", None)
            if parent is None:
                return str(run_id)
        return self._traces.get(parent.int) or run_of(self.enclosing()) or str(parent)

    def remember(self, run_id: UUID, trace: str) -> None:
        """A run that may have children is of this trace."""
        traces = self._traces
        traces[run_id.int] = trace
        if (told := scopes.said()) and trace not in self._said:
            self._said[trace] = told  # a stream of this trace may go on where no block of ``guard.scope`` is seen
            if len(self._said) > _KEPT_TRACES:
                del self._said[next(iter(self._said))]
        if len(traces) > _KEPT_TRACES:  # runs that never ended
            for key in list(traces)[: _KEPT_TRACES // 2]:
                traces.pop(key, None)

    def over(self, run_id: UUID) -> str | None:
        """A run has ended, and has no more children; returns its trace."""
        trace = self._traces.pop(run_id.int, None)
        if self._said and trace == str(run_id):
            self._said.pop(trace, None)
        return trace

    def scope(
        self,
        metadata: Mapping[str, Any],
        tags: Sequence[str] | None,
        config: Mapping[str, Any] | None,
        trace: str,
        model: str = "",
    ) -> Scope:
        """Who is spending in a run with this metadata and these tags."""
        said = self._said
        inherited = said.get(trace) if said else None
        if inherited is None:
            return scopes.resolve(metadata, tags, config, trace=trace, model=model, session=self.session)
        return scopes.resolve(
            metadata, tags, config, trace=trace, model=model, session=self.session, inherited=inherited
        )

    def whose(self, config: Mapping[str, Any] | None = None) -> Scope:
        """Who is spending here: the scope that a call made now (with this ``config``) would have, but for its model."""
        config = config or self.enclosing()
        if config is None:
            return self.scope({}, None, None, "")
        manager = config.get("callbacks")
        parent = getattr(manager, "parent_run_id", None)
        trace = (self._traces.get(parent.int) or run_of(config) or str(parent)) if parent is not None else ""
        metadata = {**(getattr(manager, "metadata", None) or {}), **(config.get("metadata") or {})}
        tags = [*(getattr(manager, "tags", None) or ()), *(config.get("tags") or ())]
        return self.scope(metadata, tags, config, trace)


def is_step(tags: Sequence[str] | None) -> bool:
    """Whether a chain's tags are those of a graph's node."""
    return bool(tags) and any(tag.startswith("graph:step:") for tag in tags or ())


def step_id(metadata: Mapping[str, Any], trace: str) -> str:
    """What tells one execution of a node from another: the checkpoint path holds the task's id. A retry of the node
    is the same step, and shares its budget."""
    path = metadata.get("langgraph_checkpoint_ns")
    return f"{trace}/{path}" if path else trace
