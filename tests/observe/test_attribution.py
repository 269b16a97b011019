"""Trees, hand-offs and parts of a bill: they add up, on the ways in which agents work together."""

from __future__ import annotations

import operator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send

from langchain_costguard import Budget, CostGuard, Price
from langchain_costguard.observe import spend
from langchain_costguard.observe.attribution import Attribution
from langchain_costguard.observe.report import Report
from langchain_costguard.observe.spend import Spend
from langchain_costguard.testing import FakeProvider, ManualClock, Reply, Request
from tests.conftest import PRICES, Caller

FINDING = "The mill burned down in May, and nobody was hurt, as three letters of that year say."


class State(TypedDict):
    """What the agents share."""

    messages: Annotated[list[AnyMessage], add_messages]
    notes: Annotated[list[str], operator.add]


def answer(request: Request) -> Reply | str:
    """Whoever researches finds the same thing; whoever writes sums it up."""
    text = str(request.messages)
    if request.tools and not any(message.get("role") == "tool" for message in request.messages):
        return Reply(tool_calls=[("ask_researcher", {"question": "What happened?"})])
    return "It burned." if "Sum it up" in text or request.tools else FINDING


def research(model: Any) -> Any:
    return create_agent(model, [], name="research")


def write(model: Any) -> Any:
    return create_agent(model, [], name="write", system_prompt="Sum it up in three words.")


def supervised(model: Any) -> Any:
    """One after the other, by a node that says who is next."""

    def supervisor(state: State) -> Command[str]:
        said = len(state["messages"])
        return Command(goto="research" if said == 1 else "write" if said == 2 else END)

    graph = StateGraph(State)
    graph.add_node("supervisor", supervisor, destinations=("research", "write", END))
    for name, agent in (("research", research(model)), ("write", write(model))):
        graph.add_node(name, agent)
        graph.add_edge(name, "supervisor")
    graph.add_edge(START, "supervisor")
    return graph.compile()


def swarm(model: Any) -> Any:
    """Each hands over by itself."""
    graph = StateGraph(State)
    graph.add_node("research", research(model))
    graph.add_node("write", write(model))
    graph.add_edge(START, "research")
    graph.add_edge("research", "write")
    return graph.compile()


def in_a_tool(model: Any) -> Any:
    """A sub-agent in a tool of the one who writes."""
    inner = research(model)

    @tool
    def ask_researcher(question: str) -> str:
        """Ask."""
        return str(inner.invoke({"messages": [("user", question)]})["messages"][-1].content)

    return create_agent(model, [ask_researcher], name="write", system_prompt="Sum it up in three words.")


def sent(model: Any) -> Any:
    """Two researchers side by side, by ``Send``, and one who writes."""

    def work(state: State) -> Any:
        done = research(model).invoke({"messages": state["messages"]})
        return {"messages": [done["messages"][-1]]}

    graph = StateGraph(State)
    graph.add_node("work", work)
    graph.add_node("write", write(model))
    graph.add_conditional_edges(START, lambda state: [Send("work", {"messages": state["messages"]})], ["work"])
    graph.add_edge("work", "write")
    return graph.compile()


def quoted(model: Any) -> Any:
    """What one has found is a part of what the other is asked."""

    def ask(state: State) -> Any:
        found = research(model).invoke({"messages": state["messages"]})["messages"][-1].content
        text = f"Someone has looked into it. What they say: *{found}* Mind the tone."
        return {"messages": write(model).invoke({"messages": [("user", text)]})["messages"][-1:]}

    graph = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    return graph.compile()


@pytest.mark.parametrize("made", [supervised, swarm, in_a_tool, sent, quoted])
def test_what_one_agent_hands_to_another_is_priced_once_it_is_sent_again(made: Any, call: Caller) -> None:
    told = Attribution()
    guard = CostGuard(prices=PRICES, sinks=[told])
    with FakeProvider(answer) as provider, guard.scope(session="s1"):
        call(
            made(provider.openai()), {"messages": [HumanMessage("What happened at the mill?")]}, {"callbacks": [guard]}
        )
    (edge,) = told.handoffs().edges
    assert (edge.source, edge.target, edge.messages) == ("research", "write", 1)
    assert 0 < edge.tokens < provider.usage().input_tokens
    assert edge.spent == edge.tokens * 2_500
    assert 0 < told.handoffs().share_again < 1
    why = told.why(session="s1")
    assert sum(why.parts.values()) == why.spent == guard.report().total.spent
    assert why.parts["hand-offs"] > 0
    assert "hand-offs" in why.sentence


def test_a_tree_rolls_up_to_the_bill_in_every_form(call: Caller) -> None:
    told = Attribution()
    guard = CostGuard(prices=PRICES, tool_prices={"ask_researcher": "0.001"}, sinks=[told])
    with FakeProvider(answer) as provider:
        for feature, session in (("history", "s1"), ("history", "s2"), ("news", "s3")):
            with guard.scope(feature=feature, session=session):
                call(in_a_tool(provider.openai()), {"messages": [("user", "What happened?")]}, {"callbacks": [guard]})
    spent = guard.report().total.spent
    for tree in (told.tree(), guard.report().tree()):
        rows = tree.to_dicts()
        assert tree.root.spent == spent
        for depth in range(5):
            assert sum(row["usd"] for row in rows if row["depth"] == depth) == rows[0]["usd"]
        assert [row["name"] for row in rows if row["level"] == "feature"] == ["history", "news"]
        assert {row["name"] for row in rows if row["level"] == "agent"} == {"research", "write"}
        assert "└─ " in str(tree)
        assert "<details" in tree._repr_html_()
    assert told.tree("agent", session="s1").root.spent < spent
    with pytest.raises(ValueError, match="levels: 'team'"):
        told.tree("team")
    with pytest.raises(ValueError, match="where: 'team'"):
        told.tree(team="a")


