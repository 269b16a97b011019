"""Nodes for graphs written by hand: tools, a way out of loops, and a gate; whatever runs them, and after a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from operator import add
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import tools_condition
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from langchain_costguard import Budget, BudgetExceededError, CostGuard, SQLiteStore
from langchain_costguard.events import CallSettled
from langchain_costguard.steering import Breaker, BudgetGate, Retry, StuckLoopError, StuckLoopNode, guarded_tools
from langchain_costguard.testing import FakeProvider, ManualClock, Reply, Request
from tests.conftest import PRICES, Caller
from tests.steering.seams import valid

GO = {"messages": [HumanMessage("go")]}
T1: Any = {"configurable": {"thread_id": "t1"}}


@pytest.fixture
def ran() -> list[str]:
    """What the tools did."""
    return []


@pytest.fixture
def tools(ran: list[str]) -> list[Any]:
    @tool
    def search(query: str) -> str:
        """Search the web."""
        ran.append(query)
        return f"nothing new about {query}"

    @tool
    def broken(query: str) -> str:
        """Search a service that is down."""
        ran.append(query)
        raise ConnectionError("HTTP 503: service unavailable")

    @tool
    def send_email(to: str) -> str:
        """Send an e-mail."""
        ran.append(to)
        return f"sent to {to}"

    return [search, broken, send_email]


def using(name: str, arguments: Callable[[int], dict[str, Any]], most: int = 99) -> Callable[[Request], Reply]:
    """A model that calls a tool ``most`` times."""

    def reply(request: Request) -> Reply:
        made = sum(message.get("role") == "tool" for message in request.body["messages"])
        return Reply("that is all") if made >= most else Reply(tool_calls=[(name, arguments(made))])

    return reply


def node_of(model: Any, key: str = "messages") -> Any:
    """A model's node in both worlds."""

    async def aagent(state: Any) -> dict[str, Any]:
        return {key: [await model.ainvoke(state[key])]}

    return RunnableLambda(lambda state: {key: [model.invoke(state[key])]}, aagent)


def agent(model: Any, tool_node: Any, tools: list[Any], checkpointer: Any = None) -> Any:
    """The agent everybody writes, with our node of tools in the place of the host's."""
    builder = StateGraph(MessagesState)
    builder.add_node("agent", node_of(model.bind_tools(tools)))
    builder.add_node("tools", tool_node)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=checkpointer)


def requested(*calls: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"messages": [AIMessage("", tool_calls=[_call(n, *c) for n, c in enumerate(calls)])]}


def _call(n: int, name: str, args: dict[str, Any]) -> Any:
    return {"name": name, "args": args, "id": f"c{n}", "type": "tool_call"}


def only(node: Any, checkpointer: Any = None, schema: Any = MessagesState) -> Any:
    builder = StateGraph(schema)
    builder.add_node("tools", node)
    builder.add_edge(START, "tools")
    return builder.compile(checkpointer=checkpointer)


def answers(messages: list[BaseMessage]) -> list[ToolMessage]:
    return [m for m in messages if isinstance(m, ToolMessage)]


def pauses(graph: Any, config: Any = T1) -> list[Any]:
    return list(graph.get_state(config).interrupts)


def holds_nothing(guard: CostGuard) -> bool:
    return not any(row.held for row in guard.headroom().rows) and not any(
        call.state == "open" for call in guard.meter.open_calls.values()
    )


def books_agree(guard: CostGuard, provider: FakeProvider, fees: int = 0) -> bool:
    served = provider.usage()
    return guard.report().total.spent == served.input_tokens * 2_500 + served.output_tokens * 10_000 + fees


# guarded_tools


def test_a_tool_that_fails_again_and_again_is_left_alone_and_the_agent_is_told(
    call: Caller, tools: list[Any], ran: list[str]
) -> None:
    with FakeProvider(using("broken", lambda n: {"query": f"q{n}"}, 5)) as provider:
        clock = ManualClock()
        guard = CostGuard(prices=PRICES, clock=clock)
        node = guarded_tools(tools, guard, breaker=Breaker(failures=3), handle_tool_errors=True)
        messages = call(agent(provider.openai(max_tokens=30), node, tools), GO)["messages"]
        assert ran == ["q0", "q1", "q2"]
        said = answers(messages)
        assert all("HTTP 503" in m.text for m in said[:3])
        assert all("temporarily unavailable" in m.text and m.status == "error" for m in said[3:])
        assert valid(messages)
        other = call(only(node), requested(("search", {"query": "a"}), ("broken", {"query": "b"})))["messages"]
        assert [m.status for m in answers(other)] == ["success", "error"]
        clock.advance(61)
        call(only(node), requested(("broken", {"query": "probe"})))
        assert ran[-1] == "probe"


