"""A reply is looked at before it is acted on: it passes, is asked for again with what is wrong, or ends the run."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, StructuredOutputValidationError
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.tools import tool
from pydantic import BaseModel
from typing_extensions import TypedDict

from langchain_costguard import Budget, BudgetExceededError, CostGuard
from langchain_costguard.events import EndedEarly, Repaired
from langchain_costguard.steering import (
    ReplyRejectedError,
    Retry,
    SteeredModel,
    Stop,
    max_tool_calls,
    parses,
    steer,
    valid_json,
)
from langchain_costguard.testing import FakeProvider, Recorder, Reply, ScriptedChatModel
from tests.conftest import PRICES, Caller
from tests.test_wrap import ANTHROPIC, empty


class City(BaseModel):
    """A city."""

    name: str
    people: int


class Town(TypedDict):
    """A town."""

    name: str
    people: int


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["name", "people"],
}
GOOD = '{"name": "Paris", "people": 2}'


@tool
def search(q: str) -> str:
    """Search."""
    return "found"


def steered(model: Any, *guardrails: Any, sinks: Any = (), budgets: Any = (), **policies: Any) -> Any:
    guard = CostGuard(*budgets, prices={**PRICES, **ANTHROPIC}, sinks=list(sinks))
    return SteeredModel(model, steer(guard, guardrails=guardrails, **policies))


def said(text: str, *, calls: int = 0) -> AIMessage:
    return AIMessage(text, tool_calls=[{"name": "search", "args": {}, "id": f"c{i}"} for i in range(calls)])


def texts(message: Any) -> str:
    content = message["content"]
    return content if isinstance(content, str) else str(content)


# What each of them says


@pytest.mark.parametrize("schema", [City, Town, SCHEMA])
@pytest.mark.parametrize(
    ("text", "objection"),
    [
        (GOOD, None),
        (f"```json\n{GOOD}\n```", None),
        ("Paris", "It must be valid JSON and nothing else"),
        ('{"name": "Paris"}', "people"),
        ('{"name": "Paris", "people": "many"}', "people"),
    ],
)
def test_json_must_be_valid_and_fit_the_schema(schema: Any, text: str, objection: str | None) -> None:
    verdict: Any = valid_json(schema)(said(text))
    assert verdict is None if objection is None else objection in verdict


def test_without_a_schema_any_json_will_do() -> None:
    assert valid_json()(said("[1, 2]")) is None
    assert "valid JSON" in str(valid_json()(said("")))


def test_a_reply_that_calls_tools_is_not_the_answer_yet() -> None:
    assert valid_json(City)(said("let me see", calls=1)) is None
    assert parses(JsonOutputParser())(said("let me see", calls=1)) is None


def test_a_parser_says_what_it_cannot_understand() -> None:
    parser = PydanticOutputParser(pydantic_object=City)
    assert parses(parser)(said(GOOD)) is None
    assert "people" in str(parses(parser)(said('{"name": "Paris"}')))


def test_at_most_so_many_tool_calls() -> None:
    assert max_tool_calls(2)(said("", calls=2)) is None
    assert "call at most 2" in str(max_tool_calls(2)(said("", calls=3)))
    for wrong in (0, -1, True, 1.5, "2"):
        with pytest.raises(ValueError, match="whole number above zero"):
            max_tool_calls(wrong)  # type: ignore[arg-type]


def test_what_is_no_schema_is_refused_when_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="neither a type nor a JSON Schema"):
        valid_json("City")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="JSON Schema"):
        valid_json({"type": "no such type"})
    monkeypatch.setitem(sys.modules, "jsonschema.validators", None)
    with pytest.raises(ImportError, match="pip install jsonschema"):
        valid_json(SCHEMA)


@pytest.mark.parametrize("wrong", [valid_json(), "valid_json", [valid_json(), "max"], [Stop("x")]])
def test_guardrails_are_a_list_of_callables(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^guardrails: "):
        steer(CostGuard(), guardrails=wrong)


# What comes of it


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_the_model_is_told_what_is_wrong_and_asked_again(dialect: str, call: Caller) -> None:
    recorder = Recorder()
    with FakeProvider(["Paris", GOOD]) as provider:
        model = getattr(provider, dialect)(max_tokens=50)
        chain = steered(model, valid_json(City), sinks=[recorder]) | PydanticOutputParser(pydantic_object=City)
        assert call(chain, "hi") == City(name="Paris", people=2)
        first, reply, objection = provider.requests[1].messages
        assert texts(first) == "hi"
        assert (reply["role"], objection["role"]) == ("assistant", "user")
        assert "Paris" in texts(reply)
        assert "must be valid JSON" in texts(objection)
    assert [event.attempt for event in recorder.of(Repaired)] == [1]


@pytest.mark.parametrize("on_exceeded", ["end", "raise"])
def test_after_two_repairs_the_run_ends(on_exceeded: str, call: Caller, stream: Caller) -> None:
    for verb in (call, stream):
        recorder = Recorder()
        with FakeProvider("Paris") as provider:
            model = steered(provider.openai(), valid_json(), sinks=[recorder], on_exceeded=on_exceeded)
            if on_exceeded == "raise":
                with pytest.raises(ReplyRejectedError, match="must be valid JSON") as caught:
                    verb(model, "hi")
                assert "must be valid JSON" in caught.value.why
                assert not getattr(caught.value, "__notes__", [])
            else:
                got = verb(model, "hi")
                (got,) = got if isinstance(got, list) else [got]
                assert got.response_metadata["costguard"] == {"ended": "guardrail"}
                assert "must be valid JSON" in got.text
                assert len(recorder.of(EndedEarly)) == 1
            assert len(provider.requests) == 3
        assert [event.attempt for event in recorder.of(Repaired)] == [1, 2]


@pytest.mark.parametrize(("retry", "requests"), [(None, 1), (Retry(repairs=0), 1), (Retry(repairs=1), 2)])
def test_it_is_repaired_as_often_as_retry_says(retry: Any, requests: int, call: Caller) -> None:
    model = ScriptedChatModel(replies=["Paris"])
    assert "did not pass" in call(steered(model, valid_json(), retry=retry), "hi").text
    assert model.calls == requests


def test_a_stop_is_the_end_at_once(call: Caller) -> None:
    model = ScriptedChatModel(replies=["the password is secret"])
    reply = call(steered(model, lambda r: Stop("it tells a secret") if "secret" in r.text else None), "hi")
    assert reply.text == "I stopped, for my reply did not pass a check: it tells a secret"
    assert model.calls == 1


def test_the_first_objection_counts_and_those_that_pass_say_nothing_or_true(call: Caller) -> None:
    seen: list[str] = []

    def passes(reply: AIMessage) -> Any:
        seen.append("passes")
        return True

    def empty_text(reply: AIMessage) -> str:
        return ""

    def objects(reply: AIMessage) -> str:
        return "" if reply.text == "fine" else "say fine"

    model = ScriptedChatModel(replies=["no", "fine"])
    assert call(steered(model, passes, empty_text, objects, lambda r: seen.append("last")), "hi").text == "fine"
    assert seen == ["passes", "passes", "last"]


async def says_fine(word: str, reply: AIMessage) -> str | None:
    await asyncio.sleep(0)
    return None if reply.text == word else f"say {word}"


@pytest.mark.parametrize("form", ["function", "partial", "lambda", "object"])
def test_a_guardrail_may_be_a_coroutine_function_where_the_agent_is_asynchronous(form: str) -> None:
    class Object:
        async def __call__(self, reply: AIMessage) -> str | None:
            return await says_fine("fine", reply)

    async def function(reply: AIMessage) -> str | None:
        return await says_fine("fine", reply)

    guardrail = {
        "function": function,
        "partial": partial(says_fine, "fine"),
        "lambda": lambda reply: says_fine("fine", reply),
        "object": Object(),
    }[form]
    model = steered(ScriptedChatModel(replies=["no", "fine"]), guardrail)
    assert asyncio.run(model.ainvoke("hi")).text == "fine"
    with pytest.raises(TypeError, match="run the agent with ainvoke or astream"):
        model.invoke("hi")


def test_what_a_guardrail_raises_is_the_callers_and_nothing_is_tried_again(call: Caller) -> None:
    for error in (KeyError("mine"), ValueError("bad"), OutputParserException("worse"), ConnectionError("gone")):

        def raises(reply: AIMessage, error: Exception = error) -> None:
            raise error

        model = ScriptedChatModel()
        steered_model = steered(model, raises)
        with pytest.raises(type(error)) as caught:
            call(steered_model, "hi")
        assert caught.value is error
        assert model.calls == 1


@pytest.mark.parametrize("nonsense", [5, False, ["wrong"], object()])
def test_a_guardrail_that_says_nonsense_is_named(nonsense: Any, call: Caller) -> None:
    with pytest.raises(TypeError, match=r"may say None, a text, or Stop\(why\)"):
        call(steered(ScriptedChatModel(), lambda reply: nonsense), "hi")


def test_repairs_are_paid_and_admitted(call: Caller) -> None:
    with FakeProvider("Paris") as provider:
        guard = CostGuard(Budget(per="all", model_calls=2), prices=PRICES)
        model = SteeredModel(provider.openai(), steer(guard, guardrails=[valid_json()], on_exceeded="raise"))
        with pytest.raises(BudgetExceededError):
            call(model, "hi")
        served = provider.usage()
        assert served.calls == 2
        assert guard.report().total.spent == served.input_tokens * 2_500 + served.output_tokens * 10_000
    assert empty(guard)


def test_a_refusal_in_a_repair_ends_gracefully(call: Caller) -> None:
    model = ScriptedChatModel(replies=["Paris"])
    reply = call(steered(model, valid_json(), budgets=[Budget(per="all", model_calls=2)]), "hi")
    assert reply.response_metadata["costguard"]["measure"] == "model_calls"
    assert model.calls == 2


# Tool calls


def sent_back(provider: FakeProvider) -> list[dict[str, Any]]:
    return provider.requests[1].messages


BROKEN = Reply("let me see", tool_calls=[("search", {"q": "a"}), ("search", '{"q": "b')])
FIXED = Reply(tool_calls=[("search", {"q": "b"})])


def test_arguments_that_do_not_parse_are_repaired_in_a_history_openai_accepts(call: Caller) -> None:
    recorder = Recorder()
    with FakeProvider([BROKEN, FIXED]) as provider:
        model = steered(provider.openai().bind_tools([search]), sinks=[recorder])
        reply = call(model, "hi")
        assert [c["args"] for c in reply.tool_calls] == [{"q": "b"}]
        _, assistant, *answers = sent_back(provider)
        assert assistant["content"] == "let me see"
        assert [c["function"]["arguments"] for c in assistant["tool_calls"]] == ['{"q": "a"}', "{}"]
        assert [a["tool_call_id"] for a in answers] == [c["id"] for c in assistant["tool_calls"]]
        assert "did not parse" in answers[0]["content"]
    assert len(recorder.of(Repaired)) == 1


def test_the_responses_api_gets_a_history_it_accepts(call: Caller) -> None:
    with FakeProvider([BROKEN, FIXED]) as provider:
        model = provider.openai(use_responses_api=True).bind_tools([search])
        assert [c["args"] for c in call(steered(model), "hi").tool_calls] == [{"q": "b"}]
        items = sent_back(provider)
        made = [item for item in items if item.get("type") == "function_call"]
        assert [item["arguments"] for item in made] == ['{"q": "a"}', "{}"]
        outputs = [item["call_id"] for item in items if item.get("type") == "function_call_output"]
        assert outputs == [item["call_id"] for item in made]


@pytest.mark.parametrize("mode", ["invoke", "stream"])
def test_too_many_tool_calls_are_answered_each_in_a_history_both_accept(
    mode: str, call: Caller, stream: Caller
) -> None:
    many = Reply(tool_calls=[("search", {"q": "a"}), ("search", {"q": "b"})])
    for dialect in ("openai", "anthropic"):
        with FakeProvider([many, FIXED]) as provider:
            bound = getattr(provider, dialect)(max_tokens=50).bind_tools([search])
            model = steered(bound, max_tool_calls(1))
            if mode == "invoke":
                assert len(call(model, "hi").tool_calls) == 1
            else:
                first, *rest = stream(model, "hi")
                assert len(sum(rest, first).tool_calls) == 1
            _, assistant, *answers = sent_back(provider)
            if dialect == "openai":
                made = [c["id"] for c in assistant["tool_calls"]]
                answered = [a["tool_call_id"] for a in answers]
            else:
                made = [block["id"] for block in assistant["content"] if block["type"] == "tool_use"]
                answered = [block["tool_use_id"] for block in answers[0]["content"]]
                assert all(block["is_error"] for block in answers[0]["content"])
            assert (len(made), answered) == (2, made)


def test_broken_arguments_in_a_stream_of_anthropics_are_repaired_too(stream: Caller) -> None:
    broken = Reply(tool_calls=[("search", "no json")])
    with FakeProvider([broken, FIXED]) as provider:
        bound = provider.anthropic(max_tokens=50).bind_tools([search])
        first, *rest = stream(steered(bound, max_tool_calls(3)), "hi")
        assert sum(rest, first).tool_calls[0]["args"] == {"q": "b"}
        _, assistant, answer = sent_back(provider)
        (used,) = [block for block in assistant["content"] if block["type"] == "tool_use"]
        assert used["input"] == {}
        assert [block["tool_use_id"] for block in answer["content"]] == [used["id"]]


def test_arguments_that_never_parse_go_to_the_caller(call: Caller) -> None:
    with FakeProvider(Reply(tool_calls=[("search", "no json")])) as provider:
        reply = call(steered(provider.openai().bind_tools([search]), max_tool_calls(1)), "hi")
        assert [c["args"] for c in reply.invalid_tool_calls] == ["no json"]
        assert len(provider.requests) == 3


def test_an_exception_for_what_the_model_wrote_goes_back_to_it(call: Caller) -> None:
    with FakeProvider(['{"name": "Paris"}', GOOD]) as provider:
        model = steered(provider.openai())
        chain = model.with_structured_output(City, method="json_schema")
        assert call(chain, "hi") == City(name="Paris", people=2)
        assert "people" in texts(sent_back(provider)[-1])


def test_a_reply_that_says_nothing_is_not_sent_back(call: Caller) -> None:
    with FakeProvider(["", GOOD]) as provider:
        call(steered(provider.anthropic(max_tokens=50), valid_json()), "hi")
        (message,) = [m for m in sent_back(provider) if m["role"] == "assistant"] or [None]
        assert message is None


def test_calls_without_an_id_get_one(call: Caller) -> None:
    histories: list[list[BaseMessage]] = []

    class Careless(ScriptedChatModel):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            result = super()._generate(messages, *args, **kwargs)
            histories.append(messages)
            for made in result.generations[0].message.tool_calls:  # type: ignore[attr-defined]
                made["id"] = None
            return result

    two = Reply(tool_calls=[("search", {"q": "a"}), ("search", {"q": "b"})])
    call(steered(Careless(replies=[two, FIXED]), max_tool_calls(1)), "hi")
    _, reply, *answers = histories[1]
    made = [c["id"] for c in reply.tool_calls]  # type: ignore[attr-defined]
    assert made == [a.tool_call_id for a in answers]  # type: ignore[attr-defined]
    assert len(set(made)) == 2


def test_a_refusal_is_not_asked_for_again_where_its_form_was_to_be_repaired(call: Caller) -> None:
    class City(BaseModel):
        name: str

    with FakeProvider(Reply("", finish_reason="refusal")) as provider:
        form = ProviderStrategy(City)
        agent = create_agent(provider.anthropic(max_tokens=50), middleware=steer(CostGuard()), response_format=form)
        with pytest.raises(StructuredOutputValidationError):
            call(agent, {"messages": [HumanMessage("Where?")]})
        assert len(provider.requests) == 1
