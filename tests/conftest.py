"""What every test has: both worlds from one body, a clean slate, and a provider that bills what it serves."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import ssl
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from langchain_core.globals import set_llm_cache
from redis.cluster import RedisCluster

from langchain_costguard import Price
from langchain_costguard.testing import FakeProvider, Recorder
from tests.servers import Cluster, Server, postgres_server, redis_cluster, redis_server, server_programs

PRICES = {"gpt-4o": Price(input="2.50", output="10.00")}
"""The list price, fixed here so that a change of the public table moves no test."""

Caller = Callable[..., Any]

gc.disable()  # until all is imported; and then it leaves that alone. A third of the time in which pytest collects, and
# a fifth of the tests' own, went into looking through half a gigabyte that is never garbage.


def pytest_collection_finish() -> None:
    gc.enable()
    gc.collect()
    gc.freeze()


# Every HTTP client parses the whole certificate bundle for itself (30 ms), and each test makes two of them.
ssl.create_default_context = functools.cache(ssl.create_default_context)


@pytest.fixture(autouse=True)
def clean_slate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No tracing, no cache, and no warning a refusal from LangChain's manager, which logs each one."""
    monkeypatch.setenv("COSTGUARD_TIKTOKEN_DOWNLOAD", "0")
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2", "COSTGUARD_STORE", "COSTGUARD_LOG", "COSTGUARD_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.ERROR)
    yield
    set_llm_cache(None)


@pytest.fixture
def no_more_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """From now on no thread of this name can be started: a limit is reached, or, since Python 3.12, a script ends."""
    start = threading.Thread.start

    def of(name: str) -> None:
        def refused(thread: threading.Thread) -> None:
            if thread.name == name:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refused)

    return of


@pytest.fixture(scope="session", autouse=True)
def warnings_of_the_host() -> Iterator[None]:
    """Where a refusal leaves the host's coroutines unawaited, that is the warning it is anywhere else, wherever the
    collector happens to come by: in the constructor of a namedtuple, whose builtins are empty, Python fails to give it.

    https://github.com/langchain-ai/langchain/blob/master/libs/core/langchain_core/callbacks/manager.py
    https://github.com/python/cpython/blob/v3.11.7/Lib/collections/__init__.py#L430-L437
    """
    others = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        coroutine, error = unraisable.object, unraisable.exc_value
        if asyncio.iscoroutine(coroutine) and isinstance(error, KeyError) and error.args == ("__import__",):
            warnings.warn(f"coroutine {coroutine.__qualname__!r} was never awaited", RuntimeWarning, stacklevel=1)
        else:
            others(unraisable)

    sys.unraisablehook = hook
    yield
    sys.unraisablehook = others


@pytest.fixture(params=["sync", "async"])
def world(request: pytest.FixtureRequest) -> str:
    """The two worlds each test lives in."""
    return str(request.param)


@pytest.fixture
def call(world: str) -> Caller:
    """``invoke`` or ``ainvoke``."""

    def run(runnable: Any, value: Any, config: Any = None, **kwargs: Any) -> Any:
        if world == "sync":
            return runnable.invoke(value, config, **kwargs)
        return asyncio.run(runnable.ainvoke(value, config, **kwargs))

    return run


@pytest.fixture
def stream(world: str) -> Caller:
    """``stream`` or ``astream``, read up to ``most`` pieces with text and then closed."""

    def run(runnable: Any, value: Any, config: Any = None, *, most: int | None = None, **kwargs: Any) -> list[Any]:
        def full(got: list[Any]) -> bool:
            return most is not None and sum(bool(getattr(piece, "content", piece)) for piece in got) >= most

        async def aread() -> list[Any]:
            got: list[Any] = []
            pieces = runnable.astream(value, config, **kwargs)
            async for piece in pieces:
                got.append(piece)
                if full(got):
                    break
            await pieces.aclose()
            return got

        if world == "async":
            return asyncio.run(aread())
        got: list[Any] = []
        pieces = runnable.stream(value, config, **kwargs)
        for piece in pieces:
            got.append(piece)
            if full(got):
                break
        pieces.close()
        return got

    return run


@pytest.fixture
def recorder() -> Recorder:
    """A sink that remembers."""
    return Recorder()


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider that says four words."""
    with FakeProvider("four little words here") as running:
        yield running


@pytest.fixture
def provider_of() -> Iterator[Callable[..., FakeProvider]]:
    """Starts a provider that replies so."""
    running: list[FakeProvider] = []

    def start(reply: Any) -> FakeProvider:
        running.append(FakeProvider(reply).start())
        return running[-1]

    yield start
    for provider in running:
        provider.stop()


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, Server]]:
    """One server of each kind this machine has."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(redis_server(program)) for name, program in server_programs().items()}


@pytest.fixture(scope="session")
def server(servers: dict[str, Server]) -> Server:
    """The server at hand: Redis where there is one."""
    return next(iter(servers.values()))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL, where this machine has one."""
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three masters."""
    with redis_cluster() as running:
        yield running


@pytest.fixture(scope="session")
def cluster_client(cluster: Cluster) -> Iterator[RedisCluster]:
    """One client for all tests: finding the nodes takes it a while."""
    with cluster.client() as client:
        yield client
