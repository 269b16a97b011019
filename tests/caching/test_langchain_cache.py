"""The caches as LangChain's: ``set_llm_cache``, with real clients, agents and graphs, and a provider that counts."""

from __future__ import annotations

import asyncio
import copy
import logging
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.caches import BaseCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from langchain_costguard import Budget, CostGuard
from langchain_costguard.caching import CacheError, MemoryCache, Wanted
from langchain_costguard.caching.question import Question
from langchain_costguard.events import CacheHit
from langchain_costguard.testing import FakeProvider, Recorder, Reply, ScriptedChatModel
from tests.caching.conftest import Kind
from tests.conftest import PRICES, Caller

ONE_CALL = 2 * 2500 + 4 * 10_000
ASKED = "hello there"


@pytest.fixture
def cache(kind: Kind) -> Any:
    return use(kind)


@pytest.fixture
def memory() -> Kind:
    """In this process: for what is the same wherever answers are kept."""
    return Kind("memory", None)


@pytest.fixture
def memory_cache(memory: Kind) -> Any:
    return use(memory)


def use(kind: Kind, **options: Any) -> Any:
    cache = kind.make(**options)
    set_llm_cache(cache)
    return cache


def certain(provider: FakeProvider, **kwargs: Any) -> Any:
    return provider.openai(temperature=0, **kwargs)


# What a hit is


def test_a_hit_is_saved_never_spent_and_needs_no_provider(
    cache: BaseCache, call: Caller, provider: FakeProvider, recorder: Recorder
) -> None:
    guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES, sinks=[recorder])
    replies = [call(certain(provider), ASKED, {"callbacks": [guard]}) for _ in range(3)]
    assert len(provider.requests) == 1
    assert {reply.content for reply in replies} == {"four little words here"}
    assert replies[1].usage_metadata["output_tokens"] == 4
    total = guard.report().total
    assert (total.calls, total.spent, total.saved) == (1, ONE_CALL, 2 * ONE_CALL)
    assert [event.saved for event in recorder.of(CacheHit)] == [ONE_CALL, ONE_CALL]
    assert guard.store.read([f"session|{guard.session}|usd"], now=0)[0] == (ONE_CALL, 0, 10**9)


def test_a_hit_is_another_message_than_the_first(memory_cache: BaseCache, call: Caller, provider: FakeProvider) -> None:
    builder = StateGraph(MessagesState)
    model = certain(provider)
    builder.add_node("model", RunnableLambda(lambda state: {"messages": [model.invoke([state["messages"][0]])]}))
    builder.add_edge(START, "model")
    graph = builder.compile()
    said = call(graph, {"messages": [("user", ASKED)]})["messages"]
    said = call(graph, {"messages": said})["messages"]
    assert len(provider.requests) == 1
    assert [message.content for message in said] == [ASKED, "four little words here", "four little words here"]


def test_tool_calls_and_blocks_come_back_as_they_were(kind: Kind, call: Caller) -> None:
    use(kind, tool_calls=True)
    with FakeProvider(Reply("Let me see.", tool_calls=[("look_up", {"q": "ü", "n": [1, None]})])) as provider:
        models = [certain(provider), provider.anthropic(temperature=0), certain(provider, use_responses_api=True)]
        for model in models:
            first, second = call(model, ASKED), call(model, ASKED)
            assert second.tool_calls == first.tool_calls
            assert (second.content, second.text) == (first.content, first.text)
            told = {key: second.usage_metadata[key] for key in first.usage_metadata}
            assert told == first.usage_metadata
        assert len(provider.requests) == len(models)


def test_structured_output_is_made_of_a_hit_as_of_a_reply(memory_cache: BaseCache, call: Caller) -> None:
    class Answer(BaseModel):
        number: int

    with FakeProvider('{"number": 4}') as provider:
        model = certain(provider).with_structured_output(Answer, method="json_schema")
        assert [call(model, ASKED) for _ in range(2)] == [Answer(number=4)] * 2
        assert len(provider.requests) == 1


