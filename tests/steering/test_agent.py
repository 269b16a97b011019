"""``create_agent(middleware=steer(guard))``: how runs end, who may interrupt them, and that the money is right."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware, SummarizationMiddleware
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from langchain_costguard import (
    AgentHaltedError,
    Budget,
    BudgetExceededError,
    CostGuard,
    Price,
    Scope,
    SQLiteStore,
)
from langchain_costguard.steering import Breaker, Retry, StuckLoopError, steer
from langchain_costguard.testing import FakeProvider, Recorder, Reply, Request, stuck_in_a_loop
from tests.conftest import PRICES, Caller
from tests.steering.seams import valid

GO: Any = {"messages": [HumanMessage("go")]}
THREAD: Any = {"configurable": {"thread_id": "t1"}}
CLAUDE = {"claude-sonnet-4-6": Price(input="3.00", output="15.00")}


@tool
def look_up(key: str) -> str:
    """Look a key up."""
    return f"value of {key}"


def searching(times: int = 99) -> Any:
    """A model that looks up ``times`` different things, and then says so."""

    def reply(request: Request) -> Reply:
        made = sum(message.get("role") == "tool" for message in request.body["messages"])
        if not request.tools or made >= times:
            return Reply("that is all I have")
        return Reply(tool_calls=[("look_up", {"key": f"thing {made}"})])

    return reply


def balanced(guard: CostGuard, provider: FakeProvider, *, input_price: int = 2_500, output_price: int = 10_000) -> bool:
    """Whether the ledger says, to the nano-USD, what the provider served."""
    served = provider.usage()
    report = guard.report().total
    return report.spent == served.input_tokens * input_price + served.output_tokens * output_price


# How a run ends


def test_a_second_turn_on_an_empty_budget_gets_a_reply_too(call: Caller) -> None:
    with FakeProvider(searching()) as provider:
        guard = CostGuard(Budget(usd="0.001"), prices=PRICES)
        model = provider.openai(max_tokens=20)
        agent = create_agent(model, [look_up], middleware=steer(guard), checkpointer=InMemorySaver())
        call(agent, GO, THREAD)
        before = len(provider.requests)
        state = call(agent, GO, THREAD)
        assert len(provider.requests) == before
        assert "more would be needed" in state["messages"][-1].text
        assert valid(state["messages"])


def test_on_exceeded_raise_raises_what_the_guard_raised(call: Caller) -> None:
    with FakeProvider(searching()) as provider:
        guard = CostGuard(Budget(usd="0.001"), prices=PRICES)
        agent = create_agent(provider.openai(max_tokens=20), [look_up], middleware=steer(guard, on_exceeded="raise"))
        with pytest.raises(BudgetExceededError, match="refused a call to gpt-4o"):
            call(agent, GO)
        assert balanced(guard, provider)


@pytest.mark.parametrize("attached", [False, True])
def test_a_kill_in_the_middle_of_a_run_ends_it_with_a_valid_history(call: Caller, attached: bool) -> None:
    guard = CostGuard(prices=PRICES)

    @tool
    def pull_the_plug(key: str) -> str:
        """Stop everything."""
        guard.kill(reason="on fire")
        return "done"

    both = [("pull_the_plug", {"key": "a"}), ("look_up", {"key": "b"})]
    with FakeProvider([Reply(tool_calls=both), Reply("never")]) as provider:
        agent = create_agent(provider.openai(), [pull_the_plug, look_up], middleware=steer(guard))
        state = call(agent, GO, {"callbacks": [guard]} if attached else {})
        assert state["messages"][-1].text.startswith("I was stopped by an operator: on fire.")
        assert valid(state["messages"])
        assert len(provider.requests) == 1


def test_a_halt_refuses_the_graph_itself_where_it_was_there_before(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(prices=PRICES)
    guard.kill()
    agent = create_agent(provider.openai(), [look_up], middleware=steer(guard))
    with pytest.raises(AgentHaltedError):
        call(agent, GO, {"callbacks": [guard]})
    assert "stopped by an operator" in call(agent, GO)["messages"][-1].text
    assert not provider.requests


class Answer(BaseModel):
    """A structured answer."""

    text: str


def test_a_refused_agent_with_a_response_format_and_no_tools_ends(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(usd="0.0000001"), prices=PRICES)
    agent = create_agent(provider.openai(), [], response_format=Answer, middleware=steer(guard))
    assert "budget" in call(agent, GO, {"recursion_limit": 20})["messages"][-1].text


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
def test_steps_end_a_run_with_what_there_is(call: Caller, steps: int, attached: bool) -> None:
    with FakeProvider(searching()) as provider:
        guard = CostGuard(Budget(steps=steps), prices=PRICES)
        agent = create_agent(provider.openai(), [look_up], middleware=steer(guard, loops=None))
        state = call(agent, GO, {"callbacks": [guard]} if attached else {})
        assert state["messages"][-1].text == "that is all I have"
        assert f"last of your {steps} steps" in str(provider.requests[-1].body["messages"][-1])
        assert valid(state["messages"])
        for _ in range(2 - steps % 2):
            again = call(agent, GO, {"callbacks": [guard]} if attached else {})
        assert again["messages"][-1].text.startswith(f"I could not finish within {steps} steps")


@pytest.mark.parametrize("attached", [False, True])
def test_tools_called_at_once_that_take_the_last_steps_are_answered(call: Caller, attached: bool) -> None:
    many = [("look_up", {"key": str(n)}) for n in range(5)]
    with FakeProvider([Reply(tool_calls=many), Reply("that is all")]) as provider:
        guard = CostGuard(Budget(steps=3), prices=PRICES)
        agent = create_agent(provider.openai(), [look_up], middleware=steer(guard))
        state = call(agent, GO, {"callbacks": [guard]} if attached else {})
        assert valid(state["messages"])
        assert state["messages"][-1].text.startswith("I could not finish within 3 steps")
        assert sum("budget for steps is used up" in m.text for m in state["messages"] if m.type == "tool") == 3


def test_the_last_answer_of_a_claude_keeps_the_tools_and_chooses_none(call: Caller) -> None:
    def reply(request: Request) -> Reply:
        if request.body.get("tool_choice") == {"type": "none"}:
            return Reply("that is all I have")
        return Reply(tool_calls=[("look_up", {"key": f"thing {len(request.body['messages'])}"})])

    with FakeProvider(reply) as provider:
        guard = CostGuard(Budget(usd="0.01", reserve="0.006"), prices=CLAUDE)
        agent = create_agent(provider.anthropic(), [look_up], middleware=steer(guard, loops=None))
        state = call(agent, GO)
        assert state["messages"][-1].text == "that is all I have"
        assert provider.requests[-1].tools
        assert provider.requests[-1].body["max_tokens"] < 64_000, "it asks for what the reserve affords"
        assert balanced(guard, provider, input_price=3_000, output_price=15_000)


def test_a_model_that_calls_a_tool_with_its_last_cent_is_not_listened_to(call: Caller) -> None:
    def reply(request: Request) -> Reply:
        return Reply("Let me see.", tool_calls=[("look_up", {"key": f"thing {len(request.body['messages'])}"})])

    with FakeProvider(reply) as provider:
        guard = CostGuard(Budget(usd="0.01", reserve="0.006"), prices=PRICES)
        agent = create_agent(provider.openai(max_tokens=50), [look_up], middleware=steer(guard, loops=None))
        state = call(agent, GO)
        assert state["messages"][-1].text == "Let me see."
        assert valid(state["messages"])


# What others raise


class BrokenError(Exception):
    """A bug in somebody's tool."""


