"""What form an answer must have: in the words of any client, and as OpenAI writes it, which they all take."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage

PARSED = "parsed"
"""Where OpenAI's client has, beside a reply's text, what it read it as."""
JSON: Mapping[str, Any] = {"type": "json_object"}
"""Any JSON."""
WORDS = frozenset(
    ("response_format", "text", "text_format", "output_config", "output_format", "response_mime_type",
     "response_json_schema", "response_schema")
)  # fmt: skip
"""Arguments by which a form is asked for."""


def read_format(settings: Mapping[str, Any]) -> Any:
    """The form that a call asks for: ``JSON``, a schema as OpenAI writes it, a pydantic class; None for none."""
    given = settings.get("response_format") or settings.get("text_format")
    if given is None:
        inside = settings.get("text") or settings.get("output_config")
        given = inside.get("format") if isinstance(inside, Mapping) else None
    given = given or settings.get("output_format")
    if given is None and settings.get("response_mime_type") == "application/json":
        given = settings.get("response_json_schema") or settings.get("response_schema") or JSON
    return _as_openai(given) if isinstance(given, Mapping) else given


def _as_openai(given: Mapping[str, Any]) -> Mapping[str, Any]:
    if given.get("type") == "json_object" or isinstance(given.get("json_schema"), Mapping):
        return given
    if given.get("type") == "json_schema" and isinstance(given.get("schema"), Mapping):
        facts = {key: value for key, value in given.items() if key not in ("type", "schema")}
        return _named(given["schema"], facts)
    return _named(given, {})


def _named(schema: Mapping[str, Any], facts: Mapping[str, Any]) -> Mapping[str, Any]:
    name = re.sub(r"[^\w-]", "_", str(facts.get("name") or schema.get("title") or "answer"))[:64]
    return {"type": "json_schema", "json_schema": {**facts, "name": name, "schema": dict(schema)}}


def other_words(settings: Mapping[str, Any]) -> list[str]:
    """What is asked for beside a form in the same arguments."""
    beside = [(key, settings.get(key)) for key in ("text", "output_config")]
    known = ("format", "effort", "verbosity")
    said = [
        f"{key}.{word}" for key, value in beside if isinstance(value, Mapping) for word in value if word not in known
    ]
    if settings.get("response_mime_type") not in (None, "application/json", "text/plain"):
        said.append("response_mime_type")
    return said


def as_schema(form: Any) -> Mapping[str, Any]:
    """A form with a schema, as every client takes it; for OpenAI it is strict where the schema allows that."""
    if not isinstance(form, Mapping):
        form = _named(form.model_json_schema(), {"name": form.__name__})
    inside = form["json_schema"]
    return {**form, "json_schema": {**inside, "strict": True}} if _is_closed(inside.get("schema")) else form


def _is_closed(schema: Any) -> bool:
    """Whether each object in a schema has all of its fields and no others: what OpenAI asks of strict ones.
    https://platform.openai.com/docs/guides/structured-outputs#supported-schemas"""
    if isinstance(schema, list):
        return all(map(_is_closed, schema))
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        fields = set(schema.get("properties") or ())
        if schema.get("additionalProperties") is not False or fields != set(schema.get("required") or ()):
            return False
    return all(
        _is_closed(value) for key, value in schema.items() if key not in ("enum", "const", "default", "examples")
    )


def parsed_as(form: Any, message: AIMessage) -> AIMessage | None:
    """The reply as OpenAI's client reads one to a pydantic class: with what it parsed beside the text; None where it
    has that already, or it is no such form."""
    if not isinstance(form, type) or message.tool_calls or PARSED in message.additional_kwargs:
        return None
    try:
        found = json.loads(message.text)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    return message.model_copy(update={"additional_kwargs": {**message.additional_kwargs, PARSED: found}})
