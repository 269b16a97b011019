"""A prompt as the provider keeps it: tools, then the system prompt, then the messages, each with what is before it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import takewhile
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_costguard.caching.digests import digests
from langchain_costguard.caching.prompt.breakpoints import Mark
from langchain_costguard.caching.prompt.marks import MARK, marks_in, marks_on, run_by_code, ttl_of

_KEPT_TOOLS = 256
TOOLS, SYSTEM = 0, 1
"""The places before the messages, by their order; the first message has the next one."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent, in the provider's order.

    Attributes:
        head: The system messages that it begins with.
        rest: The messages after them.
        tools: As the request has them, and as schemas.
        automatic: A ``cache_control`` of the request as a whole, which marks its last block.
        newest: The last message that can be marked, by its index in ``rest``; None where there is none.
        before: The last such message of the request whose answer is the model's last message here.
        prefixes: Digests, once it is measured: of the tools, of those and the system prompt, and of all up to each
            message.
    """

    head: Sequence[BaseMessage]
    rest: Sequence[BaseMessage]
    tools: Sequence[Any] = ()
    schemas: Sequence[Mapping[str, Any]] = ()
    automatic: Any = None
    newest: int | None = None
    before: int | None = None
    prefixes: Sequence[bytes] = ()

    @property
    def given(self) -> list[Mark]:
        """The marks that are there already."""
        found = marks_on(self.tools, TOOLS)
        for message in self.head:
            found += marks_in(message.content, SYSTEM)
        for at, message in enumerate(self.rest, SYSTEM + 1):
            found += marks_in(message.content, at)
        if self.automatic:
            newest = self.newest
            found.append(Mark(SYSTEM + 1 + (len(self.rest) if newest is None else newest), ttl_of(self.automatic)))
        return found


def prompt_of(request: Any, schemas: Callable[[Sequence[Any]], Sequence[Mapping[str, Any]]]) -> Prompt:
    """The prompt of a request, at whatever seam."""
    settings: Mapping[str, Any] = getattr(request, "model_settings", None) or getattr(request, "settings", None) or {}
    tools = getattr(request, "tools", None) or settings.get("tools") or ()
    system = getattr(request, "system_message", None)
    messages = list(request.messages)
    leading = list(takewhile(lambda message: isinstance(message, SystemMessage), messages))
    head = [*([system] if system is not None else []), *leading]
    kwargs = getattr(request.model, "model_kwargs", None) or {}
    automatic = settings.get(MARK) or kwargs.get(MARK)
    rest = messages[len(leading) :]
    newest, before = _ends(rest)
    return Prompt(head, rest, tools, schemas(tools) if tools else (), automatic, newest, before)


def _ends(rest: Sequence[BaseMessage]) -> tuple[int | None, int | None]:
    """The last message that can be marked, and the last one before the model's last answer."""
    unmarkable = run_by_code(rest)
    newest = answer = None
    for at in range(len(rest) - 1, -1, -1):
        message = rest[at]
        if isinstance(message, AIMessage):
            if at < len(rest) - 1:  # an answer begun for the model is no answer of its own
                answer = at
        elif not isinstance(message, (HumanMessage, ToolMessage)) or (
            isinstance(message, ToolMessage) and message.tool_call_id in unmarkable
        ):
            continue
        elif newest is None:
            newest = at
            if answer is not None:
                return newest, at
        elif answer is not None:
            return newest, at
    return newest, None


def measured(prompt: Prompt) -> Prompt:
    """The same, with its digests.

    Raises:
        UnknownValueError: it holds something that cannot be told from others of its class.
    """
    so_far = sha256(json.dumps(prompt.schemas, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass"))
    prefixes = [so_far.digest()]
    so_far.update(b"".join(digests(prompt.head)) + b"\0")
    prefixes.append(so_far.digest())
    for each in digests(prompt.rest):
        so_far.update(each)
        prefixes.append(so_far.digest())
    return replace(prompt, prefixes=prefixes)


class Schemas:
    """Tools as schemas, in the order of their keys; each is converted once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Mapping[str, Any]]] = {}

    def __call__(self, tools: Sequence[Any]) -> list[Mapping[str, Any]]:
        """The schemas, without marks."""
        return [self._schema(tool) for tool in tools]

    def _schema(self, tool: Any) -> Mapping[str, Any]:
        if isinstance(tool, Mapping):
            return {key: value for key, value in tool.items() if key != MARK}
        known = self._known.get(id(tool))
        if known is None or known[0] is not tool:
            if len(self._known) >= _KEPT_TOOLS:
                self._known.clear()
            known = self._known[id(tool)] = tool, convert_to_openai_tool(tool)
        return known[1]
