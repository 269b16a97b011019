"""Who is spending: resolved once, at a call's start, from everything the host says about it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from types import FrameType, TracebackType
from typing import Any, NamedTuple
from uuid import UUID

from langchain_costguard.vocabulary.slips import hint


class Scope(NamedTuple):
    """Who is spending. An unknown dimension is empty, and its budgets are shared by all that is unknown.

    ``step`` is the name of the LangGraph node, ``trace`` the root run's id, or what the caller says.
    """

    user: str = ""
    session: str = ""
    agent: str = ""
    step: str = ""
    feature: str = ""
    task: str = ""
    trace: str = ""
    model: str = ""


TAGS = ("user", "session", "agent", "feature", "task")
"""The dimensions a user may set with ``guard.scope`` and with metadata; a ``trace``, too, where a request crosses
services. The others follow from the run."""

_ALIASES = {
    "user": ("user_id", "user"),
    "session": ("session_id", "session"),
    "agent": ("agent_id", "agent"),
    "feature": ("feature",),
    "task": ("task_id", "task"),
}
_AUTHENTICATED = "langgraph_auth_user_id"
"""Whom the server that hosts a graph has authenticated: what a client says of itself comes after that.
https://docs.langchain.com/langsmith/auth"""
_TRACE = "costguard_trace"
_METADATA = {tag: (f"costguard_{tag}", *_ALIASES[tag]) for tag in TAGS}
_NAMES = frozenset(key for keys in _METADATA.values() for key in keys)
_TELLING = _NAMES | {
    "langgraph_node", "langgraph_checkpoint_ns", "lc_agent_name", "thread_id", _AUTHENTICATED, _TRACE
}  # fmt: skip
_NOTHING: Mapping[str, str] = {}
_new: Any = tuple.__new__

_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_within: ContextVar[Within | None] = ContextVar("costguard_scope", default=None)
_lasting: dict[FrameType, Within] = {}
"""The blocks that generators are in, by their frames: those are taken up again in other threads, tasks and contexts."""


class Within:
    """A block of ``guard.scope``: what it says holds for everything inside.

    A block around a streamed answer outlives the frame of whoever began it: each step of the generator may run in
    another context, where the variable is not set, and the end in one where it cannot be reset. So a block knows
    itself whether it is over, and one that a generator is in is found by the generator's frame, too.
    """

    __slots__ = ("_frame", "_outer", "_over", "tags")

    def __init__(self, tags: Mapping[str, object]) -> None:
        self.tags: Mapping[str, str] = checked(tags)
        self._frame: FrameType | None = None
        self._over = True
        self._outer: Within | None = None

    def __enter__(self) -> None:
        self._outer, self._over = _here(), False
        if self._outer is not None:
            self.tags = {**self._outer.tags, **self.tags}
        _within.set(self)
        frame = sys._getframe(1)
        if frame.f_code.co_flags & _GENERATORS:
            self._frame = frame
            _lasting[frame] = self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        outer, frame = self._outer, self._frame
        if frame is not None:
            if outer is not None and outer._frame is frame and not outer._over:
                _lasting[frame] = outer
            else:
                _lasting.pop(frame, None)
        if _within.get() is self:  # not so in a context other than that of the beginning
            _within.set(outer)
        self._frame = None

    def live(self) -> Within | None:
        """This block, or the next one around it that is not over."""
        block: Within | None = self
        while block is not None and block._over:
            block = block._outer
        return block


def _here() -> Within | None:
    block = _within.get()
    if block is not None:
        block = block.live()
    if block is None and _lasting:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and block is None:
            block = _lasting.get(frame)
            frame = frame.f_back
    return block


def said() -> Mapping[str, str]:
    """What the blocks around the running code say."""
    if _within.get() is None and not _lasting:
        return _NOTHING
    block = _here()
    return _NOTHING if block is None else block.tags


def checked(tags: Mapping[str, object]) -> dict[str, str]:
    """Validate the arguments of ``guard.scope``.

    Raises:
        ValueError: names an unknown dimension, or a value that is no text.
    """
    for name, value in tags.items():
        if name not in TAGS and name != "trace":
            known = (*TAGS, "trace")
            raise ValueError(f"scope: {name!r} is not one of {', '.join(known)}{hint(name, known)}")
        if not isinstance(value, (str, int)) or isinstance(value, bool) or value == "":
            raise ValueError(f"scope: {name}={value!r} must be a non-empty text")
    return {name: str(value) for name, value in tags.items()}