def test_a_streaming_model_that_is_invoked_is_answered_too(
    memory_cache: BaseCache, call: Caller, provider: FakeProvider
) -> None:
    guard = CostGuard(prices=PRICES)
    model = certain(provider, streaming=True)
    assert [call(model, ASKED, {"callbacks": [guard]}).content for _ in range(2)] == ["four little words here"] * 2
    assert len(provider.requests) == 1
    assert guard.report().total.saved == ONE_CALL


def test_a_conversation_had_again_is_answered_from_memory(memory_cache: BaseCache, call: Caller) -> None:
    with FakeProvider(["one little word", "two"]) as provider:
        for _ in range(2):
            model = certain(provider)
            said = [HumanMessage(ASKED)]
            said.append(call(model, said))
            said.append(HumanMessage("and then?"))
            assert call(model, said).content == "two"
        assert len(provider.requests) == 2


def test_a_model_of_its_own_has_its_cache_as_a_field(memory: Kind, call: Caller, provider: FakeProvider) -> None:
    model = certain(provider, cache=memory.make())
    guard = CostGuard(Budget(per="session", model_calls=1), prices=PRICES)
    wrapped = guard.wrap(model)
    for each in (wrapped, model.model_copy(), model):
        assert call(each, ASKED).content == "four little words here"
    assert len(provider.requests) == 1


def test_a_copy_of_a_cache_is_the_cache(kind: Kind) -> None:
    cache = kind.make()
    assert copy.deepcopy({"model": [cache]})["model"][0] is cache


def test_no_warning_is_leaked(memory_cache: BaseCache, call: Caller, provider: FakeProvider) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            call(certain(provider), ASKED)


# What is kept


def test_another_question_model_or_setting_is_another_answer(
    memory_cache: BaseCache, call: Caller, provider: FakeProvider
) -> None:
    models = [
        certain(provider),
        certain(provider, model="gpt-4o-mini"),
        certain(provider, max_tokens=20),
        certain(provider).bind(stop=["x"]),
        certain(provider).bind_tools([{"name": "f", "description": "", "input_schema": {"type": "object"}}]),
    ]
    for _ in range(2):
        for model in models:
            call(model, ASKED)
        call(models[0], ASKED + "?")
    assert len(provider.requests) == 6


@pytest.mark.parametrize(
    ("settings", "bound", "calls", "declared"),
    [
        ({"temperature": 0}, {}, 1, 1),
        ({}, {}, 2, 1),
        ({"temperature": 0.7}, {}, 2, 2),
        ({"temperature": 0}, {"temperature": 0.2}, 2, 2),
        ({"temperature": 0.7}, {"temperature": 0.0}, 1, 1),
        ({"temperature": 1e-9}, {}, 2, 2),
    ],
    ids=str,
)
def test_only_what_has_the_same_answer_each_time_is_kept(
    memory: Kind, call: Caller, provider: FakeProvider, settings: Any, bound: Any, calls: int, declared: int
) -> None:
    for options, expected in ({}, calls), ({"deterministic": True}, declared):
        use(memory, **options).clear()
        before = len(provider.requests)
        for _ in range(2):
            call(provider.openai(**settings).bind(**bound), ASKED)
        assert len(provider.requests) - before == expected


@pytest.mark.parametrize(
    "reply",
    [
        Reply("four little words here", finish_reason="length"),
        Reply("four little", finish_reason="content_filter"),
        Reply("", finish_reason="stop"),
        Reply("", tool_calls=[("look_up", {"q": "x"})]),
        Reply("", tool_calls=[("look_up", "{no JSON")]),
    ],
    ids=str,
)
def test_half_answers_refusals_and_tool_calls_are_asked_for_again(
    memory_cache: BaseCache, call: Caller, reply: Reply
) -> None:
    with FakeProvider([reply, reply]) as provider:
        for _ in range(2):
            call(certain(provider), ASKED)
        assert len(provider.requests) == 2