@pytest.mark.parametrize("where", ["tool", "model"])
def test_an_exception_of_somebody_else_passes_unchanged(call: Caller, where: str) -> None:
    raised: list[BaseException] = []

    @tool
    def broken(key: str) -> str:
        """Break."""
        raised.append(BrokenError(key))
        raise raised[0]

    status = 200 if where == "tool" else 400
    with FakeProvider(Reply(tool_calls=[("broken", {"key": "x"})], status=status)) as provider:
        guard = CostGuard(Budget(usd="1.00"), prices=PRICES)
        agent = create_agent(provider.openai(), [broken], middleware=steer(guard))
        with pytest.raises(Exception, match=r"x|Error code: 400") as caught:
            call(agent, GO)
        assert len(provider.requests) == 1
        if where == "tool":
            assert caught.value is raised[0]
        assert balanced(guard, provider)


def test_an_interrupt_in_a_tool_is_no_failure_and_goes_through(call: Caller) -> None:
    @tool
    def ask_someone(question: str) -> str:
        """Ask a person."""
        return str(interrupt(question))

    with FakeProvider([Reply(tool_calls=[("ask_someone", {"question": "why?"})]), Reply("thanks")]) as provider:
        guard = CostGuard(prices=PRICES)
        steering = steer(guard, breaker=Breaker(failures=1))
        agent = create_agent(provider.openai(), [ask_someone], middleware=steering, checkpointer=InMemorySaver())
        paused = call(agent, GO, THREAD)
        assert paused["__interrupt__"][0].value == "why?"
        state = call(agent, Command(resume="because"), THREAD)
        assert state["messages"][-1].text == "thanks"
        assert not guard.report().actions.times("CircuitOpened")