def unsaid(metadata: Mapping[str, Any]) -> bool:
    """Whether neither ``guard.scope`` nor this metadata say anything of who is spending."""
    return _within.get() is None and not _lasting and _TELLING.isdisjoint(metadata)


def resolve(
    metadata: Mapping[str, Any],
    tags: Iterable[str] | None,
    config: Mapping[str, Any] | None,
    *,
    trace: str,
    model: str,
    session: str,
    inherited: Mapping[str, str] = _NOTHING,
) -> Scope:
    """Say who is spending.

    In this order: ``guard.scope``; of the user, whom the graph's server has authenticated; metadata
    (``costguard_user``, then ``user_id`` and ``user``, and the like); the enclosing graph's ``configurable`` and
    runtime context, by the same names; LangGraph's ``thread_id`` and ``lc_agent_name``; tags (``user:u1``); and of the
    agent, as a guess, the outermost node of the checkpoint's path. Only texts, whole numbers and UUIDs name somebody: a
    context's ``session`` may well be a database's.

    ``config`` is the enclosing runnable's, where there is one; ``session`` stands in where nothing names one.
    ``inherited`` is what ``guard.scope`` said where the trace began: a stream of it may go on elsewhere.
    """
    told = said()
    if inherited:
        told = {**inherited, **told}
    configurable: Mapping[str, Any] = (config.get("configurable") or _NOTHING) if config else _NOTHING
    if told is _NOTHING and not configurable and not tags and _TELLING.isdisjoint(metadata):
        found: Scope = _new(Scope, ("", session, "", "", "", "", trace, model))
        return found
    node = metadata.get("langgraph_node") or ""
    runtime = configurable.get("__pregel_runtime") if configurable else None
    context = _fields(getattr(runtime, "context", None)) if runtime is not None else _NOTHING
    layers = [layer for layer in (metadata, configurable, context) if layer and not _NAMES.isdisjoint(layer)]
    tags = [tag for tag in tags if tag.partition(":")[0] in _ALIASES] if tags else ()
    trace = told.get("trace") or _name(metadata.get(_TRACE)) or _name(configurable.get(_TRACE)) or trace
    known = _name(configurable.get(_AUTHENTICATED)) or _name(metadata.get(_AUTHENTICATED))
    if known and "user" not in told:
        told = {**told, "user": known}
    thread = _name(metadata.get("thread_id")) or _name(configurable.get("thread_id"))
    known = _name(metadata.get("lc_agent_name"))
    if not layers and not tags and not told:
        return Scope("", thread or session, known or _outermost(metadata), node, "", "", trace, model)
    host = {"session": thread, "agent": known}
    user, named, agent, feature, task = (
        told.get(tag) or (_pick(tag, layers) if layers else "") or host.get(tag) or (_tagged(tag, tags) if tags else "")
        for tag in TAGS
    )
    return Scope(user, named or session, agent or _outermost(metadata), node, feature, task, trace, model)


def _pick(tag: str, layers: Iterable[Mapping[str, Any]]) -> str:
    keys = _METADATA[tag]
    for layer in layers:
        for key in keys:
            if key in layer and (value := _name(layer[key])):
                return value
    return ""


def _name(value: object) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, (int, UUID)) and not isinstance(value, bool) else ""


def _tagged(tag: str, tags: Iterable[str]) -> str:
    prefix = f"{tag}:"
    return next((text[len(prefix) :] for text in tags if text.startswith(prefix)), "")


def _outermost(metadata: Mapping[str, Any]) -> str:
    """The first node of a checkpoint's path: ``research:<uuid>|model:<uuid>`` is ``research``."""
    path = metadata.get("langgraph_checkpoint_ns") or ""
    return str(path).split("|", 1)[0].split(":", 1)[0]


def _fields(context: object) -> Mapping[str, Any]:
    """A runtime context as a mapping: it is one, or a dataclass, a model of pydantic's, a named tuple, any object."""
    if context is None:
        return _NOTHING
    if isinstance(context, Mapping):
        return context
    names = getattr(context, "__dataclass_fields__", None) or getattr(context, "_fields", None)
    if names:
        return {name: getattr(context, name, None) for name in names}
    return getattr(context, "__dict__", _NOTHING)