def test_what_ran_into_the_ceiling_of_a_wrapped_model_is_asked_for_again(
    memory_cache: BaseCache, call: Caller, provider: FakeProvider
) -> None:
    guard = CostGuard(Budget(per="call", usd="0.000063"), prices=PRICES, assume_output_tokens=1)
    model = guard.wrap(certain(provider))
    assert [call(model, ASKED).content for _ in range(2)] == ["four little "] * 2
    assert len(provider.requests) == 2


def test_of_several_replies_all_must_be_whole(memory: Kind, call: Caller, provider: FakeProvider) -> None:
    use(memory)
    for _ in range(2):
        replies = certain(provider, n=2).generate([[HumanMessage(ASKED)]]).generations[0]
        assert [each.text for each in replies] == ["four little words here"] * 2
    assert len(provider.requests) == 1


def test_an_answer_is_forgotten_after_a_day_or_when_told(kind: Kind, call: Caller, provider: FakeProvider) -> None:
    cache = use(kind)
    model = certain(provider)
    for pause, requests in ((0, 1), (86_399, 1), (1, 2), (1, 2)):
        kind.clock.advance(pause)
        call(model, ASKED)
        assert len(provider.requests) == requests
    cache.clear(model="gpt-4o-mini")
    call(model, ASKED)
    assert len(provider.requests) == 2
    cache.clear(model="gpt-4o")
    call(model, ASKED)
    assert len(provider.requests) == 3
    with pytest.raises(ValueError, match="clear: colour are not among tag, feature, model, tenant, before"):
        cache.clear(colour="red")


def test_calls_that_are_not_to_be_remembered_are_named_by_tag_feature_or_question(
    memory: Kind, call: Caller, provider: FakeProvider
) -> None:
    seen: list[Question] = []

    def harmless(question: Question) -> bool:
        seen.append(question)
        return "secret" not in question.prompt

    use(memory, no_cache=["billing"], cache_if=harmless)
    guard, model = CostGuard(prices=PRICES), certain(provider)
    config = {"callbacks": [guard], "tags": ["feature:search"]}
    for asked, more, requests in (
        (ASKED, config, 1),
        ("a secret", config, 3),
        ("hello again", {"callbacks": [guard], "tags": ["feature:billing"]}, 5),
        ("hello again", {"callbacks": [guard], "tags": ["no_cache"]}, 7),
    ):
        for _ in range(2):
            call(model, [("system", "be kind"), ("user", asked)], more)
        assert len(provider.requests) == requests
    question = seen[0]
    assert (question.prompt, question.model, question.scope.feature) == (ASKED, "gpt-4o", "search")
    assert [message.type for message in question.messages] == ["system", "human"]


def test_the_stock_says_what_the_answers_cost_and_whose_they_are(
    kind: Kind, call: Caller, provider: FakeProvider
) -> None:
    cache = use(kind)
    guard = CostGuard(prices=PRICES)
    with guard.scope(user="u1", feature="search"):
        call(certain(provider), ASKED, {"callbacks": [guard], "tags": ["v2"]})
    (row,) = cache.stock(now=kind.clock())
    assert row[:3] == ("search", "gpt-4o", 1)
    assert row.cost == ONE_CALL
    assert cache.forget(Wanted(tag="v2", tenant="user:u1")) == 1


# Whose


def said_to(name: str) -> dict[str, Any]:
    return {"messages": [("user", ASKED)], "name": name}


def greet(provider: FakeProvider, guard: CostGuard | None, how: str) -> Any:
    """A graph that asks the same for whoever runs it, and how the user is named to it."""
    model = certain(provider)
    builder = StateGraph(MessagesState)

    def sync(state: MessagesState) -> Any:
        return {"messages": [model.invoke([state["messages"][0]])]}

    async def plain(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke([state["messages"][0]])]}

    builder.add_node("model", RunnableLambda(sync, plain))
    builder.add_edge(START, "model")
    graph = builder.compile()

    def config(user: str) -> Any:
        more = {"callbacks": [guard]} if guard else {}
        if how == "metadata":
            return {"metadata": {"user_id": user}, **more}
        if how == "configurable":
            return {"configurable": {"user_id": user}, **more}
        return {"tags": [f"user:{user}"], **more}

    return graph, config


