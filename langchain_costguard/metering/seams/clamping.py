"""The model and the arguments that a guarded call is made with: its ceiling lowered, and itself beneath the copy."""

from __future__ import annotations

from typing import Any

from langchain_costguard.metering.calls import Call
from langchain_costguard.metering.seams.overheard import is_heard

_CEILINGS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_tokens_to_sample")
"""In this order: ``ChatOpenAI``'s own ``max_completion_tokens`` wins over a ``max_tokens`` of the call in the Responses
API (``_construct_responses_api_payload``)."""
_CEILING_FIELDS = ("num_predict",)
"""Ceilings that a model reads from its field alone; as an argument of the call it would reach the client."""

ITSELF = "_costguard_itself"
"""Where in it the model is that was wrapped, and the fields it was wrapped with."""
_OF_THE_RUN = {"callbacks", "metadata", "tags", "name", "cache", "verbose", "rate_limiter"}
"""Fields that are used before the call comes to the class beneath."""


def kept_by(copy: Any, model: Any) -> None:
    """Note in a copy of a model which it is a copy of."""
    own = type(model).model_fields.keys() - _OF_THE_RUN
    copy.__dict__[ITSELF] = model, {name: copy.__dict__.get(name) for name in own}


def clamped(model: Any, call: Call, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model and its arguments with the output ceiling lowered to what was held, where there is one to lower."""
    if call.ceiling >= call.allowed:
        return _itself(model), kwargs
    fields = type(model).model_fields
    names = {*fields, *(field.alias for field in fields.values()), *kwargs}
    for name in _CEILING_FIELDS:
        if name in fields:
            return model.model_copy(update={name: call.ceiling}), kwargs
    name = next((name for name in _CEILINGS if name in names), "")
    if not name:
        return _itself(model), kwargs
    return _itself(model), {**{key: value for key, value in kwargs.items() if key not in _CEILINGS}, name: call.ceiling}


def _itself(model: Any) -> Any:
    """The model that was wrapped, for it may keep something of its calls in itself; its copy, where that was changed
    since, or calls itself (the call inside is known by its model), or where it listens to what the client drops."""
    own, made = model.__dict__.get(ITSELF) or (None, {})
    if own is None or ITSELF in own.__dict__ or any(model.__dict__.get(name) is not made[name] for name in made):
        return model
    if is_heard(type(own)) and all(own.__dict__.get(name) is made[name] for name in made):
        return model
    return own
