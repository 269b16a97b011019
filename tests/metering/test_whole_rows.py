"""Every measure of the ledger and every column of the report, of each kind of act: what it is not is zero."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from langchain_costguard import Budget, CostGuard
from langchain_costguard.metering.budgets.budget import MEASURES
from langchain_costguard.observe.report import Tally
from langchain_costguard.testing import FakeProvider, Reply
from tests.conftest import PRICES, Caller

CAP = 10**9
PROMPT = "word " * 150
"""More than is billed for: no call overruns."""
LIMITS: dict[str, Any] = {name: CAP for name in MEASURES if name not in ("usd", "seconds")} | {"usd": "1000"}


class World:
    """A guard that counts everything for all, a provider, and what was held while an act was under way."""

    def __init__(self, call: Caller, *, listening: bool) -> None:
        self.heard = Counter[str]()
        sinks = [lambda event: self.heard.update([type(event).__name__])] if listening else []
        self.guard = CostGuard(Budget(per="all", **LIMITS), prices=PRICES, sinks=sinks, tool_prices={"search": "0.02"})
        self.held: dict[str, int] = {}
        self.reply = Reply("four little words here", input_tokens=100, output_tokens=4)
        self.provider = FakeProvider(self.answer)
        self._call = call

    def balances(self, what: str) -> dict[str, int]:
        """Of each measure, what is ``spent`` or ``held``, where that is not zero."""
        found = self.guard.store.read([f"all|{name}" for name in LIMITS], now=0)
        amounts = {name: getattr(balance, what) for name, balance in zip(LIMITS, found, strict=True)}
        return {name: amount for name, amount in amounts.items() if amount}

    def ask(self, thing: Any, value: Any) -> None:
        self._call(thing, value, {"callbacks": [self.guard]})

    def model(self) -> Any:
        return self.provider.openai(max_tokens=10)

    def answer(self, request: Any) -> Reply:
        self.held = self.balances("held")
        return self.reply


def plain(world: World) -> None:
    world.ask(world.model(), PROMPT)


def in_a_step(world: World) -> None:
    from langgraph.graph import END, START, StateGraph
    from langgraph.graph.message import MessagesState

    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [world.model().invoke(PROMPT)]})
    builder.add_edge(START, "model")
    builder.add_edge("model", END)
    world.ask(builder.compile(), {"messages": []})


def a_tool(world: World) -> None:
    @tool
    def search(query: str) -> str:
        """Search."""
        world.held = world.balances("held")
        return query

    world.ask(search, {"query": "x"})


def a_chain(world: World) -> None:
    world.ask(RunnableLambda(len), "x")


def remembered(world: World) -> None:
    set_llm_cache(InMemoryCache())
    world.model().invoke(PROMPT)  # of somebody else
    world.held = {}
    world.ask(world.model(), PROMPT)


def refused_by_the_provider(world: World) -> None:
    world.reply = Reply(status=400)
    with pytest.raises(Exception, match="400"):
        world.ask(world.model(), PROMPT)


COST = 100 * 2500 + 4 * 10_000
SPENT = {"usd": COST, "tokens": 104, "input_tokens": 100, "output_tokens": 4, "model_calls": 1}
ROW = Tally(calls=1, input_tokens=100, output_tokens=4, spent=COST)
ACTS: dict[Callable[[World], None], tuple[set[str], dict[str, int], Tally]] = {
    plain: ({*SPENT, "steps"}, {**SPENT, "steps": 1}, ROW),
    in_a_step: (set(SPENT), {**SPENT, "steps": 1}, ROW),
    a_tool: ({"usd", "tool_calls"}, {"usd": 20_000_000, "tool_calls": 1}, Tally(tool_calls=1, spent=20_000_000)),
    a_chain: (set(), {}, Tally()),
    remembered: (set(), {}, Tally(saved=COST)),
    refused_by_the_provider: ({*SPENT, "steps"}, {"model_calls": 1}, Tally(failed=1)),
}


@pytest.fixture(params=[False, True], ids=["nobody listens", "somebody listens"])
def scene(request: pytest.FixtureRequest, call: Caller) -> Iterator[World]:
    made = World(call, listening=request.param)
    with made.provider:
        yield made


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_an_act_is_counted_where_it_belongs_and_nowhere_else(act: Callable[[World], None], scene: World) -> None:
    held, spent, row = ACTS[act]
    for times in (1, 2, 3):  # the first makes what the others find
        set_llm_cache(None)
        scene.held = {}
        act(scene)
        assert set(scene.held) == held
        assert all(amount == 1 for name, amount in scene.held.items() if name in ("model_calls", "tool_calls", "steps"))
        assert scene.balances("held") == {}
        assert scene.balances("spent") == {name: amount * times for name, amount in spent.items()}
        if scene.heard and (row.calls or row.tool_calls):
            settled = scene.heard["CallSettled"] + scene.heard["ToolSettled"]
            assert scene.heard["CallStarted"] == settled == times
        total = dataclasses.asdict(scene.guard.report().total)
        assert total == {name: amount * times for name, amount in dataclasses.asdict(row).items()}