@pytest.mark.parametrize("guarded", [True, False], ids=["guard", "no guard"])
@pytest.mark.parametrize("how", ["metadata", "configurable", "tags"])
def test_users_of_concurrent_graphs_never_see_each_others_answers(
    memory: Kind, world: str, how: str, guarded: bool
) -> None:
    use(memory)
    everybody_is_given_their_own(world, how, CostGuard(prices=PRICES) if guarded else None)


def test_wherever_answers_are_kept_concurrent_users_see_their_own(kind: Kind, world: str) -> None:
    use(kind)
    everybody_is_given_their_own(world, "metadata", CostGuard(prices=PRICES))


def everybody_is_given_their_own(world: str, how: str, guard: CostGuard | None) -> None:
    users = [f"u{number % 4}" for number in range(12)]
    with FakeProvider([f"answer number {number}" for number in range(12)]) as provider:
        graph, config = greet(provider, guard, how)
        first = {user: graph.invoke(said_to(user), config(user))["messages"][-1].content for user in users[:4]}
        assert len(set(first.values())) == len(provider.requests) == 4
        if world == "sync":
            with ThreadPoolExecutor(4) as pool:
                done = list(pool.map(lambda user: graph.invoke(said_to(user), config(user)), users))
        else:

            async def all_at_once() -> Any:
                return await asyncio.gather(*[graph.ainvoke(said_to(user), config(user)) for user in users])

            done = asyncio.run(all_at_once())
        assert [state["messages"][-1].content for state in done] == [first[user] for user in users]
        assert len(provider.requests) == 4


@pytest.mark.parametrize("seam", ["callback", "watch", "wrap"])
def test_a_model_on_its_own_is_answered_for_the_user_its_config_names(memory: Kind, call: Caller, seam: str) -> None:
    use(memory)
    with FakeProvider([f"answer number {number}" for number in range(4)]) as provider:
        guard = CostGuard(prices=PRICES)
        model = guard.wrap(certain(provider)) if seam == "wrap" else certain(provider)
        more = {"callbacks": [guard]} if seam == "callback" else {}

        def asks(user: str) -> str:
            return str(call(model, ASKED, {"metadata": {"user_id": user}, **more}).content)

        if seam == "watch":
            with guard.watch():
                answers = [asks(user) for user in ("u1", "u2", "u1", "u2")]
        else:
            answers = [asks(user) for user in ("u1", "u2", "u1", "u2")]
        assert answers[:2] == answers[2:]
        assert len(provider.requests) == 2


def test_prompts_generated_together_are_filed_under_the_user_who_asked(
    memory_cache: BaseCache, world: str, provider: FakeProvider
) -> None:
    guard = CostGuard(prices=PRICES)
    asked = [[HumanMessage("first")], [HumanMessage("second")], [HumanMessage("third")]]
    for model in (certain(provider, callbacks=[guard]), guard.wrap(certain(provider, max_tokens=99))):
        before = len(provider.requests)
        for user in ("u1", "u1", "u2", ""):
            metadata = {"user_id": user} if user else {}
            if world == "sync":
                model.generate(asked, metadata=metadata)
            else:
                asyncio.run(model.agenerate(asked, metadata=metadata))
        assert len(provider.requests) - before == 9


def test_the_scope_names_the_user_with_no_guard_attached(memory_cache: BaseCache, call: Caller) -> None:
    with FakeProvider([f"answer number {number}" for number in range(4)]) as provider:
        guard, model, answers = CostGuard(), certain(provider), []
        for user in ("u1", "u2", "u1", "u2"):
            with guard.scope(user=user):
                answers.append(call(model, ASKED).content)
        assert answers == ["answer number 0", "answer number 1"] * 2


