"""Twenty people ask the same thing at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from langchain_costguard.cli.demo.stage import Stage, money
from langchain_costguard.guard import CostGuard
from langchain_costguard.testing import FakeProvider, Reply

_ASKED = 20


def play(stage: Stage) -> bool:
    """One request reaches the provider; whether provider and ledger agree."""
    from langchain_costguard.caching import MemoryCache
    from langchain_costguard.steering import SteeredModel, steer

    text = "A book of what was spent, by whom, and for what. " * 8
    with FakeProvider(Reply(text, delay=2 * stage.delay)) as provider:
        guard = CostGuard()
        model = SteeredModel(
            provider.openai("gpt-4o", temperature=0, max_tokens=300), steer(guard, cache=MemoryCache(share="all"))
        )
        stage.say((f"The same question, {_ASKED} times at once.", "bold"))
        stage.say("")
        stage.now("asking: What is a ledger?")
        with ThreadPoolExecutor(_ASKED) as pool:
            replies = list(pool.map(lambda _: model.invoke("What is a ledger?"), range(_ASKED)))
        told = [reply.response_metadata.get("costguard", {}).get("cache") for reply in replies]
        stage.say(f"{len(provider.requests):4} request to the provider")
        stage.say(f"{len(replies):4} answers")
        stage.say(
            (f"{sum(map(bool, told)):4} of them from the cache: {money(guard.report().actions.saved)} saved", "green")
        )
        return stage.bill(guard, provider) and len(provider.requests) == 1
