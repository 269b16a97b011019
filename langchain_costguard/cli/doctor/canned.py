"""Answers model calls inside the process, through LangChain's own cache, so that an agent gets to its first tool."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from langchain_core.caches import BaseCache
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_costguard.testing.requests import OfferedTool, Request
from langchain_costguard.testing.stuck import sample

ANSWER = "This is an answer of costguard doctor."
_next: ContextVar[AIMessage | None] = ContextVar("costguard_canned", default=None)


def prepare(messages: Sequence[BaseMessage], params: Mapping[str, Any]) -> None:
    """Lay the answer ready for the look-up that follows: handler and cache run in one context."""
    tools = offered(params)
    if tools and not any(isinstance(message, ToolMessage) for message in messages):
        arguments = sample(tools[0].schema)
        call = {"name": tools[0].name, "args": arguments if isinstance(arguments, dict) else {}, "id": "call_doctor"}
        _next.set(AIMessage(content="", tool_calls=[call]))
        return
    schema = _schema(params.get("response_format"))
    _next.set(AIMessage(content=json.dumps(sample(schema)) if schema else ANSWER))


def offered(params: Mapping[str, Any]) -> list[OfferedTool]:
    """The tools of a request, whatever the provider's shape of them."""
    tools = [tool for tool in params.get("tools") or [] if isinstance(tool, dict)]
    return Request(0, "", {"tools": tools}, {}, 0.0).tools


def _schema(wanted: Any) -> Mapping[str, Any] | None:
    inner = wanted.get("json_schema") if isinstance(wanted, dict) else None
    found = inner.get("schema") if isinstance(inner, dict) else None
    return found if isinstance(found, dict) else None


class Canned(BaseCache):
    """Has an answer to everything."""

    def lookup(self, prompt: str, llm_string: str) -> list[Generation]:
        """The answer laid ready; for a text model, a text."""
        message = _next.get()
        _next.set(None)
        if message is None:
            return [Generation(text=ANSWER)]
        return [ChatGeneration(message=message)]

    async def alookup(self, prompt: str, llm_string: str) -> list[Generation]:
        """The same, in the task of the call."""
        return self.lookup(prompt, llm_string)

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Keep nothing."""

    def clear(self, **kwargs: Any) -> None:
        """There is nothing."""
