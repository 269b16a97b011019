"""A thread is made to fit at each seam: what is sent, what stays, what it costs, and what is said of it."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ClearToolUsesEdit, ContextEditingMiddleware, SummarizationMiddleware
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph

from langchain_costguard import Budget, BudgetExceededError, CostGuard, Price
from langchain_costguard.context import Context
from langchain_costguard.events import CallSettled, ContextCompacted, ContextTrimmed, ContextWarning, Refetched
from langchain_costguard.steering import ContextNode, SteeredModel, install, steer
from langchain_costguard.testing import FakeProvider, Recorder, Reply
from langchain_costguard.testing.requests import Request
from tests.conftest import Caller
from tests.steering.seams import hand_written

CLAUDE = "claude-sonnet-4-6"
PRICES = {
    CLAUDE: Price(input="3", output="15", cache_read="0.30", cache_write="3.75", cache_write_1h="6"),
    "gpt-4o": Price(input="2.50", output="10", cache_read="1.25"),
    "gpt-4o-mini": Price(input="0.15", output="0.60", cache_read="0.075"),
}
TASK = "Find a berth for my boat Daisy-77."
QUIET: dict[str, Any] = {"loops": None, "breaker": None}
STEPS = 16


@tool
def search(query: str) -> str:
    """Search the harbour's book."""
    return "\n".join(f"{query}: berth {n * 37 % 91} of boat b-{n} has bells of brass." for n in range(70))


def searching(steps: int = STEPS, cached: int = 100_000) -> Callable[[Request], Reply]:
    """An agent's model: so many searches, then an answer. All but the newest of its prompt is read from the cache."""
    counter = iter(range(1, 10_000))

    def reply(request: Request) -> Reply:
        made, words = next(counter), request.count_input()
        usage = None
        if request.path.endswith("/messages"):
            usage = {
                "input_tokens": 10,
                "cache_read_input_tokens": min(cached, words),
                "cache_creation_input_tokens": words,
                "output_tokens": 20,
            }
        if made % (steps + 1):
            text = f"I will look for berth {made} next."
            return Reply(text, tool_calls=[("search", {"query": f"q{made:03}"})], usage=usage)
        return Reply("It is berth 7.", usage=usage)

    return reply


@pytest.fixture
def agents(provider_of: Callable[..., FakeProvider]) -> Callable[..., Any]:
    """Makes an agent with a context policy, and what it is watched by."""

    def make(context: Context, *, checkpointer: Any = None, provider: FakeProvider | None = None, **more: Any) -> Any:
        provider = provider or provider_of(searching())
        recorder = Recorder()
        guard = CostGuard(*more.pop("budgets", ()), prices=more.pop("prices", PRICES), sinks=[recorder])
        middleware = [*more.pop("before", ()), *steer(guard, context=context, **QUIET, **more)]
        agent = create_agent(
            provider.anthropic(model=CLAUDE),
            [search],
            middleware=middleware,
            checkpointer=checkpointer or InMemorySaver(),
        )
        return agent, guard, provider, recorder

    return make


def config(thread: str = "t1") -> dict[str, Any]:
    return {"configurable": {"thread_id": thread}, "recursion_limit": 300}


def asked(text: str = TASK) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def prompts(provider: FakeProvider) -> list[str]:
    """What was sent, request by request, without the ids that each run makes up."""
    ids: dict[str, str] = {}

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: named(ids.setdefault(v, f"id{len(ids)}") if k in _IDS else v) for k, v in value.items()}
        return [named(each) for each in value] if isinstance(value, list) else value

    return [json.dumps(named(request.messages)) for request in provider.requests]


_IDS = ("id", "tool_use_id", "tool_call_id")


# What is sent


def test_a_long_thread_is_sent_short_with_its_task_and_stays_whole_in_the_state(agents: Any, call: Caller) -> None:
    agent, guard, provider, recorder = agents(Context(cap=400))
    call(agent, asked(), config())
    state = agent.get_state(config()).values
    assert len(state["messages"]) == 2 * STEPS + 2
    assert all(len(str(m.text)) > 3_000 for m in state["messages"] if isinstance(m, ToolMessage))
    sent = prompts(provider)
    assert all(TASK in prompt for prompt in sent)
    assert len(sent[-1]) < 30_000
    assert "Summary of the earlier part" in sent[-1]
    done = recorder.of(ContextCompacted)
    assert done
    assert all(each.before > each.after > 0 and each.expected_calls > 0 and each.cost > 0 for each in done)
    total = guard.report().contexts.total
    assert total.compactions == total.breaks == len(done)
    assert total.cut > total.kept > 0
    assert total.net == sum(event.saved for event in recorder.of(ContextTrimmed)) > 0
    assert "net" in str(guard.report().contexts)