def test_a_failure_that_may_pass_is_told_to_the_agent(call: Caller, tools: list[Any]) -> None:
    (message,) = answers(
        call(only(guarded_tools(tools, CostGuard())), requested(("broken", {"query": "q"})))["messages"]
    )
    assert message.status == "error"
    assert "broken failed. " in message.text


def test_the_exception_of_a_tool_is_the_hosts_as_without_us_where_it_is_to_be(call: Caller, tools: list[Any]) -> None:
    node = guarded_tools(tools, CostGuard(), tool_errors="raise")
    for _ in range(2):
        with pytest.raises(ConnectionError, match="HTTP 503"):
            call(only(node), requested(("broken", {"query": "q"})))


def test_the_circuit_counts_failures_that_the_host_raises_and_then_answers_in_the_tools_place(
    call: Caller, tools: list[Any], ran: list[str]
) -> None:
    graph = only(guarded_tools(tools, CostGuard(), breaker=Breaker(failures=2), tool_errors="raise"))
    for _ in range(2):
        with pytest.raises(ConnectionError):
            call(graph, requested(("broken", {"query": "q"})))
    (message,) = answers(call(graph, requested(("broken", {"query": "q"})))["messages"])
    assert "try an alternative approach" in message.text
    assert len(ran) == 2


def test_a_tool_named_in_retry_is_called_again_and_no_other(call: Caller) -> None:
    tried: list[str] = []

    @tool
    def flaky(query: str) -> str:
        """Fail at first."""
        tried.append(query)
        if len(tried) % 2:
            raise ConnectionError("reset by peer")
        return "ok"

    retry = Retry(base=0.001, most=0.01, tools={"flaky"})
    graph = only(guarded_tools([flaky], CostGuard(), retry=retry))
    assert answers(call(graph, requested(("flaky", {"query": "a"})))["messages"])[0].text == "ok"
    with pytest.raises(ConnectionError):
        call(only(guarded_tools([flaky], CostGuard(), tool_errors="raise")), requested(("flaky", {"query": "b"})))
    assert tried == ["a", "a", "b"]


def test_fees_and_models_in_tools_are_metered_though_the_guard_is_attached_nowhere_else(
    call: Caller, provider: FakeProvider, world: str
) -> None:
    model = provider.openai(max_tokens=20)

    @tool
    def ask(question: str, config: RunnableConfig) -> str:
        """Ask another model."""
        return str(model.invoke(question, config).text)

    @tool
    async def aask(question: str) -> str:
        """Ask another model."""
        return str((await model.ainvoke(question)).text)

    name = "ask" if world == "sync" else "aask"
    guard = CostGuard(Budget(tool_calls=2, model_calls=1), prices=PRICES, tool_prices={name: "0.01"})
    graph = only(guarded_tools([ask, aask], guard))
    (message,) = answers(call(graph, requested((name, {"question": "why"})))["messages"])
    assert message.text == "four little words here"
    assert books_agree(guard, provider, fees=10_000_000)
    (message,) = answers(call(graph, requested((name, {"question": "why"})))["messages"])
    assert "Do not try again" in message.text, "the model in the tool was refused"
    (message,) = answers(call(graph, requested((name, {"question": "why"})))["messages"])
    assert "tool calls" in message.text
    assert len(provider.requests) == 1


def test_a_tool_call_may_be_sent_by_itself(call: Caller, tools: list[Any], ran: list[str]) -> None:
    builder = StateGraph(MessagesState)
    guard = CostGuard(Budget(tool_calls=3))
    builder.add_node("tools", guarded_tools(tools, guard))
    sent = [Send("tools", [_call(n, "search", {"query": f"q{n}"})]) for n in range(5)]
    builder.add_conditional_edges(START, lambda _: sent, ["tools"])
    said = answers(call(builder.compile(), GO)["messages"])
    assert [m.status for m in said].count("success") == len(ran) == 3
    assert guard.report().total.tool_calls == 3


