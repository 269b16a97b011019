"""Who is spending: resolved once, at a call's start, from everything the host says about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple
from uuid import UUID

from langchain_costguard.vocabulary.slips import hint


class Scope(NamedTuple):
    """Who is spending. An unknown dimension is empty, and its budgets are shared by all that is unknown.

    ``step`` is the name of the LangGraph node, ``trace`` the root run's id.
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
"""The dimensions a user may set with ``guard.scope`` and with metadata; the others follow from the run."""

_ALIASES = {
    "user": ("user_id", "user"),
    "session": ("session_id", "session"),
    "agent": ("agent_id", "agent"),
    "feature": ("feature",),
    "task": ("task",),
}
_METADATA = {tag: (f"costguard_{tag}", *_ALIASES[tag]) for tag in TAGS}
_NAMES = frozenset(key for keys in _METADATA.values() for key in keys)
_TELLING = _NAMES | {"langgraph_node", "langgraph_checkpoint_ns", "lc_agent_name", "thread_id"}
_NOTHING: Mapping[str, str] = {}
_new: Any = tuple.__new__

ambient: ContextVar[Mapping[str, str]] = ContextVar("costguard_scope", default=_NOTHING)
"""What ``guard.scope(...)`` set around the running code."""


def checked(tags: Mapping[str, object]) -> dict[str, str]:
    """Validate the arguments of ``guard.scope``.

    Raises:
        ValueError: names an unknown dimension, or a value that is no text.
    """
    for name, value in tags.items():
        if name not in TAGS:
            raise ValueError(f"scope: {name!r} is not one of {', '.join(TAGS)}{hint(name, TAGS)}")
        if not isinstance(value, (str, int)) or isinstance(value, bool) or value == "":
            raise ValueError(f"scope: {name}={value!r} must be a non-empty text")
    return {name: str(value) for name, value in tags.items()}


def unsaid(metadata: Mapping[str, Any]) -> bool:
    """Whether neither ``guard.scope`` nor this metadata say anything of who is spending."""
    return ambient.get() is _NOTHING and _TELLING.isdisjoint(metadata)


def resolve(
    metadata: Mapping[str, Any],
    tags: Iterable[str] | None,
    config: Mapping[str, Any] | None,
    *,
    trace: str,
    model: str,
    session: str,
) -> Scope:
    """Say who is spending.

    In this order: ``guard.scope``; metadata (``costguard_user``, then ``user_id`` and ``user``, and the like); the
    enclosing graph's ``configurable`` and runtime context, by the same names; LangGraph's ``thread_id`` and
    ``lc_agent_name``; tags (``user:u1``); and of the agent, as a guess, the outermost node of the checkpoint's path.
    Only texts, whole numbers and UUIDs name somebody: a context's ``session`` may well be a database's.

    ``config`` is the enclosing runnable's, where there is one; ``session`` stands in where nothing names one.
    """
    said = ambient.get()
    configurable: Mapping[str, Any] = (config.get("configurable") or _NOTHING) if config else _NOTHING
    if said is _NOTHING and not configurable and not tags and _TELLING.isdisjoint(metadata):
        found: Scope = _new(Scope, ("", session, "", "", "", "", trace, model))
        return found
    node = metadata.get("langgraph_node") or ""
    runtime = configurable.get("__pregel_runtime") if configurable else None
    context = _fields(getattr(runtime, "context", None)) if runtime is not None else _NOTHING
    layers = [layer for layer in (metadata, configurable, context) if layer and not _NAMES.isdisjoint(layer)]
    tags = [tag for tag in tags if tag.partition(":")[0] in _ALIASES] if tags else ()
    thread = _name(metadata.get("thread_id")) or _name(configurable.get("thread_id"))
    known = _name(metadata.get("lc_agent_name"))
    if not layers and not tags and not said:
        return Scope("", thread or session, known or _outermost(metadata), node, "", "", trace, model)
    host = {"session": thread, "agent": known}
    user, named, agent, feature, task = (
        said.get(tag) or (_pick(tag, layers) if layers else "") or host.get(tag) or (_tagged(tag, tags) if tags else "")
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
