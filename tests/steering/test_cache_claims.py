"""One gets the answer for all who ask at once: nobody waits for himself, for nothing, or for who has gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from langchain_costguard import CostGuard
from langchain_costguard.caching import MemoryCache
from langchain_costguard.steering import CacheNode, SteeredModel, steer
from langchain_costguard.testing import FakeProvider
from tests.conftest import PRICES, Caller
from tests.steering.seams import taking_notes

GO: Any = {"messages": [HumanMessage("hi")]}


@pytest.fixture
def gated() -> Iterator[FakeProvider]:
    with FakeProvider("once", gate=True) as provider:
        yield provider
        provider.gate.set()


def steered(provider: FakeProvider, cache: Any, **options: Any) -> Any:
    return SteeredModel(provider.openai(temperature=0), steer(CostGuard(prices=PRICES, **options), cache=cache))


class OnThreads(MemoryCache):
    """As slow as a file or a server may be; remembers where it was asked, and in vain by whom."""

    quick = False

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[str, set[int]] = {}
        self.denied = 0
        self.entered, self.go_on, self.left = threading.Event(), threading.Event(), threading.Event()
        self.go_on.set()

    def _here(self, verb: str) -> None:
        self.asked.setdefault(verb, set()).add(threading.get_ident())

    def get(self, key: str, *, now: float) -> Any:
        self._here("get")
        return super().get(key, now=now)

    def put(self, key: str, entry: Any, *, now: float) -> None:
        self._here("put")
        super().put(key, entry, now=now)

    def claim(self, key: str, holder: str, *, until: float, now: float) -> bool:
        self._here("claim")
        self.entered.set()
        self.go_on.wait()
        claimed = super().claim(key, holder, until=until, now=now)
        self.denied += not claimed
        self.left.set()
        return claimed

    def release(self, key: str, holder: str) -> None:
        self._here("release")
        super().release(key, holder)


def test_an_event_loop_is_not_blocked_by_a_cache_that_takes_its_time(provider: FakeProvider) -> None:
    cache = OnThreads()

    async def ask() -> int:
        await steered(provider, cache).ainvoke("hi")
        return threading.get_ident()

    loop = asyncio.run(ask())
    assert set(cache.asked) == {"get", "put", "claim", "release"}
    assert not any(loop in threads for threads in cache.asked.values())


def test_a_cache_in_memory_is_asked_on_the_spot(provider: FakeProvider) -> None:
    class Here(OnThreads):
        quick = MemoryCache.quick

    cache = Here()

    async def ask() -> int:
        await steered(provider, cache).ainvoke("hi")
        return threading.get_ident()

    loop = asyncio.run(ask())
    assert all(threads == {loop} for threads in cache.asked.values())


def test_who_is_cancelled_as_it_claims_leaves_no_claim(provider: FakeProvider) -> None:
    cache = OnThreads()
    cache.go_on.clear()

    async def ask() -> str:
        model = steered(provider, cache)
        gone = asyncio.create_task(model.ainvoke("hi"))
        await asyncio.to_thread(cache.entered.wait)
        gone.cancel()
        await asyncio.wait([gone])
        cache.go_on.set()
        await asyncio.to_thread(cache.left.wait)
        return str((await asyncio.wait_for(model.ainvoke("hi"), 10)).text)

    assert asyncio.run(ask()) == "four little words here"
    assert cache.denied == 0


@pytest.mark.parametrize("verb", ["ainvoke", "astream"])
def test_who_is_cancelled_as_it_gets_the_answer_leaves_it_to_the_next(verb: str, gated: FakeProvider) -> None:
    model = steered(gated, OnThreads())

    async def first() -> None:
        if verb == "ainvoke":
            await model.ainvoke("hi")
        else:
            async for _ in model.astream("hi"):
                pass

    async def ask() -> str:
        gone = asyncio.create_task(first())
        await asyncio.to_thread(gated.wait_for_requests, 1)
        next_one = asyncio.create_task(model.ainvoke("hi"))
        gone.cancel()
        await asyncio.wait([gone])
        gated.gate.set()
        return str((await asyncio.wait_for(next_one, 10)).text)

    assert asyncio.run(ask()) == "once"


def test_a_task_started_while_the_answer_is_read_does_not_wait_for_its_reader(provider: FakeProvider) -> None:
    model = steered(provider, MemoryCache())

    async def ask() -> str:
        pieces = model.astream("hi")
        await anext(pieces)
        inner = await asyncio.wait_for(asyncio.create_task(model.ainvoke("hi")), 10)
        assert [piece async for piece in pieces]
        return str(inner.text)

    assert asyncio.run(ask()) == "four little words here"
    assert len(provider.requests) == 2


def test_a_cached_model_in_a_cached_node_does_not_wait_for_its_node(call: Caller, provider: FakeProvider) -> None:
    cache, clock = OnThreads(), count(1_000_000, 5)
    guard = CostGuard(prices=PRICES, clock=lambda: float(next(clock)))
    model = SteeredModel(provider.openai(temperature=0), steer(guard, cache=cache))

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    node = CacheNode(guard, cache, answer, model=model)
    graph = StateGraph(MessagesState).add_node("model", node).add_edge(START, "model").compile()
    assert call(graph, GO)["messages"][-1].text == "four little words here"
    assert cache.denied <= 1


def test_where_nothing_is_remembered_nobody_waits_for_another_twice(gated: FakeProvider) -> None:
    model = gated.openai(temperature=0)

    graph = taking_notes(model)
    gated.gate.set()
    graph.invoke(GO)  # type: ignore[call-overload]
    gated.gate.clear()
    with ThreadPoolExecutor(5) as pool:
        asking = [pool.submit(graph.invoke, GO) for _ in range(5)]  # type: ignore[arg-type]
        try:
            gated.wait_for_requests(6)
        finally:
            gated.gate.set()
        assert {done.result()["notes"] for done in asking} == {"once"}
