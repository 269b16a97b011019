"""Routing at each seam: the chosen model is asked, metered at its own price, and the saving is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import Field

from langchain_costguard import Budget, CostGuard, Price
from langchain_costguard.events import Routed
from langchain_costguard.routing import BudgetRouter, Examples, Route, RouteRequest, SemanticRouter, StaticRouter
from langchain_costguard.steering import Retry, RoutedModel, RouterNode, SteeredModel, steer
from langchain_costguard.testing import FakeProvider, Recorder, Reply, Request
from tests.conftest import Caller

PRICES = {
    "gpt-4o": Price(input="2.50", output="10.00", cache_read="1.25"),
    "gpt-4o-mini": Price(input="0.15", output="0.60"),
    "claude-sonnet-4-6": Price(input="3.00", output="15.00"),
}
GO: Any = {"messages": [HumanMessage("go")]}


@tool
def look_up(key: str) -> str:
    """Look a key up."""
    return f"value of {key}"


class Choosing:
    """A router that does as it is told."""

    def __init__(self, choose: Callable[[RouteRequest], Route], models: Sequence[Any]) -> None:
        self.models = tuple(models)
        self.seen: list[RouteRequest] = []
        self._choose = choose

    def __call__(self, request: RouteRequest) -> Route:
        self.seen.append(request)
        return self._choose(request)


def always(model: Any, dearest: Any = None) -> Choosing:
    return Choosing(lambda request: Route(model, "it will do", 0.9, dearest), [m for m in (model, dearest) if m])


def cost(model: str, provider: FakeProvider) -> int:
    """Nano-USD that the provider billed for one model."""
    price = {"gpt-4o": (2_500, 10_000), "gpt-4o-mini": (150, 600), "claude-sonnet-4-6": (3_000, 15_000)}[model]
    served = [r.usage for r in provider.requests if r.usage is not None and r.body["model"] == model]
    return sum(usage.input_tokens * price[0] + usage.output_tokens * price[1] for usage in served)


def tool_then_answer(request: Request) -> Reply:
    text = str(request.body["messages"])
    return Reply("done") if "value of" in text else Reply(tool_calls=[("look_up", {"key": "x"})])


def test_an_agent_asks_the_model_the_router_chose_and_tells_what_it_saved(call: Caller) -> None:
    with FakeProvider(tool_then_answer) as provider:
        recorder = Recorder()
        strong, weak = provider.openai("gpt-4o", max_retries=0), provider.openai("gpt-4o-mini", max_retries=0)
        guard = CostGuard(Budget(usd="1.00"), prices=PRICES, sinks=[recorder])
        router = always(weak, strong)
        agent = create_agent(strong, [look_up], middleware=steer(guard, router=router))
        assert call(agent, GO)["messages"][-1].text == "done"
        assert {request.body["model"] for request in provider.requests} == {"gpt-4o-mini"}
        assert all(request.tools for request in provider.requests)
        assert guard.report().total.spent == cost("gpt-4o-mini", provider)
        routed = recorder.of(Routed)
        served = provider.usage()
        dear = served.input_tokens * 2_500 + served.output_tokens * 10_000
        assert sum(event.saved for event in routed) == dear - guard.report().total.spent
        assert routed[0].score == 0.9
        assert router.seen[1].last_model.startswith("gpt-4o-mini")
        assert [t.name for t in router.seen[0].tools] == ["look_up"]


def test_the_steps_of_one_conversation_go_to_different_providers_with_their_tools(call: Caller) -> None:
    with FakeProvider(tool_then_answer) as provider:
        openai, claude = provider.openai("gpt-4o"), provider.anthropic("claude-sonnet-4-6", max_tokens=100)
        router = Choosing(
            lambda request: Route(openai if len(request.messages) > 1 else claude, "by turns"), [openai, claude]
        )
        guard = CostGuard(Budget(usd="1.00"), prices=PRICES)
        agent = create_agent(openai, [look_up], middleware=steer(guard, router=router))
        assert call(agent, GO)["messages"][-1].text == "done"
        assert [request.body["model"] for request in provider.requests] == ["claude-sonnet-4-6", "gpt-4o"]
        assert guard.report().total.spent == cost("claude-sonnet-4-6", provider) + cost("gpt-4o", provider)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_routed_model_is_a_drop_in_for_a_chain(call: Caller, stream: Caller, streamed: bool) -> None:
    with FakeProvider("four little words here") as provider:
        openai, claude = provider.openai("gpt-4o"), provider.anthropic("claude-sonnet-4-6", max_tokens=100)
        guard = CostGuard(Budget(usd="1.00"), prices=PRICES)
        chain = ChatPromptTemplate.from_template("{x}") | RoutedModel(guard, always(claude), default=openai)
        text = chain | StrOutputParser()
        got = "".join(stream(text, {"x": "hi"})) if streamed else call(text, {"x": "hi"})
        assert got == "four little words here"
        assert [request.body["model"] for request in provider.requests] == ["claude-sonnet-4-6"]
        assert guard.report().total.spent == cost("claude-sonnet-4-6", provider)


def test_tools_bound_to_a_routed_model_are_offered_in_the_words_of_the_one_chosen(call: Caller) -> None:
    with FakeProvider(Reply(tool_calls=[("look_up", {"key": "x"})])) as provider:
        openai, claude = provider.openai("gpt-4o"), provider.anthropic("claude-sonnet-4-6", max_tokens=100)
        guard = CostGuard(prices=PRICES)
        bound = RoutedModel(guard, always(claude), default=openai).bind_tools([look_up], tool_choice="look_up")
        reply = call(bound, "hi")
        assert reply.tool_calls[0]["name"] == "look_up"
        assert provider.requests[0].body["tools"][0]["name"] == "look_up"
        assert provider.requests[0].body["tool_choice"] == {"type": "tool", "name": "look_up"}


class Directed(TypedDict):
    messages: list[Any]
    model: str
    model_why: str


def test_a_router_node_writes_its_choice_and_picks_the_edge(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(prices=PRICES)
    strong, weak = provider.openai("gpt-4o"), provider.openai("gpt-4o-mini")
    node = RouterNode(guard, always(weak, strong), default=strong, goto={"gpt-4o": "think", "gpt-4o-mini": "talk"})
    builder = StateGraph(Directed)
    builder.add_node("route", node, destinations=("think", "talk"))
    builder.add_node("think", lambda state: {"messages": [*state["messages"], AIMessage("thought")]})
    builder.add_node("talk", lambda state: {"messages": [*state["messages"], AIMessage("talked")]})
    builder.add_edge(START, "route")
    builder.add_edge("think", END)
    builder.add_edge("talk", END)
    state = call(builder.compile(), {"messages": [HumanMessage("hi")], "model": "", "model_why": ""})
    assert (state["model"], state["model_why"]) == ("gpt-4o-mini", "it will do")
    assert state["messages"][-1].text == "talked"
    assert guard.report().actions.times("Routed") == 1


FAKE = FakeListChatModel(responses=["not asked"])


def fails(request: RouteRequest) -> Route:
    raise RuntimeError("no idea")


def fails_in_other_words_each_time(request: RouteRequest) -> Route:
    raise RuntimeError(f"no idea, after {len(request.messages)} messages")


@pytest.mark.parametrize(
    "router",
    [
        fails,
        fails_in_other_words_each_time,
        lambda request: "gpt-4o-mini",
        lambda request: Route("", "nothing"),
        lambda request: Route(FAKE, "it will do", None, "nobody:some-model"),
    ],
)
def test_a_router_that_fails_leaves_the_agent_its_own_model_and_says_so_once(
    call: Caller, router: Any, caplog: Any
) -> None:
    with FakeProvider(tool_then_answer) as provider:
        guard = CostGuard(prices=PRICES)
        agent = create_agent(provider.openai(max_retries=0), [look_up], middleware=steer(guard, router=router))
        assert call(agent, GO)["messages"][-1].text == "done"
        assert [record.message for record in caplog.records if "router failed" in record.message].__len__() == 1


@pytest.mark.parametrize("wrong", ["openai:", 3, "nobody:some-model"])
def test_a_model_that_cannot_be_had_is_an_error_at_construction(wrong: Any) -> None:
    with pytest.raises(ValueError, match="router"):
        steer(CostGuard(), router=Choosing(fails, [wrong]))


def test_a_model_that_cannot_do_what_is_asked_is_not_chosen(call: Caller) -> None:
    with FakeProvider(tool_then_answer) as provider:
        strong, weak = provider.openai("gpt-4o"), provider.openai("gpt-4o-mini")
        weak.profile = {"tool_calling": False, "max_input_tokens": 100_000}
        guard = CostGuard(prices=PRICES)
        agent = create_agent(strong, [look_up], middleware=steer(guard, router=always(weak, strong)))
        call(agent, GO)
        assert {request.body["model"] for request in provider.requests} == {"gpt-4o"}


@pytest.mark.parametrize("choose", [lambda models: Route(models[0], "it will do"), lambda models: models["no such"]])
def test_a_budget_downgrades_before_it_refuses_and_says_so(choose: Any, call: Caller) -> None:
    recorder = Recorder()
    with FakeProvider("done") as provider:
        strong, weak = provider.openai("gpt-4o", max_tokens=200), provider.openai("gpt-4o-mini", max_tokens=200)
        guard = CostGuard(Budget(usd="0.0010", on_exceeded="downgrade"), prices=PRICES, sinks=[recorder])
        router = Choosing(lambda request: choose([strong, weak]), [strong, weak])
        agent = create_agent(strong, [], middleware=steer(guard, router=router))
        assert call(agent, GO)["messages"][-1].text == "done"
        assert [request.body["model"] for request in provider.requests] == ["gpt-4o-mini"]
        assert [event.why for event in recorder.of(Routed)] == ["a budget has no room for gpt-4o"]
        refusing = CostGuard(Budget(usd="0.0010"), prices=PRICES)
        agent = create_agent(strong, [], middleware=steer(refusing, router=always(strong, weak)))
        assert "more would be needed" in call(agent, GO)["messages"][-1].text


def test_a_conversation_stays_where_its_cache_is_worth_more_than_the_change(call: Caller) -> None:
    """The dear model reads its 9,000 cached tokens for less than the cheap one's full price; with few it does not."""
    prices = {**PRICES, "gpt-4o-mini": Price(input="2.00", output="8.00")}
    for cached, expected in ((9_000, "gpt-4o"), (0, "gpt-4o-mini")):
        with FakeProvider("done") as provider:
            strong, weak = provider.openai("gpt-4o"), provider.openai("gpt-4o-mini")
            model = SteeredModel(strong, steer(CostGuard(prices=prices), router=always(weak, strong)))
            before = AIMessage(
                "word " * 9_000,
                response_metadata={"model_name": "gpt-4o-2024-08-06"},
                usage_metadata={
                    "input_tokens": 9_100,
                    "output_tokens": 10,
                    "total_tokens": 9_110,
                    "input_token_details": {"cache_read": cached},
                },
            )
            call(model, [HumanMessage("hi"), before, HumanMessage("and now?")])
            assert provider.requests[-1].body["model"] == expected


