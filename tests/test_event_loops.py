"""No event loop stands still for anything of ours: whatever may have to wait does so elsewhere, and still refuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListLLM

from langchain_costguard import (
    AgentHaltedError,
    Budget,
    BudgetExceededError,
    CostGuard,
    KillSwitch,
    MemoryStore,
    RedisStore,
    SQLiteStore,
)
from langchain_costguard.caching import SQLiteCache
from langchain_costguard.steering import Breaker, SteeredModel, steer
from langchain_costguard.testing import FakeProvider, Reply, ScriptedChatModel
from tests.conftest import PRICES
from tests.proxy import proxied
from tests.servers import Server

KINDS = ["memory", "sqlite", "redis"]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryStore()
        return
    if request.param == "sqlite":
        found: Any = SQLiteStore(tmp_path / "budgets.db")
    else:
        server: Server = request.getfixturevalue("server")
        found = RedisStore(server.url, namespace=tmp_path.name)
    yield found
    found.close()


def search(query: str) -> str:
    """Search."""
    return "three results"


def answer(request: Any) -> Any:
    asked = sum(message["role"] == "tool" for message in request.body["messages"])
    return Reply(tool_calls=[("search", {"query": f"q{asked}"})]) if asked < 2 else "done"


async def read(pieces: Any) -> None:
    async for _ in pieces:
        pass


HELLO = {"messages": [("user", "hi")]}


def agent(guard: CostGuard, model: Any, *, streamed: bool = False, **policies: Any) -> Any:
    middleware = steer(guard, **policies) if policies else ()
    graph = create_agent(model, [search], middleware=middleware)
    config: Any = {} if policies else {"callbacks": [guard]}
    if streamed:
        return lambda: read(graph.astream(HELLO, config, stream_mode="messages"))
    return lambda: graph.ainvoke(HELLO, config)


def asked(model: Any, *, streamed: bool = False) -> Any:
    return lambda: read(model.astream("hi")) if streamed else model.ainvoke("hi")


USES: dict[str, Callable[[CostGuard, Any, Path], Callable[[], Awaitable[Any]]]] = {
    "callbacks": lambda guard, model, folder: agent(guard, model),
    "callbacks, streamed": lambda guard, model, folder: agent(guard, model, streamed=True),
    "steer": lambda guard, model, folder: agent(guard, model, breaker=Breaker(shared=True), on_exceeded="end"),
    "steer with a cache": lambda guard, model, folder: agent(guard, model, cache=SQLiteCache(folder / "answers.db")),
    "steered model": lambda guard, model, folder: asked(SteeredModel(model, steer(guard))),
    "steered model, streamed": lambda guard, model, folder: asked(SteeredModel(model, steer(guard)), streamed=True),
    "wrap": lambda guard, model, folder: asked(guard.wrap(model)),
    "wrap, streamed": lambda guard, model, folder: asked(guard.wrap(model), streamed=True),
}


@pytest.mark.parametrize("use", USES)
def test_no_seam_blocks_the_loop_with_any_store(use: str, store: Any, tmp_path: Path) -> None:
    (tmp_path / "stop").mkdir()
    switch = KillSwitch(tmp_path / "stop" / "file", ttl=0.001)
    budgets = [Budget(per="session", usd="0.50", steps=100, tool_calls=50), Budget(per="user", usd="1", window="day")]
    guard = CostGuard(*budgets, store=store, switch=switch)
    with FakeProvider(answer) as provider:
        model = provider.openai(model="gpt-4o-mini")
        run = USES[use](guard, model, tmp_path)

        async def main() -> None:
            await model.ainvoke("the client's own files are read before we look")
            with blockbuster_ctx():
                await run()

        asyncio.run(main())
    assert guard.report().total.calls >= 1
    assert guard.report().total.spent > 0


@pytest.mark.parametrize("use", ["callbacks", "steer", "wrap"])
def test_a_store_far_away_costs_the_loop_nothing(use: str, server: Server, tmp_path: Path) -> None:
    """A loop that waited for the store would stand still for many round trips; it is asked the time meanwhile."""
    trip, calls, longest = 0.1, 20, 0.0
    with proxied(server.port, trip) as proxy, FakeProvider(answer) as provider:
        store = RedisStore(proxy.url, namespace=tmp_path.name, timeout=2)
        guard = CostGuard(Budget(per="all", usd="1"), store=store)
        run = USES[use](guard, provider.openai(model="gpt-4o-mini"), tmp_path)

        async def heart() -> None:
            nonlocal longest
            while True:
                before = time.monotonic()
                await asyncio.sleep(0.005)
                longest = max(longest, time.monotonic() - before)

        async def main() -> None:
            await run()
            beating = asyncio.create_task(heart())
            await asyncio.gather(*(run() for _ in range(calls)))
            beating.cancel()

        asyncio.run(main())
        store.close()
    assert longest < calls * trip  # each call makes two trips and more


@pytest.mark.parametrize("way", ["a sync call on the loop", "a text model beside a tracer", "a chat model", "a tool"])
def test_what_must_be_refused_is_refused_on_every_way(way: str, store: Any) -> None:
    guard = CostGuard(Budget(per="all", model_calls=1, tool_calls=1, usd="1"), store=store, prices=PRICES)

    class Tracer(BaseCallbackHandler):
        run_inline = True

    async def once() -> Any:
        config: Any = {"callbacks": [Tracer(), guard]}
        if way == "a sync call on the loop":
            return ScriptedChatModel(usage=(1, 1)).invoke("hi", config)
        if way == "a text model beside a tracer":
            return await FakeListLLM(responses=["a"] * 9).ainvoke("hi", config)
        if way == "a tool":
            from langchain_core.tools import tool

            return await tool(search).ainvoke({"query": "x"}, config)
        return await ScriptedChatModel(usage=(1, 1)).ainvoke("hi", config)

    async def main() -> None:
        await once()
        for _ in range(3):
            with pytest.raises(BudgetExceededError):
                await once()

    asyncio.run(main())
    assert guard.meter.open_calls == {}


def test_a_stop_is_heard_on_a_loop_too(store: Any) -> None:
    guard = CostGuard(Budget(per="all", usd="1"), store=store, prices=PRICES)

    async def main() -> None:
        await ScriptedChatModel(usage=(1, 1)).ainvoke("hi", {"callbacks": [guard]})
        guard.kill(reason="enough")
        with pytest.raises(AgentHaltedError, match="enough"):
            await ScriptedChatModel(usage=(1, 1)).ainvoke("hi", {"callbacks": [guard]})

    asyncio.run(main())


@pytest.mark.parametrize("use", ["callbacks", "wrap"])
def test_a_call_cancelled_while_it_asks_the_store_leaves_no_hold(use: str, server: Server, tmp_path: Path) -> None:
    with proxied(server.port, 0.1) as proxy, FakeProvider("never asked") as provider:
        store = RedisStore(proxy.url, namespace=tmp_path.name, timeout=2)
        guard = CostGuard(Budget(per="all", usd="1"), store=store)
        model = provider.openai(model="gpt-4o-mini", max_tokens=5)

        def held() -> Any:
            return store.read(["all|usd"], now=time.time())[0][:2]

        async def main() -> None:
            task = asyncio.create_task(
                model.ainvoke("hi", {"callbacks": [guard]}) if use == "callbacks" else guard.wrap(model).ainvoke("hi")
            )
            while not proxy.trips:  # noqa: ASYNC110 - the proxy runs on a thread
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            until = time.monotonic() + 10
            while guard.meter.open_calls or held() != (0, 0):  # given back on a thread
                assert time.monotonic() < until
                await asyncio.sleep(0.01)

        asyncio.run(main())
        assert provider.requests == []
        store.close()
