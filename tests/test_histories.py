"""What providers accept as a history, by their own words for what they refuse."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_costguard.vocabulary.histories import DIALECTS, calls_in, faults

EVERYWHERE = set(DIALECTS)
H, S = HumanMessage("go"), SystemMessage("You help.")
DONE = AIMessage("done")


def asks(*ids: str, text: str = "") -> AIMessage:
    return AIMessage(text, tool_calls=[{"name": "search", "args": {}, "id": id_} for id_ in ids])


def gives(id_: str) -> ToolMessage:
    return ToolMessage("found", tool_call_id=id_)


BLOCK = AIMessage([{"type": "tool_use", "id": "a", "name": "search", "input": {}}])
REASONING = AIMessage([{"type": "reasoning", "id": "rs_1", "summary": []}])


@pytest.mark.parametrize(
    ("messages", "refuse"),
    [
        ([H], set()),
        ([S, H, asks("a"), gives("a")], set()),
        ([H, asks("a", "b"), gives("b"), gives("a"), DONE, H], set()),
        ([H, H, DONE, DONE, H], set()),
        ([H, asks("a"), H], EVERYWHERE),  # a call without an answer
        ([H, asks("a")], EVERYWHERE),
        ([H, asks("a", "b"), gives("a"), DONE, H], EVERYWHERE),
        ([H, gives("a")], EVERYWHERE),  # an answer without a call
        ([H, asks("a"), gives("a"), gives("a")], EVERYWHERE),
        ([H, asks("a"), DONE, gives("a")], EVERYWHERE),
        ([H, BLOCK, H], EVERYWHERE),  # the provider's own block counts
        ([H, AIMessage("", invalid_tool_calls=[{"name": "x", "args": "{", "id": "a", "error": ""}]), H], EVERYWHERE),
        ([H, asks("a"), gives("a"), H], {"mistral"}),
        ([H, asks("a"), gives("a"), S], {"mistral", "anthropic", "gemini", "bedrock"}),
        ([H, S, H], {"anthropic", "gemini", "bedrock"}),
        ([H, DONE], EVERYWHERE - {"openai", "openai-responses"}),
        ([DONE, H], {"anthropic", "gemini", "mistral", "bedrock"}),
        ([H, AIMessage(" "), H], EVERYWHERE - {"openai", "openai-responses"}),
        ([H, REASONING, H], {"openai-responses"}),
    ],
)
def test_a_history_is_refused_by_those_who_refuse_it(messages: list[BaseMessage], refuse: set[str]) -> None:
    assert {name for name in DIALECTS if faults(messages, name)} == refuse
    assert bool(faults(messages)) == bool(refuse)


def test_a_conversation_that_is_kept_may_end_with_an_answer() -> None:
    assert not faults([H, DONE], whole=False)
    assert faults([H, asks("a")], whole=False)


def test_a_fault_names_its_message() -> None:
    assert [(f.at, f.why) for f in faults([H, asks("a"), H], "openai")] == [
        (1, "the call 'a' has no answer before message 2")
    ]


def test_what_a_provider_runs_by_itself_needs_no_answer() -> None:
    assert calls_in(AIMessage([{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}])) == []


def test_an_unknown_dialect_is_named() -> None:
    with pytest.raises(ValueError, match="dialect: 'grok' is not one of openai"):
        faults([H], "grok")