def test_a_loop_may_raise(call: Caller) -> None:
    with FakeProvider(stuck_in_a_loop()) as provider:
        guard = CostGuard(prices=PRICES)
        agent = create_agent(provider.openai(), [look_up], middleware=steer(guard, on_loop=("nudge", "raise")))
        with pytest.raises(StuckLoopError) as caught:
            call(agent, GO)
        assert caught.value.tool == "look_up"
        assert balanced(guard, provider)


# People


def test_two_budgets_are_asked_about_one_after_the_other_and_each_is_given_once(call: Caller, tmp_path: Path) -> None:
    with FakeProvider("done") as provider:
        budgets = Budget(usd="0.000001"), Budget(per="agent", tokens=1)
        guard = CostGuard(*budgets, prices=PRICES, store=SQLiteStore(tmp_path / "b.db"))
        saver = InMemorySaver()

        def agent() -> Any:
            steering = steer(guard, on_exceeded="interrupt")
            return create_agent(provider.openai(max_tokens=20), [look_up], middleware=steering, checkpointer=saver)

        first = call(agent(), GO, THREAD)["__interrupt__"][0].value
        assert first["measure"] == "usd"
        second = call(agent(), Command(resume={"approve": True, "add_usd": "0.50"}), THREAD)["__interrupt__"][0].value
        assert second["measure"] == "tokens"
        state = call(agent(), Command(resume={"approve": True, "add_tokens": 5_000}), THREAD)
        assert state["messages"][-1].text == "done"
        assert guard.report().actions.times("Granted") == 2
        assert len(provider.requests) == 1


def test_an_answer_that_makes_no_sense_is_asked_for_again(call: Caller) -> None:
    with FakeProvider("done") as provider:
        guard = CostGuard(Budget(usd="0.000001"), prices=PRICES)
        steering = steer(guard, on_exceeded="interrupt")
        agent = create_agent(provider.openai(), [look_up], middleware=steering, checkpointer=InMemorySaver())
        call(agent, GO, THREAD)
        yes = {"approve": True}
        for nonsense in ("sure", {"approve": "yes"}, {**yes, "add_money": 1}, {**yes, "add_usd": -1}):
            paused = call(agent, Command(resume=nonsense), THREAD)
            assert paused["__interrupt__"][0].value["error"]
        state = call(agent, Command(resume={"approve": True, "add_usd": "1"}), THREAD)
        assert state["messages"][-1].text == "done"


def test_a_question_asks_for_what_the_call_needs_and_after_a_grant_for_what_is_missing_then(call: Caller) -> None:
    with FakeProvider(searching()) as provider:
        guard = CostGuard(Budget(usd="0.0002"), prices=PRICES)
        steering = steer(guard, on_exceeded="interrupt", loops=None)
        agent = create_agent(provider.openai(), [look_up], middleware=steering, checkpointer=InMemorySaver())
        first = call(agent, GO, THREAD)["__interrupt__"][0].value
        assert first["spent"] == "0"
        assert float(first["asked_for"]) < 0.01, "not for all the tokens the model could give"
        second = call(agent, Command(resume={"approve": True, "add_usd": "0.01"}), THREAD)["__interrupt__"][0].value
        assert float(second["spent"]) > 0
        assert second["cap"] == "0.0102"


def test_a_grant_from_elsewhere_is_found_when_told_to_look_again(call: Caller, tmp_path: Path) -> None:
    with FakeProvider("done") as provider:
        store = SQLiteStore(tmp_path / "b.db")
        guard = CostGuard(Budget(usd="0.000001"), prices=PRICES, store=store, session="s1")
        steering = steer(guard, on_exceeded="interrupt")
        agent = create_agent(
            provider.openai(max_tokens=20), [look_up], middleware=steering, checkpointer=InMemorySaver()
        )
        call(agent, GO, THREAD)
        again: Any = Command(resume={"approve": True, "add_usd": 0})
        assert call(agent, again, THREAD)["__interrupt__"], "nothing has changed"
        CostGuard(Budget(usd="0.000001"), store=store).grant("session", usd="1.00", scope=Scope(session="t1"))
        assert call(agent, again, THREAD)["messages"][-1].text == "done"
        assert not guard.report().actions.times("Granted")


