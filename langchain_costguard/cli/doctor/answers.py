"""Answers model calls, so that a program goes on after each of them.

Most calls look into LangChain's cache, and find an answer there. Streams and calls without LangChain do not: where
their client has no address of its own, they get to a fake provider.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from langchain_core.caches import BaseCache
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_costguard.testing import FakeProvider, OfferedTool, Reply, Request
from langchain_costguard.testing.stuck import sample

ANSWER = "This is an answer of costguard doctor."
_next: ContextVar[AIMessage | None] = ContextVar("costguard_canned", default=None)


def answer_from_cache() -> None:
    """Answer model calls from now on, as long as the process lives."""
    set_llm_cache(Canned())


def prepare(messages: Sequence[BaseMessage], params: Mapping[str, Any], stage: str) -> None:
    """Lay the answer ready for the look-up that follows: handler and cache run in one context."""
    answered = any(isinstance(message, ToolMessage) for message in messages)
    asked = [] if answered else asked_for(offered(params), params.get("tool_choice"), stage)
    if asked:
        calls = [{"name": tool.name, "args": _arguments(tool), "id": f"call_{n}"} for n, tool in enumerate(asked)]
        _next.set(AIMessage(content="", tool_calls=calls))
        return
    schema = _schema(params.get("response_format"))
    _next.set(AIMessage(content=json.dumps(sample(schema)) if schema else ANSWER))


def asked_for(tools: Sequence[OfferedTool], choice: Any, stage: str) -> Sequence[OfferedTool]:
    """The tools that an answer calls: all where they are run, one where they are refused, and else none but what the
    request forces (structured output often is a tool)."""
    if stage == "tools":
        return tools
    if stage == "tool":
        return tools[:1]
    forced = choice.get("function", choice).get("name") if isinstance(choice, Mapping) else None
    if forced:
        return [tool for tool in tools if tool.name == forced]
    kind = choice.get("type") if isinstance(choice, Mapping) else choice
    return tools[:1] if kind in ("any", "required") else []


def _arguments(tool: OfferedTool) -> dict[str, Any]:
    made = sample(tool.schema)
    return made if isinstance(made, dict) else {}


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


def provider_for(stage: str) -> FakeProvider:
    """A provider for what gets to the wire: streams, and what calls it without LangChain."""

    def reply(request: Request) -> Reply:
        answered = any(_is_result(message) for message in request.messages)
        asked = [] if answered else asked_for(request.tools, request.body.get("tool_choice"), stage)
        if asked:
            return Reply(tool_calls=[(tool.name, _arguments(tool)) for tool in asked])
        schema = _schema(request.body.get("response_format"))
        return Reply(json.dumps(sample(schema)) if schema else ANSWER)

    return FakeProvider(reply, keep_alive=False)  # so that each call of a client is a connection, and is seen


def _is_result(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    return (
        message.get("role") == "tool"
        or message.get("type") == "function_call_output"
        or any(isinstance(block, dict) and block.get("type") == "tool_result" for block in blocks)
    )
