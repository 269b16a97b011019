"""One test body for the sync and the async way to ask a model."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pytest
from langchain_core.runnables import Runnable


@dataclass(frozen=True)
class Caller:
    """Calls a runnable the sync or the async way; each async call has an event loop of its own."""

    ask: Callable[..., Any]
    chunks: Callable[..., list[Any]]

    def read(self, model: Runnable, prompt: str, **kwargs: Any) -> Any:
        """All chunks of a stream, added up."""
        return reduce(lambda whole, chunk: whole + chunk, self.chunks(model, prompt, **kwargs))


def _ask(model: Runnable, given: Any, **kwargs: Any) -> Any:
    return model.invoke(given, **kwargs)


def _chunks(model: Runnable, given: Any, **kwargs: Any) -> list[Any]:
    return list(model.stream(given, **kwargs))


def _ask_async(model: Runnable, given: Any, **kwargs: Any) -> Any:
    return asyncio.run(model.ainvoke(given, **kwargs))


def _chunks_async(model: Runnable, given: Any, **kwargs: Any) -> list[Any]:
    async def collect() -> list[Any]:
        return [chunk async for chunk in model.astream(given, **kwargs)]

    return asyncio.run(collect())


@pytest.fixture(params=["sync", "async"])
def caller(request: pytest.FixtureRequest) -> Caller:
    return Caller(_ask, _chunks) if request.param == "sync" else Caller(_ask_async, _chunks_async)
