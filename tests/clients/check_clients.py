"""Each provider's client, streamed and not, with callbacks and wrapped, is charged at what its provider bills.

Not part of the default suite: ``.ci/extended clients`` installs the clients, and runs this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from langchain_costguard import Budget, CostGuard
from langchain_costguard.events import CallSettled
from langchain_costguard.testing import Recorder
from tests.clients import chat, own, vertex
from tests.clients.case import Case
from tests.clients.serving import serving

CASES: dict[str, Case] = {**chat.CASES, **own.CASES, **vertex.CASES}
ROADS = [f"{wrapped}{road}" for wrapped in ("", "wrapped ") for road in ("invoke", "ainvoke", "stream", "astream")]


def ask(make: Callable[[], Any], road: str, config: Any) -> None:
    """One call; an asynchronous client is made on the loop that it is used on."""
    if road == "invoke":
        make().invoke("hello", config)
    elif road == "stream":
        list(make().stream("hello", config))
    else:
        _loop().run_until_complete(_ask(make, road, config))


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for all: ``ChatOpenAI`` keeps its connections for the address, whatever loop they are of."""
    return asyncio.new_event_loop()


async def _ask(make: Callable[[], Any], road: str, config: Any) -> None:
    model = make()
    if road == "ainvoke":
        await model.ainvoke("hello", config)
    else:
        async for _ in model.astream("hello", config):
            pass


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("name", CASES)
def test_a_clients_reply_is_charged_at_what_its_provider_bills(name: str, road: str) -> None:
    case, recorder = CASES[name], Recorder()
    guard = CostGuard(Budget(per="session", usd="50"), sinks=[recorder])
    way = road.removeprefix("wrapped ")
    with serving(case.wire) as url:
        if road.startswith("wrapped"):
            ask(lambda: guard.wrap(case.make(url)), way, None)
        else:
            ask(lambda: case.make(url), way, {"callbacks": [guard]})
    (event,) = recorder.of(CallSettled)
    if road in case.unheard:
        assert event.estimated
        return
    assert {field: value for field, value in event.usage._asdict().items() if value} == case.usage
    assert not event.estimated
    rates = guard.meter.book.rates(event.model, event.at)
    assert event.charge == (rates.charge(event.usage) if case.charge is None and rates else case.charge)


def test_every_client_that_is_published_has_a_dialect() -> None:
    providers = {name.partition(",")[0].partition("'")[0] for name in CASES}
    assert providers >= {
        "openai", "anthropic", "google_genai", "google_vertexai", "aws", "mistral", "groq", "ollama", "deepseek", "xai",
        "openrouter", "perplexity", "cohere", "fireworks", "together", "litellm",
    }  # fmt: skip
