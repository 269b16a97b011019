"""Guardrails: callables that see a reply before it is acted on.

A guardrail takes the ``AIMessage`` and returns None (it passes), a text (what is wrong: the model is told, and asked
again), or ``Stop(why)`` (the run ends here). It may be a coroutine function where the agent is run asynchronously.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage
from pydantic import TypeAdapter, ValidationError

from langchain_costguard.steering.flow import quick


@dataclass(frozen=True, slots=True)
class Stop:
    """A verdict: this reply must not be acted on, and asking again will not help."""

    why: str


Verdict = str | Stop | None
Guardrail = Callable[[AIMessage], Verdict | Awaitable[Verdict]]


def valid_json(schema: type[Any] | Mapping[str, Any] | None = None) -> Guardrail:
    """Replies that call no tool must be JSON, and fit ``schema``: a pydantic model (or any type), or a JSON Schema.

    A JSON Schema needs the ``jsonschema`` package.

    Raises:
        ValueError: ``schema`` is neither.
        ImportError: ``jsonschema`` is not installed.
    """
    check = _schema_check(schema)

    @quick
    def is_valid_json(reply: AIMessage) -> Verdict:
        if reply.tool_calls:
            return None
        text = _unfenced(str(reply.text))
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            return f"It must be valid JSON and nothing else: {error}"
        return check(value)

    return is_valid_json


def max_tool_calls(most: int) -> Guardrail:
    """At most so many tool calls in one reply.

    Raises:
        ValueError: ``most`` is no whole number above zero.
    """
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise ValueError(f"max_tool_calls(most={most!r}) must be a whole number above zero")

    @quick
    def has_few_tool_calls(reply: AIMessage) -> Verdict:
        count = len(reply.tool_calls)
        return None if count <= most else f"It calls {count} tools at once; call at most {most} in one reply."

    return has_few_tool_calls


def parses(parser: Any) -> Guardrail:
    """Replies that call no tool must be understood by this output parser, the one that comes after the model."""

    def is_parsed(reply: AIMessage) -> Verdict:
        if reply.tool_calls:
            return None
        try:
            parser.invoke(reply)
        except Exception as error:  # whatever a parser raises is what is wrong
            return f"It could not be parsed: {error}"
        return None

    return is_parsed


def _schema_check(schema: Any) -> Callable[[Any], Verdict]:
    if schema is None:
        return lambda value: None
    if isinstance(schema, Mapping):
        try:
            from jsonschema.validators import validator_for
        except ImportError:
            raise ImportError("valid_json() of a JSON Schema needs jsonschema: pip install jsonschema") from None
        kind = validator_for(schema)
        try:
            kind.check_schema(dict(schema))
        except Exception as error:
            raise ValueError(f"valid_json: {schema!r} is no JSON Schema: {error}") from None
        validator = kind(schema)

        def fits_schema(value: Any) -> Verdict:
            wrong = "; ".join(f"{error.json_path}: {error.message}" for error in validator.iter_errors(value))
            return f"It does not fit the schema: {wrong}" if wrong else None

        return fits_schema
    try:
        if isinstance(schema, str):  # which pydantic would take for the name of a type yet to come
            raise TypeError("it is a text")
        adapter: TypeAdapter[Any] = TypeAdapter(schema)
    except Exception as error:
        raise ValueError(f"valid_json: {schema!r} is neither a type nor a JSON Schema: {error}") from None

    def fits_type(value: Any) -> Verdict:
        try:
            adapter.validate_json(json.dumps(value))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in error.errors())
            return f"It does not fit {getattr(schema, '__name__', 'the schema')}: {wrong}"
        return None

    return fits_type


def _unfenced(text: str) -> str:
    """Without a Markdown fence around it, which JSON parsers of this host take off as well."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        return text[3:-3].removeprefix("json").strip()
    return text
