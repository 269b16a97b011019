"""What LangChain tells a cache: two texts, one of the prompt and one of the model. What is needed is read from them.

The prompt is a list of messages as ``langchain_core.load.dumps`` writes it; of a text model, the text itself. The model
is ``{"id": [...], "kwargs": {...}, ...}---[('stop', None), ...]``, or without the part before the dashes.
https://github.com/langchain-ai/langchain/blob/master/libs/core/langchain_core/language_models/chat_models.py
(_generate_with_cache, _get_llm_string)
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage, HumanMessage, messages_from_dict

_NESTED = ("model_kwargs", "options", "generation_config", "extra_body", "inference_config")
"""Where models take a temperature besides their own field: OpenAI, Ollama, Google, vLLM, Bedrock."""
_NAMES = ("model_name", "model", "model_id")
_PAIR = re.compile(r"\('temperature', ([^,()\s]+)\)")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+>")

_OF_THE_CALL = ("response_metadata", "usage_metadata", "id")
"""Of an earlier reply, what its call was like."""


class Told(NamedTuple):
    """What the text of a model says: its name, the temperature where it states one.

    ``readable`` is false for a text that is not LangChain's of a model: whoever made it up calls the cache himself.
    ``vague`` is true where it names an object by its address in memory, where another one may be tomorrow.
    """

    readable: bool
    model: str
    temperature: float | None
    vague: bool


@lru_cache(maxsize=64)
def told(llm_string: str) -> Told:
    """Read the text of a model."""
    own: Mapping[str, Any] = {}
    rest = llm_string
    if llm_string.startswith("{"):
        try:
            model, end = json.JSONDecoder().raw_decode(llm_string)
        except (ValueError, RecursionError):
            return Told(False, "", None, False)
        found = model.get("kwargs")
        own, rest = found if isinstance(found, dict) else {}, llm_string[end:].removeprefix("---")
    if not (rest.startswith("[") and rest.endswith("]")):
        return Told(False, "", None, False)
    given = _pairs(rest)
    temperatures = [*_temperatures(given), *_temperatures(own)]
    name = next((str(part[key]) for part in (given, own) for key in _NAMES if part.get(key)), "")
    return Told(True, name, temperatures[0] if temperatures else None, _ADDRESS.search(rest) is not None)


def normal(prompt: str) -> str:
    """The prompt without what the calls of earlier replies were like: usage, metadata and ids.

    They differ each time a conversation is had, so that none of its later turns would ever be answered from memory.
    """
    if '"response_metadata"' not in prompt and '"usage_metadata"' not in prompt:
        return prompt
    messages = _messages(prompt)
    if messages is None:
        return prompt
    for message in messages:
        for name in _OF_THE_CALL:
            message["kwargs"].pop(name, None)
    return json.dumps(messages)


def messages_in(prompt: str) -> list[BaseMessage]:
    """The messages of a prompt; the text that is given to a text model is the user's.

    Raises:
        ValueError: a message is of no kind that LangChain knows.
    """
    messages = _messages(prompt)
    if messages is None:
        return [HumanMessage(prompt)]
    return messages_from_dict([{"type": said["kwargs"].get("type"), "data": said["kwargs"]} for said in messages])


def _pairs(text: str) -> Mapping[str, Any]:
    """The settings of the call; of those that are no literals, the temperature, the highest that is written there."""
    try:
        return dict(ast.literal_eval(text))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        written = [number for found in _PAIR.findall(text) if (number := _number(found)) is not None]
        return {"temperature": max(written)} if written else {}


def _temperatures(settings: Mapping[str, Any]) -> Iterator[float]:
    nested = (settings.get(key) for key in _NESTED)
    for part in (settings, *nested):
        if isinstance(part, Mapping) and (number := _number(part.get("temperature"))) is not None:
            yield number


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _messages(prompt: str) -> list[dict[str, Any]] | None:
    try:
        read = json.loads(prompt) if prompt.startswith("[") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(read, list) or not all(_is_message(each) for each in read):
        return None
    return read


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "constructor" and isinstance(value.get("kwargs"), dict)