def test_tools_called_at_once_are_each_asked_about(call: Caller) -> None:
    sent: list[str] = []

    @tool
    def send_email(to: str) -> str:
        """Send an e-mail."""
        sent.append(to)
        return f"sent to {to}"

    many = [("send_email", {"to": name}) for name in ("ann", "bob", "cy")]
    with FakeProvider([Reply(tool_calls=many), Reply("done")]) as provider:
        guard = CostGuard(prices=PRICES, tool_prices={"send_email": "0.01"})
        steering = steer(guard, approve_tools=lambda request, price: bool(price) and request["args"]["to"] != "cy")
        agent = create_agent(provider.openai(), [send_email], middleware=steering, checkpointer=InMemorySaver())
        paused = call(agent, GO, THREAD)["__interrupt__"]
        assert sent == ["cy"]
        prices = {pause.value["args"]["to"]: pause.value["price_usd"] for pause in paused}
        assert prices == {"ann": "0.01", "bob": "0.01"}
        by_name = {pause.value["args"]["to"]: pause.id for pause in paused}
        answers = {by_name["ann"]: {"approve": True, "args": {"to": "eve"}}, by_name["bob"]: {"approve": False}}
        state = call(agent, Command(resume=answers), THREAD)
        assert sorted(sent) == ["cy", "eve"]
        assert valid(state["messages"])
        assert guard.report().total.tool_calls == 2


# The money


def test_the_order_of_middleware_does_not_matter_to_the_money(call: Caller) -> None:
    def reply(request: Request) -> Reply:
        text = str(request.body["messages"])
        if request.tools and len(provider.requests) % 3 == 2:  # the summarizer's own retries take a second each
            return Reply(status=503)
        if not request.tools:
            return Reply("a summary" if "summar" in text.lower() else "the sub-agent's answer")
        asked.append(text)
        return Reply("done") if len(asked) > 3 else Reply(tool_calls=[("delegate", {"question": f"no. {len(asked)}"})])

    asked: list[str] = []
    with FakeProvider(reply) as provider:
        for order in (0, 1, 2):
            asked.clear()
            guard = CostGuard(Budget(usd="5.00"), prices=PRICES)
            model = provider.openai(max_retries=0)
            inner = create_agent(model, [], middleware=steer(guard, retry=Retry(base=0.001)), name="inner")

            @tool
            def delegate(question: str, inner: Any = inner) -> str:
                """Ask a sub-agent."""
                return str(inner.invoke({"messages": [("user", question)]})["messages"][-1].text)

            others = [
                ModelRetryMiddleware(max_retries=3, initial_delay=0.001, jitter=False),
                SummarizationMiddleware(model, trigger=("messages", 4), keep=("messages", 2)),
            ]
            steering = list(steer(guard, retry=Retry(base=0.001) if order else None))
            middleware = [*others[:order], *steering, *others[order:]]
            agent = create_agent(model, [delegate], middleware=middleware)
            before = provider.usage()
            state = call(agent, GO, {"callbacks": [guard]})
            after = provider.usage()
            assert state["messages"][-1].text == "done"
            spent = (after.input_tokens - before.input_tokens) * 2_500
            spent += (after.output_tokens - before.output_tokens) * 10_000
            assert guard.report().total.spent == spent


def test_a_fallback_of_somebody_else_is_metered_and_admitted(call: Caller) -> None:
    with FakeProvider([Reply(status=500), Reply("from the spare")]) as provider:
        guard = CostGuard(Budget(usd="1.00"), prices=PRICES)
        spare = ModelFallbackMiddleware(provider.openai(max_retries=0))
        model = provider.openai(max_retries=0)
        agent = create_agent(model, [look_up], middleware=[*steer(guard, retry=None), spare])
        assert call(agent, GO)["messages"][-1].text == "from the spare"
        assert balanced(guard, provider)