def test_the_old_part_of_a_prompt_changes_only_with_a_compaction(agents: Any) -> None:
    agent, _, provider, recorder = agents(Context(cap=400))
    agent.invoke(asked(), config())
    sent = prompts(provider)
    breaks = sum(not after.startswith(before[:-1]) for before, after in pairwise(sent))
    assert breaks == len(recorder.of(ContextCompacted)) < STEPS / 4


def test_sync_and_async_send_the_same(agents: Any) -> None:
    first, _, one, _ = agents(Context(cap=400))
    first.invoke(asked(), config())
    second, _, two, _ = agents(Context(cap=400))
    asyncio.run(second.ainvoke(asked(), config()))
    assert prompts(one) == prompts(two)


def test_a_run_resumed_in_another_process_goes_on_with_the_same_bytes(
    agents: Any, provider_of: Any, tmp_path: Path
) -> None:
    with SqliteSaver.from_conn_string(str(tmp_path / "c.db")) as saver:
        agent, _, provider, _ = agents(Context(cap=400), checkpointer=saver, provider=provider_of(searching(18)))
        agent.invoke(asked(), config())
        before = prompts(provider)[-1]
    with SqliteSaver.from_conn_string(str(tmp_path / "c.db")) as saver:
        # Reading costs next to nothing there, so that no compaction is due.
        prices = {CLAUDE: Price(input="3", output="15", cache_read="0.000001", cache_write="3.75")}
        agent, _, provider, _ = agents(Context(cap=400), checkpointer=saver, prices=prices)
        agent.invoke(asked("And one for Olga-5."), config())
        first = prompts(provider)[0]
    assert "Summary of the earlier part" in before
    before, first = (re.sub(r'"id\d+"', '"id"', prompt) for prompt in (before, first))
    assert first.startswith(before[:-1])


def test_time_travel_goes_back_to_the_edit_of_that_time(agents: Any) -> None:
    agent, _, provider, _ = agents(Context(cap=400))
    agent.invoke(asked(), config())
    history = list(agent.get_state_history(config()))
    early = next(state for state in history if len(state.values.get("messages", ())) == 9 and state.next == ("model",))
    count = len(provider.requests)
    agent.invoke(None, early.config)
    assert "Summary" not in prompts(provider)[count]


def test_two_threads_of_one_agent_have_an_edit_each(agents: Any, provider_of: Any) -> None:
    agent, _, provider, _ = agents(Context(cap=400), provider=provider_of(searching(2 * STEPS)))
    together = [
        threading.Thread(target=agent.invoke, args=(asked(f"Find a berth for {name}."), config(name)))
        for name in ("Anna-1", "Olga-2")
    ]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    sent = prompts(provider)
    assert all(("Anna-1" in prompt) != ("Olga-2" in prompt) for prompt in sent)
    records = [agent.get_state(config(name)).values["costguard_context"] for name in ("Anna-1", "Olga-2")]
    assert records[0]["keys"][0] != records[1]["keys"][0]


# Long results


def test_the_whole_of_a_cut_result_can_be_fetched(agents: Any, provider_of: Any, call: Caller) -> None:
    def reply(request: Request) -> Reply:
        if request.number == 1:
            return Reply("", tool_calls=[("search", {"query": "q"})])
        id = json.dumps(request.messages).rpartition('fetch_result(id=\\"')[2][:10]
        return Reply("", tool_calls=[("fetch_result", {"id": id, "part": 1})]) if request.number == 2 else Reply("done")

    agent, guard, provider, recorder = agents(Context(cap=100), provider=provider_of(reply))
    state = call(agent, asked(), config())
    fetched = [m for m in state["messages"] if isinstance(m, ToolMessage) and m.name == "fetch_result"]
    assert fetched[0].text == search.invoke({"query": "q"})
    assert [event.tokens > 500 for event in recorder.of(Refetched)] == [True]
    assert guard.report().contexts.total.refetched == 1
    assert all("fetch_result" in [each.name for each in request.tools] for request in provider.requests)


@pytest.mark.parametrize(
    ("result", "context"),
    [
        (ToolMessage("x " * 5_000, tool_call_id="1", name="search", status="error"), Context(cap=100)),
        (ToolMessage("x " * 5_000, tool_call_id="1", name="policy_read"), Context(cap=100, exclude_tools=["policy_*"])),
        (ToolMessage("x " * 5_000, tool_call_id="1", name="search"), Context(cap=None)),
        (ToolMessage("short", tool_call_id="1", name="search"), Context(cap=100)),
    ],
)
def test_what_is_exempt_is_not_cut(result: ToolMessage, context: Context, provider: FakeProvider, call: Caller) -> None:
    guard = CostGuard(prices=PRICES)
    asking: list[BaseMessage] = [
        HumanMessage(TASK), AIMessage("", tool_calls=[{"name": result.name, "args": {}, "id": "1"}]), result
    ]  # fmt: skip
    steering = steer(guard, context=context, **QUIET)
    call(SteeredModel(provider.openai().bind_tools([steering.fetch_result]), steering), asking)
    assert provider.requests[0].messages[-1]["content"] == result.content


