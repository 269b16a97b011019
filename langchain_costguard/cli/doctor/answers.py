"""Answers model calls inside the process, so that an agent gets to its first tool.

Most calls look into LangChain's cache, and find an answer there. Streams do not: where their client has no address of
its own, they get to a fake provider.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from langchain_core.caches import BaseCache
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_costguard.testing import FakeProvider, OfferedTool, Reply, Request, stuck_in_a_loop
from langchain_costguard.testing.stuck import sample

ANSWER = "This is an answer of costguard doctor."
_next: ContextVar[AIMessage | None] = ContextVar("costguard_canned", default=None)


def answering() -> int:
    """Answer from now on, as long as the process lives; returns the fake provider's port."""
    provider = FakeProvider(_reply).start()
    set_llm_cache(Canned())
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        os.environ[name] = provider.url
    for name in ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_URL"):
        os.environ[name] = provider.anthropic_url
    return int(provider.anthropic_url.rpartition(":")[2])


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


def _reply(request: Request) -> Reply:
    """What the fake provider says: a tool call, and when its result is there, an answer."""
    answered = any(_is_result(message) for message in request.messages)
    return Reply(ANSWER) if answered else stuck_in_a_loop(ANSWER)(request)


def _is_result(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    return (
        message.get("role") == "tool"
        or message.get("type") == "function_call_output"
        or any(isinstance(block, dict) and block.get("type") == "tool_result" for block in blocks)
    )