def test_a_user_asked_for_before_is_not_taken_for_the_next_one(memory_cache: BaseCache, call: Caller) -> None:
    """A guarded call is over, or its stream was given up: the next call in this context is somebody else's."""
    with FakeProvider([f"answer number {number}" for number in range(6)]) as provider:
        guard, model = CostGuard(prices=PRICES), certain(provider)
        u1 = {"callbacks": [guard], "metadata": {"user_id": "u1"}}
        assert call(model, ASKED, u1).content == "answer number 0"
        assert call(model, ASKED).content == "answer number 1"
        pieces = model.stream(ASKED, u1)
        next(pieces)
        pieces.close()
        assert call(model, ASKED).content == "answer number 1"
        assert call(model, ASKED, u1).content == "answer number 0"


def test_a_model_that_asks_another_is_answered_for_the_same_user(memory_cache: BaseCache, call: Caller) -> None:
    with FakeProvider([f"answer number {number}" for number in range(6)]) as provider:
        guard, inner = CostGuard(prices=PRICES), certain(provider)

        class Outer(type(inner)):  # type: ignore[misc]
            def _generate(self, messages: Any, **kwargs: Any) -> Any:
                inner.invoke("a question of its own", {"callbacks": [guard], "metadata": {"user_id": "u1"}})
                return super()._generate(messages, **kwargs)

        outer = Outer(**{name: getattr(inner, name) for name in ("model_name", "temperature", "openai_api_base")},
                      openai_api_key="test")  # fmt: skip
        for user, requests in (("u1", 2), ("u1", 2), ("u2", 3), ("u2", 3)):
            outer.invoke(ASKED, {"callbacks": [guard], "metadata": {"user_id": user}})
            assert len(provider.requests) == requests


def test_answers_may_be_shared_by_feature_or_by_all(memory: Kind, call: Caller) -> None:
    for share, requests in (("user", 4), ("feature", 2), ("all", 1)):
        use(memory, share=share).clear()
        with FakeProvider() as provider:
            guard, model = CostGuard(), certain(provider)
            for user in ("u1", "u2"):
                for feature in ("search", "chat"):
                    with guard.scope(user=user, feature=feature):
                        call(model, ASKED)
                        call(model, ASKED)
            expected = 2 if share == "user" else requests
            assert len(provider.requests) == expected


# When something is wrong


class Broken(MemoryCache):
    """A cache whose server is away."""

    def get(self, key: str, *, now: float) -> Any:
        raise CacheError("the server is away")

    def put(self, key: str, entry: Any, *, now: float) -> None:
        raise CacheError("the server is away")


def test_a_broken_cache_fails_no_call_and_is_told_once(
    call: Caller, provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    set_llm_cache(Broken())
    with caplog.at_level(logging.WARNING, "langchain_costguard"):
        for _ in range(3):
            assert call(certain(provider), ASKED).content == "four little words here"
    assert len(provider.requests) == 3
    told = [record.getMessage() for record in caplog.records if "the server is away" in record.getMessage()]
    assert told == ["Broken: the server is away; going on without it (said once)"] * 2


class Strange(FakeListChatModel):
    """A model whose replies hold an object."""

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        message = AIMessage("four", additional_kwargs={"thing": object()})
        return ChatResult(generations=[ChatGeneration(message=message)])


def test_a_reply_that_is_no_json_is_not_kept_and_fails_no_call(memory: Kind, call: Caller) -> None:
    cache = use(memory, deterministic=True)
    model = Strange(responses=["four"])
    for _ in range(2):
        assert call(model, ASKED).content == "four"
    assert list(cache.stock(now=memory.clock())) == []


def test_a_setting_known_by_its_address_alone_is_not_remembered(memory: Kind, call: Caller) -> None:
    cache = use(memory, deterministic=True)
    model = ScriptedChatModel(replies=["four", "five"])
    assert [call(model, ASKED, thing=object()).content for _ in range(2)] == ["four", "five"]
    assert list(cache.stock(now=memory.clock())) == []


def test_a_chain_is_answered_as_its_model_is(memory_cache: BaseCache, call: Caller, provider: FakeProvider) -> None:
    chain = ChatPromptTemplate.from_messages([("user", "hello {name}")]) | certain(provider)
    for user in ("u1", "u1", "u2"):
        call(chain, {"name": "there"}, {"metadata": {"user_id": user}})
    assert len(provider.requests) == 2
