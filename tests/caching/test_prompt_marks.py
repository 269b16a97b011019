"""Marks on messages and tools: copies that differ from what they were made of in the mark alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

from langchain_costguard.caching.prompt.marks import MARK, mark_message, mark_tools, marks_on, run_by_code
from langchain_costguard.testing import FakeProvider

pytestmark = pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning")

IMAGE = {"type": "image", "base64": "aGk=", "mime_type": "image/png"}
CALL = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "call:1"}])


def sent(provider: FakeProvider, *messages: BaseMessage) -> list[Any]:
    """The prompt's blocks as they reach the provider, a text as the block it is short for."""
    provider.anthropic().invoke(list(messages))
    body = provider.requests[-1].body
    contents = [body.get("system"), *(message["content"] for message in body["messages"])]
    listed = [[{"type": "text", "text": c}] if isinstance(c, str) else c for c in contents if c]
    return [block for blocks in listed for block in blocks]


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage("hello"),
        HumanMessage(["one", "two"]),
        HumanMessage([{"type": "text", "text": "one"}, IMAGE]),
        HumanMessage([IMAGE, {"type": "text", "text": "one"}]),
        SystemMessage("be brief"),
        SystemMessage([{"type": "text", "text": "be brief"}, {"type": "text", "text": "be kind"}]),
        ToolMessage("found it", tool_call_id="call:1"),
        ToolMessage("it failed", tool_call_id="call:1", status="error"),
        ToolMessage([{"type": "text", "text": "found"}, {"type": "text", "text": "it"}], tool_call_id="call:1"),
        ToolMessage([{"type": "tool_result", "tool_use_id": "call:1", "content": "found"}], tool_call_id="call:1"),
    ],
)
def test_on_the_wire_nothing_changes_but_the_mark(message: BaseMessage, provider: FakeProvider) -> None:
    before = message.model_copy(deep=True)
    marked = mark_message(message, "1h")
    assert marked is not None
    around = [HumanMessage("hi"), CALL] if isinstance(message, ToolMessage) else []
    after = [HumanMessage("go")] if isinstance(message, SystemMessage) else []

    plain, with_mark = sent(provider, *around, message, *after), sent(provider, *around, marked, *after)
    found = [block.pop(MARK) for block in with_mark if MARK in block]
    assert found == [{"type": "ephemeral", "ttl": "1h"}]
    assert json.dumps(with_mark) == json.dumps(plain)
    assert message == before


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage(""),
        HumanMessage("  \n"),
        HumanMessage([]),
        HumanMessage([{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]),
        AIMessage("an answer"),
        ToolMessage("", tool_call_id="call:1"),
    ],
)
def test_what_takes_no_mark_is_left_alone(message: BaseMessage) -> None:
    assert mark_message(message, "5m") is None


def test_the_last_tool_is_marked_in_a_copy() -> None:
    @tool
    def look(at: str) -> str:
        """Look."""
        return at

    own = {"name": "see", "description": "See.", "input_schema": {"type": "object", "properties": {}}}
    for tools in ([own, look], [look, own]):
        marked = mark_tools(tools, "5m")
        assert marked is not None
        assert [bool(marks_on([each], 0)) for each in marked] == [False, True]
        assert marks_on(tools, 0) == []
    built_in = {"type": "web_search_20250305", "name": "web_search"}
    assert mark_tools([built_in], "1h") == [{**built_in, MARK: {"type": "ephemeral", "ttl": "1h"}}]


def test_tools_that_anthropic_takes_no_mark_on_are_left_alone() -> None:
    assert mark_tools([], "5m") is None
    assert mark_tools([{"name": "see", "input_schema": {}, "defer_loading": True}], "5m") is None
    assert mark_tools([{"type": "function", "function": {"name": "see"}}], "5m") is None


def test_results_for_the_providers_own_code_are_known() -> None:
    block = {"type": "tool_use", "id": "t1", "name": "x", "input": {}, "caller": {"type": "code_execution_20250825"}}
    assert run_by_code([AIMessage([block]), AIMessage("x"), HumanMessage("y")]) == {"t1"}
