"""A request is put to another model than the one it was made for: in its words, or it is declined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_costguard.steering.requests import Reply
from langchain_costguard.steering.translation.bound import Bound, read
from langchain_costguard.steering.translation.dialects import FAMILY, dialect_of
from langchain_costguard.steering.translation.formats import parsed_as
from langchain_costguard.steering.translation.histories import portable
from langchain_costguard.steering.translation.objections import objection
from langchain_costguard.steering.translation.writing import Untranslatable, written

_SHARED = (
    "response_format", "metadata", "user", "safety_identifier", "store", "service_tier", "verbosity",
    "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
)  # fmt: skip
"""What OpenAI's client takes in the same words for both of its APIs."""


def declined(request: Any, model: Any) -> str:
    """Why a model cannot take this request over, as the end of a sentence about it; empty where it can."""
    try:
        taken_over(request, model)
    except Untranslatable as error:
        return str(error)
    return ""


def taken_over(request: Any, model: Any) -> Any:
    """The request as another model takes it. Its own model has it as it is, but for what others said meanwhile.

    Raises:
        Untranslatable: the end of a sentence about the model, which cannot take it.
    """
    own, settings = getattr(request, "model", None), _settings(request)
    if own is None:  # a node's request: its model is its own
        return request.override(model=model)
    ours, theirs = _dialects(request, settings, model)
    messages = portable(request.messages, theirs, ours)
    changes: dict[str, Any] = {"model": model}
    if messages != request.messages:
        changes["messages"] = messages
    if model is own:
        return request.override(**changes)
    bound = _bound(request, settings)
    if "model" in settings:
        raise Untranslatable(f"the call itself asks for {settings['model']!r}")
    if wrong := objection(bound, model, theirs, settings, messages, native=ours == theirs):
        raise Untranslatable(wrong)
    if ours != theirs:
        shared = _SHARED if {ours, theirs} == set(FAMILY) else ()
        changes |= _changes(request, bound.without(shared), model, theirs)
        kept = {key: settings[key] for key in shared if key in settings}
        field = "model_settings" if hasattr(request, "model_settings") else "settings"
        changes[field] = {**changes[field], **kept}
    return request.override(**changes)


def in_own_words(request: Any, reply: Reply) -> Reply:
    """A reply as the request's own model would have given it: with what whoever made the request reads."""
    settings = _settings(request)
    if reply.message is None or not settings or reply.ended:
        return reply
    message = parsed_as(settings.get("response_format"), reply.message)
    return reply if message is None else replace(reply, message=message, altered=True)


def _dialects(request: Any, settings: Mapping[str, Any], model: Any) -> tuple[str, str]:
    """Whose words a request is in, and whose it would have to be in."""
    tools = [tool for tool in getattr(request, "tools", None) or () if isinstance(tool, dict)]
    payload = {**settings, "tools": tools} if tools else settings
    ours = dialect_of(request.model, payload)
    if model is request.model:
        return ours, ours
    return ours, dialect_of(model, payload if ours in FAMILY else {})


def _settings(request: Any) -> Mapping[str, Any]:
    found = request.model_settings if hasattr(request, "model_settings") else getattr(request, "settings", None)
    return found or {}


def _bound(request: Any, settings: Mapping[str, Any]) -> Bound:
    """What the request binds. An agent's form is put by the host, in whatever way each model has it; if it is called as
    a tool, there is a tool."""
    if not hasattr(request, "model_settings"):
        return read(settings)
    bound = read(settings, request.tools or (), request.tool_choice)
    form = request.response_format
    kind = type(form).__name__
    if kind == "ProviderStrategy":
        return replace(bound, form=form.to_model_kwargs()["response_format"])
    return bound if kind == "NoneType" or bound.tools else replace(bound, functions=(form,))


def _changes(request: Any, bound: Bound, model: Any, dialect: str) -> dict[str, Any]:
    if hasattr(request, "model_settings"):
        return _agents(request, bound, model, dialect)
    tools, choice, settings = written(bound, model, dialect)
    if not tools:
        return {"settings": settings}
    try:
        made = model.bind_tools(tools, **({} if choice is None else {"tool_choice": choice}), **settings)
    except NotImplementedError:
        raise Untranslatable("it cannot call tools") from None
    except Exception as error:  # a client that refuses a tool's schema, say: better now than when it is asked
        raise Untranslatable(f"its client takes no such tools: {error}") from error
    return {"settings": dict(getattr(made, "kwargs", {}))}


def _agents(request: Any, bound: Bound, model: Any, dialect: str) -> dict[str, Any]:
    """An agent's request: its tools are bound by the host, and so is the form of its answer."""
    own = request.tools or []
    asked = replace(bound, form=None, functions=tuple(bound.functions[: len(own)]))
    words = written(asked, model, dialect)
    system = request.system_message
    changes: dict[str, Any] = {"tools": words.tools, "tool_choice": words.choice, "model_settings": words.settings}
    if system is not None:
        changes["system_message"] = _alone(portable([system], dialect, dialect))
    return changes


def _alone(messages: Sequence[BaseMessage]) -> BaseMessage:
    return messages[0]
