"""What a steered agent's graph calls besides its model and its tools: other middleware's models, hooks, nodes.

A middleware is given the model's calls and the tools', not the graph, whose callbacks are the caller's. So the agent's
state has one more key, which is never written and belongs to neither its input nor its output: a node in whose graph it
is found runs in an agent that is steered, and the guard is attached to whatever starts there.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypedDict, cast
from uuid import UUID, uuid4

from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tracers.context import register_configure_hook
from langgraph.channels.base import BaseChannel
from langgraph.errors import EmptyChannelError, InvalidUpdateError

if TYPE_CHECKING:
    from langchain_costguard.guard import CostGuard

KEY = "costguard_steered"
_TO = "branch:to:"
"""Before a node's name, LangGraph's channel that calls it."""
_asking: ContextVar[bool] = ContextVar("costguard_asking", default=False)


class _Mark(BaseChannel[Any, Any, Any]):
    """A channel that is empty to everybody but us, and tells us the guard of its graph. Each run of the graph has its
    own, which is let go as the run ends, however it does."""

    __slots__ = ("__weakref__", "guard", "seen")

    def __init__(self, guard: CostGuard) -> None:
        super().__init__(Any, KEY)
        self.guard = guard
        self.seen: list[UUID] = []
        """The agent's run and those of its nodes, as far as nobody but us has told of them."""

    @property
    def ValueType(self) -> Any:
        return Any

    @property
    def UpdateType(self) -> Any:
        return Any

    def from_checkpoint(self, checkpoint: Any) -> _Mark:
        return _Mark(self.guard)

    def copy(self) -> _Mark:
        return self

    def update(self, values: Any) -> bool:
        if values:
            raise InvalidUpdateError(f"{KEY} cannot be written")
        return False

    def get(self) -> Any:
        if _asking.get():
            return self
        raise EmptyChannelError


class _Slot:
    """What LangChain asks at the start of each run whether a handler of ours is to be attached; see ``watching``."""

    def get(self) -> Any:
        return guard_here()


def guard_here(config: Mapping[str, Any] | None = None) -> CostGuard | None:
    """The guard that steers the agent in whose graph this runs, or a node with this config."""
    config = config or var_child_runnable_config.get()
    read = (config.get("configurable") or {}).get("__pregel_read") if config else None
    if read is None:
        return None
    token = _asking.set(True)
    try:
        mark: _Mark = read(KEY)
    except Exception:  # KeyError: another graph; and no call is lost to a host that reads its state otherwise
        return None
    finally:
        _asking.reset(token)
    if mark.guard.voice.witnesses and config is not None:
        _witness(mark, config)
    return mark.guard


def _witness(mark: _Mark, config: Mapping[str, Any]) -> None:
    """Tell of the agent's own run, which began before there was anything of ours to tell of it."""
    guard, manager = mark.guard, config.get("callbacks")
    node = getattr(manager, "parent_run_id", None)
    if node is None or node in mark.seen or guard in getattr(manager, "handlers", ()):
        return
    metadata = config.get("metadata") or {}
    name = str(metadata.get("lc_agent_name") or "")
    if not mark.seen:
        mark.seen.append(uuid4())
        guard.voice.began("chain", mark.seen[0], None, name, None, {}, metadata)
        weakref.finalize(mark, _over, guard, mark.seen).atexit = False
    mark.seen.append(node)
    guard.voice.began("chain", node, mark.seen[0], name, None, {}, metadata)


def _over(guard: CostGuard, seen: list[UUID]) -> None:
    for run_id in reversed(seen):
        guard.voice.ended(run_id, None, None)


def loop_entry() -> str | None:
    """The node by which an agent of the host's goes on after its tools: its first hook before the model, or the model.

    None outside such an agent, and where a hook follows its end: that one would run beside the model, and once more.
    """
    read = ((var_child_runnable_config.get() or {}).get("configurable") or {}).get("__pregel_read")
    channels = next((each for each in getattr(read, "args", ()) if isinstance(each, Mapping)), {})
    nodes = [name.removeprefix(_TO) for name in channels if name.startswith(_TO)]
    if "model" not in nodes or any(name.endswith(".after_agent") for name in nodes):
        return None
    return next((name for name in nodes if name.endswith(".before_model")), "model")


def state_of(guard: CostGuard, *private: Any, **fields: Any) -> type:
    """The state schema by which an agent's graph is known, with further ``fields``; ``private`` is the host's word for
    what is not shown."""
    known = {KEY: NotRequired[Annotated[Any, *private, _Mark(guard)]], **fields}
    state: Any = TypedDict("state", known)  # type: ignore[misc]
    return cast("type", state)


register_configure_hook(cast("ContextVar[Any]", _Slot()), inheritable=True)