def test_a_graph_whose_nodes_have_their_own_models_is_routed_by_a_model_in_the_node(call: Caller) -> None:
    with FakeProvider("done") as provider:
        guard = CostGuard(prices=PRICES)
        routed = RoutedModel(guard, always(provider.openai("gpt-4o-mini")), default=provider.openai("gpt-4o"))
        builder = StateGraph(MessagesState)
        builder.add_node("agent", lambda state: {"messages": [routed.invoke(state["messages"])]})
        builder.add_edge(START, "agent")
        builder.add_edge("agent", END)
        call(builder.compile(), GO)
        assert [request.body["model"] for request in provider.requests] == ["gpt-4o-mini"]


def test_a_downgrade_comes_before_a_reply_that_is_cut_off_and_is_told_once(call: Caller) -> None:
    with FakeProvider(Reply(chunks=400)) as provider:
        strong, weak = provider.openai("gpt-4o", max_tokens=800), provider.openai("gpt-4o-mini", max_tokens=800)
        guard = CostGuard(Budget(usd="0.02", on_exceeded="downgrade"), prices=PRICES)
        agent = create_agent(strong, [], middleware=steer(guard, router=always(strong, weak)))
        for _ in range(8):
            last = call(agent, GO)["messages"][-1]
            assert last.response_metadata["finish_reason"] == "stop"
        models = [request.body["model"] for request in provider.requests]
        assert models == sorted(models, key=len)
        assert set(models) == {"gpt-4o", "gpt-4o-mini"}
        assert guard.report().actions.times("Routed") == 8


