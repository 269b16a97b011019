"""What is bound, in the words of the client that is to have it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from langchain_costguard.steering.translation.bound import Bound
from langchain_costguard.steering.translation.choices import write_choice
from langchain_costguard.steering.translation.dialects import FAMILY, FORMATS, class_name, name_of, profile_of
from langchain_costguard.steering.translation.formats import JSON, as_schema

_COMMON = {name: name for name in ("max_tokens", "temperature", "top_p")}
_PENALTIES = {name: name for name in ("presence_penalty", "frequency_penalty")}
_WORDS: Mapping[str, Mapping[str, str]] = {
    "openai": {**_COMMON, **_PENALTIES, "stop": "stop", "seed": "seed", "n": "n"},
    "responses": _COMMON,
    "anthropic": {**_COMMON, "stop": "stop", "top_k": "top_k"},
    "gemini": {**_COMMON, **_PENALTIES, "max_tokens": "max_output_tokens", "stop": "stop", "top_k": "top_k",
               "seed": "seed", "n": "candidate_count"},
}  # fmt: skip
"""What each client calls the settings that several have; one that is not there, it does not have.
OpenAI's client drops ``stop`` where it uses the Responses API."""
_NOT_WHILE_REASONING = ("stop", "top_p", *_PENALTIES)
"""https://platform.openai.com/docs/guides/reasoning#limitations"""


class Untranslatable(ValueError):
    """Something bound has no equal in another client; ``str()`` is the end of a sentence about the model."""


class Written(NamedTuple):
    """A request's words as ``bind_tools(tools, tool_choice=choice, **settings)`` of the client takes them."""

    tools: list[Any]
    choice: Any
    settings: dict[str, Any]


def written(bound: Bound, model: Any, dialect: str) -> Written:
    """The same in the words of another client.

    Raises:
        Untranslatable: says what it has no words for.
    """
    if bound.hosted:
        raise Untranslatable(f"it has no {bound.hosted[0]!r}, a tool of another provider's")
    if bound.foreign:
        raise Untranslatable(f"it has no equal to {bound.foreign[0]!r}")
    settings = dict(bound.kept)
    settings.update(_plain(bound, model, dialect))
    if bound.form is not None:
        settings["response_format"] = _form(bound, dialect)
    if bound.effort and not (bound.effort == "none" and not profile_of(model).get("reasoning_output")):
        settings["reasoning_effort"] = bound.effort
    if not bound.tools:
        return Written([], None, settings)
    tools = [_for(tool, dialect, model) for tool in bound.functions]
    choice = bound.choice
    if bound.alone and choice.kind != "none":
        if dialect in (*FAMILY, "anthropic"):
            settings["parallel_tool_calls"] = False
        elif not bound.one_answer:
            raise Untranslatable("it cannot be held to one tool call at a time")
    return Written(tools, write_choice(choice, dialect), settings)


def _plain(bound: Bound, model: Any, dialect: str) -> Iterator[tuple[str, Any]]:
    words = _WORDS.get(dialect)
    if words is None:
        fields = getattr(type(model), "model_fields", {})
        words = {"stop": "stop", **{name: name for name in _COMMON if name in fields}}
    reasons = dialect in FAMILY and profile_of(model).get("reasoning_output")
    for name, value in bound.plain.items():
        if name not in words or (reasons and name in _NOT_WHILE_REASONING):
            raise Untranslatable(f"it has no {name!r}")
        yield words[name], value
    if dialect == "anthropic" and {"temperature", "top_p"} <= set(bound.plain):
        raise Untranslatable("it takes a temperature or 'top_p', not both")


def _form(bound: Bound, dialect: str) -> Any:
    if dialect not in (*FAMILY, "anthropic", "gemini") and class_name(dialect) not in FORMATS:
        raise Untranslatable("it is not known to be held to a form")
    if bound.form != JSON:
        return as_schema(bound.form)
    if dialect == "anthropic":
        raise Untranslatable("it has no JSON mode")
    return bound.form


def _for(tool: Any, dialect: str, model: Any) -> Any:
    """A function, held to its schema where it was: Gemini cannot be, nor is it known of others."""
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not function.get("strict"):
        return tool
    if dialect in FAMILY or (dialect == "anthropic" and profile_of(model).get("structured_output")):
        return tool
    raise Untranslatable(f"{name_of(model)} cannot be held to the schema of {function['name']!r}")
