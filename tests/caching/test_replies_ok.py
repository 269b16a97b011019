"""Which replies may be remembered, in each provider's own words."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.messages.tool import invalid_tool_call

from langchain_costguard.caching.keepable import ended_well, keepable

CALL = {"name": "look_up", "args": {"q": "x"}, "id": "call_1", "type": "tool_call"}

WHOLE: list[dict[str, Any]] = [
    {},
    {"finish_reason": "stop"},
    {"finish_reason": "STOP", "prompt_feedback": {"block_reason": 0}, "safety_ratings": [{"blocked": False}]},
    {"finish_reason": "FinishReason.STOP", "is_blocked": False},
    {"prompt_feedback": {"block_reason": "BLOCK_REASON_UNSPECIFIED"}},
    {"status": "completed", "incomplete_details": None, "error": None},
    {"stop_reason": "end_turn", "stop_sequence": None},
    {"stop_reason": "stop_sequence"},
    {"stopReason": "end_turn"},
    {"done_reason": "stop", "done": True},
    {"finish_reason": "COMPLETE"},
    {"finish_reason": "eos_token"},
    {"completionReason": "FINISH"},
    {"finish_reason": "stop", "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}},
]
CUT_OFF: list[dict[str, Any]] = [
    {"finish_reason": "length"},
    {"finish_reason": "model_length"},
    {"finish_reason": "MAX_TOKENS"},
    {"finish_reason": "FinishReason.MAX_TOKENS"},
    {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    {"status": "failed", "error": {"code": "server_error"}},
    {"stop_reason": "max_tokens"},
    {"stop_reason": "model_context_window_exceeded"},
    {"stop_reason": "pause_turn"},
    {"stopReason": "max_tokens"},
    {"done_reason": "length", "done": True},
    {"done_reason": "load"},
    {"done": False},
    {"finish_reason": "insufficient_system_resource"},
    {"finish_reason": "error"},
    {"finish_reason": "a reason nobody has heard of yet"},
]
REFUSED: list[dict[str, Any]] = [
    {"finish_reason": "content_filter"},
    {"finish_reason": "SAFETY"},
    {"finish_reason": "RECITATION"},
    {"finish_reason": "BLOCKLIST"},
    {"finish_reason": "PROHIBITED_CONTENT"},
    {"finish_reason": "SPII"},
    {"finish_reason": "MALFORMED_FUNCTION_CALL"},
    {"finish_reason": "OTHER"},
    {"finish_reason": "STOP", "prompt_feedback": {"block_reason": "SAFETY"}},
    {"finish_reason": "STOP", "safety_ratings": [{"category": "HARM", "blocked": True}]},
    {"is_blocked": True},
    {"stop_reason": "refusal"},
    {"stopReason": "guardrail_intervened"},
    {"stopReason": "content_filtered"},
    {"stop_reason": "end_turn", "amazon-bedrock-guardrailAction": "INTERVENED"},
    {"finish_reason": "stop", "content_filter_results": {"hate": {"filtered": True, "severity": "high"}}},
]


@pytest.mark.parametrize("facts", WHOLE, ids=str)
def test_a_whole_answer_is_kept(facts: dict[str, Any]) -> None:
    assert keepable(AIMessage("four", response_metadata=facts), tool_calls=False)


@pytest.mark.parametrize("facts", CUT_OFF + REFUSED, ids=str)
def test_one_that_was_cut_off_refused_or_filtered_is_not(facts: dict[str, Any]) -> None:
    assert not ended_well(facts)
    assert not keepable(AIMessage("fo", response_metadata=facts), tool_calls=True)


@pytest.mark.parametrize("reason", ["tool_calls", "tool_use", "TOOL_CALL", "STOP"])
def test_one_that_calls_tools_is_kept_on_request(reason: str) -> None:
    reply = AIMessage("", tool_calls=[CALL], response_metadata={"finish_reason": reason})
    assert keepable(reply, tool_calls=True)
    assert not keepable(reply, tool_calls=False)


@pytest.mark.parametrize(
    "reply",
    [
        AIMessage("I cannot.", additional_kwargs={"refusal": "I cannot."}),
        AIMessage([{"type": "refusal", "refusal": "I cannot."}]),
        AIMessage([{"type": "non_standard", "value": {"refusal": "I cannot."}}]),
        AIMessage("", invalid_tool_calls=[invalid_tool_call(name="f", args="{", id="1", error="no JSON")]),
        AIMessage("", tool_calls=[CALL], invalid_tool_calls=[invalid_tool_call(name="f", args="{", id="1", error="")]),
        AIMessage(""),
        AIMessage("  \n"),
        AIMessage([]),
        AIMessage([{"type": "text", "text": ""}]),
        AIMessage([{"type": "thinking", "thinking": "hm"}, "  "]),
        AIMessage("Stopped: the budget is used up.", response_metadata={"costguard": {"kind": "budget"}}),
    ],
    ids=lambda reply: str(reply.content)[:30],
)
def test_one_that_says_nothing_of_the_question_is_not_kept(reply: AIMessage) -> None:
    assert not keepable(reply, tool_calls=True)


@pytest.mark.parametrize(
    "content",
    [
        "four",
        ["four"],
        [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "four"}],
        [{"type": "image", "base64": "AAAA"}],
    ],
    ids=str,
)
def test_what_is_said_in_blocks_counts(content: Any) -> None:
    assert keepable(AIMessage(content), tool_calls=False)
