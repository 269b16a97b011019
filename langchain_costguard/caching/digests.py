"""Digests of what a model is asked: the same for requests that differ in nothing that could change the answer.

A message's digest is remembered by its content, so that a turn of a conversation costs the digest of its new message
and of the few bytes of the others' digests.
"""

from __future__ import annotations

import dataclasses
import json
import marshal
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from threading import Lock
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, SecretStr, TypeAdapter

from langchain_costguard.observe.forks import held_over_forks

_MESSAGES = 8_192
_CHARACTERS = 32_000_000
"""Messages whose digests are remembered, and characters of them at the most; beyond either, the oldest half goes."""

_PLACE = frozenset({"index", "cache_control"})
"""Parts of a content block that mean nothing to the model."""
_CALLS = frozenset({"tool_use", "tool_call", "function_call"})
_IDS = {kind: _PLACE | {"id"} for kind in ("text", "refusal", "reasoning", "thinking", "redacted_thinking")}
_IDS |= {kind: _PLACE | {"id", "call_id"} for kind in _CALLS}
"""Ids that differ from request to request. Those of other blocks may be what is meant: a file, an image, an item."""

_EXTRAS = frozenset({"name", "__openai_role__", "type", "function_call"})
"""What integrations send of the ``additional_kwargs`` of a message that is not the model's."""
_UNSENT = frozenset({"parsed", "costguard", "cache_control"})
"""What is not sent of those of the model's, besides all that begins with two underscores."""


_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


class UnknownValueError(TypeError):
    """A value of which nobody can say whether it changes the answer."""


class _Memo:
    """Digests by what was digested, the oldest half of them dropped when they are too many."""

    def __init__(self) -> None:
        self._known: dict[Any, bytes] = {}
        self._characters = 0
        self._lock = held_over_forks(Lock())
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
_TELLING = ("tool_calls", "status", "role")
"""By which of its fields a message's digest is remembered, besides content and name: the first of these that it has."""
_KINDS: dict[type, str] = {}
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
    found: list[bytes] = []
    add, known_by, kinds, calls = found.append, _messages.get, _KINDS, dict[Any, bytes]()
    for message in messages:
        fields, cls = message.__dict__, message.__class__  # a pydantic model's attributes take several times as long
        content = fields["content"]
        if content.__class__ is not str:
            content = _marshalled(content)
        kind = kinds[cls] if cls in kinds else _kind(cls)
        more: Any = None
        if kind:
            more = _called(fields, calls) if kind == "tool_calls" else fields[kind]
        if fields["additional_kwargs"]:
            more = more, _marshalled(_extra(message))
        seen = cls, content, fields["name"], more
        digested = known_by(seen)
        if digested is None:
            digested = _messages.keep(seen, _digested(message), len(content) + 256)
        add(digested if kind != "status" else digested + calls.get(fields["tool_call_id"], b""))
    return found


def _kind(cls: type[BaseMessage]) -> str:
    return _KINDS.setdefault(cls, next((name for name in _TELLING if name in cls.model_fields), ""))


def _called(fields: Mapping[str, Any], ordinals: dict[Any, bytes]) -> Any:
    """By what a message's tool calls are remembered; notes their places in the conversation by their ids."""
    called, broken = fields["tool_calls"], fields["invalid_tool_calls"]
    for call in called:
        ordinals[call["id"]] = len(ordinals).to_bytes(4, "big")
    for call in broken:
        ordinals[call.get("id")] = len(ordinals).to_bytes(4, "big")
    return _marshalled([called, broken]) if broken else _marshalled(called) if called else None


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
        return canonical(value).encode("utf-8", "surrogatepass")  # no text, which it might be taken for


def _extra(message: BaseMessage) -> dict[str, Any]:
    """What is sent of the ``additional_kwargs``, without ids."""
    extra = message.additional_kwargs
    if not extra:
        return {}
    if not isinstance(message, AIMessage):
        return {key: value for key, value in extra.items() if value and key in _EXTRAS}
    unsent = _UNSENT | {"tool_calls"} if message.tool_calls or message.invalid_tool_calls else _UNSENT
    return {key: value for key, value in extra.items() if value and key not in unsent and key[:2] != "__"}


def _calls(message: BaseMessage) -> str:
    """The calls of tools without their ids; those that did not parse are sent, too."""
    called, broken = (message.__dict__.get(name) for name in ("tool_calls", "invalid_tool_calls"))
    told = [[call["name"], call["args"]] for call in called or ()]
    if not broken:
        return canonical(told) if told else ""
    return canonical([told, [[call.get("name"), call.get("args")] for call in broken]])


def _digested(message: BaseMessage) -> bytes:
    role = message.__dict__.get("role") or message.type.removesuffix("MessageChunk").lower()
    content, extra = _content(message), _extra(message)
    return digest(
        role,
        message.name or "",
        message.status if isinstance(message, ToolMessage) else "",
        "text" if isinstance(content, str) else "blocks",
        content if isinstance(content, str) else canonical(content),
        _calls(message),
        canonical(extra) if extra else "",
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
    ids = _IDS.get(str(block.get("type")), _PLACE)
    made_up = str(block.get("id", "")).startswith("lc_")  # LangChain's own, for whoever has none
    return {key: value for key, value in block.items() if key not in ids and not (made_up and key == "id")}


def _tool_digest(tool: Any) -> bytes:
    if isinstance(tool, Mapping):
        return digest(canonical(_block(tool)))
    extras = getattr(tool, "extras", None)
    extra = canonical(_block(extras)) if extras else ""
    said = getattr(tool, "name", None), getattr(tool, "description", None), extra
    known = _tools.get(id(tool))
    if known is not None and known[0] is tool and known[1] == said:
        return known[2]
    try:
        found = digest(canonical(convert_to_openai_tool(tool)), extra)
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


@lru_cache(maxsize=256)
def _schema(kind: type) -> Any:
    """The fields of a class, with those of the classes in them."""
    if not getattr(kind, "__annotations__", None):
        return {}
    try:
        return TypeAdapter(kind).json_schema()
    except Exception:  # it has fields of which pydantic knows no schema
        return {name: repr(hint) for name, hint in kind.__annotations__.items()}


def _plain_object(value: Any) -> Any:
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, type):
        return [f"{value.__module__}.{value.__qualname__}", value.__doc__, _schema(value)]
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