# At each seam


@pytest.mark.parametrize("seam", ["chain", "graph", "node", "graph whose messages have no reducer"])
def test_every_seam_sends_the_same_thread_short(seam: str, provider_of: Any, world: str, tmp_path: Path) -> None:
    recorder = Recorder()
    provider, guard = provider_of("done"), CostGuard(prices=PRICES, sinks=[recorder])
    thread = conversation(18)
    context = Context(cap=600, store=str(tmp_path / "stash.db"))
    runnable = at_seam(seam, guard, provider.openai(), context)
    for end in range(13, len(thread) + 1, 2):
        so_far = thread[:end]
        value: Any = so_far if seam == "chain" else {"messages": so_far}
        sync = world == "sync"
        value = runnable.invoke(value, config()) if sync else asyncio.run(runnable.ainvoke(value, config()))
        if "graph" in seam:  # what is sent is short, what is kept is not
            assert [m.text for m in value["messages"][:-1]] == [m.text for m in so_far]
            assert value["messages"][-1].text == "done"
    sent = prompts(provider)
    assert all(TASK in prompt for prompt in sent)
    assert recorder.of(ContextCompacted)
    assert all(len(prompt) < 25_000 for prompt in sent)
    other = at_seam(seam, CostGuard(prices=PRICES), provider.openai(), context)  # as another process would
    value = thread if seam == "chain" else {"messages": thread}
    other.invoke(value, config())
    assert prompts(provider)[-1] == sent[-1]


def conversation(steps: int) -> list[BaseMessage]:
    thread: list[BaseMessage] = [HumanMessage(TASK)]
    for n in range(steps):
        call: Any = {"name": "search", "args": {"query": f"q{n}"}, "id": f"c{n}"}
        known: Any = {"model_name": "gpt-4o", "model_provider": "openai"}
        thread.append(AIMessage(f"I will look for berth {n}.", tool_calls=[call], response_metadata=known))
        thread.append(ToolMessage(search.invoke({"query": f"q{n}"}), tool_call_id=f"c{n}", name="search"))
    return thread


def at_seam(seam: str, guard: CostGuard, model: Any, context: Context) -> Any:
    steering = steer(guard, context=context, **QUIET)
    if seam == "chain":
        return SteeredModel(model.bind_tools([search, steering.fetch_result]), steering)
    if seam == "graph":
        return install(hand_written(model, [search, steering.fetch_result]), guard, policies=steering)

    if seam.startswith("graph whose"):
        return install(replacing(model.bind_tools([steering.fetch_result])), guard, tools=None, policies=steering)

    class State(MessagesState):
        llm_input_messages: list[BaseMessage]

    def answer(state: State) -> dict[str, Any]:
        return {"messages": [model.invoke(state["llm_input_messages"])]}

    builder = StateGraph(State).add_node("context", ContextNode(guard, context, model=model)).add_node("model", answer)
    return builder.add_edge(START, "context").add_edge("context", "model").compile()


class Replacing(TypedDict):
    messages: list[BaseMessage]


def replacing(model: Any) -> Any:
    """A graph whose node returns all messages."""

    def answer(state: Replacing) -> dict[str, Any]:
        return {"messages": [*state["messages"], model.invoke(state["messages"])]}

    return StateGraph(Replacing).add_node("agent", answer).add_edge(START, "agent").compile()


# Summaries by a model


def summarised(provider: FakeProvider) -> Context:
    return Context(cap=400, summary=provider.openai("gpt-4o-mini"))


def test_a_model_s_summary_is_made_beside_the_run_metered_as_a_step_and_in_no_stream(
    agents: Any, provider_of: Any
) -> None:
    summaries = provider_of("USER: wants a berth.\nSTATE: looked at many.")
    agent, guard, provider, recorder = agents(summarised(summaries))
    seen = [
        piece.text
        for piece, _ in agent.stream(asked(), config(), stream_mode="messages")
        if isinstance(piece, AIMessage)
    ]
    summaries.wait_until_idle()
    agent.invoke(asked("Go on."), config())
    assert "wants a berth" not in "".join(seen)
    assert "wants a berth" in prompts(provider)[-1]
    assert "model" in {event.summary for event in recorder.of(ContextCompacted)}
    steps = {row["step"] for row in guard.report().by("step").to_dicts()}
    assert "context" in steps
    assert {event.scope.session for event in recorder.of(CallSettled)} == {"t1"}


