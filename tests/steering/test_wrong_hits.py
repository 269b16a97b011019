"""Whatever changes the answer is another question, wherever it is said; and what does not is none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from typing_extensions import TypedDict

from langchain_costguard import CostGuard
from langchain_costguard.caching import MemoryCache
from langchain_costguard.caching.entry import Entry
from langchain_costguard.caching.replies import encoded
from langchain_costguard.routing import Cascade, Verifier
from langchain_costguard.steering import SteeredModel, steer
from langchain_costguard.testing import FakeProvider, ScriptedChatModel
from tests.conftest import PRICES, Caller

GO: Any = {"messages": [HumanMessage("hi")]}


@pytest.fixture
def counting() -> Iterator[FakeProvider]:
    """Numbers its answers: one that was bought twice has another number."""
    count = iter(range(1, 10_000))
    with FakeProvider(lambda request: f"answer {next(count)} of many") as provider:
        yield provider


@pytest.fixture
def guard() -> CostGuard:
    return CostGuard(prices=PRICES)


def last(answer: Any) -> str:
    return str(answer["messages"][-1].text)


def file_of(id: str) -> HumanMessage:
    return HumanMessage([{"type": "text", "text": "Sum up."}, {"type": "file", "source_type": "id", "id": id}])


def broken(argument: str) -> list[Any]:
    bad: Any = {"name": "look_up", "args": argument, "id": "1", "error": "no JSON", "type": "invalid_tool_call"}
    return [HumanMessage("go"), AIMessage("", invalid_tool_calls=[bad]), ToolMessage("no", tool_call_id="1")]


def spoken(id: str) -> list[Any]:
    return [HumanMessage("go"), AIMessage("", additional_kwargs={"audio": {"id": id}}), HumanMessage("on")]


CHANGES: dict[str, tuple[Any, Any]] = {
    "another file, by its id": ([file_of("file-1")], [file_of("file-2")]),
    "other arguments that did not parse": (broken('{"key": a'), broken('{"key": b')),
    "another spoken reply, by its id": (spoken("audio_1"), spoken("audio_2")),
    "a developer's message": (
        [SystemMessage("Be brief."), HumanMessage("hi")],
        [SystemMessage("Be brief.", additional_kwargs={"__openai_role__": "developer"}), HumanMessage("hi")],
    ),
    "a name beside the text": ([HumanMessage("hi")], [HumanMessage("hi", additional_kwargs={"name": "ann"})]),
}


@pytest.mark.parametrize("case", CHANGES)
def test_messages_that_differ_for_the_provider_are_other_questions(
    case: str, call: Caller, counting: FakeProvider, guard: CostGuard
) -> None:
    model = SteeredModel(ScriptedChatModel(replies=["one", "two"]), steer(guard, cache=MemoryCache(deterministic=True)))
    one, other = CHANGES[case]
    assert [call(model, messages).text for messages in (one, other, one)] == ["one", "two", "one"]


def test_what_nobody_sends_is_no_part_of_a_question(call: Caller, guard: CostGuard) -> None:
    model = SteeredModel(ScriptedChatModel(replies=["one", "two"]), steer(guard, cache=MemoryCache(deterministic=True)))

    def turns(run: str) -> list[Any]:
        raw = [{"id": run, "type": "function", "function": {"name": "look_up", "arguments": "{}"}}]
        calls: Any = [{"name": "look_up", "args": {}, "id": run}]
        said = AIMessage("", tool_calls=calls, additional_kwargs={"tool_calls": raw, "refusal": None})
        asked = HumanMessage("go", additional_kwargs={"sent": datetime.now(UTC)})
        return [asked, said, ToolMessage("done", tool_call_id=run, artifact=object())]

    assert call(model, turns("a")).text == call(model, turns("b")).text == "one"


@pytest.mark.parametrize("beta", ["anthropic-beta", "x-portkey-config"])
def test_headers_may_change_the_answer_unless_they_only_say_who_asks(
    beta: str, call: Caller, counting: FakeProvider, guard: CostGuard
) -> None:
    policies = steer(guard, cache=MemoryCache())

    def ask(headers: Any) -> str:
        model = counting.anthropic(temperature=0, default_headers=headers)
        return str(call(SteeredModel(model, policies), "hi").text)

    first = ask({beta: "one", "Authorization": "Bearer a"})
    assert ask({beta: "one", "Authorization": "Bearer b"}) == first
    assert ask({beta: "two", "Authorization": "Bearer a"}) != first


def test_an_answer_at_the_provider_s_temperature_is_none_at_zero(
    call: Caller, counting: FakeProvider, guard: CostGuard
) -> None:
    model = SteeredModel(counting.openai(), steer(guard, cache=MemoryCache(deterministic=True)))
    assert call(model, "hi").text != call(model.bind(temperature=0), "hi").text


def test_a_temperature_in_the_body_s_extras_counts(call: Caller, counting: FakeProvider, guard: CostGuard) -> None:
    model = counting.openai(temperature=0, extra_body={"temperature": 0.9})
    steered = SteeredModel(model, steer(guard, cache=MemoryCache()))
    assert call(steered, "hi").text != call(steered, "hi").text


def test_marks_for_the_provider_s_cache_are_no_part_of_a_question(
    call: Caller, counting: FakeProvider, guard: CostGuard
) -> None:
    @tool(extras={"cache_control": {"type": "ephemeral"}})
    def marked(key: str) -> str:
        """Look a key up."""
        return key

    @tool
    def plain(key: str) -> str:
        """Look a key up."""
        return key

    plain.name = marked.name
    policies = steer(guard, cache=MemoryCache())
    anthropic = SteeredModel(counting.anthropic(temperature=0), policies)
    first = call(anthropic.bind_tools([plain]), "hi").text
    mark = {"type": "ephemeral"}
    system = SystemMessage([{"type": "text", "text": "Be brief.", "cache_control": mark}])
    assert call(anthropic.bind_tools([marked]), "hi").text == first
    assert call(anthropic.bind_tools([plain], cache_control=mark), "hi").text == first
    assert call(anthropic, [system, HumanMessage("he")]).text == (
        call(anthropic, [SystemMessage("Be brief."), HumanMessage("he")]).text
    )
    openai = SteeredModel(counting.openai(temperature=0), policies)
    assert call(openai.bind(prompt_cache_key="a"), "hi").text == call(openai.bind(prompt_cache_key="b"), "hi").text


def test_what_a_tool_says_to_one_provider_alone_counts(call: Caller, counting: FakeProvider, guard: CostGuard) -> None:
    def made(**extras: Any) -> Any:
        @tool(extras=extras)
        def look_up(key: str) -> str:
            """Look a key up."""
            return key

        return look_up

    policies = steer(guard, cache=MemoryCache())
    agents = [
        create_agent(counting.anthropic(temperature=0), [made(input_examples=[{"key": key}])], middleware=policies)
        for key in "aba"
    ]
    first, other, again = [last(call(agent, GO)) for agent in agents]
    assert first == again != other


def test_what_is_bound_to_an_agent_s_model_counts(call: Caller, counting: FakeProvider, guard: CostGuard) -> None:
    policies = steer(guard, cache=MemoryCache())
    bare = counting.openai()

    def ask(**bound: Any) -> str:
        return last(call(create_agent(bare.bind(**bound), [], middleware=policies), GO))

    first = ask(temperature=0, stop=["x"])
    assert ask(temperature=0, stop=["x"]) == first
    assert ask(temperature=0, stop=["y"]) != first
    assert ask(temperature=0.9) != ask(temperature=0.9)


def test_a_configurable_model_is_the_one_that_this_call_configures(
    call: Caller, counting: FakeProvider, guard: CostGuard
) -> None:
    field = ConfigurableField(id="model")
    model = counting.openai(temperature=0).configurable_fields(model_name=field)
    agent = create_agent(model, [], middleware=steer(guard, cache=MemoryCache()))

    def ask(name: str) -> str:
        return last(call(agent, GO, {"configurable": {"model": name}}))

    assert ask("gpt-4o") == ask("gpt-4o")
    assert ask("gpt-4o-mini") != ask("gpt-4o")
    assert counting.requests[-1].body["model"] == "gpt-4o-mini"


def test_alternatives_are_models_of_their_own(call: Caller, counting: FakeProvider, guard: CostGuard) -> None:
    weak, strong = counting.openai("gpt-4o-mini", temperature=0), counting.openai(temperature=0)
    model = strong.configurable_alternatives(ConfigurableField(id="size"), default_key="strong", weak=weak)
    agent = create_agent(model, [], middleware=steer(guard, cache=MemoryCache()))
    texts = [last(call(agent, GO, {"configurable": {"size": size}})) for size in ("strong", "weak", "strong")]
    assert texts[0] == texts[2] != texts[1]


def test_a_model_nobody_can_name_beforehand_is_not_cached_and_said_to_be_none(
    call: Caller, counting: FakeProvider, guard: CostGuard, caplog: pytest.LogCaptureFixture
) -> None:
    options: Any = {"base_url": counting.url, "api_key": "test", "max_retries": 0, "temperature": 0}
    model = init_chat_model("openai:gpt-4o", configurable_fields=("model",), **options)
    agent = create_agent(model, [], middleware=steer(guard, cache=MemoryCache(deterministic=True)))
    texts = [last(call(agent, GO, {"configurable": {"model": name}})) for name in ("gpt-4o", "gpt-4o-mini")]
    assert texts == ["answer 1 of many", "answer 2 of many"]
    assert caplog.text.count("_ConfigurableModel") == 1


def test_a_value_nobody_can_tell_from_others_leaves_the_call_uncached_but_made(
    call: Caller, guard: CostGuard, caplog: pytest.LogCaptureFixture
) -> None:
    model = SteeredModel(ScriptedChatModel(replies=["one", "two"]), steer(guard, cache=MemoryCache(deterministic=True)))
    calls: Any = [{"name": "look_up", "args": {"when": datetime.now(UTC)}, "id": "1"}]
    turns = [HumanMessage("go"), AIMessage("", tool_calls=calls), ToolMessage("done", tool_call_id="1")]
    assert [call(model, turns).text for _ in range(2)] == ["one", "two"]
    assert call(model.bind(temperature="low"), "hi").text == "two"
    assert caplog.text.count("a datetime.datetime among") == 1


def test_a_response_format_is_told_from_another_of_its_name(call: Caller, guard: CostGuard) -> None:
    with FakeProvider('{"values": []}') as provider:
        policies = steer(guard, cache=MemoryCache())
        for inner in (int, str, int):
            schema: Any = TypedDict("Answer", {"values": list[inner]})  # type: ignore[misc, valid-type]
            agent = create_agent(provider.openai(temperature=0), [], middleware=policies, response_format=schema)
            assert call(agent, GO)["structured_response"] == {"values": []}
        assert len(provider.requests) == 2


def test_a_cache_that_remembers_no_tool_calls_gives_none_that_another_has_remembered(
    call: Caller, counting: FakeProvider, guard: CostGuard
) -> None:
    class Prefilled(MemoryCache):
        def get(self, key: str, *, now: float) -> Entry:
            called = AIMessage("", tool_calls=[{"name": "look_up", "args": {}, "id": "1"}])
            return Entry(reply=encoded(called), created=now, expires=now + 60)

    with_calls = SteeredModel(counting.openai(temperature=0), steer(guard, cache=Prefilled(tool_calls=True)))
    assert call(with_calls, "hi").tool_calls
    without = SteeredModel(counting.openai(temperature=0), steer(guard, cache=Prefilled()))
    assert call(without, "hi").text == "answer 1 of many"


def test_cascades_that_ask_or_trust_otherwise_have_answers_of_their_own(
    call: Caller, counting: FakeProvider, guard: CostGuard
) -> None:
    cache, strong = MemoryCache(), counting.openai(temperature=0)

    def ask(least: float | None = None, **weak: Any) -> str:
        first = counting.openai("gpt-4o-mini", **{"temperature": 0, **weak})
        cascade = Cascade(tiers=[first, strong], confidence=Verifier(lambda reply: 0.6), threshold=least)
        return str(call(SteeredModel(strong, steer(guard, cache=cache, cascade=cascade)), "hi").text)

    assert ask(0.5) == ask(0.5)
    assert ask(0.55) != ask(0.5)
    assert ask(0.5, max_tokens=9) != ask(0.5)
    assert ask(0.5, temperature=0.9) != ask(0.5, temperature=0.9)