@pytest.mark.parametrize("dearest", ["gpt-4o", "model-of-unknown-price"])
def test_a_model_of_unknown_price_costs_no_reply_even_where_such_are_refused(call: Caller, dearest: str) -> None:
    with FakeProvider("done") as provider:
        weak, other = provider.openai("gpt-4o-mini"), provider.openai(dearest)
        nobody = provider.openai("another-of-unknown-price")
        guard = CostGuard(Budget(usd="1.00", on_exceeded="downgrade"), prices=PRICES, unpriced="refuse")
        router = Choosing(lambda request: Route(weak, "it will do", dearest=other), [weak, other, nobody])
        agent = create_agent(weak, [], middleware=steer(guard, router=router))
        assert call(agent, GO)["messages"][-1].text == "done"
        assert guard.report().total.spent == cost("gpt-4o-mini", provider)


# Models by their names


def test_models_made_from_names_leave_trying_again_to_steering(call: Caller, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    with FakeProvider([Reply(status=500), "done"]) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        steering = steer(CostGuard(prices=PRICES), router=always("openai:gpt-4o-mini"), retry=Retry(base=0.001))
        assert call(create_agent(provider.openai(), [], middleware=steering), GO)["messages"][-1].text == "done"
        assert len(provider.requests) == 2
        assert steering.guard.report().actions.times("Retried") == 1
        assert not [record for record in caplog.records if "max_retries" in record.message]


def test_models_made_from_names_try_again_by_themselves_where_steering_does_not(call: Caller, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    with FakeProvider([Reply(status=500, retry_after=0.001), "done"]) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        model = RoutedModel(CostGuard(prices=PRICES), always("openai:gpt-4o-mini"), default="openai:gpt-4o")
        assert call(model, "hi").text == "done"
        assert len(provider.requests) == 2


# Nodes that are picked by a model's name


def picking(node: RouterNode, *places: str) -> Any:
    builder = StateGraph(Directed)
    builder.add_node("route", node, destinations=places)
    builder.add_edge(START, "route")
    for place in places:
        builder.add_node(place, lambda state, place=place: {"messages": [*state["messages"], AIMessage(place)]})
        builder.add_edge(place, END)
    return builder.compile()


NEW = {"messages": [HumanMessage("hi")], "model": "", "model_why": ""}


def test_chat_models_pick_a_node_by_the_name_they_were_given(call: Caller, provider: FakeProvider) -> None:
    strong = provider.openai("gpt-4o")
    careful, quick = provider.openai(name="careful", temperature=0), provider.openai(name="quick", temperature=1)
    goto = {"gpt-4o": "think", "careful": "check", "quick": "talk"}
    for chosen, place in ((careful, "check"), (quick, "talk"), (strong, "think")):
        router = Choosing(lambda request, chosen=chosen: Route(chosen, "it will do"), [careful, quick])
        node = RouterNode(CostGuard(prices=PRICES), router, default=strong, goto=goto)
        assert call(picking(node, "think", "check", "talk"), NEW)["messages"][-1].text == place


@pytest.mark.parametrize("goto", [None, {"gpt-4o": "think"}])
def test_two_chat_models_of_one_name_are_an_error_at_construction(provider: FakeProvider, goto: Any) -> None:
    one, other = provider.openai(temperature=0), provider.openai(temperature=1)
    with pytest.raises(ValueError, match="two models are called 'gpt-4o'"):
        RouterNode(CostGuard(), always(one, other), default=one, goto=goto)
    assert RouterNode(CostGuard(), always(one), default=other, goto=goto).default_name == "gpt-4o"


def test_a_choice_for_which_there_is_no_node_is_the_default(call: Caller, provider: FakeProvider, caplog: Any) -> None:
    strong, weak = provider.openai("gpt-4o"), provider.openai("gpt-4o-mini")
    guard = CostGuard(prices=PRICES)
    node = RouterNode(guard, lambda request: Route(weak, "so"), default=strong, goto={"gpt-4o": "think"})
    state = call(picking(node, "think"), NEW)
    assert (state["messages"][-1].text, state["model"]) == ("think", "gpt-4o")
    assert state["model_why"] == "there is no node for gpt-4o-mini"
    assert guard.report().actions.times("Routed") == 0
    assert "gpt-4o-mini" in caplog.text


# Routers with an asynchronous side


class Both:
    """A router that tells which of its sides was asked, and on which thread."""

    def __init__(self, model: Any) -> None:
        self.models = (model,)
        self.seen: list[tuple[str, bool]] = []

    def __call__(self, request: RouteRequest) -> Route:
        self.seen.append(("call", threading.current_thread() is threading.main_thread()))
        return Route(self.models[0], "called")

    async def aroute(self, request: RouteRequest) -> Route:
        self.seen.append(("aroute", threading.current_thread() is threading.main_thread()))
        return Route(self.models[0], "awaited")


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_router_with_an_asynchronous_side_is_awaited_on_an_event_loop(
    call: Caller, world: str, wrapped: bool
) -> None:
    with FakeProvider("done") as provider:
        both = Both(provider.openai("gpt-4o-mini"))
        router = BudgetRouter({0.9: provider.openai("gpt-4o-mini")}, router=both) if wrapped else both
        strong, guard = provider.openai(), CostGuard(prices=PRICES)
        call(create_agent(strong, [], middleware=steer(guard, router=router)), GO)
        assert both.seen == [("aroute" if world == "async" else "call", True)]
        assert [request.body["model"] for request in provider.requests] == ["gpt-4o-mini"]


def test_a_semantic_router_embeds_without_a_thread_on_an_event_loop(call: Caller, world: str) -> None:
    with FakeProvider("done") as provider:
        mini = provider.openai("gpt-4o-mini")
        embeddings = Counting(size=32)
        said = Examples(model=mini, utterances=["go on", "go away"])
        router = SemanticRouter({"going": said}, embeddings=embeddings, default=mini)
        call(RoutedModel(CostGuard(prices=PRICES), router, default=provider.openai()), "go")
        assert embeddings.asked == [world]


class Counting(DeterministicFakeEmbedding):
    """Embeddings that tell by which side they were asked for a query."""

    asked: list[str] = Field(default_factory=list)

    def embed_query(self, text: str) -> list[float]:
        self.asked.append("sync")
        return super().embed_query(text)

    async def aembed_query(self, text: str) -> list[float]:
        self.asked.append("async")
        return super().embed_query(text)


# What a model can do, and what it remembers


def talked(model: str, *, read: int = 9_000, **written: int) -> list[Any]:
    """A conversation of 9,000 words so far, of which a model has read and written some from and to its cache."""
    before = AIMessage(
        "word " * 9_000,
        response_metadata={"model_name": model},
        usage_metadata={
            "input_tokens": 9_100,
            "output_tokens": 10,
            "total_tokens": 9_110,
            "input_token_details": {"cache_read": read, **written},
        },
    )
    return [HumanMessage("hi"), before, HumanMessage("and now?")]


CACHED = {
    **PRICES,
    "gpt-4o-mini": Price(input="2.00", output="8.00"),
    "gpt-5": Price(input="2.50", output="10.00", cache_read="0.25"),
    "gpt-5-mini": Price(input="2.40", output="9.00", cache_read="2.40"),
}


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ("gpt-5-2025-08-07", "gpt-5"),
        ("gpt-5", "gpt-5"),
        ("gpt-5-mini-2025-08-07", "gpt-4o-mini"),
        ("gpt-5.1", "gpt-4o-mini"),
        ("gpt-5-pro-2025-10-06", "gpt-4o-mini"),
    ],
)
def test_only_the_model_that_has_the_conversation_in_its_cache_keeps_it(call: Caller, last: str, expected: str) -> None:
    """With gpt-5, which reads its cache for a tenth, the conversation stays; gpt-5-mini reads it at the full price."""
    with FakeProvider("done") as provider:
        weak, dear, other = (provider.openai(name) for name in ("gpt-4o-mini", "gpt-5", "gpt-5-mini"))
        router = Choosing(lambda request: Route(weak, "it will do"), [weak, dear, other])
        model = SteeredModel(dear, steer(CostGuard(prices=CACHED), router=router))
        call(model, talked(last))
        assert provider.requests[-1].body["model"] == expected


