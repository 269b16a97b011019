"""What two requests must share to be the same question, and what they may differ in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from langchain_costguard.caching.digests import UnknownValueError, canonical, digests, tools_digest
from langchain_costguard.caching.question import Question, family, parameters_of, temperature_of
from langchain_costguard.caching.replies import decoded, encoded, pieces
from langchain_costguard.caching.rules import Rules
from langchain_costguard.vocabulary.scope import Scope

RULES = Rules()


def key(*messages: BaseMessage, **said: Any) -> str:
    return Question(messages=messages, **{"model": "gpt-4o", "parameters": b"", **said}).key(RULES)


def called(name: str, args: dict[str, Any], id: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": id}])


def test_ids_usage_and_metadata_are_no_part_of_a_question() -> None:
    bare = key(HumanMessage("hi"), AIMessage("ho"), HumanMessage("hi"))
    usage: Any = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    said = AIMessage("ho", id="2", usage_metadata=usage, response_metadata={"model_name": "gpt-4o-2024"})
    assert key(HumanMessage("hi", id="1"), said, HumanMessage("hi", id="3")) == bare
    chunk = AIMessageChunk("ho", usage_metadata=usage)
    assert key(HumanMessage("hi"), chunk, HumanMessage("hi")) == bare


def test_a_message_changed_in_place_is_another_question() -> None:
    message, call = HumanMessage("hi"), called("look", {"at": "it"}, "1")
    before = key(message, call)
    message.content = "ho"
    changed = key(message, call)
    call.tool_calls[0]["args"]["at"] = "her"
    assert len({before, changed, key(message, call)}) == 3


def test_marks_for_the_provider_s_cache_and_block_ids_are_no_part_of_a_question() -> None:
    marked = HumanMessage([{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}, "index": 0}])
    assert key(marked) == key(HumanMessage("hi"))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    other = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAB"}}
    assert key(HumanMessage([image])) != key(HumanMessage([other]))


def test_arguments_in_another_order_are_the_same_call() -> None:
    one, other = called("look", {"a": 1, "b": 2}, "x"), called("look", {"b": 2, "a": 1}, "y")
    assert key(one, ToolMessage("found", tool_call_id="x")) == key(other, ToolMessage("found", tool_call_id="y"))


def test_which_result_belongs_to_which_call_is_part_of_a_question() -> None:
    both = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "x"}, {"name": "look", "args": {}, "id": "y"}])
    results = [ToolMessage("one", tool_call_id="x"), ToolMessage("two", tool_call_id="y")]
    swapped = [ToolMessage("one", tool_call_id="y"), ToolMessage("two", tool_call_id="x")]
    assert key(both, *results) != key(both, *swapped)
    assert key(both, results[0]) != key(both, ToolMessage("one", tool_call_id="x", status="error"))


@given(st.lists(st.tuples(st.sampled_from(["user", "ai", "system"]), st.text(max_size=5)), min_size=1, max_size=4))
def test_texts_and_roles_cannot_run_into_each_other(turns: list[tuple[str, str]]) -> None:
    kinds = {"user": HumanMessage, "ai": AIMessage, "system": SystemMessage}
    messages = [kinds[role](text) for role, text in turns]
    again = [kinds[role](text) for role, text in turns]
    assert digests(messages) == digests(again)
    if len(turns) > 1:
        joined = [kinds[turns[0][0]]("".join(text for _, text in turns))]
        assert key(*messages) != key(*joined)


def test_the_order_of_tools_does_not_matter_and_what_they_say_does() -> None:
    @tool
    def look(at: str) -> str:
        """Look at something."""
        return at

    @tool
    def find(what: str) -> str:
        """Find something."""
        return what

    assert tools_digest([look, find]) == tools_digest([find, look])
    before = tools_digest([look])
    look.description = "Look at it, closely."
    assert tools_digest([look]) != before


def test_a_value_nobody_can_tell_from_another_is_named() -> None:
    with pytest.raises(UnknownValueError, match="object"):
        canonical({"setting": object()})


def test_settings_of_a_model_are_told_apart_unless_they_do_not_change_its_answer() -> None:
    def made(**kwargs: Any) -> str:
        return parameters_of(ChatOpenAI(api_key="x", **{"model": "gpt-4o", **kwargs}))

    base = made()
    assert made(timeout=3, max_retries=9, streaming=True, tags=["a"], metadata={"b": 1}) == base
    assert len({base, made(seed=1), made(max_tokens=5), made(base_url="http://elsewhere/v1"), made(top_p=0.1)}) == 5


def test_a_model_changed_in_place_is_another_one() -> None:
    model = ChatOpenAI(model="gpt-4o", api_key="x", model_kwargs={"user": "a"})
    before = parameters_of(model)
    model.seed = 3
    second = parameters_of(model)
    model.model_kwargs["user"] = "b"
    assert len({before, second, parameters_of(model)}) == 3


def test_the_temperature_is_the_call_s_or_the_model_s() -> None:
    cold = ChatOpenAI(model="gpt-4o", api_key="x", temperature=0)
    assert temperature_of(cold, {}) == 0
    assert temperature_of(cold, {"temperature": 0.5}) == 0.5
    assert temperature_of(cold, {"options": {"temperature": 0.25}}) == 0.25
    assert temperature_of(ChatOpenAI(model="gpt-4o", api_key="x"), {}) is None


def test_a_tenant_is_who_the_rules_say() -> None:
    scope = Scope(user="ann", feature="search")
    assert [Rules(share=share).tenant(scope) for share in ("user", "feature", "all")] == [
        "user:ann",
        "feature:search",
        "",
    ]
    assert Rules().tenant(Scope()) == ""
    assert key(HumanMessage("hi"), scope=Scope(user="a")) != key(HumanMessage("hi"), scope=Scope(user="b"))


@pytest.mark.parametrize(
    ("model", "known_as"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet"),
        ("gemini-2.5-pro", "gemini-2.5-pro"),
    ],
)
def test_a_model_s_family_is_its_name_without_a_date(model: str, known_as: str) -> None:
    assert family(model) == known_as


def test_prompts_of_one_setting_share_instructions_and_the_turns_before_are_the_context() -> None:
    def asked(*messages: BaseMessage, model: str = "gpt-4o") -> Question:
        return Question(messages=messages, model=model, parameters=b"p")

    system = SystemMessage("Be brief.")
    one, other = asked(system, HumanMessage("hi")), asked(system, HumanMessage("ho"), model="gpt-4o-2024-08-06")
    assert one.setting(RULES) == other.setting(RULES)
    assert one.setting(RULES) != asked(HumanMessage("hi")).setting(RULES)
    assert (one.prompt, one.context) == ("hi", "")
    later = asked(system, HumanMessage("hi"), AIMessage("ho"), HumanMessage("why?"))
    assert later.prompt == "why?"
    assert later.context
    assert later.context != asked(system, HumanMessage("hi"), AIMessage("oh"), HumanMessage("why?")).context
    assert asked(HumanMessage("hi"), AIMessage("ho")).prompt == ""
    assert asked(HumanMessage([{"type": "image_url", "image_url": {"url": "u"}}])).prompt == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ttl", 0),
        ("ttl", "1h"),
        ("share", "tenant"),
        ("cache_if", True),
        ("no_cache", "draft"),
        ("no_cache", [""]),
        ("deterministic", 1),
        ("tool_calls", "yes"),
    ],
)
def test_a_wrong_rule_is_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        Rules(**{field: value})


REPLIES = [
    AIMessage("four little words here"),
    AIMessage(" leading,\n\n trailing "),
    AIMessage(""),
    AIMessage("", tool_calls=[{"name": "look", "args": {"at": "ü", "n": 3}, "id": "1"}]),
    AIMessage(
        [{"type": "text", "text": "two words", "citations": []}, {"type": "image", "url": "u"}, "more of it"],
        tool_calls=[{"name": "a", "args": {}, "id": "1"}, {"name": "b", "args": {"x": [1]}, "id": "2"}],
    ),
    AIMessage("said", name="ann", response_metadata={"finish_reason": "stop", "model_name": "gpt-4o"}),
    AIMessage("word " * 5_000),
]


@pytest.mark.parametrize("reply", REPLIES, ids=range(len(REPLIES)))
def test_a_reply_is_remembered_whole_and_its_pieces_add_up_to_it(reply: AIMessage) -> None:
    again = decoded(encoded(reply))
    facts = {"content", "tool_calls", "name", "usage_metadata", "response_metadata"}
    assert again.model_dump(include=facts) == reply.model_dump(include=facts)
    parts = list(pieces(again))
    assert len(parts) < 600
    total = parts[0]
    for part in parts[1:]:
        total += part
    assert total.text == reply.text
    assert [(call["name"], call["args"]) for call in total.tool_calls] == [
        (call["name"], call["args"]) for call in reply.tool_calls
    ]
    if isinstance(reply.content, list):
        bare = [{k: v for k, v in b.items() if k != "index"} if isinstance(b, dict) else b for b in total.content]
        assert bare == reply.content


def test_what_belongs_to_the_call_and_not_the_answer_is_left_out() -> None:
    reply = AIMessage("hi", id="1", response_metadata={"id": "chatcmpl-1", "token_usage": {}, "finish_reason": "stop"})
    again = decoded(encoded(reply))
    assert (again.id, again.response_metadata) == (None, {"finish_reason": "stop"})


def test_a_parsed_object_beside_the_reply_is_kept_as_a_mapping() -> None:
    class Verdict(BaseModel):
        """A verdict."""

        good: bool

    reply = AIMessage('{"good": true}', additional_kwargs={"parsed": Verdict(good=True)})
    assert decoded(encoded(reply)).additional_kwargs["parsed"] == {"good": True}


@pytest.mark.parametrize("text", ["", "[]", '"x"', '{"content": {}}', '{"nothing": 1, "content": 3}'])
def test_what_is_no_reply_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError):
        decoded(text)
