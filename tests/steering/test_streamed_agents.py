"""What is held back is not shown, what was shown is not said again, and half an answer is not taken for a whole one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.globals import set_llm_cache
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph

from langchain_costguard import CostGuard
from langchain_costguard.caching import MemoryCache
from langchain_costguard.routing import Cascade, Route
from langchain_costguard.steering import Retry, SteeredModel, install, steer
from langchain_costguard.testing import FakeProvider, Reply
from tests.conftest import PRICES, Caller
from tests.steering.broken import breaking

GO: Any = {"messages": [("user", "go")]}
KINDS = pytest.mark.parametrize("kind", ["openai", "anthropic"])


def no_secret(reply: Any) -> str | None:
    return "It names the secret." if "SECRET" in str(reply.text) else None


async def _events(agent: Any) -> str:
    shown = ""
    async for event in agent.astream_events(GO, version="v2"):
        if event["event"] == "on_chat_model_stream":
            shown += str(event["data"]["chunk"].text)
    return shown


def steered(model: Any, **policies: Any) -> Any:
    return create_agent(model, [], middleware=steer(CostGuard(prices=PRICES), **policies))


def node_of(model: Any) -> Any:
    """A graph of one node that calls the model."""

    def agent(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    async def aagent(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("agent", RunnableLambda(agent, aagent)).add_edge(START, "agent").compile()


def installed(model: Any, **policies: Any) -> Any:
    guard = CostGuard(prices=PRICES)
    return install(node_of(model), guard, tools=None, policies=steer(guard, **policies))


def in_a_node(model: Any, **policies: Any) -> Any:
    return node_of(SteeredModel(model, steer(CostGuard(prices=PRICES), **policies)))


SEAMS = pytest.mark.parametrize("build", [steered, installed, in_a_node])


@KINDS
@SEAMS
def test_a_reply_that_does_not_pass_is_not_shown(build: Any, kind: str, stream: Caller) -> None:
    with FakeProvider(["The SECRET is 1234.", "I cannot say.", "The SECRET again", "No."]) as provider:
        model = getattr(provider, kind)()
        agent = build(model, guardrails=[no_secret])
        shown = "".join(str(piece.text) for piece, _ in stream(agent, GO, None, stream_mode="messages"))
        assert shown == "I cannot say."
        assert "SECRET" not in asyncio.run(_events(agent))


@KINDS
@SEAMS
def test_a_reply_that_broke_off_in_view_is_not_begun_again(build: Any, kind: str, stream: Caller, call: Caller) -> None:
    retry = Retry(base=0.01, most=0.1)
    with breaking(kind, "error") as (model, asked):
        agent = build(model, retry=retry)
        with pytest.raises(Exception, match=r"(?i)down|overloaded"):
            stream(agent, GO, None, stream_mode="messages")
        assert len(asked) == 1
    with breaking(kind, "error") as (model, _):  # nobody saw it
        assert call(build(model, retry=retry), GO)["messages"][-1].text == "a whole answer"


@KINDS
@pytest.mark.parametrize("face", ["steered", "agent", "langchain"])
def test_a_reply_without_an_end_is_not_remembered(kind: str, face: str, call: Caller) -> None:
    with breaking(kind, "cut") as (model, asked):
        cache = MemoryCache(share="all")
        if face == "langchain":
            set_llm_cache(cache)
            ask: Any = lambda: call(model, "dose?").text  # noqa: E731
        elif face == "steered":
            steered = SteeredModel(model, steer(CostGuard(), cache=cache, retry=None))
            ask = lambda: call(steered, "dose?").text  # noqa: E731
        else:
            agent = create_agent(model, [], middleware=steer(CostGuard(), cache=cache))
            ask = lambda: call(agent, GO)["messages"][-1].text  # noqa: E731
        assert [ask(), ask(), ask()] == ["half an ", "a whole answer", "a whole answer"]
        assert len(asked) == 2


@KINDS
def test_a_cascade_and_a_router_go_on_from_half_an_answer(kind: str, call: Caller) -> None:
    with breaking(kind, "cut") as (model, _), FakeProvider("from the other") as provider:
        other = provider.openai("gpt-4o")
        policies = steer(CostGuard(), cascade=Cascade(tiers=[model, other], confidence=None))
        assert call(create_agent(other, [], middleware=policies), GO)["messages"][-1].text == "from the other"
    with breaking(kind, "cut") as (model, _), FakeProvider("from the other") as provider:
        other = provider.openai("gpt-4o-mini")
        policies = steer(CostGuard(), router=lambda request: Route(model, "it said so"))
        assert call(create_agent(other, [], middleware=policies), GO)["messages"][-1].text == "from the other"


@pytest.mark.parametrize("status", [401, 404, 429, 503])
def test_a_router_whose_model_is_down_goes_on_to_the_next_and_sees_tags_and_metadata(status: int, call: Caller) -> None:
    seen: list[Any] = []
    with FakeProvider(Reply(status=status)) as down, FakeProvider("here") as up:
        broken, other = down.openai("gpt-4o", max_retries=0), up.openai("gpt-4o-mini")

        def router(request: Any) -> Route:
            assert not [key for key in request.metadata if key.startswith("costguard")]
            seen.append((list(request.tags), request.metadata.get("plan")))
            return Route(broken, "it said so")

        guard = CostGuard(prices=PRICES)
        steered = SteeredModel(other, steer(guard, router=router, retry=None))
        assert call(steered, "hi", {"tags": ["fast"], "metadata": {"plan": "free"}}).text == "here"
        assert seen == [(["fast"], "free")]
    with FakeProvider(Reply(status=400)) as wrong, FakeProvider("here") as up:
        policies = steer(guard, router=lambda request: Route(wrong.openai(max_retries=0), "so"), retry=None)
        with pytest.raises(Exception, match="400"):
            call(SteeredModel(up.openai("gpt-4o-mini"), policies), "hi")