def test_it_takes_the_hosts_other_arguments(call: Caller, tools: list[Any]) -> None:
    class Custom(TypedDict):
        history: Annotated[list[AnyMessage], add_messages]

    node = guarded_tools(tools, CostGuard(), messages_key="history", name="mine", handle_tool_errors="it failed")
    assert node.name == "mine"
    said = call(only(node, schema=Custom), {"history": requested(("broken", {"query": "q"}))["messages"]})["history"]
    assert said[-1].text == "it failed"


@pytest.mark.parametrize(("answer", "text", "did"), [
    ({"approve": True}, "sent to bob", ["bob"]),
    ({"approve": True, "args": {"to": "eve"}}, "sent to eve", ["eve"]),
    ({"approve": False, "message": "not on a Sunday"}, "not on a Sunday", []),
    (True, "sent to bob", ["bob"]),
])  # fmt: skip
def test_a_tool_waits_for_leave_and_does_as_it_is_told(
    answer: Any, text: str, did: list[str], call: Caller, tools: list[Any], ran: list[str]
) -> None:
    with FakeProvider(using("send_email", lambda n: {"to": "bob"}, 1)) as provider:
        guard, saver = CostGuard(prices=PRICES, tool_prices={"send_email": "0.02"}), InMemorySaver()
        model = provider.openai(max_tokens=30)
        graph = agent(model, guarded_tools(tools, guard, approve_tools={"send_*"}), tools, saver)
        call(graph, GO, T1)
        (pause,) = pauses(graph)
        assert json.loads(json.dumps(pause.value)) == pause.value
        assert (pause.value["tool"], pause.value["args"], pause.value["price_usd"]) == (
            "send_email",
            {"to": "bob"},
            "0.02",
        )
        assert ran == []
        restarted = agent(model, guarded_tools(tools, CostGuard(), approve_tools={"send_*"}), tools, saver)
        messages = call(restarted, Command(resume=answer), T1)["messages"]
        assert text in answers(messages)[0].text
        assert ran == did
        assert len(provider.requests) == 2


def test_parallel_tool_calls_each_ask_and_are_answered_by_their_interrupt(
    call: Caller, tools: list[Any], ran: list[str]
) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("tools", guarded_tools(tools, CostGuard(), approve_tools={"send_email"}))
    sent = [Send("tools", [_call(n, "send_email", {"to": f"u{n}"})]) for n in range(3)]
    builder.add_conditional_edges(START, lambda _: sent, ["tools"])
    graph = builder.compile(checkpointer=InMemorySaver())
    call(graph, GO, T1)
    asked = {pause.id: pause.value["args"]["to"] for pause in pauses(graph)}
    assert sorted(asked.values()) == ["u0", "u1", "u2"]
    messages = call(graph, Command(resume={n: {"approve": to != "u1"} for n, to in asked.items()}), T1)["messages"]
    assert sorted(ran) == ["u0", "u2"]
    assert {m.tool_call_id: m.status for m in answers(messages)} == {"c0": "success", "c1": "error", "c2": "success"}


def test_calls_of_one_message_are_asked_about_in_order_before_any_of_them_runs(
    call: Caller, tools: list[Any], ran: list[str]
) -> None:
    """They are one task of the graph, which starts again with each answer: a tool that had run would run again."""
    graph = only(guarded_tools(tools, CostGuard(), approve_tools={"send_email"}), InMemorySaver())
    calls = [("send_email", {"to": "a"}), ("search", {"query": "q"}), ("send_email", {"to": "b"})]
    call(graph, requested(*calls), T1)
    for to, answer in (("a", {"approve": True}), ("b", {"approve": False, "message": "not her"})):
        (pause,) = pauses(graph)
        assert pause.value["args"] == {"to": to}
        assert ran == []
        call(graph, Command(resume=answer), T1)
    assert sorted(ran) == ["a", "q"]
    said = {m.tool_call_id: m.text for m in answers(graph.get_state(T1).values["messages"])}
    assert said["c0"] == "sent to a"
    assert "not her" in said["c2"]


