"""Digests of what a model is asked: the same for requests that differ in nothing that could change the answer.

A message's digest is remembered by its content, so that a turn of a conversation costs the digest of its new message
and of the few bytes of the others' digests.
"""

from __future__ import annotations

import dataclasses
import json
import marshal
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from threading import Lock
from typing import Any

from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, SecretStr

_MESSAGES = 8_192
_CHARACTERS = 32_000_000
"""Messages whose digests are remembered, and characters of them at the most; beyond either, the oldest half goes."""

_IDS = frozenset({"id", "index", "cache_control"})
"""Parts of a content block that differ from request to request and mean nothing to the model."""
_CALLS = frozenset({"tool_use", "tool_call", "function_call"})
_NO_IDS = _IDS | {"call_id"}


_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


class UnknownValueError(TypeError):
    """A value of which nobody can say whether it changes the answer."""


class _Memo:
    """Digests by what was digested, the oldest half of them dropped when they are too many."""

    def __init__(self) -> None:
        self._known: dict[Any, bytes] = {}
        self._characters = 0
        self._lock = Lock()
        self.get = self._known.get

    def keep(self, seen: Any, digest: bytes, size: int) -> bytes:
        """Remember a digest; ``size`` are the characters kept alive by it."""
        with self._lock:
            self._known[seen] = digest
            self._characters += size
            if len(self._known) > _MESSAGES or self._characters > _CHARACTERS:
                for old in list(self._known)[: max(1, len(self._known) // 2)]:
                    del self._known[old]
                self._characters //= 2
        return digest


_messages = _Memo()
_tools: dict[int, tuple[Any, Any, bytes]] = {}
_TOOLS = 1_024


def digest(*parts: bytes | str) -> bytes:
    """SHA-256 of the parts, told apart by their lengths."""
    data = [part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass") for part in parts]
    lengths = ",".join([str(len(part)) for part in data]).encode()
    return sha256(b";".join([lengths, *data])).digest()


def digests(messages: Sequence[BaseMessage]) -> list[bytes]:
    """Each message's digest: role, content, tool calls and results; no ids, usage or metadata.

    Calls and their results are tied to each other by their order instead of their ids, which differ from run to run.
    """
    found = []
    calls: dict[Any, int] = {}
    for message in messages:
        fields = message.__dict__  # a pydantic model's attributes take several times as long
        kind, content = message.__class__, fields["content"]
        if content.__class__ is not str:
            content = _marshalled(content)
        called = fields.get("tool_calls")
        more = _marshalled(called) if called else fields.get("status") or fields.get("role")
        seen = kind, content, fields["name"], more
        known = _messages.get(seen)
        if known is None:
            known = _messages.keep(seen, _digested(message), len(content) + 256)
        if called:
            for call in called:
                calls[call["id"]] = len(calls)
        elif "tool_call_id" in fields:
            known += calls.get(fields["tool_call_id"], -1).to_bytes(4, "big", signed=True)
        found.append(known)
    return found


def tools_digest(tools: Iterable[Any]) -> bytes:
    """The digest of what tools can be called, in whatever order.

    Raises:
        UnknownValueError: one is no tool.
    """
    return digest(*sorted(_tool_digest(tool) for tool in tools))


def canonical(value: Any) -> str:
    """A value as JSON with sorted keys; schemas, tools and settings as what the provider would see of them.

    Raises:
        UnknownValueError: it holds a value nobody can tell from others of its class.
    """
    return _encode(_plain(value))


def _marshalled(value: Any) -> Any:
    try:
        return marshal.dumps(value, 2)  # version 2 has no references: equal values, equal bytes
    except ValueError:
        return canonical(value)


def _without_ids(calls: Sequence[Any]) -> list[Any]:
    return [[call["name"], call["args"]] for call in calls]


def _digested(message: BaseMessage) -> bytes:
    role = getattr(message, "role", None) or message.type.removesuffix("MessageChunk").lower()
    content, calls = _content(message), getattr(message, "tool_calls", None)
    return digest(
        role,
        message.name or "",
        message.status if isinstance(message, ToolMessage) else "",
        "text" if isinstance(content, str) else "blocks",
        content if isinstance(content, str) else canonical(content),
        canonical(_without_ids(calls)) if calls else "",
    )


def _content(message: BaseMessage) -> Any:
    """The content without ids; a lone block of text as the text it is."""
    content = message.content
    if isinstance(content, str):
        return content
    blocks = [_block(block) for block in content]
    match blocks:
        case [{"type": "text", "text": text, **rest}] if not rest:
            return text
        case [str() as text]:
            return text
    return blocks


def _block(block: Any) -> Any:
    if not isinstance(block, Mapping):
        return block
    ids = _NO_IDS if block.get("type") in _CALLS else _IDS
    return {key: value for key, value in block.items() if key not in ids}


def _tool_digest(tool: Any) -> bytes:
    if isinstance(tool, Mapping):
        return digest(canonical(tool))
    said = getattr(tool, "name", None), getattr(tool, "description", None)
    known = _tools.get(id(tool))
    if known is not None and known[0] is tool and known[1] == said:
        return known[2]
    try:
        found = digest(canonical(convert_to_openai_tool(tool)))
    except (ValueError, TypeError) as error:
        raise UnknownValueError(f"{tool!r} is no tool: {error}") from None
    if len(_tools) >= _TOOLS:
        _tools.clear()
    _tools[id(tool)] = tool, said, found
    return found


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(inner) for inner in value), key=repr)
    if isinstance(value, bytes):
        return sha256(value).hexdigest()
    if isinstance(value, SecretStr):
        return None
    return _plain_object(value)


def _plain_object(value: Any) -> Any:
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, type):
        schema = getattr(value, "model_json_schema", None)
        fields = schema() if callable(schema) else _plain(getattr(value, "__annotations__", None) or {})
        return [f"{value.__module__}.{value.__qualname__}", value.__doc__, fields]
    if isinstance(value, BaseModel):
        return [name, _plain(value.model_dump())]
    if dataclasses.is_dataclass(value):
        shown = [field.name for field in dataclasses.fields(value) if field.repr]
        return [name, {field: _plain(getattr(value, field)) for field in shown}]
    if hasattr(value, "__qualname__"):  # a function; whatever it closes over, nobody can tell
        return f"{value.__module__}.{value.__qualname__}"
    if known := {key: inner for key, inner in getattr(value, "__dict__", {}).items() if not key.startswith("_")}:
        return [name, _plain(known)]
    raise UnknownValueError(f"a {name} among the settings of a call")
