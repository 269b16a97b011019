"""Single flight through steering where the cache is shared: two guards with nothing in common but the server."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from langchain_costguard import CostGuard
from langchain_costguard.steering import SteeredModel, steer
from langchain_costguard.testing import FakeProvider, Reply
from tests.caching.conftest import Kind
from tests.conftest import PRICES


def two(kind: Kind, provider: FakeProvider) -> list[Any]:
    """The same model, steered twice as in two processes; in memory, they share the one cache."""
    caches = [kind.make()] * 2 if kind.name == "memory" else [kind.make(), kind.make()]
    return [
        SteeredModel(provider.openai(temperature=0), steer(CostGuard(prices=PRICES), cache=cache, retry=None))
        for cache in caches
    ]


def everybody(world: str, models: list[Any], provider: FakeProvider) -> list[Any]:
    """Forty callers at once, half of them by each; the provider answers once it was asked."""

    def let_go() -> None:
        provider.wait_for_requests(1)
        provider.gate.set()

    threading.Thread(target=let_go).start()
    found: list[Any] = []
    if world == "async":

        async def ask() -> list[Any]:
            asking = (model.ainvoke("What is a ledger?") for _ in range(20) for model in models)
            return await asyncio.gather(*asking, return_exceptions=True)

        return asyncio.run(ask())

    def ask_one(model: Any) -> None:
        try:
            found.append(model.invoke("What is a ledger?"))
        except Exception as error:
            found.append(error)

    threads = [threading.Thread(target=ask_one, args=(model,)) for _ in range(20) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_all_who_ask_at_once_buy_one_answer(kind: Kind, world: str) -> None:
    with FakeProvider("a book of accounts", gate=True) as provider:
        answers = everybody(world, two(kind, provider), provider)
        assert [str(answer.text) for answer in answers] == ["a book of accounts"] * 40
        assert len(provider.requests) == 1


def test_where_the_first_fails_one_of_the_others_tries(kind: Kind, world: str) -> None:
    with FakeProvider([Reply(status=400), "a book of accounts"], gate=True) as provider:
        answers = everybody(world, two(kind, provider), provider)
        assert sum(isinstance(answer, Exception) for answer in answers) == 1
        assert len(provider.requests) == 2


@pytest.mark.parametrize("verb", ["invoke", "ainvoke"])
def test_who_was_cancelled_or_interrupted_leaves_the_others_the_turn(kind: Kind, verb: str) -> None:
    first, second = two(kind, provider := FakeProvider(["never seen", "a book of accounts"], gate=True).start())
    try:

        async def ask() -> str:
            given_up = asyncio.create_task(first.ainvoke("What is a ledger?"))
            await asyncio.to_thread(provider.wait_for_requests, 1)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            provider.gate.set()
            if verb == "invoke":
                return str((await asyncio.to_thread(second.invoke, "What is a ledger?")).text)
            return str((await second.ainvoke("What is a ledger?")).text)

        assert asyncio.run(asyncio.wait_for(ask(), 20)) == "a book of accounts"
    finally:
        provider.stop()
