"""A refusal is final: whatever stands between the guard and the caller, no provider call is made after it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.exceptions import ModelError
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.errors import GraphBubbleUp
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import RetryPolicy

from langchain_costguard import Budget, BudgetExceededError, CostGuard, CostGuardError, Price, UnpricedModelError
from langchain_costguard.steering import steer
from langchain_costguard.testing import FakeProvider, Reply
from tests.conftest import PRICES, Caller

Build = Callable[[FakeProvider], Any]


@tool
def look_up(key: str) -> str:
    """Look a key up."""
    return f"value of {key}"


def _tool_node(provider: FakeProvider) -> Any:
    """A tool that calls a model, in a ToolNode that turns errors into messages."""
    model = provider.openai(max_tokens=50)

    @tool
    def ask(question: str, config: RunnableConfig) -> str:
        """Ask another model."""
        return str(model.invoke(question, config).content)

    @tool
    async def aask(question: str) -> str:
        """Ask another model."""
        return str((await model.ainvoke(question)).content)

    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode([ask, aask], handle_tool_errors=True))
    builder.add_edge(START, "tools")
    return builder.compile()


def _agent(*middleware: Any) -> Build:
    def build(provider: FakeProvider) -> Any:
        return create_agent(provider.openai(max_tokens=50), [look_up], middleware=middleware)

    return build


def _fallback_agent(provider: FakeProvider) -> Any:
    spare = ModelFallbackMiddleware(provider.openai(model="gpt-4o", max_tokens=50))
    return create_agent(provider.openai(max_tokens=50), [look_up], middleware=[spare])


def _retried_node(provider: FakeProvider) -> Any:
    model = provider.openai(max_tokens=50)
    builder = StateGraph(MessagesState)
    builder.add_node(
        "model",
        RunnableLambda(
            lambda state: {"messages": [model.invoke(state["messages"])]},
            afunc=lambda state: _answer(model, state),
        ),
        retry_policy=RetryPolicy(max_attempts=3, initial_interval=0.001, jitter=False),
    )
    builder.add_edge(START, "model")
    builder.add_edge("model", END)
    return builder.compile()


async def _answer(model: Any, state: Any) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"])]}


def _tool_call(name: str) -> dict[str, Any]:
    message = AIMessage("", tool_calls=[{"name": name, "args": {"question": "why"}, "id": "1"}])
    return {"messages": [message]}


QUESTION = {"messages": [("user", "hello there")]}
GRAPHS: dict[str, tuple[Build, Any]] = {
    "an agent": (_agent(), QUESTION),
    "ModelRetryMiddleware": (_agent(ModelRetryMiddleware(max_retries=3, initial_delay=0.001)), QUESTION),
    "ToolRetryMiddleware": (_agent(ToolRetryMiddleware(max_retries=3, initial_delay=0.001)), QUESTION),
    "ModelFallbackMiddleware": (_fallback_agent, QUESTION),
    "a node's RetryPolicy": (_retried_node, QUESTION),
    "ToolNode(handle_tool_errors=True)": (_tool_node, None),
}


@pytest.mark.parametrize("layer", GRAPHS)
def test_no_graph_layer_swallows_a_refusal(layer: str, call: Caller, world: str, provider: FakeProvider) -> None:
    build, question = GRAPHS[layer]
    question = question or _tool_call("ask" if world == "sync" else "aask")
    guard = CostGuard(Budget(per="session", usd="0.0001"), prices=PRICES)
    with pytest.raises(BudgetExceededError) as caught:
        call(build(provider).with_config(callbacks=[guard]), question)
    assert provider.requests == []
    assert caught.value.measure == "usd"
    assert guard.report().total.spent == 0


@pytest.mark.parametrize("layer", ["with_retry", "with_fallbacks"])
def test_no_provider_call_is_made_where_the_host_tries_again(layer: str, call: Caller, provider: FakeProvider) -> None:
    model = provider.openai(max_tokens=50)
    runnable = (
        model.with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
        if layer == "with_retry"
        else model.with_fallbacks([provider.openai(max_tokens=50)])
    )
    guard = CostGuard(Budget(per="session", usd="0.0001"), prices=PRICES)
    with pytest.raises(CostGuardError):
        call(runnable, "hello", {"callbacks": [guard]})
    assert provider.requests == []


def test_a_cheaper_fallback_that_fits_is_let_through(call: Caller, provider: FakeProvider) -> None:
    cheap = provider.openai(model="tiny", max_tokens=50)
    runnable = provider.openai(max_tokens=50).with_fallbacks([cheap])
    guard = CostGuard(
        Budget(per="session", usd="0.0001"), prices={**PRICES, "tiny": Price(input="0.01", output="0.01")}
    )
    assert call(runnable, "hello", {"callbacks": [guard]}).content == "four little words here"
    assert [request.model for request in provider.requests] == ["tiny"]


def test_a_refused_tool_does_not_run(call: Caller) -> None:
    ran: list[str] = []

    @tool
    def send(text: str) -> str:
        """Send a text."""
        ran.append(text)
        return "sent"

    with FakeProvider([Reply(tool_calls=[("send", {"text": "a"})])]) as provider:
        agent = create_agent(provider.openai(max_tokens=50), [send])
        guard = CostGuard(Budget(per="session", tool_calls=2), prices=PRICES)
        with pytest.raises(BudgetExceededError, match="tool call"):
            call(agent, QUESTION, {"callbacks": [guard]})
    assert ran == ["a", "a"]
    assert guard.report().total.tool_calls == 2


def test_siblings_that_were_paid_keep_their_results_and_the_run_resumes_at_the_refused_one(call: Caller) -> None:
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.types import Send

    class State(MessagesState):
        topic: str

    with FakeProvider("fine") as provider:
        model = provider.openai(max_tokens=50)
        builder = StateGraph(State)
        builder.add_node(
            "work",
            RunnableLambda(
                lambda state: {"messages": [model.invoke(state["topic"])]},
                afunc=lambda state: _answer(model, {"messages": state["topic"]}),
            ),
        )
        builder.add_conditional_edges(START, lambda _: [Send("work", {"topic": f"t{i}"}) for i in range(4)])
        graph = builder.compile(checkpointer=InMemorySaver())
        guard = CostGuard(Budget(per="session", model_calls=3), prices=PRICES)
        config: dict[str, Any] = {"configurable": {"thread_id": "1"}, "callbacks": [guard], "max_concurrency": 1}
        with pytest.raises(BudgetExceededError):
            call(graph, {"messages": []}, config)
        assert len(provider.requests) == 3
        done = call(graph, None, {"configurable": {"thread_id": "1"}})
        assert len(provider.requests) == 4
        assert len(done["messages"]) == 4


def test_a_refusal_says_which_budget_for_whom_and_what_is_left(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="user", usd="0.0001", window="day"), prices=PRICES)
    with guard.scope(user="u1"), pytest.raises(BudgetExceededError) as caught:
        call(provider.openai(max_tokens=1000), "hello", {"callbacks": [guard]})
    error = caught.value
    assert (error.budget, error.measure, error.left, error.by_holds) == ("user.day", "usd", Decimal("0.0001"), False)
    assert "user=u1" in str(error)
    assert "$0.0001000" in str(error)
    assert "Do not try again" in error.for_model()
    assert "u1" not in error.for_model()


def test_refusals_carry_every_base_that_lets_them_through() -> None:
    assert issubclass(CostGuardError, GraphBubbleUp)
    assert issubclass(CostGuardError, ModelError)
    assert issubclass(CostGuardError, RuntimeError)
    assert CostGuardError.is_retryable is False


def test_a_refusal_survives_pickling_between_processes(provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="all", model_calls=1, name="one"), prices=PRICES)
    model = provider.openai(max_tokens=5)
    model.invoke("hi", {"callbacks": [guard]})
    with pytest.raises(BudgetExceededError) as caught:
        model.invoke("hi", {"callbacks": [guard]})
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.budget) == (BudgetExceededError, str(caught.value), "one")


def test_a_model_of_unknown_price_is_refused_where_the_guard_was_told_so(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="all", usd="1"), unpriced="refuse")
    with pytest.raises(UnpricedModelError, match="no-such-model") as caught:
        call(provider.openai(model="no-such-model"), "hello", {"callbacks": [guard]})
    assert caught.value.model == "openai:no-such-model"
    assert provider.requests == []


def test_a_model_of_unknown_price_is_charged_as_the_dearest_of_its_provider(
    call: Caller, provider: FakeProvider
) -> None:
    dear, known = CostGuard(), CostGuard()
    call(provider.openai(model="no-such-model"), "hello", {"callbacks": [dear]})
    call(provider.openai(model="gpt-4o"), "hello", {"callbacks": [known]})
    assert dear.report().total.spent > known.report().total.spent > 0


def test_the_budget_per_step_covers_the_retries_of_the_step(call: Caller) -> None:
    with FakeProvider([Reply(status=500), Reply(status=500), "fine"]) as provider:
        graph = _retried_node(provider)
        guard = CostGuard(Budget(per="step", model_calls=5), prices=PRICES)
        call(graph, QUESTION, {"callbacks": [guard]})
        assert len(provider.requests) == 3
    assert guard.report().by("step").rows[0][0] == ("model",)


def test_a_refusal_for_the_length_of_the_reply_says_what_to_do(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="session", usd="0.01"), prices=PRICES)
    config = {"callbacks": [guard]}
    with pytest.raises(BudgetExceededError, match=r"may be 64,000 tokens long: ask for less with max_tokens"):
        call(provider.openai(max_tokens=64_000), "hello", config)
    with pytest.raises(BudgetExceededError) as caught:
        call(provider.openai(max_tokens=100), "word " * 10_000, config)
    assert "max_tokens" not in str(caught.value)


@pytest.mark.parametrize("asked", ["a model", "a tool"])
def test_what_a_refused_step_of_a_steered_agent_would_start_before_its_answer_is_refused_with_it(
    asked: str, call: Caller, provider: FakeProvider
) -> None:
    other, made = FakeProvider("other"), []

    class First(AgentMiddleware):
        """A step before each model call, which pays for something itself."""

        def before_model(self, state: Any, runtime: Any) -> None:
            if asked == "a model":
                model.invoke("is this safe?")
            else:
                look_up.invoke({"key": "safe"})
            made.append(asked)

    guard = CostGuard(Budget(per="session", steps=2), prices=PRICES, session="s")
    with other:
        model = other.openai(max_tokens=5)
        agent = create_agent(provider.openai(max_tokens=50), [look_up], middleware=[*steer(guard), First()])
        config = {"callbacks": [guard]}
        call(agent, QUESTION, config)
        with pytest.raises(BudgetExceededError, match="it may take 1 step"):
            call(agent, QUESTION, config)
        assert len(other.requests) == (asked == "a model")
    assert len(made) == 1
