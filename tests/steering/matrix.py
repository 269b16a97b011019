"""What may be bound to a model, in the words of each provider's client; on servers that refuse what real ones do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_costguard.testing import FakeProvider, Reply, Request
from tests.wires import fault


class City(BaseModel):
    """A city."""

    name: str


@tool
def search(query: str) -> str:
    """Search."""
    return f"found {query}"


HOSTED: Mapping[str, Any] = {
    "responses": {"type": "web_search"},
    "anthropic": {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
    "gemini": {"google_search": {}},
}
THINKING: Mapping[str, Any] = {
    "chat": {"reasoning_effort": "low"},
    "responses": {"reasoning": {"effort": "low"}},
    "anthropic": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4000},
    "gemini": {"reasoning_effort": "low"},
}
MARKS: Mapping[str, Any] = {
    "chat": {"prompt_cache_key": "k"},
    "responses": {"prompt_cache_key": "k"},
    "anthropic": {"cache_control": {"type": "ephemeral"}},
    "gemini": {},
}
ALL = ("chat", "responses", "anthropic", "gemini")
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "anthropic": "/v1/messages"}
JSON_MODE = ("chat", "responses", "gemini")

Bind = Callable[[Any, str], Any]
"""Of a model and the dialect of its client, what is to be called."""

BINDINGS: Mapping[str, tuple[Bind, tuple[str, ...]]] = {
    "tools": (lambda m, d: m.bind_tools([search]), ALL),
    "any tool": (lambda m, d: m.bind_tools([search], tool_choice="any"), ALL),
    "one tool": (
        lambda m, d: m.bind_tools([search], tool_choice="search"),
        ALL,
    ),
    "no tool": (lambda m, d: m.bind_tools([search], tool_choice=NONE[d]), ALL),
    "one at a time": (
        lambda m, d: m.bind_tools([search], parallel_tool_calls=False),
        ("chat", "responses", "anthropic"),
    ),
    "a schema": (
        lambda m, d: m.with_structured_output(City, method="json_schema"),
        ALL,
    ),
    "a schema as a tool": (
        lambda m, d: m.with_structured_output(City, method="function_calling"),
        ALL,
    ),
    "JSON": (lambda m, d: m.with_structured_output(City, method="json_mode"), JSON_MODE),
    "a hosted tool": (lambda m, d: m.bind_tools([HOSTED[d]]), ()),
    "thinking": (lambda m, d: m.bind(**THINKING[d]), ("anthropic",)),
    "cache marks": (lambda m, d: m.bind(**MARKS[d]), ALL),
    "a seed": (lambda m, d: m.bind(seed=1), ("chat", "gemini")),
    "a stop": (lambda m, d: m.bind(stop=["END"]), ("chat", "anthropic", "gemini")),
    "a ceiling": (lambda m, d: m.bind(**{CEILING.get(d, "max_tokens"): 50}), ALL),
}
"""What is bound, and the dialects in which there are words for it: a model of another is declined."""
NOT_HAD = {
    "a hosted tool": ("chat",), "JSON": ("anthropic",), "one at a time": ("gemini",), "a stop": ("responses",),
    "a seed": ("responses", "anthropic"),
}  # fmt: skip
"""What a client has no words for itself."""
CEILING = {"gemini": "max_output_tokens"}
NONE: Mapping[str, Any] = {"chat": "none", "responses": "none", "anthropic": {"type": "none"}, "gemini": "none"}

ASKED = [
    SystemMessage([{"type": "text", "text": "Answer as json.", "cache_control": {"type": "ephemeral"}}]),
    HumanMessage([{"type": "text", "text": "Where?", "cache_control": {"type": "ephemeral"}}]),
]
"""A prompt with marks for Anthropic's cache in it."""


def right(binding: str, said: Any) -> bool:
    """Whether whoever bound it got what they asked for."""
    if binding in ("a schema", "a schema as a tool", "JSON"):
        return bool(said == City(name="Rome"))
    if binding in ("tools", "any tool", "one tool", "one at a time"):
        return [call["name"] for call in said.tool_calls] == ["search"]
    return isinstance(said, AIMessage) and not said.tool_calls and "Rome" in said.text


def answer(body: Mapping[str, Any]) -> str | tuple[str, dict[str, Any]]:
    """What a model says: it calls the tool it is offered, or answers in JSON."""
    said = json.dumps(body)
    offered = body.get("tools") and not any(f'"{word}"' in said for word in ("NONE", "web_search", "googleSearch"))
    choice = body.get("tool_choice")
    if not offered or choice == "none" or choice == {"type": "none"}:
        return '{"name": "Rome"}'
    return ("search", {"query": "x"}) if '"search"' in said else ("City", {"name": "Rome"})


def strictly(faults: list[str]) -> Callable[[Request], Reply]:
    """What a provider answers that refuses what the real one would; what was wrong goes to ``faults``."""

    def reply(request: Request) -> Reply:
        if wrong := fault(request.path, request.body):
            faults.append(f"{request.path}: {wrong}")
            return Reply(status=400, error=wrong)
        said = answer(request.body)
        return Reply(said) if isinstance(said, str) else Reply(tool_calls=[said])

    return reply


def clients(provider: FakeProvider) -> dict[str, Any]:
    """A model at each API."""
    return {
        "chat": provider.openai("gpt-4o", use_responses_api=False),
        "responses": provider.openai("gpt-4.1", use_responses_api=True),
        "anthropic": provider.anthropic("claude-opus-4-5", max_tokens=5000),
    }