# StuckLoopNode


def looping(model: Any, tools: list[Any], node: Any, *, edge: bool, saver: Any = None, key: str = "messages") -> Any:
    """Tools, then the node, then the model."""

    class Custom(TypedDict):
        history: Annotated[list[AnyMessage], add_messages]

    builder = StateGraph(MessagesState if key == "messages" else Custom)
    builder.add_node("agent", node_of(model.bind_tools(tools), key))
    builder.add_node("tools", guarded_tools(tools, CostGuard(), messages_key=key))
    builder.add_node("unstick", node, destinations=None if edge else ("agent", END))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", lambda state: tools_condition(state, messages_key=key))
    builder.add_edge("tools", "unstick")
    if edge:
        builder.add_edge("unstick", "agent")
    return builder.compile(checkpointer=saver)


STUCK = using("search", lambda n: {"query": "x"}, 20)


def nudges(messages: list[BaseMessage]) -> int:
    return sum("without progress. Stop and reconsider" in m.text for m in messages if isinstance(m, HumanMessage))


def test_with_plain_edges_a_stuck_agent_is_nudged_once_and_then_the_run_fails(call: Caller, tools: list[Any]) -> None:
    with FakeProvider(STUCK) as provider:
        guard, model = CostGuard(), provider.openai(max_tokens=30)
        graph = looping(model, tools, StuckLoopNode(guard), edge=True, saver=InMemorySaver())
        with pytest.raises(StuckLoopError, match="search") as caught:
            call(graph, GO, T1)
        assert (caught.value.tool, caught.value.kind) == ("search", "repeat")
        messages = graph.get_state(T1).values["messages"]
        assert nudges(messages) == 1
        assert any("reconsider" in str(m) for m in provider.requests[-1].body["messages"])
        assert guard.report().actions.by().to_dicts()[0]["times"] == 2


def test_an_agent_that_heeds_the_nudge_is_left_alone(call: Caller, tools: list[Any]) -> None:
    def heeding(request: Request) -> Reply:
        nudged = any("reconsider" in str(message) for message in request.body["messages"])
        return Reply("done") if nudged else Reply(tool_calls=[("search", {"query": "x"})])

    with FakeProvider(heeding) as provider:
        graph = looping(provider.openai(max_tokens=30), tools, StuckLoopNode(CostGuard()), edge=True)
        messages = call(graph, GO)["messages"]
        assert (messages[-1].text, nudges(messages)) == ("done", 1)


@pytest.mark.parametrize("key", ["messages", "history"])
def test_with_goto_a_stuck_agent_ends_with_a_reply_and_no_further_model_call(
    key: str, call: Caller, tools: list[Any]
) -> None:
    with FakeProvider(STUCK) as provider:
        node = StuckLoopNode(CostGuard(), goto="agent", messages_key=key)
        graph = looping(provider.openai(max_tokens=30), tools, node, edge=False, key=key)
        messages = call(graph, {key: [HumanMessage("go")]})[key]
        assert "I stopped, for I was repeating" in messages[-1].text
        assert isinstance(messages[-1], AIMessage)
        assert nudges(messages) == 1
        assert valid(messages)
        ours = [m for m in messages if "costguard" in m.response_metadata]  # the nudge's, and the end
        assert len(provider.requests) == sum(isinstance(m, AIMessage) for m in messages) - len(ours)


@pytest.mark.parametrize("goto", ["agent", None])
def test_a_person_may_say_what_to_try_and_the_last_rung_ends_it(
    goto: str | None, call: Caller, tools: list[Any]
) -> None:
    with FakeProvider(STUCK) as provider:
        guard, model, saver = CostGuard(), provider.openai(max_tokens=30), InMemorySaver()

        def built() -> Any:
            node = StuckLoopNode(guard, on_loop=("nudge", "interrupt", "end"), goto=goto)
            return looping(model, tools, node, edge=goto is None, saver=saver)

        call(built(), GO, T1)
        (pause,) = pauses(built())
        assert pause.value["type"] == "costguard.loop"
        asked = len(provider.requests)
        resume = Command(resume={"approve": True, "message": "try the library"})
        if goto is None:
            with pytest.raises(StuckLoopError):
                call(built(), resume, T1)
        else:
            call(built(), resume, T1)
        messages = built().get_state(T1).values["messages"]
        assert sum(m.text == "try the library" for m in messages) == 1
        assert "try the library" in str(provider.requests[asked].body["messages"][-1])
        assert goto is None or "I stopped" in messages[-1].text