@pytest.mark.parametrize(
    "written",
    [
        {"cache_creation": 8_000},
        {"cache_creation": 0, "ephemeral_5m_input_tokens": 5_000, "ephemeral_1h_input_tokens": 3_000},
    ],
    ids=["at once", "by how long it is kept, as Claude says it"],
)
def test_what_a_turn_wrote_into_the_cache_counts_with_what_it_read(call: Caller, written: dict[str, int]) -> None:
    with FakeProvider("done") as provider:
        weak, strong = provider.openai("gpt-4o-mini"), provider.openai("gpt-4o")
        model = SteeredModel(strong, steer(CostGuard(prices=CACHED), router=always(weak, strong)))
        call(model, talked("gpt-4o-2024-08-06", read=1_000, **written))
        assert provider.requests[-1].body["model"] == "gpt-4o"


def test_a_conversation_does_not_stay_with_a_model_that_cannot_do_what_is_asked_now(call: Caller) -> None:
    with FakeProvider("done") as provider:
        weak, strong = provider.openai("gpt-4o-mini"), provider.openai("gpt-4o")
        weak.profile, strong.profile = {"tool_calling": True}, {"tool_calling": False}
        model = SteeredModel(strong, steer(CostGuard(prices=CACHED), router=always(weak, strong)))
        call(model.bind_tools([look_up]), talked("gpt-4o-2024-08-06"))
        assert provider.requests[-1].body["model"] == "gpt-4o-mini"


