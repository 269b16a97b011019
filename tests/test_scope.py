"""Who is spending is found wherever the host says it, and budgets of different scopes are kept apart."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from threading import Thread
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import pytest
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Send
from pydantic import BaseModel
from typing_extensions import TypedDict

from langchain_costguard import Budget, BudgetExceededError, CostGuard, Scope
from langchain_costguard.events import CallSettled
from langchain_costguard.testing import FakeProvider, Recorder, Reply, ScriptedChatModel
from tests.conftest import PRICES, Caller

QUESTION: Any = {"messages": [("user", "hi")]}


@pytest.fixture
def seen() -> Iterator[Recorder]:
    return Recorder()


@pytest.fixture
def guard(seen: Recorder) -> CostGuard:
    return CostGuard(prices=PRICES, sinks=[seen], session="of-the-guard")


@pytest.fixture
def model() -> ScriptedChatModel:
    return ScriptedChatModel(usage=(1, 1), max_tokens=1)


def last(seen: Recorder) -> Scope:
    return seen.of(CallSettled)[-1].scope


def graph(model: Any, *, node: str = "ask", context: Any = None, **compiled: Any) -> Any:
    builder: Any = StateGraph(MessagesState, context_schema=context) if context else StateGraph(MessagesState)
    builder.add_node(
        node,
        RunnableLambda(
            lambda state: {"messages": [model.invoke(state["messages"])]},
            afunc=lambda state: _aask(model, state),
        ),
    )
    builder.add_edge(START, node)
    return builder.compile(**compiled)


async def _aask(model: Any, state: Any) -> Any:
    return {"messages": [await model.ainvoke(state["messages"])]}


# Each source


def test_a_call_of_nobody_belongs_to_the_guards_own_session(
    call: Caller, guard: CostGuard, model: Any, seen: Recorder
) -> None:
    call(model, "hi", {"callbacks": [guard]})
    scope = last(seen)
    assert scope._replace(trace="") == Scope(session="of-the-guard", model="gpt-4o")
    assert CostGuard().session != CostGuard().session


def test_guard_scope_says_it_for_everything_inside(call: Caller, guard: CostGuard, model: Any, seen: Recorder) -> None:
    config: Any = {"callbacks": [guard]}
    with guard.scope(user="u1", feature="search", task="t1", session="s1", agent="a1"):
        call(model, "hi", config)
        assert last(seen)[:6] == ("u1", "s1", "a1", "", "search", "t1")
        with guard.scope(user="u2"):
            call(graph(model), QUESTION, config)
            assert last(seen)[:6] == ("u2", "s1", "a1", "ask", "search", "t1")
        call(model, "hi", config)
        assert last(seen).user == "u1"
    call(model, "hi", config)
    assert last(seen)[:6] == ("", "of-the-guard", "", "", "", "")


@pytest.mark.parametrize(
    "tags", [{"team": "x"}, {"user": ""}, {"user": None}, {"user": True}, {"user": 1.5}, {"step": "x"}]
)
def test_a_tag_that_says_nothing_is_refused(tags: Any, guard: CostGuard) -> None:
    with pytest.raises(ValueError, match=f"scope: .*{next(iter(tags))}"), guard.scope(**tags):
        pass


def test_tasks_and_copied_contexts_inherit_the_scope_and_bare_threads_do_not(
    guard: CostGuard, model: Any, seen: Recorder
) -> None:
    config: Any = {"callbacks": [guard]}

    async def one(user: str) -> None:
        with guard.scope(user=user):
            await asyncio.sleep(0)
            await asyncio.create_task(model.ainvoke("hi", config))

    async def crowd() -> None:
        await asyncio.gather(*(one(f"u{i}") for i in range(20)))

    asyncio.run(crowd())
    assert sorted(event.scope.user for event in seen.of(CallSettled)) == sorted(f"u{i}" for i in range(20))
    with guard.scope(user="mine"):
        threads = [
            Thread(target=copy_context().run, args=(model.invoke, "hi", config)),
            Thread(target=model.invoke, args=("hi", config)),
        ]
        for thread in threads:
            thread.start()
            thread.join()
        model.batch(["hi"] * 3, config)
    assert [event.scope.user for event in seen.of(CallSettled)[20:]] == ["mine", "", "mine", "mine", "mine"]


def test_threads_have_scopes_of_their_own(guard: CostGuard, model: Any, seen: Recorder) -> None:
    def work(user: str) -> None:
        with guard.scope(user=user):
            model.invoke("hi", {"callbacks": [guard]})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, (f"u{i}" for i in range(50))))
    assert len({event.scope.user for event in seen.of(CallSettled)}) == 50


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [
        ({"user_id": "u1", "session_id": "s1"}, {"user": "u1", "session": "s1"}),
        ({"user": "u1", "session": "s1", "feature": "f", "task": "t", "agent": "a"}, {"user": "u1", "feature": "f"}),
        ({"costguard_user": "u1", "user_id": "u2", "user": "u3"}, {"user": "u1"}),
        ({"user_id": "u2", "user": "u3"}, {"user": "u2"}),
        ({"costguard_session": "s1", "session_id": "s2", "thread_id": "s3"}, {"session": "s1"}),
        ({"costguard_feature": "f", "costguard_task": "t", "costguard_agent": "a"}, {"feature": "f", "task": "t"}),
        ({"thread_id": "t1"}, {"session": "t1"}),
        ({"thread_id": 7, "user_id": 42}, {"session": "7", "user": "42"}),
        ({"user_id": UUID(int=5)}, {"user": str(UUID(int=5))}),
        ({"costguard_user": "", "user_id": "u1"}, {"user": "u1"}),
        ({"user_id": None, "session_id": None}, {"user": "", "session": "of-the-guard"}),
        ({"session": object(), "user": ["u1"], "task": {"a": 1}}, {"session": "of-the-guard", "user": "", "task": ""}),
        ({"user": True}, {"user": ""}),
    ],
)
def test_metadata_says_it(
    metadata: Any, wanted: dict[str, str], call: Caller, guard: CostGuard, model: Any, seen: Recorder
) -> None:
    call(model, "hi", {"callbacks": [guard], "metadata": metadata})
    assert {name: getattr(last(seen), name) for name in wanted} == wanted


def test_a_models_own_metadata_says_it(call: Caller, guard: CostGuard, model: Any, seen: Recorder) -> None:
    own = model.model_copy(update={"metadata": {"costguard_feature": "titles"}, "tags": ["task:t1"]})
    call(own, "hi", {"callbacks": [guard]})
    assert (last(seen).feature, last(seen).task) == ("titles", "t1")


def test_a_graphs_configurable_says_it(call: Caller, guard: CostGuard, model: Any, seen: Recorder) -> None:
    told: Any = {"user_id": "u1", "thread_id": "t1", "costguard_feature": "f", "task": "t"}
    call(graph(model), QUESTION, {"callbacks": [guard], "configurable": told})
    assert last(seen)._replace(trace="", agent="") == Scope("u1", "t1", "", "ask", "f", "t", "", "gpt-4o")


def test_the_session_a_graph_is_told_wins_over_its_thread(
    call: Caller, guard: CostGuard, model: Any, seen: Recorder
) -> None:
    told = {"session_id": "s1", "thread_id": "t1"}
    call(graph(model), QUESTION, {"callbacks": [guard], "configurable": told})
    assert last(seen).session == "s1"


@dataclass
class DataContext:
    user_id: str
    session: Any = None


@dataclass(slots=True)
class BaseSlots:
    user_id: str


@dataclass(slots=True)
class SlotContext(BaseSlots):
    session: Any = None


class TupleContext(NamedTuple):
    user_id: str
    session: Any = None


class ModelContext(BaseModel):
    user_id: str
    session: Any = None


class DictContext(TypedDict, total=False):
    user_id: str
    session: Any


CONTEXTS: list[tuple[Any, Any]] = [
    (kind, kind(user_id="u1", session=object()))
    for kind in (DataContext, SlotContext, TupleContext, ModelContext, DictContext)
]


@pytest.mark.parametrize(("kind", "context"), CONTEXTS, ids=[kind.__name__ for kind, _ in CONTEXTS])
def test_a_graphs_runtime_context_says_it(
    kind: Any, context: Any, call: Caller, guard: CostGuard, model: Any, seen: Recorder
) -> None:
    call(graph(model, context=kind), QUESTION, {"callbacks": [guard]}, context=context)
    # What is no text, such as a database's session, names nobody.
    assert (last(seen).user, last(seen).session) == ("u1", "of-the-guard")


def test_the_name_of_an_agent_and_its_node_are_known(
    call: Caller, guard: CostGuard, model: Any, seen: Recorder
) -> None:
    call(create_agent(model, [], name="research"), QUESTION, {"callbacks": [guard]})
    assert (last(seen).agent, last(seen).step) == ("research", "model")


def test_the_outermost_node_stands_in_for_an_agent_without_a_name(
    call: Caller, guard: CostGuard, model: Any, seen: Recorder
) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("research", graph(model, node="think"))
    builder.add_edge(START, "research")
    call(builder.compile(), QUESTION, {"callbacks": [guard]})
    assert (last(seen).agent, last(seen).step) == ("research", "think")
    call(builder.compile(), QUESTION, {"callbacks": [guard], "tags": ["agent:tagged"]})
    assert last(seen).agent == "tagged"


@pytest.mark.parametrize("name", ["user", "session", "agent", "feature", "task"])
def test_tags_say_it(name: str, call: Caller, guard: CostGuard, model: Any, seen: Recorder) -> None:
    call(model, "hi", {"callbacks": [guard], "tags": ["other", f"{name}:a:b", f"{name}:second"]})
    assert getattr(last(seen), name) == "a:b"


def test_a_tools_scope_is_that_of_its_agent(call: Caller, guard: CostGuard) -> None:
    @tool
    def search(q: str) -> str:
        """Search."""
        return "found"

    with FakeProvider([Reply(tool_calls=[("search", {"q": "x"})]), "done"]) as provider:
        agent = create_agent(provider.openai(), [search], name="research")
        told: Any = {"user_id": "u1", "thread_id": "t1"}
        call(agent, QUESTION, {"callbacks": [guard], "configurable": told})
    rows = guard.report().by("agent", "step", "user", "session").rows
    assert {scope: (tally.calls, tally.tool_calls) for scope, tally in rows} == {
        ("research", "model", "u1", "t1"): (2, 0),
        ("research", "tools", "u1", "t1"): (0, 1),
    }


# Which one wins


def test_the_order_of_the_sources(call: Caller, guard: CostGuard, model: Any, seen: Recorder) -> None:
    """One source after the other is taken away, and each time the next one speaks."""
    asked = graph(model, context=DataContext)
    config: Any = {
        "callbacks": [guard],
        "metadata": {"costguard_user": "costguard metadata", "user_id": "metadata"},
        "configurable": {"user_id": "configurable"},
        "tags": ["user:tag"],
    }
    context: Any = DataContext("context")
    said = []

    def ask() -> None:
        call(asked, QUESTION, config, context=context)
        said.append(last(seen).user)

    with guard.scope(user="guard.scope"):
        ask()
    ask()
    del config["metadata"]["costguard_user"]
    ask()
    del config["metadata"]
    ask()
    del config["configurable"]
    ask()
    context = DataContext("")
    ask()
    del config["tags"]
    ask()
    assert said == ["guard.scope", "costguard metadata", "metadata", "configurable", "context", "tag", ""]


def test_the_order_of_names_for_an_agent(call: Caller, guard: CostGuard, model: Any, seen: Recorder) -> None:
    named = create_agent(model, [], name="lc_agent_name")
    config: Any = {"callbacks": [guard], "configurable": {"agent_id": "configurable"}, "tags": ["agent:tag"]}
    said = []

    def ask(asked: Any) -> None:
        call(asked, QUESTION, config)
        said.append(last(seen).agent)

    with guard.scope(agent="guard.scope"):
        ask(named)
    ask(named)
    del config["configurable"]
    ask(named)
    ask(graph(model, node="node"))
    del config["tags"]
    ask(graph(model, node="node"))
    assert said == ["guard.scope", "configurable", "lc_agent_name", "tag", "node"]


# Budgets


def let_through(call: Caller, guard: CostGuard, asked: Any, question: Any = "hi", **config: Any) -> bool:
    try:
        call(asked, question, {"callbacks": [guard], **config})
    except BudgetExceededError:
        return False
    return True


@pytest.mark.parametrize("per", ["user", "session", "agent", "feature", "task"])
def test_each_has_a_budget_of_its_own(per: Any, call: Caller, model: Any) -> None:
    guard = CostGuard(Budget(per=per, model_calls=1), prices=PRICES)
    for value in ("a", "b", None):
        metadata = {f"costguard_{per}": value} if value else {}
        assert let_through(call, guard, model, metadata=metadata)
        assert not let_through(call, guard, model, metadata=metadata)


def test_each_model_has_a_budget_of_its_own(call: Caller) -> None:
    guard = CostGuard(Budget(per="model", model_calls=1), prices=PRICES)
    for name in ("gpt-4o", "gpt-4o-mini"):
        asked = ScriptedChatModel(model=name, usage=(1, 1))
        assert let_through(call, guard, asked)
        assert not let_through(call, guard, asked)


def test_each_run_has_a_budget_of_its_own(call: Caller, model: Any) -> None:
    guard = CostGuard(Budget(per="trace", model_calls=2), prices=PRICES)
    three = RunnableLambda(lambda text: [model.invoke(text) for _ in range(3)])
    two = RunnableLambda(lambda text: [model.invoke(text) for _ in range(2)])
    for _ in range(2):
        assert let_through(call, guard, two)
        assert not let_through(call, guard, three)


def test_each_execution_of_a_node_has_a_budget_of_its_own(call: Caller, model: Any) -> None:
    guard = CostGuard(Budget(per="step", model_calls=2), prices=PRICES)

    def node(times: int) -> Any:
        return lambda state: {"messages": [model.invoke(state["messages"]) for _ in range(times)]}

    def chain(*times: int) -> Any:
        builder: Any = StateGraph(MessagesState)
        for i, count in enumerate(times):
            builder.add_node(f"n{i}", node(count))
            builder.add_edge(f"n{i - 1}" if i else START, f"n{i}")
        return builder.compile()

    assert let_through(call, guard, chain(2, 2, 2), QUESTION)
    assert not let_through(call, guard, chain(2, 3), QUESTION)


def test_a_budget_of_two_scopes_is_one_for_each_pair(call: Caller, model: Any) -> None:
    guard = CostGuard(Budget(per=("user", "feature"), model_calls=2), Budget(per="user", model_calls=3), prices=PRICES)
    said = [
        let_through(call, guard, model, metadata={"user_id": user, "feature": feature})
        for user, feature in [("u1", "a"), ("u1", "a"), ("u1", "a"), ("u1", "b"), ("u1", "b"), ("u2", "a")]
    ]
    assert said == [True, True, False, True, False, True]


# One trace


class Fan(TypedDict):
    topics: list[str]
    said: Annotated[list[str], operator.add]


def fan(model: Any) -> Any:
    builder: Any = StateGraph(Fan)
    inner = graph(model, node="think")

    def work(state: Any) -> Any:
        inner.invoke(QUESTION)
        return {"said": [str(model.invoke("hi").content)]}

    async def awork(state: Any) -> Any:
        await inner.ainvoke(QUESTION)
        return {"said": [str((await model.ainvoke("hi")).content)]}

    builder.add_node("work", RunnableLambda(work, afunc=awork))
    builder.add_conditional_edges(START, lambda state: [Send("work", {"topic": topic}) for topic in state["topics"]])
    return builder.compile()


def test_subgraphs_and_fanned_out_tasks_share_their_runs_trace(call: Caller, guard: CostGuard, model: Any) -> None:
    for _ in range(2):
        call(fan(model), {"topics": list("abcdef"), "said": []}, {"callbacks": [guard]})
    assert [tally.calls for _, tally in guard.report().by("trace").rows] == [12, 12]


def test_the_branches_of_a_parallel_chain_share_its_trace(call: Caller, guard: CostGuard, model: Any) -> None:
    call(RunnableParallel(a=model, b=model, c=RunnableLambda(lambda text: text) | model), "hi", {"callbacks": [guard]})
    assert [tally.calls for _, tally in guard.report().by("trace").rows] == [3]


def test_a_budget_per_trace_holds_for_the_whole_fan(call: Caller, model: Any) -> None:
    guard = CostGuard(Budget(per="trace", model_calls=5), prices=PRICES)
    assert not let_through(call, guard, fan(model), {"topics": list("abcdef"), "said": []})
    assert guard.report().total.calls == 5
