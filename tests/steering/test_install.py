"""An existing graph, steered: whatever its state looks like and its nodes return, and all else of it as it was."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import openai
import pytest
from langchain.agents import create_agent
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.store.memory import InMemoryStore
from langgraph.types import CachePolicy, Command, Send, interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from langchain_costguard import Budget, BudgetExceededError, CostGuard
from langchain_costguard.steering import Retry, install, steer
from langchain_costguard.testing import FakeProvider, Reply, Request
from tests.conftest import PRICES, Caller
from tests.steering.seams import hand_written, valid

QUICK = Retry(base=0.001, most=0.01)
GO = {"messages": [HumanMessage("go")]}
T1 = {"configurable": {"thread_id": "t1"}}


@tool
def search(query: str) -> str:
    """Search the web."""
    return f"nothing new about {query}"


class Custom(TypedDict):
    history: Annotated[list[AnyMessage], add_messages]
    note: str


class Pydantic(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages]
    note: str = "n"


@dataclass
class Data:
    messages: Annotated[list[AnyMessage], add_messages]
    note: str = field(default="n", init=False)


class Whole(TypedDict):
    messages: list[AnyMessage]


SHAPES: dict[str, tuple[Any, str]] = {
    "MessagesState": (MessagesState, "messages"),
    "a key of its own": (Custom, "history"),
    "pydantic": (Pydantic, "messages"),
    "a dataclass": (Data, "messages"),
    "a key without reducer": (Whole, "messages"),
}


def seen(state: Any, key: str = "messages") -> list[BaseMessage]:
    return list(state[key] if isinstance(state, dict) else getattr(state, key))


def shaped(schema: Any, key: str, model: Any, answer: Callable[[Any], Any] | None = None) -> Any:
    """The agent everybody writes, on a state of this shape; ``answer`` is what its node returns for a reply."""
    bound = model.bind_tools([search])
    whole = schema is Whole

    def update(state: Any, reply: Any) -> Any:
        return answer(reply) if answer else {key: [*(seen(state, key) if whole else ()), reply]}

    async def aagent(state: Any) -> Any:
        return update(state, await bound.ainvoke(seen(state, key)))

    def results(state: Any) -> Any:
        last = seen(state, key)[-1]
        found = [ToolMessage("nothing new", tool_call_id=c["id"], name=c["name"]) for c in last.tool_calls]
        return {key: [*(seen(state, key) if whole else ()), *found]}

    builder = StateGraph(schema)
    builder.add_node("agent", RunnableLambda(lambda state: update(state, bound.invoke(seen(state, key))), aagent))
    builder.add_node("tools", results if whole else ToolNode([search], messages_key=key))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges(
        "agent", lambda state: "tools" if getattr(seen(state, key)[-1], "tool_calls", None) else END, ["tools", END]
    )
    builder.add_edge("tools", "agent")
    return builder.compile()


def again(request: Request) -> Reply:
    """A model that never stops to search, for the same thing."""
    return Reply(tool_calls=[("search", {"query": "x"})])


def books_agree(guard: CostGuard, provider: FakeProvider) -> bool:
    served = provider.usage()
    spent = guard.report().total.spent
    return spent == served.input_tokens * 2_500 + served.output_tokens * 10_000 and not guard.meter.open_calls


@pytest.mark.parametrize("shape", SHAPES)
def test_a_state_of_any_shape_is_ended_with_a_reply(shape: str, call: Caller) -> None:
    schema, key = SHAPES[shape]
    with FakeProvider(again) as provider:
        guard = CostGuard(Budget(usd="0.004"), prices=PRICES)
        graph = shaped(schema, key, provider.openai(max_tokens=20))
        tools = None if schema is Whole else "tools"
        steered = install(graph, guard, tools=tools, messages_key=key, policies=steer(guard, loops=None))
        messages = call(steered, {key: [HumanMessage("go")]})[key]
        assert "I have to stop here: the budget 'session'" in messages[-1].text
        assert isinstance(messages[0], HumanMessage)
        assert len(messages) > 4
        assert valid(messages)
        assert books_agree(guard, provider)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_nudge_goes_into_a_state_of_any_shape_once_and_stands_in_each_later_request(shape: str, call: Caller) -> None:
    schema, key = SHAPES[shape]
    with FakeProvider(again) as provider:
        guard = CostGuard(prices=PRICES)
        graph = shaped(schema, key, provider.openai(max_tokens=20))
        steered = install(graph, guard, tools=None, messages_key=key)
        messages = call(steered, {key: [HumanMessage("go")]})[key]
        assert sum("costguard" in m.additional_kwargs for m in messages if m.type == "ai") == 1
        told = [str(r.body).count("repeating the same action without progress.") for r in provider.requests]
        assert told == [0, 0, 0, 1, 1]
        assert "I stopped, for I was repeating" in messages[-1].text
        assert valid(messages)


ANSWERS: dict[str, Callable[[Any], Any]] = {
    "a message": lambda reply: {"messages": reply},
    "a Command": lambda reply: Command(update={"messages": [reply]}),
    "a Command of pairs": lambda reply: Command(update=[("messages", [reply])]),
    "several Commands": lambda reply: [Command(update={"messages": [reply]}), Command(update={})],
    "a Command and an update": lambda reply: [Command(update={}), {"messages": [reply]}],
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_node_may_return_what_langgraph_understands(answer: str, call: Caller) -> None:
    """The last answer calls a tool regardless, which is taken out of it; the reply to a nudge is marked."""
    with FakeProvider(again) as provider:
        guard = CostGuard(Budget(steps=3), prices=PRICES)
        graph = shaped(MessagesState, "messages", provider.openai(max_tokens=20), ANSWERS[answer])
        messages = call(install(graph, guard), GO)["messages"]
        assert "I could not finish within 3 steps" in messages[-1].text
        assert not messages[-1].tool_calls
        free = CostGuard(prices=PRICES)
        graph = shaped(MessagesState, "messages", provider.openai(max_tokens=20), ANSWERS[answer])
        messages = call(install(graph, free), GO)["messages"]
        assert sum("costguard" in m.additional_kwargs for m in messages if m.type == "ai") == 1
        assert valid(messages)


def test_a_node_may_return_nothing_and_a_list_may_be_the_state(call: Caller) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("agent", lambda state: None)
    builder.add_edge(START, "agent")
    assert len(call(install(builder.compile(), CostGuard(), tools=None), GO)["messages"]) == 1

    root = StateGraph(Annotated[list[AnyMessage], operator.add])  # type: ignore[type-var]
    with FakeProvider("fine") as provider:
        model = provider.openai(max_tokens=20)
        root.add_node("agent", lambda messages: [model.invoke(messages)])
        root.add_edge(START, "agent")
        poor = CostGuard(Budget(usd="0.0000001"), prices=PRICES)
        assert "I have to stop" in call(install(root.compile(), poor, tools=None), [HumanMessage("go")])[-1].text
        rich = CostGuard(prices=PRICES)
        assert call(install(root.compile(), rich, tools=None), [HumanMessage("go")])[-1].text == "fine"


def test_an_agent_of_create_agent_is_steered(call: Caller) -> None:
    with FakeProvider(again) as provider:
        guard = CostGuard(Budget(usd="0.004"), prices=PRICES)
        agent = create_agent(provider.openai(max_tokens=20), [search], name="researcher")
        steered = install(agent, guard, model="model", policies=steer(guard, loops=None))
        assert "I have to stop here" in call(steered, GO)["messages"][-1].text
        assert steered.name == "researcher"
        assert steered.config == {**agent.config, "callbacks": [guard]}
        assert books_agree(guard, provider)


# What may not be paid again


def two_calls(model: Any) -> Any:
    """A node that plans with one call and answers with another."""

    async def aagent(state: MessagesState) -> dict[str, Any]:
        plan = await model.ainvoke("plan")
        return {"messages": [await model.ainvoke([*state["messages"], plan])]}

    def agent(state: MessagesState) -> dict[str, Any]:
        plan = model.invoke("plan")
        return {"messages": [model.invoke([*state["messages"], plan])]}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", RunnableLambda(agent, aagent))
    builder.add_edge(START, "agent")
    return builder.compile()


def test_a_node_is_run_again_where_nothing_was_paid_in_it(call: Caller) -> None:
    with FakeProvider([Reply(status=503), Reply(status=429), "plan", "answer"]) as provider:
        guard = CostGuard(prices=PRICES)
        graph = install(
            two_calls(provider.openai(max_tokens=20)), guard, tools=None, policies=steer(guard, retry=QUICK)
        )
        assert call(graph, GO)["messages"][-1].text == "answer"
        assert len(provider.requests) == 4
        assert books_agree(guard, provider)


def test_a_node_is_not_run_again_where_a_model_was_paid_in_it(call: Caller) -> None:
    with FakeProvider([Reply(status=503), "plan", Reply(status=503), "never"]) as provider:
        guard = CostGuard(prices=PRICES)
        graph = install(
            two_calls(provider.openai(max_tokens=20)), guard, tools=None, policies=steer(guard, retry=QUICK)
        )
        with pytest.raises(openai.InternalServerError):
            call(graph, GO)
        assert len(provider.requests) == 3
        assert guard.report().total.calls == 1
        assert books_agree(guard, provider)


def test_a_node_is_not_run_again_where_a_tool_ran_in_it(call: Caller) -> None:
    with FakeProvider([Reply(status=503), "never"]) as provider:
        model, ran = provider.openai(max_tokens=20), []

        @tool
        def send(to: str) -> str:
            """Send a letter."""
            ran.append(to)
            return "sent"

        def agent(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
            send.invoke({"to": "bob"}, config)
            return {"messages": [model.invoke(state["messages"])]}

        builder = StateGraph(MessagesState)
        builder.add_node("agent", agent)
        builder.add_edge(START, "agent")
        guard = CostGuard(prices=PRICES)
        with pytest.raises(openai.InternalServerError):
            call(install(builder.compile(), guard, tools=None, policies=steer(guard, retry=QUICK)), GO)
        assert ran == ["bob"]


@pytest.mark.parametrize("calls", [1, 2])
def test_a_reply_that_does_not_parse_is_repaired_where_no_other_is_paid_again(calls: int, call: Caller) -> None:
    with FakeProvider([*["plan"] * (calls - 1), "no number", "7"]) as provider:
        model = provider.openai(max_tokens=20)

        def agent(state: MessagesState) -> dict[str, Any]:
            for _ in range(calls):
                reply = model.invoke(state["messages"])
            if not reply.text.isdigit():
                raise OutputParserException("no number", llm_output=reply.text)
            return {"messages": [reply]}

        builder = StateGraph(MessagesState)
        builder.add_node("agent", agent)
        builder.add_edge(START, "agent")
        graph = install(builder.compile(), CostGuard(prices=PRICES), tools=None)
        if calls == 1:
            assert call(graph, GO)["messages"][-1].text == "7"
        else:
            with pytest.raises(OutputParserException):
                call(graph, GO)
        assert len(provider.requests) == 2


# Subgraphs, fan-outs, and wrappers of the host's


def parent_of(child: Any, checkpointer: Any = None) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("agent", child)
    builder.add_edge(START, "agent")
    return builder.compile(checkpointer=checkpointer)


def asking_child() -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("ask", lambda state: {"messages": [AIMessage(interrupt("what?"))]})
    builder.add_edge(START, "ask")
    return builder.compile()


def test_a_subgraph_may_be_the_models_node(call: Caller, stream: Caller) -> None:
    """It is still known to be one: its state is read, its events stream, its interrupts resume."""
    child = asking_child()
    graph = install(parent_of(child, InMemorySaver()), CostGuard(), tools=None)
    rebuilt = graph.builder.compile(checkpointer=InMemorySaver())
    for steered in (graph, rebuilt):
        assert dict(steered.get_subgraphs()) == {"agent": child}
        call(steered, GO, T1)
        paused = steered.get_state(T1, subgraphs=True)
        assert paused.interrupts[0].value == "what?"
        assert paused.tasks[0].state.next == ("ask",)
        pieces = stream(steered, Command(resume="42"), T1, stream_mode="updates", subgraphs=True)
        assert [len(where) for where, _ in pieces] == [1, 0]
        assert steered.get_state(T1).values["messages"][-1].text == "42"
    assert set(graph.get_graph(xray=True).nodes) == {"__start__", "agent:ask", "__end__"} or "ask" in str(
        graph.get_graph(xray=True).nodes
    )


def test_a_steered_graph_may_be_a_subgraph(call: Caller) -> None:
    with FakeProvider(again) as provider:
        guard = CostGuard(Budget(usd="0.004"), prices=PRICES)
        policies = steer(guard, loops=None, on_exceeded="interrupt")
        child = install(hand_written(provider.openai(max_tokens=20), [search]), guard, policies=policies)
        graph = parent_of(child, InMemorySaver())
        call(graph, GO, T1)
        paid = len(provider.requests)
        assert graph.get_state(T1).interrupts[0].value["type"] == "costguard.budget"
        call(graph, Command(resume={"approve": False}), T1)
        assert len(provider.requests) == paid
        assert "I have to stop here" in graph.get_state(T1).values["messages"][-1].text
        assert books_agree(guard, provider)


def test_models_and_tools_under_send_are_steered_each_for_itself(call: Caller) -> None:
    with FakeProvider("fine") as provider:
        model = provider.openai(max_tokens=20)
        builder = StateGraph(MessagesState)
        builder.add_node(
            "agent",
            RunnableLambda(
                lambda state: {"messages": [model.invoke(state["messages"])]},
                afunc=lambda state: asyncio.ensure_future(_answered(model, state)),
            ),
        )
        builder.add_node("tools", ToolNode([search]))
        builder.add_conditional_edges(
            START, lambda _: [Send("agent", {"messages": [HumanMessage(f"t{i}")]}) for i in range(4)], ["agent"]
        )
        requested = [
            {"name": "search", "args": {"query": f"q{i}"}, "id": f"c{i}", "type": "tool_call"} for i in range(3)
        ]
        builder.add_conditional_edges("agent", lambda _: [Send("tools", [c]) for c in requested], ["tools"])
        guard = CostGuard(Budget(model_calls=2, tool_calls=2), prices=PRICES)
        messages = call(install(builder.compile(), guard), GO, {"max_concurrency": 1})["messages"]
        texts = [m.text for m in messages if isinstance(m, AIMessage)]
        assert texts.count("fine") == 2
        assert sum("I have to stop here" in text for text in texts) == 2
        statuses = [m.status for m in messages if isinstance(m, ToolMessage)]
        assert (statuses.count("success"), statuses.count("error")) == (2, 10)
        assert books_agree(guard, provider)


async def _answered(model: Any, state: Any) -> Any:
    return {"messages": [await model.ainvoke(state["messages"])]}


@pytest.mark.parametrize(
    ("given", "world"), [("sync", "sync"), ("sync", "async"), ("async", "async"), ("both", "sync"), ("both", "async")]
)
def test_the_wrappers_a_tool_node_has_are_kept_inside_ours(given: str, call: Caller, world: str) -> None:
    seen_names: list[str] = []

    def wrap(request: Any, run: Any) -> Any:
        seen_names.append(request.tool_call["name"])
        return run(request)

    async def awrap(request: Any, run: Any) -> Any:
        seen_names.append(request.tool_call["name"])
        return await run(request)

    wrappers: dict[str, Any] = {"wrap_tool_call": wrap, "awrap_tool_call": awrap}
    if given != "both":
        del wrappers["awrap_tool_call" if given == "sync" else "wrap_tool_call"]
    with FakeProvider(again) as provider:
        model = provider.openai(max_tokens=20)
        builder = StateGraph(MessagesState)
        builder.add_node("agent", lambda state: {"messages": [model.bind_tools([search]).invoke(state["messages"])]})
        node = ToolNode([search], **wrappers)
        builder.add_node("tools", node)
        builder.add_edge(START, "agent")
        builder.add_conditional_edges("agent", tools_condition)
        builder.add_edge("tools", "agent")
        guard = CostGuard(Budget(tool_calls=2), prices=PRICES)
        messages = call(install(builder.compile(), guard, policies=steer(guard, loops=None)), GO)["messages"]
        assert seen_names == ["search"] * 3
        refused = [m for m in messages if isinstance(m, ToolMessage)][-1]
        assert refused.status == "error"
        assert guard.report().total.tool_calls == 2
        assert (node._wrap_tool_call, node._awrap_tool_call) == (
            wrappers.get("wrap_tool_call"),
            wrappers.get("awrap_tool_call"),
        ), "the host's own node is as it was"


# All else


def test_everything_else_of_the_graph_is_kept(provider: FakeProvider) -> None:
    builder = hand_written(provider.openai(), [search]).builder
    saver, store, cache = InMemorySaver(), InMemoryStore(), InMemoryCache()
    graph = builder.compile(
        checkpointer=saver,
        store=store,
        cache=cache,
        interrupt_before=["tools"],
        interrupt_after=["agent"],
        debug=False,
        name="mine",
    ).with_config(tags=["a"], metadata={"user": "u1"}, recursion_limit=7)
    graph.step_timeout = 12
    before = dict(graph.nodes)
    guard = CostGuard()
    steered = install(graph, guard)
    assert (steered.checkpointer, steered.store, steered.cache) == (saver, store, cache)
    assert (steered.interrupt_before_nodes, steered.interrupt_after_nodes) == (["tools"], ["agent"])
    assert (steered.name, steered.config, steered.step_timeout) == (
        "mine",
        {**graph.config, "callbacks": [guard]},
        12,
    )
    assert (steered.debug, steered.stream_transformers) == (graph.debug, graph.stream_transformers)
    assert steered.get_graph().draw_mermaid() == graph.get_graph().draw_mermaid()
    assert steered.get_graph().edges == graph.get_graph().edges
    assert graph.nodes == before, "the graph it was made of is as it was"
    assert graph.builder is builder


def test_interrupts_of_the_graph_itself_still_pause_it(call: Caller) -> None:
    with FakeProvider([Reply(tool_calls=[("search", {"query": "a"})]), "done"]) as provider:
        model = provider.openai(max_tokens=20)
        graph = hand_written(model, [search]).builder.compile(checkpointer=InMemorySaver(), interrupt_before=["tools"])
        guard = CostGuard(prices=PRICES)
        steered = install(graph, guard)
        call(steered, GO, T1)
        assert steered.get_state(T1).next == ("tools",)
        assert call(steered, None, T1)["messages"][-1].text == "done"
        assert len(provider.requests) == 2
        assert books_agree(guard, provider)


def test_a_cached_node_is_found_again_and_not_mistaken_for_another(call: Caller) -> None:
    """The cache knows nodes by their function: by the user's, not by ours, which every steered graph would share."""

    def graph_saying(node: Any, cache: Any) -> Any:
        builder = StateGraph(MessagesState)
        builder.add_node("agent", node, cache_policy=CachePolicy(key_func=lambda state: "k"))
        builder.add_edge(START, "agent")
        return builder.compile(cache=cache)

    ran: list[str] = []

    def one(state: MessagesState) -> Any:
        ran.append("one")
        return {"messages": [AIMessage("one")]}

    def two(state: MessagesState) -> Any:
        ran.append("two")
        return {"messages": [AIMessage("two")]}

    cache = InMemoryCache()  # type: ignore[var-annotated]
    call(graph_saying(one, cache), GO)
    for node in (one, two):
        steered = install(graph_saying(node, cache), CostGuard(), tools=None)
        assert call(steered, GO)["messages"][-1].text == node.__name__
    assert ran == ["one", "two"]


