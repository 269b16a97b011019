"""Behind a web server: whose a streamed answer is, and what a refused request is answered."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from langchain.agents import create_agent
from langchain_core.tools import tool

from langchain_costguard import Budget, BudgetExceededError, CostGuard, CostGuardError, refusal_response
from langchain_costguard.testing import FakeProvider, ManualClock, Reply
from tests.conftest import PRICES


@tool
def look(q: str) -> str:
    """Look something up."""
    return f"seen {q}"


REPLIES = [Reply(tool_calls=[("look", {"q": "a"})]), Reply("the answer is here")]


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider(REPLIES) as running:
        yield running


def spent_by(guard: CostGuard) -> dict[str, int]:
    return {row["user"]: row["calls"] for row in guard.report().by("user").to_dicts()}


def test_a_generator_taken_up_in_another_context_each_time_spends_for_its_own_user(provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="user", usd="5"), prices=PRICES)
    agent = create_agent(provider.openai(), tools=[look])

    def answer() -> Iterator[Any]:
        with guard.scope(user="u1"):
            yield from agent.stream({"messages": [("user", "x")]}, {"callbacks": [guard]})

    steps, done = answer(), object()
    while contextvars.copy_context().run(next, steps, done) is not done:
        pass
    assert spent_by(guard) == {"u1": 2}


@pytest.mark.parametrize("close", [False, True])
def test_an_async_generator_moved_from_task_to_task_spends_for_its_own_user(
    close: bool, provider: FakeProvider
) -> None:
    guard = CostGuard(Budget(per="user", usd="5"), prices=PRICES)
    model = provider.openai()

    async def answer() -> Any:
        with guard.scope(user="u1"):
            await model.ainvoke("first", {"callbacks": [guard]})
            yield 1
            await model.ainvoke("second", {"callbacks": [guard]})
            yield 2

    async def serve() -> None:
        steps = answer()

        async def step() -> Any:
            return await anext(steps, None)

        assert await asyncio.create_task(step()) == 1
        if close:
            await asyncio.create_task(steps.aclose())
            return
        while await asyncio.create_task(step()) is not None:
            pass

    asyncio.run(serve())
    assert spent_by(guard) == {"u1": 1 if close else 2}


def test_a_block_left_elsewhere_is_over_where_it_was_entered(provider: FakeProvider) -> None:
    guard = CostGuard(prices=PRICES)

    async def serve() -> None:
        def answer() -> Iterator[int]:
            with guard.scope(user="u1"):
                yield 1

        steps = answer()
        next(steps)

        async def close() -> None:
            steps.close()

        await asyncio.create_task(close())
        await provider.openai().ainvoke("mine", {"callbacks": [guard]})

    asyncio.run(serve())
    assert spent_by(guard) == {"": 1}


async def asked(app: FastAPI, path: str) -> tuple[int, dict[str, str], Any]:
    """What the app answers: status, headers and JSON."""
    sent: list[Any] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": [],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(part.get("body", b"") for part in sent[1:])
    headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, json.loads(body)


@pytest.mark.parametrize(
    ("budget", "status", "waits"),
    [
        (Budget(per="user", model_calls=1), 402, None),
        (Budget(per="user", model_calls=1, window="hour"), 429, 1_800),
    ],
)
def test_a_refused_request_is_answered_with_what_to_do(
    budget: Budget, status: int, waits: int | None, provider: FakeProvider
) -> None:
    guard = CostGuard(budget, prices=PRICES, clock=ManualClock(1_767_225_600 + 1_800))
    app = FastAPI()
    app.add_exception_handler(CostGuardError, refusal_response)

    @app.get("/answer")
    async def answer() -> dict[str, str]:
        with guard.scope(user="u1"):
            return {"answer": (await provider.openai().ainvoke("x", {"callbacks": [guard]})).text}

    async def serve() -> Any:
        await asked(app, "/answer")
        return await asked(app, "/answer")

    got, headers, body = asyncio.run(serve())
    assert (got, headers.get("retry-after")) == (status, None if waits is None else str(waits))
    assert body["error"]["type"] == "BudgetExceededError"
    assert "u1" not in body["error"]["message"]


def test_calls_that_do_not_say_who_spends_are_refused_or_told_of(
    provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    strict, mild = CostGuard(require=("user", "feature")), CostGuard(require=("user",), untagged="warn")
    with pytest.raises(CostGuardError, match="user and feature") as refused:
        provider.openai().invoke("x", {"callbacks": [strict]})
    assert refused.value.missing == ("user", "feature")
    for _ in range(2):
        provider.openai().invoke("x", {"callbacks": [mild]})
    assert sum("does not say its user" in record.message for record in caplog.records) == 1
    with strict.scope(user="u1", feature="f"):
        provider.openai().invoke("x", {"callbacks": [strict]})


@pytest.mark.parametrize(
    ("configurable", "metadata", "user", "task"),
    [
        ({"langgraph_auth_user_id": "known"}, {"user_id": "claimed"}, "known", ""),
        ({}, {"user_id": "claimed", "task_id": "t1"}, "claimed", "t1"),
    ],
)
def test_whom_the_server_knows_comes_before_whom_the_client_names(
    configurable: dict[str, str], metadata: dict[str, str], user: str, task: str, provider: FakeProvider
) -> None:
    guard = CostGuard(prices=PRICES)
    agent = create_agent(provider.openai(), tools=[look])
    config: Any = {"callbacks": [guard], "configurable": configurable, "metadata": metadata}
    agent.invoke({"messages": [("user", "x")]}, config)
    assert {(row["user"], row["task"]) for row in guard.report().to_dicts()} == {(user, task)}


def test_a_trace_of_the_callers_crosses_services(provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="trace", model_calls=2), prices=PRICES)
    model = provider.openai()
    with guard.scope(trace="request-1"):
        model.invoke("x", {"callbacks": [guard]})
    model.invoke("x", {"callbacks": [guard], "metadata": {"costguard_trace": "request-1"}})
    with pytest.raises(BudgetExceededError), guard.scope(trace="request-1"):
        model.invoke("x", {"callbacks": [guard]})
    assert {row["trace"] for row in guard.report().to_dicts()} == {"request-1"}