@pytest.mark.parametrize("goto", ["agent", None])
def test_a_person_may_stop_a_stuck_agent(goto: str | None, call: Caller, tools: list[Any]) -> None:
    with FakeProvider(STUCK) as provider:
        node = StuckLoopNode(CostGuard(), on_loop=("interrupt",), goto=goto)
        graph = looping(provider.openai(max_tokens=30), tools, node, edge=goto is None, saver=InMemorySaver())
        call(graph, GO, T1)
        asked = len(provider.requests)
        if goto is None:
            with pytest.raises(StuckLoopError):
                call(graph, Command(resume=False), T1)
        else:
            assert "I stopped" in call(graph, Command(resume=False), T1)["messages"][-1].text
        assert len(provider.requests) == asked


def test_it_needs_nothing_but_the_messages_after_a_restart(call: Caller, tools: list[Any], tmp_path: Path) -> None:
    """The ladder is counted in the messages: a process that is started anew for each step climbs the same one."""
    with FakeProvider(STUCK) as provider:
        model, path = provider.openai(max_tokens=30), tmp_path / "c.db"
        value: Any = GO
        for _ in range(30):
            with SqliteSaver.from_conn_string(str(path)) as saver:
                node = StuckLoopNode(CostGuard(), goto="agent")
                graph = looping(model, tools, node, edge=False, saver=saver)
                graph.interrupt_after_nodes = ["unstick"]
                graph.invoke(value, T1)
                value, state = None, graph.get_state(T1)
                if not state.next:
                    break
        assert nudges(state.values["messages"]) == 1
        assert "I stopped" in state.values["messages"][-1].text


def test_a_ladder_that_cannot_be_climbed_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="on_loop: 'stop' is not one of nudge, interrupt, end, raise"):
        StuckLoopNode(CostGuard(), on_loop=("stop",))  # type: ignore[arg-type]


# BudgetGate


@contextmanager
def restarted(folder: Path, provider: FakeProvider, build: Callable[..., Any], *budgets: Budget) -> Iterator[Any]:
    """A process of its own: a new guard on the same store, and a new graph on the same checkpoints."""
    store = SQLiteStore(folder / "b.db")
    guard = CostGuard(*budgets, store=store, prices=PRICES)
    with SqliteSaver.from_conn_string(str(folder / "c.db")) as saver:
        yield guard, build(provider.openai(max_tokens=5), guard, saver)


@asynccontextmanager
async def arestarted(folder: Path, provider: FakeProvider, build: Callable[..., Any], *budgets: Budget) -> Any:
    guard = CostGuard(*budgets, store=SQLiteStore(folder / "b.db"), prices=PRICES)
    async with AsyncSqliteSaver.from_conn_string(str(folder / "c.db")) as saver:
        yield guard, build(provider.openai(max_tokens=5), guard, saver)


def gated(model: Any, guard: CostGuard, saver: Any, **options: Any) -> Any:
    """Three models' nodes, the last one behind a gate."""
    builder = StateGraph(MessagesState)
    builder.add_sequence([("one", node_of(model)), ("two", node_of(model)), ("gate", BudgetGate(guard, **options))])
    builder.add_node("three", node_of(model))
    builder.add_edge(START, "one")
    if "goto" not in options:
        builder.add_edge("gate", "three")
    return builder.compile(checkpointer=saver).with_config(callbacks=[guard])


@pytest.fixture
def life(world: str, tmp_path: Path, provider: FakeProvider) -> Callable[..., Any]:
    """One life of a process: runs the graph once with this value; says what paused it, its messages, and its guard."""

    def live(value: Any, *budgets: Budget, build: Callable[..., Any] = gated) -> Any:
        if world == "sync":
            with restarted(tmp_path, provider, build, *budgets) as (guard, graph):
                graph.invoke(value, T1)
                state = graph.get_state(T1)
                return state.interrupts, state.values["messages"], guard

        async def alive() -> Any:
            async with arestarted(tmp_path, provider, build, *budgets) as (guard, graph):
                await graph.ainvoke(value, T1)
                state = await graph.aget_state(T1)
                return state.interrupts, state.values["messages"], guard

        return asyncio.run(alive())

    return live