def test_the_guard_meters_tools_and_models_in_them_without_a_callback(call: Caller) -> None:
    with FakeProvider([Reply(tool_calls=[("ask", {"question": "x"})]), Reply("inside"), Reply("done")]) as provider:

        @tool
        def ask(question: str) -> str:
            """Ask another model."""
            return str(provider.openai().invoke(question).text)

        guard = CostGuard(Budget(usd="1.00"), prices=PRICES, tool_prices={"ask": "0.01"})
        agent = create_agent(provider.openai(), [ask], middleware=steer(guard))
        call(agent, GO)
        served = provider.usage()
        assert guard.report().total.calls == 3
        assert guard.report().total.spent == served.input_tokens * 2_500 + served.output_tokens * 10_000 + 10_000_000


# Cancellation


def test_a_cancelled_run_releases_what_it_held() -> None:
    async def run() -> None:
        agent = create_agent(provider.openai(), [look_up], middleware=steering)
        task = asyncio.create_task(agent.ainvoke(GO))
        await asyncio.to_thread(provider.wait_for_requests, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with FakeProvider(Reply("late", delay=30)) as provider:
        guard = CostGuard(Budget(usd="1.00"), prices=PRICES)
        steering = steer(guard)
        asyncio.run(run())
        assert not guard.meter.open_calls
        assert all(room.held == 0 for room in guard.headroom().rows)


def test_a_run_cancelled_while_it_waits_for_another_try_is_over_at_once() -> None:
    async def run() -> None:
        agent = create_agent(provider.openai(max_retries=0), [look_up], middleware=steering)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(agent.ainvoke(GO), timeout=0.5)

    with FakeProvider(Reply(status=429, retry_after=20)) as provider:
        guard = CostGuard(Budget(usd="1.00"), prices=PRICES)
        steering = steer(guard, retry=Retry(most=60))
        asyncio.run(run())
        assert len(provider.requests) == 1
        assert guard.report().total.spent == 0


# Set-up


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("breaker", 5),
        ("retry", "often"),
        ("loops", True),
        ("on_loop", "nudge"),
        ("on_loop", ("shout",)),
        ("on_exceeded", "explode"),
        ("approve_tools", "send_email"),
        ("guardrails", [3]),
        ("throttle_at", 1.5),
        ("usd_per_minute", 0.5),
    ],
)
def test_bad_configuration_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        steer(CostGuard(), **{field: value})


def test_steering_goes_with_other_middleware_on_either_side(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(prices=PRICES)
    retry = ModelRetryMiddleware()
    for middleware in ([retry] + steer(guard), steer(guard) + [retry], [retry, *steer(guard)], steer(guard)):  # noqa: RUF005
        assert call(create_agent(provider.openai(), [look_up], middleware=middleware), GO)["messages"][-1].text


def test_a_refusal_that_steering_answers_is_no_error_in_the_log(call: Caller, caplog: Any) -> None:
    caplog.set_level("WARNING")
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.WARNING)
    with FakeProvider(searching()) as provider:
        guard = CostGuard(Budget(tool_calls=1), prices=PRICES)
        agent = create_agent(provider.openai(max_retries=0), [look_up], middleware=steer(guard, loops=None))
        call(agent, GO, {"callbacks": [guard]})
    assert "Error in" not in caplog.text


def test_events_say_who_and_what_and_no_prompt_text(call: Caller) -> None:
    recorder = Recorder()
    with FakeProvider(stuck_in_a_loop()) as provider:
        guard = CostGuard(prices=PRICES, sinks=[recorder])
        agent = create_agent(provider.openai(), [look_up], middleware=steer(guard), name="research")
        call(agent, {"messages": [HumanMessage("a secret question")]}, {"metadata": {"user": "u1"}})
    steered = [event for event in recorder.events if hasattr(event, "why")]
    assert {type(event).__name__ for event in steered} == {"LoopDetected", "EndedEarly"}
    assert all(event.scope.agent == "research" and event.scope.user == "u1" for event in steered)
    assert "secret" not in str(steered)
    assert "the same again" not in str(steered)


def test_a_reply_of_ours_is_known_by_its_metadata(call: Caller) -> None:
    with FakeProvider(searching()) as provider:
        guard = CostGuard(Budget(usd="0.0001"), prices=PRICES)
        agent = create_agent(provider.openai(max_tokens=20), [look_up], middleware=steer(guard))
        last = call(agent, GO)["messages"][-1]
        assert isinstance(last, AIMessage)
        assert last.response_metadata["costguard"]["ended"] == "BudgetExceededError"
        assert last.response_metadata["costguard"]["budget"] == "session"