def test_a_graph_with_a_handler_for_every_error_is_steered(call: Caller) -> None:
    def fails(state: MessagesState) -> Any:
        raise ValueError("a bug")

    builder = StateGraph(MessagesState)
    builder.set_node_defaults(error_handler=lambda state: {"messages": [AIMessage("handled")]})
    builder.add_node("agent", fails)
    builder.add_edge(START, "agent")
    assert call(install(builder.compile(), CostGuard(), tools=None), GO)["messages"][-1].text == "handled"


@pytest.mark.parametrize("mode", ["values", "updates", "messages"])
def test_streams_of_each_mode_show_the_steered_run(mode: str, stream: Caller) -> None:
    with FakeProvider([Reply("hello there", tool_calls=[("search", {"query": "a"})])]) as provider:
        guard = CostGuard(Budget(model_calls=2), prices=PRICES)
        graph = hand_written(provider.openai(max_tokens=50), [search])
        pieces = stream(install(graph, guard, policies=steer(guard, loops=None)), GO, stream_mode=mode)
        if mode == "values":
            assert [len(piece["messages"]) for piece in pieces] == [1, 2, 3, 4, 5, 6]
        elif mode == "updates":
            assert [next(iter(piece)) for piece in pieces] == ["agent", "tools", "agent", "tools", "agent"]
        else:
            assert "".join(m.text for m, of in pieces if of["langgraph_node"] == "agent").startswith("hello there")
            assert "I have to stop here" in pieces[-1][0].text
            assert sum(m.text.startswith("hello") for m, _ in pieces) == 2
        assert len(provider.requests) == 2
        assert books_agree(guard, provider)