TIGHT = Budget(per="session", usd="0.0002")
"""Room for two of the three calls, and for a third that would take nothing."""


def test_a_gate_asks_before_the_paid_node_and_goes_on_after_a_restart(
    life: Callable[..., Any], provider: FakeProvider
) -> None:
    (pause,), _, guard = life(GO, TIGHT)
    question = pause.value
    assert json.loads(json.dumps(question)) == question
    assert (question["type"], question["budget"], question["measure"]) == ("costguard.budget", "session", "usd")
    assert question["answer"]["add_usd"] == question["suggested"]["add_usd"]
    assert len(provider.requests) == 2
    assert guard.report().total.refused == 1
    assert holds_nothing(guard)
    spent = guard.report().total.spent

    paused, messages, guard = life(Command(resume={"approve": True, "add_usd": "1.00"}), TIGHT)
    assert not paused
    assert len(messages) == 4
    assert len(provider.requests) == 3, "nothing that was paid was paid again"
    with guard.scope(session="t1"):
        (row,) = guard.headroom().rows
    assert row.granted == 1_000_000_000
    served = provider.usage()
    assert (
        row.spent == spent + guard.report().total.spent == served.input_tokens * 2_500 + served.output_tokens * 10_000
    )


def test_a_gate_that_is_told_no_refuses_after_a_restart_as_well(
    life: Callable[..., Any], provider: FakeProvider
) -> None:
    life(GO, TIGHT)
    with pytest.raises(BudgetExceededError, match="the next model call"):
        life(Command(resume={"approve": False}), TIGHT)
    assert len(provider.requests) == 2


def test_an_answer_that_is_not_understood_is_asked_for_again(life: Callable[..., Any], provider: FakeProvider) -> None:
    life(GO, TIGHT)
    for answer, wrong in [
        ("yes", "is no answer"),
        ({"approve": "yes"}, "must be True or False"),
        ({"approve": True, "add_usd": "lots"}, "is no amount of USD"),
        ({"approve": True, "add_tokens": 5}, "has no cap on tokens"),
        ({"approve": True, "more": 5}, "'more'"),
    ]:
        (pause,), _, _ = life(Command(resume=answer), TIGHT)
        assert wrong in pause.value["error"]
        assert pause.value["budget"] == "session"
    paused, messages, _ = life(Command(resume={"approve": True}), TIGHT)
    assert not paused
    assert len(messages) == 4
    assert len(provider.requests) == 3


def test_a_grant_that_does_not_suffice_is_asked_about_again(life: Callable[..., Any], provider: FakeProvider) -> None:
    def build(model: Any, guard: CostGuard, saver: Any) -> Any:
        return gated(model, guard, saver, needs="0.05")

    life(GO, TIGHT, build=build)
    (pause,), _, _ = life(Command(resume={"approve": True, "add_usd": "0.01"}), TIGHT, build=build)
    assert "error" not in pause.value
    assert Decimal(pause.value["suggested"]["add_usd"]) < Decimal("0.04")
    paused, _, _ = life(Command(resume={"approve": True, "add_usd": "0.05"}), TIGHT, build=build)
    assert not paused
    assert len(provider.requests) == 3


@pytest.mark.parametrize(("measure", "cap"), [("model_calls", 2), ("output_tokens", 8), ("steps", 3)])
def test_a_gate_looks_at_every_measure(
    measure: str, cap: int, life: Callable[..., Any], provider: FakeProvider
) -> None:
    def build(model: Any, guard: CostGuard, saver: Any) -> Any:
        return gated(model.model_copy(update={"max_tokens": 4}), guard, saver)

    def lived(value: Any) -> Any:
        return life(value, Budget(per="session", **{measure: cap}), build=build)

    (pause,), _, _ = lived(GO)
    assert pause.value["measure"] == measure
    paused, messages, _ = lived(Command(resume={"approve": True, f"add_{measure}": "5"}))
    assert not paused
    assert len(messages) == 4
    assert len(provider.requests) == 3