def test_near_the_limit_of_a_model_the_tools_count_too(call: Caller) -> None:
    @tool
    def search(query: str) -> str:
        """Search."""
        return query

    search.description = "Search the minutes of all meetings. " * 40
    with FakeProvider("done") as provider:
        weak, strong = provider.openai("gpt-4o-mini"), provider.openai("gpt-4o")
        weak.profile, strong.profile = {"tool_calling": True, "max_input_tokens": 500}, {"tool_calling": True}
        for tools, expected in (([look_up], "gpt-4o-mini"), ([search], "gpt-4o")):
            agent = create_agent(strong, tools, middleware=steer(CostGuard(prices=PRICES), router=always(weak, strong)))
            call(agent, {"messages": [HumanMessage("word " * 280)]})
            assert provider.requests[-1].body["model"] == expected


def test_where_a_budget_downgrades_no_model_is_asked_that_cannot_do_it(call: Caller) -> None:
    with FakeProvider("done") as provider:
        strong, weak = provider.openai("gpt-4o", max_tokens=200), provider.openai("gpt-4o-mini", max_tokens=200)
        weak.profile = {"tool_calling": False}
        guard = CostGuard(Budget(usd="0.0010", on_exceeded="downgrade"), prices=PRICES)
        agent = create_agent(strong, [look_up], middleware=steer(guard, router=always(strong, weak)))
        assert "more would be needed" in call(agent, GO)["messages"][-1].text
        assert not provider.requests


