"""Who may start, and what is said to who may not: at the unit where it changes, and in full."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.config import var_child_runnable_config

from langchain_costguard import (
    AgentHaltedError,
    Budget,
    BudgetExceededError,
    CostGuard,
    KillSwitch,
    MemoryStore,
    StoreUnavailableError,
    UnpricedModelError,
    UntaggedError,
)
from langchain_costguard.metering import admission
from langchain_costguard.metering.admission import last_call, spending_reserve
from langchain_costguard.metering.stores import Claim, StoreError
from langchain_costguard.testing import ManualClock, ScriptedChatModel
from langchain_costguard.vocabulary.scope import Scope
from tests.metering.stories import PRICES, Told

ASSUMED = " 10 output tokens are assumed, as no most is stated: set max_tokens."
ADVICE = (
    " Its output may be 53 tokens long: ask for less with max_tokens, or use guard.wrap(model), which asks for what is "
    "affordable."
)


def refusal(told: Told, start: Callable[[], object]) -> str:
    """What is said to who does not fit; nothing where it does."""
    try:
        start()
    except BudgetExceededError as error:
        return str(error).partition(": ")[2]
    return ""


@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize(
    ("cap", "most", "others", "said"),
    [
        (9, None, 0, f"it may take 10 output tokens, and 9 of 9 is left.{ASSUMED}"),
        (10, None, 0, ""),
        (9, 53, 0, "it may take 53 output tokens, and 9 of 9 is left."),
        (10, 53, 0, f"it may take 53 output tokens, and 10 of 10 is left.{ADVICE}"),
        (52, 53, 0, f"it may take 53 output tokens, and 52 of 52 is left.{ADVICE}"),
        (53, 53, 0, ""),
        (53, 53, 1, "it may take 53 output tokens, and 52 of 53 is left (1 is held by calls under way)."),
        (54, 53, 2, "it may take 53 output tokens, and 52 of 54 is left (2 is held by calls under way)."),
    ],
)
def test_what_does_not_fit_is_told_what_would(cap: int, most: Any, others: int, said: str, listening: bool) -> None:
    told = Told(Budget(per="all", output_tokens=cap), listening=listening, assume_output_tokens=10)
    if others:
        told.model(7, others)
    assert refusal(told, lambda: told.model(7, most)) == said
    assert told.guard.report().total.refused == bool(said)


@pytest.mark.parametrize("thinks", [42, 43, 44])
def test_a_reply_without_a_most_must_have_room_for_its_thoughts(thinks: int) -> None:
    told = Told(Budget(per="all", output_tokens=53), assume_output_tokens=10)
    thinking = {"type": "enabled", "budget_tokens": thinks}
    said = refusal(told, lambda: told.model(7, None, params={"thinking": thinking}))
    assert said == ("" if thinks < 44 else f"it may take 54 output tokens, and 53 of 53 is left.{ASSUMED}")


@pytest.mark.parametrize("listening", [False, True])
def test_what_is_kept_back_is_for_a_last_call_alone(listening: bool) -> None:
    told = Told(Budget(per="all", usd="0.01", reserve="50%"), listening=listening)
    told.guard.store.settle([Claim("all|usd", 10**7, 0)], [0], [4_900_000], until=0, now=told.clock())
    assert told.guard.would_refuse(usd="0.0001") is None
    refused = told.guard.would_refuse(usd="0.000100001")
    assert str(refused).partition(": ")[2] == (
        "it may take $0.0001000, and $0.0001000 of $0.0100 is left. $0.0050000 more is kept back for a last answer."
    )
    for start in (lambda: told.model(40, 1), lambda: told.tool("cheap")):
        assert "$0.0050000 more is kept back" in refusal(told, start)
        with spending_reserve(False):
            assert not last_call.get()
            assert refusal(told, start)
        with spending_reserve():
            assert not refusal(told, start)


@pytest.mark.parametrize("policy", ["refuse", "warn"])
def test_a_call_says_who_spends_or_is_told_of(policy: Any, caplog: pytest.LogCaptureFixture) -> None:
    told = Told(require=("user", "feature", "task"), untagged=policy)
    said = (
        "Refused a call to mine: it does not say its user and task. "
        'Make it inside guard.scope(user="...", task="..."), or say so in its metadata.'
    )
    with caplog.at_level(logging.WARNING, "langchain_costguard"):
        for _ in range(2):
            if policy == "refuse":
                with pytest.raises(UntaggedError) as refused:
                    told.model(feature="search")
                assert str(refused.value) == said
            else:
                told.model(feature="search")
        with told.guard.scope(user="u", task="t", feature="f"):
            told.model()
    assert caplog.messages == ([f"{said} (said once)"] if policy == "warn" else [])
    started = [line for line in told.lines if line.startswith("CallStarted")]
    assert len(started) == (3 if policy == "warn" else 1)


def test_what_would_be_refused_is_said_of_who_asks_and_of_what_was_dearest() -> None:
    told = Told(Budget(per="user", usd="0.01"), Budget(per="step", model_calls=1))
    guard = told.guard
    told.end(told.model(user="u"), 1487, 41)  # held 5,034,742, and cost 4,132,179
    assert guard.would_refuse(Scope(user="u", session="s")) is None
    told.end(told.model(1501, user="u"), 1301, 1)
    refused = guard.would_refuse(Scope(user="u", session="s"))
    assert refused is not None
    assert str(refused) == (
        "Budget 'user' refused the next model call: it may take $0.0050347, and $0.0026013 of $0.0100 is left (user=u)."
    )
    assert refused.facts["kind"] == "model"
    assert guard.would_refuse(Scope(user="u", session="another")) is None
    assert guard.would_refuse(Scope(user="v", session="s")) is None
    assert guard.would_refuse() is None
    with guard.scope(user="u"):
        assert guard.would_refuse() is not None
    with pytest.raises(ValueError, match="usd"):
        guard.would_refuse(usd="much")
    assert next(line for line in told.lines if line.startswith("Refused")).startswith("Refused scope=u, run_id=")


class Away(MemoryStore):
    """A store that does not answer."""

    def reserve(self, *args: Any, **kwargs: Any) -> Any:
        raise StoreError("away")


def test_where_the_store_does_not_answer_nothing_starts() -> None:
    told = Told(Budget(per="user", usd="1", tool_calls=9, steps=9), store=Away())
    node = {"langgraph_node": "ask", "langgraph_checkpoint_ns": "ask:1"}
    for start in (
        told.model,
        lambda: told.tool("search"),
        lambda: told.chain(tags=["graph:step:1"], metadata=node, name="ask"),
        told.guard.would_refuse,
        lambda: told.guard.wrap(ScriptedChatModel(max_tokens=5)).invoke("7"),
    ):
        with pytest.raises(StoreUnavailableError, match=r"Refused: away \(Away\)\. Budgets cannot be checked"):
            start()
    assert [line.partition(" ")[0] for line in told.lines] == ["Refused"] * 5


def test_a_run_that_is_told_of_twice_starts_once() -> None:
    told = Told()
    run_id = told.model()
    said = {"ls_provider": "openai", "ls_model_name": "mine", "ls_max_tokens": 53}
    told.guard.on_chat_model_start({}, [[HumanMessage("1501")]], run_id=run_id, metadata=said)
    told.guard.on_tool_start({}, "x", run_id=run_id, name="search")
    assert [line.partition(" ")[0] for line in told.lines] == ["CallStarted"]
    assert told.guard.report().total.calls == 0


@pytest.mark.parametrize("listening", [False, True])
def test_a_call_is_a_trace_of_its_own_where_nothing_is_around_it(listening: bool) -> None:
    told = Told(Budget(per="trace", model_calls=1, tool_calls=1), listening=listening)
    for _ in range(2):
        told.end(told.model(), 1487, 41)
        told.guard.on_tool_end("found", run_id=told.tool("search"))
    parent = told.chain()
    told.end(told.model(parent=parent), 1487, 41)
    told.guard.on_tool_end("found", run_id=told.tool("search", parent))
    for start in (lambda: told.model(parent=parent), lambda: told.tool("search", parent)):
        assert "and 0 of 1 is left" in refusal(told, start)

    def within(_: object) -> None:
        told.end(told.model(), 1487, 41)
        told.guard.on_tool_end("found", run_id=told.tool("search"))
        assert "0 of 1 is left" in refusal(told, told.model)
        assert "0 of 1 is left" in refusal(told, lambda: told.tool("search"))

    RunnableLambda(within).invoke("", {"callbacks": [told.guard]})
    with told.guard.scope(trace="request-1"):
        told.end(told.model(), 1487, 41)
        assert "0 of 1 is left" in refusal(told, told.model)


@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize("config", [None, {}])
def test_what_is_a_trace_of_its_own_needs_no_account_for_it(config: Any, listening: bool) -> None:
    told = Told(Budget(per="trace", usd="0.01"), listening=listening)
    told.end(told.model(), 1487, 41)
    token = var_child_runnable_config.set(config)
    starts: list[Callable[[], object]] = [lambda: told.model(most=5301), lambda: told.tool("search")]
    for start in starts:
        with pytest.raises(BudgetExceededError) as refused:
            start()
        assert refused.value.account == ""
    var_child_runnable_config.reset(token)
    assert list(told.guard.store.scan(now=told.clock())) == []


def test_a_call_that_is_not_made_says_what_it_would_take_or_that_nobody_knows() -> None:
    quote = CostGuard(prices=PRICES, token_counter=lambda messages: 1501).estimate
    found = quote(ScriptedChatModel(model="mine", max_tokens=53), "hello", output_tokens=41)
    assert [f"{amount:f}" for amount in found[:3]] == ["0.003757153", "0.004167223", "0.005034742"]
    assert found[3:] == (1501, 41, "openai:mine", "set by the user: prices['mine']", False)
    with pytest.raises(UnpricedModelError, match="Refused a call to openai:unheard-of: the price of openai:unheard-of"):
        CostGuard(unpriced="refuse").estimate("openai:unheard-of", "hello")


# Steps


NODE = {"langgraph_node": "ask", "langgraph_checkpoint_ns": "agent:1|ask:2"}
TAGS = ["graph:step:1"]


def test_a_step_is_counted_once_and_refused_to_each_of_its_flows() -> None:
    told = Told(Budget(per="all", steps=1))
    steps, scope = told.guard.admission, Scope(session="s", step="ask", trace="t")
    told.guard.deferrals.steer("agent:1|ask:9")
    assert steps.count_step(NODE, scope) is steps.count_step(NODE, scope) is None
    spent = told.guard.store.read(["all|steps"], now=told.clock())[0].spent
    assert spent == 1
    other = {**NODE, "langgraph_checkpoint_ns": "agent:1|ask:3"}
    refused = steps.count_step(other, scope)
    assert str(refused) == "Budget 'all' refused step ask: it may take 1 step, and 0 of 1 is left."
    assert told.guard.deferrals.take("agent:1|ask:3") is refused
    assert steps.count_step(other, scope) is None
    assert steps.count_step(NODE, scope, again=True) is None  # it was not refused
    told.guard.grant("all", steps=1)
    assert steps.count_step(other, scope, again=True) is None
    assert told.guard.deferrals.take("agent:1|ask:3") is None
    assert steps.count_step({}, scope) is not None  # outside of any graph, all are one
    assert steps.count_step({}, scope) is None


@pytest.mark.parametrize(
    ("tags", "error", "path", "kept"),
    [
        (TAGS, BudgetExceededError, "agent:1|ask:2", True),
        (TAGS, RuntimeError, "agent:1|ask:2", False),
        (["seq:step:1"], BudgetExceededError, "agent:1|ask:2", False),
        (None, BudgetExceededError, "agent:1|ask:2", False),
        (TAGS, BudgetExceededError, "another:1|ask:2", False),
        (TAGS, BudgetExceededError, None, False),
    ],
)
def test_a_refused_step_is_kept_for_the_steering_inside_it(tags: Any, error: Any, path: Any, kept: bool) -> None:
    told = Told(Budget(per="all", steps=1))
    told.guard.deferrals.steer("agent:1|ask:9")
    facts = dict.fromkeys(("budget", "measure", "scope", "needed", "left", "by_holds"), "")
    raised = error("no", **facts) if error is BudgetExceededError else error("no")
    metadata: dict[str, Any] = {"langgraph_checkpoint_ns": path} if path else {}
    assert told.guard.admission.defer(metadata, tags, "t", raised) == kept
    assert (told.guard.deferrals.take(path or "") is raised) == kept
    starts: list[Callable[[], object]] = [lambda: told.model(**metadata), lambda: told.tool("search", **metadata)]
    for start in starts:
        if kept:
            with pytest.raises(BudgetExceededError) as refused:
                start()
            assert refused.value is raised
        else:
            start()


@pytest.mark.parametrize("listening", [False, True])
def test_who_is_halted_stays_so_whoever_else_is_revived(listening: bool) -> None:
    said: list[Any] = []
    switch = KillSwitch(lambda: said[-1] if said else None, clock=ManualClock())
    for told in (Told(listening=listening), Told(listening=listening, switch=switch)):
        guard, switched = told.guard, told.guard.brake.armed
        for agent in ("a", "b"):
            guard.kill(agent, "enough")
        guard.revive("a")
        told.end(told.model(agent="a"), 1487, 41)
        with pytest.raises(AgentHaltedError, match="Refused a call to mine: agent 'b' is halted: enough"):
            told.model(agent="b")
        guard.revive("b")
        told.end(told.model(agent="b"), 1487, 41)
        assert guard.brake.armed == switched
    said.append("all of it")
    switch.expire()
    with pytest.raises(AgentHaltedError, match="all agents are halted: all of it"):
        told.model()


def test_what_is_asked_is_noted_for_whoever_wants_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[UUID] = []
    monkeypatch.setattr(admission, "asked", lambda call, *_: noted.append(call.run_id))
    wanting: list[str] = []
    monkeypatch.setattr(admission, "listeners", wanting)
    told = Told()
    told.model()
    wanting.append("a cache")
    run_id = told.model()
    assert noted == [run_id]