# What it says clearly


def test_it_says_clearly_what_it_cannot_steer(provider: FakeProvider) -> None:
    guard, graph = CostGuard(), hand_written(provider.openai(), [search])
    with pytest.raises(ValueError, match=r"model: the graph has no node 'model'; its nodes are 'agent', 'tools'"):
        install(graph, guard, model="model")
    with pytest.raises(ValueError, match=r"tools: the graph has no node 'tool'; .* \(tools=None steers none\)"):
        install(graph, guard, tools="tool")
    with pytest.raises(ValueError, match="graph: a StateGraph is no compiled StateGraph; compile"):
        install(graph.builder, guard)
    with pytest.raises(ValueError, match="graph: a ChatOpenAI is no compiled StateGraph"):
        install(provider.openai(), guard)
    with pytest.raises(ValueError, match=r"tools: node 'agent' is no ToolNode.*guarded_tools\(tools, guard\)"):
        install(graph, guard, tools="agent")
    with pytest.raises(ValueError, match=r"messages_key: the graph's state has no key 'history' .* but 'messages'"):
        install(graph, guard, messages_key="history")
    with pytest.raises(ValueError, match=r"policies: .* is not what steer\(\) returns for this guard"):
        install(graph, guard, policies=steer(CostGuard()))


def test_a_state_without_messages_can_be_steered_where_no_reply_has_to_go_into_it(call: Caller) -> None:
    class Plain(TypedDict):
        answer: str

    with FakeProvider([Reply(status=503), "fine"]) as provider:
        model = provider.openai(max_tokens=20)
        builder = StateGraph(Plain)
        builder.add_node("agent", lambda state: {"answer": model.invoke("go").text})
        builder.add_edge(START, "agent")
        guard = CostGuard(Budget(model_calls=2), prices=PRICES)  # one that failed is a model call, too
        policies = steer(guard, retry=QUICK, on_exceeded="raise")
        graph = install(builder.compile(), guard, tools=None, policies=policies)
        assert call(graph, {"answer": ""}) == {"answer": "fine"}
        with pytest.raises(BudgetExceededError), guard.scope(session=guard.session):
            call(graph, {"answer": ""})


# Cancellation


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_a_cancelled_run_holds_nothing_and_the_books_agree(how: str) -> None:
    with FakeProvider("four little words here", gate=True) as provider:
        guard = CostGuard(Budget(usd="1.00"), prices=PRICES)
        graph = install(hand_written(provider.openai(max_tokens=20), [search]), guard)

        async def run() -> None:
            task = asyncio.create_task(graph.ainvoke(GO))
            await asyncio.to_thread(provider.wait_for_requests, 1)
            if how == "cancel":
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(task, 0.001)

        asyncio.run(run())
        provider.wait_until_idle()
        assert not any(row.held for row in guard.headroom().rows)
        assert all(c.state != "open" for c in guard.meter.open_calls.values())