@pytest.mark.parametrize("how", ["refused", "failed", "empty", "no thread"])
def test_a_summary_that_comes_to_nothing_ends_as_a_digest(
    how: str, agents: Any, provider_of: Any, no_more_threads: Callable[[str], None]
) -> None:
    answers = {"failed": Reply(status=400), "empty": " "}
    summaries = provider_of(answers.get(how, "a summary"))
    if how == "no thread":
        no_more_threads("costguard-context")
    budgets = [Budget(per="step", usd="0.0000001", only={"step": "context"})] if how == "refused" else []
    agent, _, provider, recorder = agents(summarised(summaries), budgets=budgets)
    agent.invoke(asked(), config())
    summaries.wait_until_idle()
    for n in range(3):
        agent.invoke(asked(f"Go on {n}."), config())
    assert {event.summary for event in recorder.of(ContextCompacted)} == {"digest"}
    assert "Summary of the earlier part" in prompts(provider)[-1]


# What is said


def test_a_thread_is_warned_of_once_at_each_level(agents: Any, call: Caller) -> None:
    agent, _, _, recorder = agents(Context(cap=None, window=20_000, warn_at=(0.5, 8_000)))
    call(agent, asked(), config())
    call(agent, asked("And another."), config())
    told = recorder.of(ContextWarning)
    assert sorted(event.level for event in told) == [0.5, 8_000]
    assert all(event.tokens > 8_000 and event.window == 20_000 for event in told)


# When it does not fit


@pytest.mark.parametrize("steps", [3, 20])
def test_a_prompt_that_the_provider_finds_too_long_is_compacted_and_sent_once_more(
    steps: int, provider_of: Any, call: Caller
) -> None:
    def reply(request: Request) -> Reply:
        if request.count_input() > 1_200:
            return Reply(status=400, error="prompt is too long", code="context_length_exceeded")
        return Reply("done")

    provider, recorder = provider_of(reply), Recorder()
    guard = CostGuard(prices=PRICES, sinks=[recorder])
    steering = steer(guard, context=Context(cap=200, keep=1), **QUIET)
    model = SteeredModel(provider.openai().bind_tools([steering.fetch_result]), steering)
    thread = conversation(steps)
    if steps == 3:  # protected throughout: nothing can go
        thread = [HumanMessage(TASK + " boat" * 2_000)]
        with pytest.raises(Exception, match="too long"):
            call(model, thread)
        assert len(provider.requests) == 1
        return
    assert call(model, thread).text == "done"
    assert len(provider.requests) in (1, 2)
    assert recorder.of(ContextCompacted)


def test_anthropic_is_asked_to_clear_as_much_at_a_time_as_pays(agents: Any) -> None:
    agent, _, provider, _ = agents(Context(server=True))
    agent.invoke(asked(), config())
    bodies = [request.body for request in provider.requests]
    edits = [body["context_management"]["edits"][0] for body in bodies]
    assert {edit["type"] for edit in edits} == {"clear_tool_uses_20250919"}
    assert all(edit["clear_at_least"]["value"] >= 1_000 for edit in edits)
    assert "Summary" not in prompts(provider)[-1]


# Beside others


@pytest.mark.parametrize("other", ["summarization", "clearing"])
def test_beside_langchain_s_own_nothing_is_done_twice_and_their_calls_are_metered(
    other: str, agents: Any, provider_of: Any
) -> None:
    summaries = provider_of("They looked for berths.")
    middleware: Any = (
        SummarizationMiddleware(summaries.openai("gpt-4o-mini"), trigger=("tokens", 6_000), keep=("messages", 6))
        if other == "summarization"
        else ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=6_000, keep=3)])
    )
    agent, guard, provider, _ = agents(Context(cap=400), before=[middleware])
    agent.invoke(asked(), {**config(), "callbacks": [guard]})
    assert agent.get_state(config()).values["messages"][-1].text == "It is berth 7."
    assert len(prompts(provider)[-1]) < 40_000
    metered = {row["model"] for row in guard.report().by("model").to_dicts() if row["calls"]}
    assert ("gpt-4o-mini" in metered) == (len(summaries.requests) > 0)


def test_what_a_budget_refuses_leaves_the_edit_to_the_next_call(agents: Any) -> None:
    agent, _, provider, recorder = agents(
        Context(cap=400), budgets=[Budget(per="session", model_calls=5)], on_exceeded="raise"
    )
    with pytest.raises(BudgetExceededError):
        agent.invoke(asked(), config())
    assert len(provider.requests) == 5
    assert recorder.of(ContextCompacted) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("window", 10), ("cap", 0), ("cap", "many"), ("keep", 0), ("summary", 7), ("summary", ""), ("protect", len),
        ("exclude_tools", "search"), ("warn_at", 0.5), ("warn_at", (0,)), ("store", 7), ("ttl", 0), ("server", 1),
    ],
)  # fmt: skip
def test_a_choice_that_cannot_be_is_named_at_once(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        Context(**{field: value})