def test_a_report_says_why_whether_calls_are_kept_are_in_a_log_or_are_sums(
    call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock = str(tmp_path / "spend.db"), ManualClock(1_800_000_000.0)  # at eight: by six the day's budget is spent
    monkeypatch.setattr(spend, "time", SimpleNamespace(time=clock))
    ways: dict[str, dict[str, Any]] = {
        "sums": {}, "kept": {"sinks": [Attribution(clock=clock)]}, "a log": {"log": str(tmp_path / "plain.db")},
        "both": {"sinks": [Attribution(clock=clock)], "log": path},
    }  # fmt: skip
    told = {}
    for way, options in ways.items():
        budget = Budget(per="user", usd="1", window="day")
        guard = CostGuard(budget, prices=PRICES, tool_prices={"ask_researcher": "0.001"}, clock=clock, **options)
        with FakeProvider(answer) as provider, guard.scope(session="s1", user="u1", feature="mills"):
            for made in (in_a_tool, quoted):
                call(made(provider.openai()), {"messages": [HumanMessage("What happened?")]}, {"callbacks": [guard]})
        reports: list[Any] = [guard.report(), guard.report().by("model")]
        if "log" in options:
            assert guard.log is not None
            guard.log.flush()
            reports.append(Spend(options["log"]))
        for report in reports:
            why = report.why(session="s1")
            assert sum(why.parts.values()) == why.spent == guard.report().total.spent, way
            assert why.parts["tools"] == 1_000_000
            assert (report.forecast().budget, report.forecast().feature) == ("user.day", "mills"), way
            if way in ("sums", "a log"):
                assert "sinks=[Attribution()]" in str(why)
                with pytest.raises(ValueError, match=r"handoffs: .*sinks=\[Attribution\(\)\]"):
                    report.handoffs()
            else:
                told[way, len(told)] = (why.parts, report.handoffs().to_dicts())
        assert {tree.root.spent for tree in (report.tree("feature") for report in reports[::2])} == {why.spent}
    assert all(found == told["kept", 0] for found in told.values())
    assert len(told) == 5
    with pytest.raises(ValueError, match="this report is of no guard and of no log"):
        Report(()).why()


def usage(prompt: int, output: int, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def test_the_parts_of_a_bill_name_what_made_it_and_add_up() -> None:
    long = "An old text about mills. " * 40
    told = Attribution()
    prices = {
        "gpt-4o": Price(input="2.50", cache_read="1.25", output="10"),
        "gpt-4o-mini": Price(input="0.15", cache_read="0.075", output="0.60"),
    }
    guard = CostGuard(prices=prices, sinks=[told], tool_prices={"look": "0.002"})
    config: Any = {"callbacks": [guard]}

    @tool
    def look(query: str) -> str:
        """Look."""
        return query

    replies = [
        Reply("First answer, at length.", usage=usage(1_000, 50, reasoning=40)),
        Reply("Second answer, at length.", usage=usage(1_100, 50, cached=400)),
        Reply("Second answer, at length.", usage=usage(1_100, 50)),
        Reply("Third.", usage=usage(1_000, 10)),
    ]
    with FakeProvider(replies) as provider, guard.scope(session="s1", agent="a"):
        model = provider.openai()
        first = [("system", long), ("user", "What is a mill?")]
        model.invoke(first, config)
        second = [*first, ("ai", "First answer, at length."), ("user", "And a weir?")]
        model.invoke(second, config)
        model.invoke(second, config)
        provider.openai("gpt-4o-mini").invoke("Something short and new.", config)
        look.invoke({"query": "mills"}, config)
    why = told.why(session="s1")
    assert sum(why.parts.values()) == why.spent == guard.report().total.spent
    assert set(why.parts) == {"retries", "tier", "uncached prefix", "history", "reasoning", "tools", "the rest"}
    assert all(amount > 0 for amount in why.parts.values())
    assert why.parts["tools"] == 2_000_000
    assert why.sentence.startswith("Session s1 cost $0.0")
    assert str(why).endswith("100.0%")


def test_steps_that_repeat_are_loops() -> None:
    told = Attribution()
    guard = CostGuard(prices=PRICES, sinks=[told])

    @tool
    def look(query: str) -> str:
        """Look."""
        return "nothing"

    asking = Reply(tool_calls=[("look", {"query": "mill"})])
    with FakeProvider([asking, asking, asking, "I give up."]) as provider, guard.scope(session="s1"):
        agent = create_agent(provider.openai(), [look])
        agent.invoke({"messages": [("user", "Find the mill.")]}, {"callbacks": [guard]})
    calls = [paid for paid in told.calls() if paid.kind == "model"]
    assert told.why().parts["loops"] == calls[1].charge + calls[2].charge


def test_a_forecast_says_when_a_budget_ends_and_what_ends_it() -> None:
    clock = ManualClock(1_800_000_000.0)
    told = Attribution(clock=clock)
    guard = CostGuard(
        Budget(per="all", usd="1", window="month", name="month"), prices=PRICES, sinks=[told], clock=clock
    )
    with FakeProvider(Reply("x", usage=usage(4_000, 1))) as provider:
        for feature in ("small", "large", "large"):
            with guard.scope(feature=feature):
                provider.openai(max_tokens=1).invoke("hello", {"callbacks": [guard]})
            clock.advance(1_100)
    found = told.forecast()
    assert found.per_hour == round(30_030_000 / 3_300 * 3_600)
    assert (found.budget, found.feature) == ("month", "large")
    assert found.ends == pytest.approx(clock() + 970 / 30 * 3_300, rel=0.01)
    assert found.low <= found.month <= found.high
    assert "Budget month ends at" in str(found)