def test_a_gate_may_raise_or_end_the_run(call: Caller, provider: FakeProvider) -> None:
    model = provider.openai(max_tokens=5)
    guard = CostGuard(TIGHT, prices=PRICES)
    with pytest.raises(BudgetExceededError):
        call(gated(model, guard, None, on_exceeded="raise"), GO)
    guard = CostGuard(TIGHT, prices=PRICES)
    messages = call(gated(model, guard, None, on_exceeded="end", goto="three"), GO)["messages"]
    assert "I have to stop here" in messages[-1].text
    assert "four little words here" in messages[-1].text
    guard = CostGuard(Budget(per="session", usd="1.00"), prices=PRICES)
    assert len(call(gated(model, guard, None, on_exceeded="end", goto="three"), GO)["messages"]) == 4
    assert len(provider.requests) == 7


def test_a_budget_that_starts_afresh_is_refused_for_no_grant_would_last(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="call", usd="0.01"), prices=PRICES)
    graph = gated(provider.openai(max_tokens=5), guard, InMemorySaver(), needs="0.05")
    with pytest.raises(BudgetExceededError, match="'call'"):
        call(graph, GO, T1)


def test_a_gate_stands_in_a_subgraph(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="session", usd="0.0002"), prices=PRICES)
    builder = StateGraph(MessagesState)
    builder.add_node("inner", gated(provider.openai(max_tokens=5), guard, None))
    builder.add_edge(START, "inner")
    graph = builder.compile(checkpointer=InMemorySaver())
    call(graph, GO, T1)
    assert pauses(graph)[0].value["type"] == "costguard.budget"
    assert len(call(graph, Command(resume={"approve": True, "add_usd": "1"}), T1)["messages"]) == 4
    assert len(provider.requests) == 3


class Fan(TypedDict):
    messages: Annotated[list[AnyMessage], add]


def fanned(model: Any, guard: CostGuard, saver: Any) -> Any:
    """Two branches, each with a gate of its own before its model."""
    branch = StateGraph(Fan)
    branch.add_node("gate", BudgetGate(guard, needs="0.01"))
    branch.add_node("work", node_of(model))
    branch.add_edge(START, "gate")
    branch.add_edge("gate", "work")
    builder = StateGraph(Fan)
    builder.add_node("branch", RunnableLambda(*_last_of(branch.compile(checkpointer=True))))
    sent = [Send("branch", {"messages": [HumanMessage(f"t{n}")]}) for n in range(2)]
    builder.add_conditional_edges(START, lambda _: sent, ["branch"])
    return builder.compile(checkpointer=saver).with_config(callbacks=[guard])


def _last_of(graph: Any) -> tuple[Any, Any]:
    async def arun(state: Any) -> Any:
        return {"messages": (await graph.ainvoke(state))["messages"][-1:]}

    return (lambda state: {"messages": graph.invoke(state)["messages"][-1:]}), arun


def test_two_gates_under_send_ask_at_once_and_are_answered_each(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="user", usd="0.001"), prices=PRICES)
    graph = fanned(provider.openai(max_tokens=20), guard, InMemorySaver())
    with guard.scope(user="u1"):
        call(graph, GO, T1)
        asked = pauses(graph)
        assert len({pause.id for pause in asked}) == 2
        resume = {pause.id: {"approve": True, "add_usd": "0.02"} for pause in asked}
        done = call(graph, Command(resume=resume), T1)
        assert not pauses(graph)
        assert sum(isinstance(m, AIMessage) for m in done["messages"]) == 2
        assert len(provider.requests) == 2
        assert guard.headroom().rows[0].granted in (20_000_000, 40_000_000)


def test_a_gate_says_what_it_does_not_understand() -> None:
    with pytest.raises(ValueError, match="on_exceeded: 'stop' is not 'end', 'raise' or 'interrupt'"):
        BudgetGate(CostGuard(), on_exceeded="stop")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="goto: a gate that ends the run"):
        BudgetGate(CostGuard(), on_exceeded="end")
    with pytest.raises(ValueError, match=r"needs: 0\.5"):
        BudgetGate(CostGuard(), needs=0.5)  # type: ignore[arg-type]


