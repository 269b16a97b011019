"""What a remembered reply is worth, and which replies are no answers of the model's alone."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from langchain_costguard import CostGuard, Price
from langchain_costguard.caching import MemoryCache
from langchain_costguard.events import Recalled
from langchain_costguard.routing import Cascade
from langchain_costguard.steering import CacheNode, SteeredModel, steer
from langchain_costguard.testing import FakeProvider, Recorder
from tests.conftest import PRICES, Caller

BOTH = PRICES | {"gpt-4o-mini": Price(input="0.15", output="0.60")}


def test_a_hit_saves_what_the_tier_that_answered_took(call: Caller, provider: FakeProvider, recorder: Recorder) -> None:
    guard = CostGuard(prices=BOTH, sinks=[recorder])
    weak, strong = provider.openai("gpt-4o-mini", temperature=0), provider.openai(temperature=0)
    cascade = Cascade(tiers=[weak, strong], confidence=None)
    model = SteeredModel(strong, steer(guard, cache=MemoryCache(), cascade=cascade))
    call(model, "hi")
    spent = guard.report().total.spent
    call(model, "hi")
    assert [hit.saved for hit in recorder.of(Recalled)] == [spent]


def test_what_a_person_had_a_say_in_is_no_answer_for_the_next_run(call: Caller, provider: FakeProvider) -> None:
    model = provider.openai(temperature=0)
    asked = []

    def answer(state: MessagesState) -> dict[str, Any]:
        said = interrupt("How long?")
        asked.append(said)
        return {"messages": [model.invoke([*state["messages"], HumanMessage(said)])]}

    node = CacheNode(CostGuard(prices=PRICES), MemoryCache(), answer, model=model)
    builder = StateGraph(MessagesState).add_node("model", node).add_edge(START, "model")
    graph = builder.compile(checkpointer=InMemorySaver())
    for thread, wanted in (("a", "short"), ("b", "long")):
        config = {"configurable": {"thread_id": thread}}
        paused = call(graph, {"messages": [HumanMessage("hi")]}, config)
        assert [pause.value for pause in paused["__interrupt__"]] == ["How long?"]
        call(graph, Command(resume=wanted), config)
    assert asked == ["short", "long"]
