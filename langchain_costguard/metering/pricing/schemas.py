"""Tool schemas as text: what a provider makes of them before its model reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Function(NamedTuple):
    """A tool the caller runs: its name, description and JSON schema of parameters."""

    name: str
    description: str
    parameters: Mapping[str, Any]


def functions_of(tools: Iterable[Any]) -> tuple[list[Function], int]:
    """The functions among bound tools in any provider's format, and how many are tools the provider itself runs."""
    functions: list[Function] = []
    hosted = 0
    for tool in tools:
        found = list(_unwrap(tool))
        functions += found
        hosted += not found
    return functions, hosted


def _unwrap(tool: Any) -> Iterable[Function]:
    if not isinstance(tool, Mapping):
        yield from _unwrap_object(tool)
        return
    for key in ("function", "toolSpec", "custom"):
        if isinstance(tool.get(key), Mapping):
            yield from _unwrap(tool[key])
            return
    for key in ("function_declarations", "functionDeclarations"):
        if isinstance(tool.get(key), list | tuple):
            for declaration in tool[key]:
                yield from _unwrap(declaration)
            return
    schema = next((tool[key] for key in _SCHEMA_KEYS if isinstance(tool.get(key), Mapping)), None)
    if schema is not None and isinstance(schema.get("json"), Mapping):
        schema = schema["json"]
    name = tool.get("name") or tool.get("title")
    if isinstance(name, str) and (schema is not None or "description" in tool or tool.get("type") in _OWN):
        yield Function(name, str(tool.get("description") or ""), schema if schema is not None else {})


_SCHEMA_KEYS = (
    "parameters", "input_schema", "inputSchema", "parameters_json_schema", "parametersJsonSchema", "schema",
    "properties",
)  # fmt: skip
_OWN = ("function", "custom")


def _unwrap_object(tool: Any) -> Iterable[Function]:
    """A tool that is no mapping: a BaseTool, a pydantic class, a function."""
    from langchain_core.utils.function_calling import convert_to_openai_tool

    try:
        yield from _unwrap(convert_to_openai_tool(tool))
    except Exception:  # whatever a host binds: what it says about itself is still text of about the right size
        yield Function(str(getattr(tool, "name", type(tool).__name__)), str(getattr(tool, "description", "")), {})


def as_json(functions: Iterable[Function]) -> str:
    """The functions as compact JSON, one a line."""
    return "\n".join(json.dumps(f._asdict(), ensure_ascii=False, default=str) for f in functions)


def as_typescript(functions: Iterable[Function]) -> str:
    """The functions as OpenAI renders them for its models: a TypeScript namespace.

    The format is undocumented; this rendering is the one found by https://github.com/hmarr/openai-chat-tokens, with
    the defaults and the descriptions at every depth that models since gpt-4-turbo are billed for.
    """
    lines = ["namespace functions {", ""]
    for function in functions:
        if function.description:
            lines.append(f"// {function.description}")
        properties = function.parameters.get("properties")
        if isinstance(properties, Mapping) and properties:
            lines.append(f"type {function.name} = (_: {{")
            lines += _properties(function.parameters, 0)
            lines.append("}) => any;")
        else:
            lines.append(f"type {function.name} = () => any;")
        lines.append("")
    lines.append("} // namespace functions")
    return "\n".join(lines)


def _properties(schema: Mapping[str, Any], indent: int) -> list[str]:
    lines = []
    properties = schema.get("properties")
    required = schema.get("required")
    required = required if isinstance(required, list | tuple) else ()
    for name, prop in properties.items() if isinstance(properties, Mapping) else ():
        if not isinstance(prop, Mapping):
            continue
        if prop.get("description"):
            lines.append(f"// {prop['description']}")
        default = f" // default: {json.dumps(prop['default'], default=str)}" if "default" in prop else ""
        lines.append(f"{name}{'' if name in required else '?'}: {_type(prop, indent)},{default}")
    return [" " * indent + line for line in lines]


def _type(prop: Mapping[str, Any], indent: int) -> str:
    kind = prop.get("type")
    if indent > 16:
        return "any"  # a schema that refers to itself
    if isinstance(prop.get("enum"), list | tuple):
        return " | ".join(json.dumps(value, default=str) for value in prop["enum"])
    for union in ("anyOf", "oneOf"):
        if isinstance(prop.get(union), list | tuple):
            return " | ".join(_type(each, indent) for each in prop[union] if isinstance(each, Mapping))
    if kind == "array":
        items = prop.get("items")
        return f"{_type(items, indent)}[]" if isinstance(items, Mapping) and items else "any[]"
    if kind == "object":
        return "\n".join(["{", *_properties(prop, indent + 2), "}"])
    if kind in ("integer", "number"):
        return "number"
    return str(kind) if isinstance(kind, str) else "any"