# would_refuse


def test_what_would_be_refused_is_said_without_spending_anything(call: Caller, provider: FakeProvider) -> None:
    held: list[int] = []
    sinks = [lambda event: held.append(event.held) if isinstance(event, CallSettled) else None]
    guard = CostGuard(Budget(per="session", usd="0.0005", model_calls=3), prices=PRICES, sinks=sinks)
    assert guard.would_refuse() is None
    error = guard.would_refuse(usd="0.01")
    assert error is not None
    assert (error.budget, error.measure, str(error.needed)) == ("session", "usd", "0.01")
    assert str(error).startswith("Budget 'session' refused the next model call: it may take $0.0100")
    assert holds_nothing(guard)
    assert (guard.report().total.spent, guard.report().total.refused) == (0, 1)
    model = provider.openai(max_tokens=20)
    call(model, "word " * 40, {"callbacks": [guard]})
    call(model, "hi", {"callbacks": [guard]})
    error = guard.would_refuse()
    assert error is not None
    assert error.facts["asked"] == max(held), "what a call had to hold at the most, the next one may have to"
    call(model, "hi", {"callbacks": [guard]})
    error = guard.would_refuse(usd="0.000000001")
    assert error is not None
    assert error.measure == "model_calls"
    assert guard.grant(error, model_calls=1)
    assert guard.would_refuse(usd="0.000000001") is None
    with pytest.raises(ValueError, match="usd: 'much' is no amount"):
        guard.would_refuse(usd="much")


# Callbacks that interrupt, and cancellation


class Asks(BaseCallbackHandler):
    """A user's handler that asks a person before each model call."""

    raise_error = True

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        interrupt("may I?")


@pytest.mark.parametrize("ours", ["first", "last"])
def test_a_callback_that_interrupts_still_does_and_leaves_no_hold(
    ours: str, call: Caller, provider: FakeProvider, tools: list[Any]
) -> None:
    guard = CostGuard(Budget(per="session", usd="1.00"), prices=PRICES)
    handlers: list[Any] = [guard, Asks()] if ours == "first" else [Asks(), guard]
    model = provider.openai(max_tokens=20)
    graph = agent(model, guarded_tools(tools, guard), tools, InMemorySaver()).with_config(callbacks=handlers)
    call(graph, GO, T1)
    assert pauses(graph)[0].value == "may I?"
    assert provider.requests == []
    assert call(graph, Command(resume="yes"), T1)["messages"][-1].text == "four little words here"
    assert len(provider.requests) == 1
    assert holds_nothing(guard)


CANCELLED = {
    "guarded_tools": lambda model, guard, tools: only(guarded_tools(tools, guard)),
    "StuckLoopNode": lambda model, guard, tools: looping(model, tools, StuckLoopNode(guard), edge=True),
    "BudgetGate": lambda model, guard, tools: gated(model, guard, None),
}


@pytest.mark.parametrize("seam", CANCELLED)
@pytest.mark.parametrize("how", ["cancel", "timeout", "client gone"])
def test_a_cancelled_run_holds_nothing(seam: str, how: str) -> None:
    with FakeProvider("four little words here", gate=True) as provider:
        guard = CostGuard(Budget(per="session", usd="1.00"), prices=PRICES, tool_prices={"ask": "0.01"})
        model = provider.openai(max_tokens=20)

        @tool
        async def ask(question: str) -> str:
            """Ask another model."""
            return str((await model.ainvoke(question)).text)

        graph = CANCELLED[seam](model, guard, [ask]).with_config(callbacks=[guard])
        value = requested(("ask", {"question": "why"})) if seam == "guarded_tools" else GO

        async def gone() -> None:
            async for _ in graph.astream(value, T1):
                pass

        async def run() -> None:
            task = asyncio.create_task(gone() if how == "client gone" else graph.ainvoke(value, T1))
            await asyncio.to_thread(provider.wait_for_requests, 1)
            if how == "timeout":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(task, 0.001)
            else:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(run())
        provider.wait_until_idle()
        with guard.scope(session="t1"):
            assert holds_nothing(guard)
