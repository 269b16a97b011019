"""Caching at each seam: what was answered once is not bought again, and nobody is given what is not theirs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from langchain_costguard import Budget, BudgetExceededError, CostGuard
from langchain_costguard.caching import MemoryCache
from langchain_costguard.routing import Cascade
from langchain_costguard.steering import CacheNode, SteeredModel, install, steer
from langchain_costguard.steering.sayings import so_far
from langchain_costguard.testing import FakeProvider, Recorder, Reply, Request
from tests.conftest import PRICES, Caller
from tests.steering.seams import taking_notes

GO: Any = {"messages": [HumanMessage("What is a ledger?")]}
SEAMS = ("create_agent", "chain", "node")


@tool
def look_up(key: str) -> str:
    """Look a key up."""
    return f"value of {key}"


@pytest.fixture
def counting() -> Iterator[FakeProvider]:
    """Numbers its answers: one that was bought twice has another number."""
    count = iter(range(1, 10_000))
    with FakeProvider(lambda request: f"answer {next(count)} of many") as provider:
        yield provider


def built(seam: str, guard: CostGuard, model: Any, cache: Any) -> Any:
    if seam == "create_agent":
        return create_agent(model, [], middleware=steer(guard, cache=cache))
    if seam == "chain":
        return (lambda state: state["messages"]) | SteeredModel(model, steer(guard, cache=cache))  # type: ignore[operator]

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    def answer_now(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    from langchain_core.runnables import RunnableLambda

    node = CacheNode(guard, cache, RunnableLambda(answer_now, afunc=answer), model=model)
    return StateGraph(MessagesState).add_node("model", node).add_edge(START, "model").compile()


def last(answer: Any) -> AIMessage:
    message: AIMessage = answer["messages"][-1] if isinstance(answer, dict) else answer
    return message


def steered(provider: FakeProvider, guard: CostGuard, cache: Any, **kwargs: Any) -> Any:
    return SteeredModel(provider.openai(temperature=0, **kwargs), steer(guard, cache=cache))


@pytest.mark.parametrize("seam", SEAMS)
def test_a_question_asked_again_is_answered_from_memory_and_costs_nothing(
    seam: str, call: Caller, counting: FakeProvider
) -> None:
    recorder = Recorder()
    guard = CostGuard(Budget(usd="1.00"), prices=PRICES, sinks=[recorder])
    agent = built(seam, guard, counting.openai(temperature=0), MemoryCache())
    first, spent = last(call(agent, GO)), guard.report().total.spent
    again = last(call(agent, GO))
    assert (first.text, again.text) == ("answer 1 of many", "answer 1 of many")
    assert len(counting.requests) == 1
    assert guard.report().total.spent == spent
    assert guard.report().total.calls == 1
    assert again.id != first.id
    assert again.usage_metadata == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    told = again.response_metadata["costguard"]
    assert told["cache"] == "exact"
    assert told["saved_usage"]["total_tokens"] == first.usage_metadata["total_tokens"]  # type: ignore[index]
    (hit,) = [event for event in recorder.events if type(event).__name__ == "Recalled"]
    assert (hit.saved, hit.kind, hit.name) == (spent, "exact", "gpt-4o")
    assert guard.report().actions.times("Recalled") == 1
    assert guard.report().actions.saved == spent


@pytest.mark.parametrize("seam", SEAMS)
def test_a_hit_needs_no_budget(seam: str, call: Caller, counting: FakeProvider) -> None:
    guard = CostGuard(Budget(model_calls=1), prices=PRICES)
    agent = built(seam, guard, counting.openai(temperature=0), MemoryCache())
    assert {last(call(agent, GO)).text for _ in range(3)} == {"answer 1 of many"}


@pytest.mark.parametrize("guarded", ["steered", "callback"])
def test_a_hit_is_free_for_a_guard_that_is_attached_as_a_callback_too(
    guarded: str, call: Caller, counting: FakeProvider
) -> None:
    guard = CostGuard(Budget(model_calls=1), prices=PRICES)
    model = steered(counting, guard, MemoryCache())
    config = {"callbacks": [guard]} if guarded == "callback" else None
    assert {call(model, "hi", config).text for _ in range(2)} == {"answer 1 of many"}
    with guard.watch():
        assert call(model, "hi", config).text == "answer 1 of many"


def test_hits_stream_word_by_word_and_add_up_to_the_answer(stream: Caller, counting: FakeProvider) -> None:
    guard = CostGuard(Budget(model_calls=1), prices=PRICES)
    model = steered(counting, guard, MemoryCache())
    first, again = stream(model, "hi"), stream(model, "hi")
    total: Any = None
    for piece in again:
        total = piece if total is None else total + piece
    assert [piece.text for piece in again if piece.text] == ["answer", " 1", " of", " many"]
    assert isinstance(total, AIMessageChunk)
    assert total.text == "".join(piece.text for piece in first)
    assert total.usage_metadata["total_tokens"] == 0
    assert len(counting.requests) == 1


def test_what_was_streamed_answers_an_invoke_and_the_other_way_round(
    call: Caller, stream: Caller, counting: FakeProvider
) -> None:
    model = steered(counting, CostGuard(prices=PRICES), MemoryCache())
    stream(model, "hi")
    assert call(model, "hi").text == "answer 1 of many"
    call(model, "ho")
    assert "".join(piece.text for piece in stream(model, "ho")) == "answer 2 of many"


def test_an_agent_s_hit_is_streamed_to_who_watches_its_messages(world: str, counting: FakeProvider) -> None:
    guard = CostGuard(Budget(model_calls=1), prices=PRICES)
    agent = create_agent(counting.openai(temperature=0), [], middleware=steer(guard, cache=MemoryCache()))

    def seen() -> list[str]:
        return [piece.text for piece, _ in agent.stream(GO, stream_mode="messages") if piece.text]

    async def aseen() -> list[str]:
        return [piece.text async for piece, _ in agent.astream(GO, stream_mode="messages") if piece.text]

    def look() -> list[str]:
        return seen() if world == "sync" else asyncio.run(aseen())

    look()
    assert look() == ["answer", " 1", " of", " many"]


def test_a_stream_left_early_remembers_nothing(stream: Caller, counting: FakeProvider) -> None:
    model = steered(counting, CostGuard(prices=PRICES), MemoryCache())
    stream(model, "hi", most=1)
    assert "".join(piece.text for piece in stream(model, "hi")) == "answer 2 of many"


def test_two_users_never_see_each_other_s_answers_unless_they_are_to_share(
    call: Caller, counting: FakeProvider
) -> None:
    guard = CostGuard(prices=PRICES)

    def ask(model: Any, user: str, feature: str) -> str:
        return call(model, "hi", {"metadata": {"user": user, "feature": feature}}).text  # type: ignore[no-any-return]

    apart = steered(counting, guard, MemoryCache())
    assert [ask(apart, *who) for who in [("a", "x"), ("b", "x"), ("a", "y")]] == [
        "answer 1 of many",
        "answer 2 of many",
        "answer 1 of many",
    ]
    feature = steered(counting, guard, MemoryCache(share="feature"))
    assert [ask(feature, *who) for who in [("a", "x"), ("b", "x"), ("a", "y")]] == [
        "answer 3 of many",
        "answer 3 of many",
        "answer 4 of many",
    ]
    everybody = steered(counting, guard, MemoryCache(share="all"))
    assert len({ask(everybody, *who) for who in [("a", "x"), ("b", "x"), ("c", "y")]}) == 1


def test_whatever_changes_the_answer_is_another_question(call: Caller, counting: FakeProvider) -> None:
    guard, cache = CostGuard(prices=PRICES), MemoryCache()
    model = steered(counting, guard, cache)
    texts = [
        call(model, "hi").text,
        call(model, [SystemMessage("Be brief."), HumanMessage("hi")]).text,
        call(model.bind_tools([look_up]), "hi").text,
        call(model.bind(stop=["x"]), "hi").text,
        call(steered(counting, guard, cache, model="gpt-4o-mini"), "hi").text,
        call(steered(counting, guard, cache, seed=7), "hi").text,
        call(model, [HumanMessage("hi"), AIMessage("ho"), HumanMessage("hi")]).text,
        call(model, [HumanMessage("hi", name="ann")]).text,
    ]
    assert len(set(texts)) == len(texts)
    assert call(model, [HumanMessage([{"type": "text", "text": "hi"}], id="7")]).text == texts[0]


def test_a_conversation_is_known_again_whatever_ids_and_usage_it_carries(call: Caller, counting: FakeProvider) -> None:
    model = steered(counting, CostGuard(prices=PRICES), MemoryCache())

    def turns(run: str, swapped: bool = False) -> list[Any]:
        calls = [{"name": "look_up", "args": {"key": key}, "id": f"{run}-{key}"} for key in "ab"]
        answers = [ToolMessage("one", tool_call_id=f"{run}-a"), ToolMessage("two", tool_call_id=f"{run}-b")]
        if swapped:
            answers = [ToolMessage("one", tool_call_id=f"{run}-b"), ToolMessage("two", tool_call_id=f"{run}-a")]
        said = AIMessage("", tool_calls=calls, id=run, response_metadata={"model_name": run})
        return [HumanMessage("both?", id=f"h{run}"), said, *answers]

    assert call(model, turns("x")).text == call(model, turns("y")).text == "answer 1 of many"
    assert call(model, turns("z", swapped=True)).text == "answer 2 of many"


@pytest.mark.parametrize(
    ("temperature", "declared", "bought"),
    [(0, False, 1), (0.7, False, 2), (0.7, True, 2), (None, False, 2), (None, True, 1)],
)
def test_only_questions_with_one_answer_are_remembered(
    temperature: float | None, declared: bool, bought: int, call: Caller, counting: FakeProvider
) -> None:
    cache = MemoryCache(deterministic=declared)
    model = SteeredModel(counting.openai(temperature=temperature), steer(CostGuard(prices=PRICES), cache=cache))
    call(model, "hi")
    call(model, "hi")
    assert len(counting.requests) == bought


def test_a_cache_that_remembers_nothing_says_why(
    call: Caller, counting: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    model = SteeredModel(counting.openai(), steer(CostGuard(prices=PRICES), cache=MemoryCache()))
    for _ in range(3):
        call(model, "hi")
    assert caplog.text.count("MemoryCache(deterministic=True)") == 1


@pytest.mark.parametrize("reply", [Reply("cut", finish_reason="length"), Reply("no", finish_reason="content_filter")])
def test_replies_cut_off_or_filtered_are_not_remembered(reply: Reply, call: Caller) -> None:
    with FakeProvider([reply, "whole"]) as provider:
        model = steered(provider, CostGuard(prices=PRICES), MemoryCache())
        call(model, "hi")
        assert call(model, "hi").text == "whole"


@pytest.mark.parametrize(("asked_for", "bought"), [(False, 4), (True, 2)])
def test_turns_that_call_tools_are_remembered_on_request(asked_for: bool, bought: int, call: Caller) -> None:
    def reply(request: Request) -> Reply:
        if "value of" in str(request.body["messages"]):
            return Reply("done", tool_calls=[])
        return Reply(tool_calls=[("look_up", {"key": "x"})])

    with FakeProvider(reply) as provider:
        guard = CostGuard(prices=PRICES)
        policies = steer(guard, cache=MemoryCache(tool_calls=asked_for))
        agent = create_agent(provider.openai(temperature=0), [look_up], middleware=policies)
        runs = [call(agent, GO)["messages"] for _ in range(2)]
        assert [m.text for m in runs[1]] == [m.text for m in runs[0]]
        assert runs[1][1].tool_calls[0]["args"] == {"key": "x"}
        assert len(provider.requests) == (bought if asked_for else 3)


def test_calls_nodes_and_tags_can_be_left_out(call: Caller, counting: FakeProvider) -> None:
    guard = CostGuard(prices=PRICES)
    model = steered(
        counting, guard, MemoryCache(no_cache=["draft"], cache_if=lambda question: "2" not in question.prompt)
    )
    for prompt, config in [
        ("hi", {"tags": ["no_cache"]}),
        ("hi", {"tags": ["draft"]}),
        ("hi", {"metadata": {"feature": "draft"}}),
        ("hi 2", None),
    ]:
        before = len(counting.requests)
        call(model, prompt, config)
        call(model, prompt, config)
        assert len(counting.requests) == before + 2, (prompt, config)


def test_structured_answers_are_parsed_from_memory_as_from_the_model(call: Caller) -> None:
    class Verdict(BaseModel):
        """A verdict."""

        good: bool

    with FakeProvider('{"good": true}') as provider:
        guard = CostGuard(Budget(model_calls=2), prices=PRICES)
        policies = steer(guard, cache=MemoryCache())
        model = provider.openai(temperature=0)
        agent = create_agent(model, [], middleware=policies, response_format=Verdict)
        assert [call(agent, GO)["structured_response"] for _ in range(2)] == [Verdict(good=True)] * 2
        chain = SteeredModel(model, policies).with_structured_output(Verdict, method="json_schema")
        assert [call(chain, "hi") for _ in range(2)] == [Verdict(good=True)] * 2
        assert len(provider.requests) == 2


def test_a_hundred_who_ask_at_once_buy_one_answer(world: str) -> None:
    with FakeProvider("once", gate=True) as provider:
        guard = CostGuard(prices=PRICES)
        model = steered(provider, guard, MemoryCache())
        texts: list[str] = []

        def let_go() -> None:
            provider.wait_for_requests(1)
            provider.gate.set()

        threading.Thread(target=let_go).start()
        if world == "sync":
            threads = [threading.Thread(target=lambda: texts.append(model.invoke("hi").text)) for _ in range(100)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:

            async def everybody() -> list[Any]:
                return await asyncio.gather(*(model.ainvoke("hi") for _ in range(100)))

            texts = [message.text for message in asyncio.run(everybody())]
        assert texts == ["once"] * 100
        assert len(provider.requests) == 1


def test_where_the_first_fails_one_of_the_others_tries(world: str) -> None:
    with FakeProvider([Reply(status=400), "second"], gate=True) as provider:
        model = SteeredModel(
            provider.openai(temperature=0), steer(CostGuard(prices=PRICES), cache=MemoryCache(), retry=None)
        )

        async def everybody() -> list[Any]:
            asking = [asyncio.create_task(model.ainvoke("hi")) for _ in range(20)]
            await asyncio.to_thread(provider.wait_for_requests, 1)
            provider.gate.set()
            return await asyncio.gather(*asking, return_exceptions=True)

        answers = asyncio.run(everybody())
        assert sum(isinstance(answer, Exception) for answer in answers) == 1
        assert {answer.text for answer in answers if isinstance(answer, AIMessage)} == {"second"}
        assert len(provider.requests) == 2


def test_who_asks_again_while_reading_the_answer_does_not_wait_for_itself(counting: FakeProvider) -> None:
    model = steered(counting, CostGuard(prices=PRICES), MemoryCache())
    pieces = model.stream("hi")
    next(pieces)
    assert model.invoke("hi").text == "answer 2 of many"
    assert "".join(piece.text for piece in pieces).endswith("1 of many")


def test_a_broken_cache_is_logged_once_and_skipped(
    call: Caller, counting: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(MemoryCache):
        def get(self, key: str, *, now: float) -> Any:
            raise OSError("disk on fire")

        def put(self, key: str, entry: Any, *, now: float) -> None:
            raise OSError("disk on fire")

        def claim(self, key: str, holder: str, *, until: float, now: float) -> bool:
            raise OSError("disk on fire")

    model = steered(counting, CostGuard(prices=PRICES), Broken())
    assert [call(model, "hi").text for _ in range(3)] == [f"answer {i} of many" for i in (1, 2, 3)]
    assert caplog.text.count("disk on fire") == 1


def test_a_guardrail_of_today_is_applied_to_an_answer_of_yesterday(call: Caller, counting: FakeProvider) -> None:
    cache = MemoryCache()
    guard = CostGuard(prices=PRICES)
    lax = steered(counting, guard, cache)
    call(lax, "hi")
    strict = steer(guard, cache=cache, guardrails=[lambda message: "no 1, please" if " 1 " in message.text else None])
    model = SteeredModel(counting.openai(temperature=0), strict)
    assert call(model, "hi").text == "answer 2 of many"


def test_a_cascade_s_answers_are_remembered_as_its_own(call: Caller, counting: FakeProvider) -> None:
    guard, cache = CostGuard(prices=PRICES), MemoryCache()
    weak, strong = counting.openai("gpt-4o-mini", temperature=0), counting.openai(temperature=0)
    alone = SteeredModel(strong, steer(guard, cache=cache))
    both = SteeredModel(strong, steer(guard, cache=cache, cascade=Cascade(tiers=[weak, strong])))
    assert call(alone, "hi").text == "answer 1 of many"
    bought = call(both, "hi").text
    assert bought != "answer 1 of many"
    assert call(both, "hi").text == bought


def test_an_answer_is_forgotten_after_its_time(call: Caller, counting: FakeProvider) -> None:
    from langchain_costguard.testing import ManualClock

    clock = ManualClock()
    guard = CostGuard(prices=PRICES, clock=clock)
    model = steered(counting, guard, MemoryCache(ttl=60))
    call(model, "hi")
    clock.advance(59)
    assert call(model, "hi").text == "answer 1 of many"
    clock.advance(2)
    assert call(model, "hi").text == "answer 2 of many"


def test_an_installed_node_is_left_alone_and_told_about(
    call: Caller, counting: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    model = counting.openai(temperature=0)

    def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("agent", agent).add_edge(START, "agent").compile()
    guard = CostGuard(prices=PRICES)
    graph = install(graph, guard, tools=None, policies=steer(guard, cache=MemoryCache()))
    assert [last(call(graph, GO)).text for _ in range(2)] == ["answer 1 of many", "answer 2 of many"]
    assert "CacheNode" in caplog.text


def test_a_cache_node_leaves_alone_what_is_more_than_a_reply(call: Caller, counting: FakeProvider) -> None:
    model = counting.openai(temperature=0)

    graph = taking_notes(model)
    assert [call(graph, GO)["notes"] for _ in range(2)] == ["answer 1 of many", "answer 2 of many"]


def test_a_cache_node_is_told_what_else_its_answers_depend_on(call: Caller, counting: FakeProvider) -> None:
    model, cache, guard = counting.openai(temperature=0), MemoryCache(), CostGuard(prices=PRICES)

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    def ask(version: Any) -> str:
        node = CacheNode(guard, cache, answer, model=model, version=version)
        graph = StateGraph(MessagesState).add_node("model", node).add_edge(START, "model").compile()
        return last(call(graph, GO)).text

    assert ask("v1") == ask("v1") == ask(lambda state: "v1")
    assert ask("v2") != ask("v1")


@pytest.mark.parametrize("wrong", [MemoryCache, "memory:", [], [MemoryCache(), object()]])
def test_what_is_no_cache_is_named_at_once(wrong: Any) -> None:
    with pytest.raises(ValueError, match="cache"):
        steer(CostGuard(), cache=wrong)


def test_a_refused_question_is_refused_still(call: Caller, counting: FakeProvider) -> None:
    guard = CostGuard(Budget(model_calls=1), prices=PRICES)
    model = SteeredModel(counting.openai(temperature=0), steer(guard, cache=MemoryCache(), on_exceeded="raise"))
    call(model, "hi")
    with pytest.raises(BudgetExceededError):
        call(model, "ho")


def test_a_prompt_template_s_chain_is_cached_by_what_it_asks(call: Caller, counting: FakeProvider) -> None:
    model = steered(counting, CostGuard(prices=PRICES), MemoryCache())
    chain = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{question}")]) | model
    assert call(chain, {"question": "why?"}).text == call(chain, {"question": "why?"}).text
    assert call(chain, {"question": "how?"}).text == "answer 2 of many"


def test_what_was_recalled_counts_as_said_when_a_run_ends_early() -> None:
    said = AIMessage("Three pages.", response_metadata={"costguard": {"cache": "exact"}})
    ended = AIMessage("I have to stop here.", response_metadata={"costguard": {"ended": "BudgetExceededError"}})
    assert so_far([HumanMessage("go"), said]) == "Three pages."
    assert so_far([HumanMessage("go"), ended]) == ""
