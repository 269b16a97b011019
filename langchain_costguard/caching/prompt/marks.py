"""Breakpoints in messages and tools: those that are there, and copies with one more.

All but the mark stays as it is, to the letter: what differs from the request before is not found in the cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_costguard.caching.prompt.breakpoints import Mark, Ttl

MARK = "cache_control"
_MARKABLE = ("text", "image", "document", "file", "text-plain", "search_result", "tool_result")


def control(ttl: Ttl) -> dict[str, str]:
    """The mark itself."""
    return {"type": "ephemeral"} if ttl == "5m" else {"type": "ephemeral", "ttl": ttl}


def ttl_of(mark: Any) -> Ttl:
    """How long a mark keeps what it marks."""
    return "1h" if isinstance(mark, Mapping) and mark.get("ttl") == "1h" else "5m"


def marks_in(content: Any, order: int) -> list[Mark]:
    """The marks in a message's content."""
    if not isinstance(content, list):
        return []
    return [Mark(order, ttl_of(block[MARK])) for block in content if isinstance(block, dict) and block.get(MARK)]


def marks_on(tools: Sequence[Any], order: int) -> list[Mark]:
    """The marks on tools."""
    found = [_extras(tool).get(MARK) for tool in tools]
    return [Mark(order, ttl_of(mark)) for mark in found if mark]


def _extras(tool: Any) -> Mapping[str, Any]:
    """What a tool says besides its schema, in the provider's words."""
    if isinstance(tool, dict):
        return tool
    extras = getattr(tool, "extras", None)
    if not isinstance(extras, dict):
        return {}
    defined = extras.get("provider_tool_definition")
    return defined if isinstance(defined, dict) else extras


def mark_tools(tools: Sequence[Any], ttl: Ttl) -> list[Any] | None:
    """The tools, the last of them marked; None where that cannot be."""
    last = tools[-1] if tools else None
    said = _extras(last)
    if last is None or said.get("defer_loading"):  # Anthropic refuses a mark on such a tool
        return None
    if isinstance(last, dict):
        if "name" not in last:  # in another provider's words, which are translated without the mark
            return None
        return [*tools[:-1], {**last, MARK: control(ttl)}]
    if not hasattr(last, "extras") or not hasattr(last, "model_copy"):
        return None
    extras = dict(last.extras or {})
    if isinstance(extras.get("provider_tool_definition"), dict):
        extras["provider_tool_definition"] = {**extras["provider_tool_definition"], MARK: control(ttl)}
    else:
        extras[MARK] = control(ttl)
    return [*tools[:-1], last.model_copy(update={"extras": extras})]


def mark_message(message: BaseMessage, ttl: Ttl) -> BaseMessage | None:
    """A copy of the message, marked at its end; None where Anthropic takes no mark."""
    content = _marked(message, control(ttl))
    return None if content is None else message.model_copy(update={"content": content})


def _marked(message: BaseMessage, mark: Mapping[str, str]) -> list[Any] | None:
    content = message.content
    if isinstance(message, ToolMessage):
        if not content:
            return None
        if isinstance(content, list) and all(isinstance(b, dict) and b.get("type") == "tool_result" for b in content):
            return [*content[:-1], {**content[-1], MARK: dict(mark)}]  # type: ignore[dict-item]
        # As langchain-anthropic writes a result that is not marked: the content stays a text where it is one.
        error = message.status == "error"
        result = {"type": "tool_result", "content": content, "tool_use_id": message.tool_call_id, "is_error": error}
        return [{**result, MARK: dict(mark)}]
    if not isinstance(message, (HumanMessage, SystemMessage)):
        return None
    blocks: list[Any] = [content] if isinstance(content, str) else list(content)
    last = {"type": "text", "text": blocks[-1]} if blocks and isinstance(blocks[-1], str) else (blocks or [None])[-1]
    if not isinstance(last, dict) or last.get("type") not in _MARKABLE:
        return None
    if last["type"] == "text" and not str(last.get("text") or "").strip():
        return None
    return [*blocks[:-1], {**last, MARK: dict(mark)}]


def run_by_code(messages: Sequence[BaseMessage]) -> set[str]:
    """Ids of the tool calls that the provider's code execution made: Anthropic takes no mark on their results."""
    blocks = (b for m in messages if isinstance(m, AIMessage) and isinstance(m.content, list) for b in m.content)
    return {
        str(block.get("id"))
        for block in blocks
        if isinstance(block, dict)
        and isinstance(block.get("caller"), dict)
        and str(block["caller"].get("type", "")).startswith("code_execution")
    }
