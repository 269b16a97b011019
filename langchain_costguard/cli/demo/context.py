"""An agent reads twenty pages, as it is and with a context budget. The provider keeps the beginnings of prompts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Any

from langchain_costguard.cli.demo.stage import Stage, agent, asked, money
from langchain_costguard.guard import CostGuard
from langchain_costguard.testing import FakeProvider, Reply, Request
from langchain_costguard.vocabulary.usage import Usage

_MODEL, _READS, _MOST = "gpt-5-mini", 20, 40_000


def play(stage: Stage) -> bool:
    """The same run twice; whether provider and ledger agree on both, and the second was cheaper."""
    from langchain_costguard.context import Context

    stage.say((f"An agent reads {_READS} pages.", "bold"))
    stage.say("Tokens of a prompt: what the provider kept, and new ones.")
    good, spent = True, []
    for title, context in (("as it is", None), ("with steer(guard, context=Context(cap=400))", Context(cap=400))):
        stage.say("")
        stage.say((title, "bold"))
        right, cost = _run(stage, context)
        good &= right
        spent.append(cost)
    before, after = spent
    stage.say("")
    stage.say((f"{money(before - after)} of {money(before)} saved: {(before - after) * 100 // before} %", "bold green"))
    return good and after < before


def _run(stage: Stage, context: Any) -> tuple[bool, int]:
    from langchain_costguard.steering import steer

    with FakeProvider(_reader(stage.delay / 3)) as provider:
        guard = CostGuard()
        middleware = steer(guard, context=context, loops=None)
        reader = agent(provider, "reader", [read], _MODEL, middleware=middleware)
        shown = 0
        for _ in reader.stream(asked("Find a berth for Daisy-77"), {"recursion_limit": 200}):
            for number, request in enumerate(provider.requests[shown:], shown + 1):
                shown = number
                if number % 4 == 1 and request.usage is not None:
                    _draw(stage, number, request.usage)
        return stage.bill(guard, provider), guard.report().total.spent


def _draw(stage: Stage, number: int, usage: Usage) -> None:
    fresh = usage.input_tokens - usage.cache_read
    stage.say(f"{number:4}{usage.input_tokens:9,}   ", *stage.bar(usage.cache_read, fresh, _MOST))


def read(page: int) -> str:
    """Read a page of the harbour's book."""
    return "\n".join(f"page {page}: berth {n * 37 % 91} of boat b-{n} has bells of brass." for n in range(150))


def _reader(delay: float) -> Callable[[Request], Reply]:
    """A model that reads page after page. What a prompt has in common with the one before it, is kept."""
    before: list[str] = []

    def reply(request: Request) -> Reply:
        parts = [str(request.body.get("tools")), *map(str, request.messages)]
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, parts, strict=False)))
        before[:] = parts
        tokens, kept = (sum(len(part) // 4 for part in some) for some in (parts, parts[:common]))
        kept = kept // 128 * 128 if kept >= 1024 else 0  # https://platform.openai.com/docs/guides/prompt-caching
        usage: dict[str, Any] = {"prompt_tokens": tokens, "completion_tokens": 20, "total_tokens": tokens + 20}
        usage = {**usage, "prompt_tokens_details": {"cached_tokens": kept}}
        if request.number <= _READS:
            return Reply(tool_calls=[("read", {"page": request.number})], usage=usage, delay=delay)
        return Reply("It is berth 7.", usage=usage, delay=delay)

    return reply