def test_a_static_router_needs_no_thread_on_an_event_loop(call: Caller) -> None:
    threads: list[bool] = []

    class Watched(StaticRouter):
        def __call__(self, request: RouteRequest) -> Route:
            threads.append(threading.current_thread() is threading.main_thread())
            return super().__call__(request)

    with FakeProvider("done") as provider:
        mini = provider.openai("gpt-4o-mini")
        call(RoutedModel(CostGuard(prices=PRICES), Watched({"a": mini}, default=mini), default=mini), "hi")
        assert threads == [True]


@pytest.mark.parametrize("seam", ["create_agent", "chain"])
def test_traces_show_what_was_chosen_and_why(seam: str, call: Caller, stream: Caller) -> None:
    seen: list[dict[str, Any]] = []

    class Tracer(BaseCallbackHandler):
        run_inline = True

        def on_chat_model_start(self, serialized: Any, messages: Any, *, metadata: Any = None, **kwargs: Any) -> None:
            seen.append(metadata)

    with FakeProvider("done") as provider:
        strong = provider.openai("gpt-4o", metadata={"mine": 1})
        weak = provider.openai("gpt-4o-mini", metadata={"mine": 2})
        policies = steer(CostGuard(prices=PRICES), router=always(weak, strong))
        config = {"callbacks": [Tracer()], "metadata": {"theirs": 3}}
        if seam == "create_agent":
            call(create_agent(strong, [], middleware=policies), GO, config)
        else:
            call(SteeredModel(strong, policies), "go", config)
            stream(SteeredModel(strong, policies), "go", config)
    told = {
        "ls_model_name": "gpt-4o-mini",
        "costguard_route": "it will do",
        "costguard_route_instead_of": "gpt-4o",
        "costguard_route_score": 0.9,
        "mine": 2,
        "theirs": 3,
    }
    assert len(seen) == (1 if seam == "create_agent" else 2)
    assert all(told.items() <= metadata.items() for metadata in seen)
