"""A model that calls the same tool with the same arguments for ever."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langchain_costguard.testing.replies import Reply
from langchain_costguard.testing.requests import Request


def stuck_in_a_loop(text: str = "I see no tool that I could call.") -> Callable[[Request], Reply]:
    """What ``FakeProvider(stuck_in_a_loop())`` says: the first tool offered, with the same made-up arguments.

    ``text`` is the answer to a request that offers no tool.
    """

    def reply(request: Request) -> Reply:
        if not request.tools:
            return Reply(text)
        tool = request.tools[0]
        arguments = sample(tool.schema)
        return Reply(tool_calls=[(tool.name, arguments if isinstance(arguments, dict) else {})])

    return reply


def sample(schema: Mapping[str, Any]) -> Any:
    """A plain value that fits a JSON schema, always the same for the same schema."""
    return _sample(schema, schema.get("$defs") or schema.get("definitions") or {}, depth=0)


def _sample(schema: Mapping[str, Any], shared: Mapping[str, Any], depth: int) -> Any:
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if schema.get("enum"):
        return schema["enum"][0]
    if depth > 8:  # a schema that refers to itself
        return None
    inner = _inner(schema, shared)
    if inner is not None:
        return _sample(inner, shared, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        wanted = schema.get("required", ())
        properties = schema.get("properties", {})
        return {name: _sample(properties[name], shared, depth + 1) for name in wanted if name in properties}
    if kind == "array":
        return [_sample(schema.get("items", {}), shared, depth + 1)] * schema.get("minItems", 1)
    plain = {"string": "the same again", "boolean": True, "null": None}
    return plain[kind] if kind in plain else schema.get("minimum", 1)


def _inner(schema: Mapping[str, Any], shared: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema that this one stands for: a reference, or the first alternative that is not null."""
    if "$ref" in schema:
        found = shared.get(schema["$ref"].rpartition("/")[2], {})
        return found if isinstance(found, Mapping) else {}
    for name in ("anyOf", "oneOf", "allOf"):
        for option in schema.get(name, ()):
            if isinstance(option, Mapping) and option.get("type") != "null":
                return option
    return None
