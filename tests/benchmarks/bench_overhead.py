"""What a guard adds to a call, as ratios to the same call without it, in one process and one run.

Run it with ``python tests/benchmarks/bench_overhead.py``. Variants are timed in small blocks in random order, so that
noise hits all alike; the table gives the 10th percentile of the blocks (the steadier figure) and the median.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatResult
from langchain_core.tools import tool

from langchain_costguard import Budget, CostGuard, KillSwitch
from langchain_costguard.observe.tables import table
from langchain_costguard.testing import FakeProvider, Reply, ScriptedChatModel

Blocks = dict[str, list[float]]
PIECES = 200


def guard() -> CostGuard:
    """Five budgets, the memory store and a kill switch."""
    return CostGuard(
        Budget(per="session", usd="1e6", tokens=10**12, tool_calls=10**9, seconds=86_400),
        Budget(per="step", usd="1e6"),
        Budget(per="agent", usd="1e6"),
        Budget(per="agent", usd="1e6", only={"agent": "research"}),
        Budget(per="user", usd="1e6", window="day"),
        switch=KillSwitch("no-such-file"),
    )


class Noop(BaseCallbackHandler):
    """A handler that does nothing: what any handler costs."""

    run_inline = raise_error = True

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    on_llm_end = on_chain_start = on_chain_end = on_tool_start = on_tool_end = on_llm_new_token


class Replayed(BaseChatModel):
    """A model that gives a real client's reply again: what callbacks are handed, without the client's own work."""

    result: ChatResult
    params: dict[str, Any]

    @property
    def _llm_type(self) -> str:
        return "replayed"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return self.params

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return self.result


def replayed() -> dict[str, Replayed]:
    """Real clients, each having asked a provider on loopback once."""
    with FakeProvider("fine") as provider:
        return {"ChatOpenAI": replay(provider.openai()), "ChatAnthropic": replay(provider.anthropic())}


def replay(client: BaseChatModel) -> Replayed:
    """A model that gives this client's reply again."""
    return Replayed(result=client._generate([HumanMessage("hello")]), params=client._get_ls_params())


def prompts() -> Iterator[str]:
    """Prompts of 1.6 KB, each another."""
    words = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india"]
    while True:
        yield " ".join(random.choices(words, k=270))


def model(**changes: Any) -> ScriptedChatModel:
    """A model that answers at once, priced as gpt-4o."""
    return ScriptedChatModel(replies=["fine"], usage=(12, 3), provider="openai", model="gpt-4o", **changes)


def measured(variants: dict[str, Callable[[], float]], blocks: int) -> Blocks:
    """Time each variant once a block, in random order."""
    times: Blocks = {name: [] for name in variants}
    for run in variants.values():
        run()
    gc.collect()
    gc.disable()
    try:
        for _ in range(blocks):
            for name in random.sample(list(variants), len(variants)):
                times[name].append(variants[name]())
            gc.collect(0)
    finally:
        gc.enable()
    return times


def p10(values: list[float]) -> float:
    """The 10th percentile."""
    return statistics.quantiles(values, n=10)[0]


def sync_block(call: Callable[[], Any], n: int) -> Callable[[], float]:
    """Seconds a call, over a block of n."""

    def run() -> float:
        start = time.perf_counter()
        for _ in range(n):
            call()
        return (time.perf_counter() - start) / n

    return run


def async_block(call: Callable[[], Awaitable[Any]], n: int) -> Callable[[], float]:
    """Seconds a call, over a block of n on an event loop of its own."""

    async def run() -> float:
        start = time.perf_counter()
        for _ in range(n):
            await call()
        return (time.perf_counter() - start) / n

    return lambda: asyncio.run(run())


def long_history() -> list[Any]:
    """61 messages, 48 KB."""
    text = "The quick brown fox jumps over the lazy dog, and goes on to look for what it costs. " * 10
    return [(HumanMessage if i % 2 == 0 else AIMessage)(f"{i} {text}"[:787]) for i in range(61)]


@tool
def look_up(key: str) -> str:
    """Look a key up."""
    return f"value of {key}"


def agent(runs: int) -> Any:
    """An agent whose every run is 11 model calls and 10 tool calls."""
    script = [*(Reply(tool_calls=[("look_up", {"key": str(i)})]) for i in range(10)), Reply("done")]
    return create_agent(model().model_copy(update={"replies": script * runs}), [look_up], name="research")


def three(call: Callable[..., Any], n: int, block: Any) -> dict[str, Callable[[], float]]:
    """A call bare, with a handler that does nothing, and with a guard."""
    ways = {"bare": {}, "no-op": {"config": {"callbacks": [Noop()]}}, "guard": {"config": {"callbacks": [guard()]}}}
    return {way: block(lambda kwargs=kwargs: call(**kwargs), n) for way, kwargs in ways.items()}


def overhead(blocks: int = 60) -> list[list[str]]:
    """Every row of the table."""
    rows: list[list[str]] = []
    bare, new = model(), prompts()

    def add(name: str, call: Callable[..., Any], target: str, block: Any = sync_block, n: int = 50) -> None:
        times = measured(three(call, n, block), blocks)
        rows.append(row(f"{name}: no-op handler", times["bare"], times["no-op"], ""))
        rows.append(row(name, times["bare"], times["guard"], target))

    add("invoke, short", lambda **kwargs: bare.invoke("hello", **kwargs), "<= 0.45 x")
    add("invoke, a new prompt of 1.6 KB", lambda **kwargs: bare.invoke(next(new), **kwargs), "<= 0.45 x")
    for name, client in replayed().items():
        add(f"invoke, {name}'s reply", lambda client=client, **kwargs: client.invoke("hello", **kwargs), "<= 0.45 x")
    history = long_history()
    add("invoke, 48 KB, 61 messages", lambda **kwargs: bare.invoke(history, **kwargs), "")
    add("ainvoke, short", lambda **kwargs: bare.ainvoke("hello", **kwargs), "no-op + 0.25 x", async_block)
    worn = guard()
    for _ in range(10_000):
        bare.invoke("hello", config={"callbacks": [worn]})
    times = measured(
        {
            "invoke": sync_block(lambda: bare.invoke("hello"), 50),
            "invoke+": sync_block(lambda: bare.invoke("hello", config={"callbacks": [worn]}), 50),
        },
        blocks,
    )
    rows.append(row("invoke, from the 10,000th call on", times["invoke"], times["invoke+"], "<= 0.45 x"))
    rows.append(stream_row(blocks))
    rows.append(agent_row(max(3, blocks // 2)))
    return rows


def stream_row(blocks: int) -> list[str]:
    """Microseconds a token that a guard adds to ``astream``."""
    streaming = model().model_copy(update={"replies": [Reply("tok " * PIECES)], "usage": (12, None)})
    config: Any = {"callbacks": [guard()]}

    async def consume(**kwargs: Any) -> None:
        async for _ in streaming.astream("hello", **kwargs):
            pass

    times = measured(
        {"bare": async_block(consume, 2), "guarded": async_block(lambda: consume(config=config), 2)}, blocks
    )
    added = [(g - b) / PIECES * 1e6 for g, b in zip(times["guarded"], times["bare"], strict=True)]
    low = (p10(times["guarded"]) - p10(times["bare"])) / PIECES * 1e6
    base = p10(times["bare"]) / PIECES * 1e6
    return [
        "astream, a token",
        f"{base:.1f} us",
        f"{low:+.1f} us",
        f"{statistics.median(added):+.1f} us",
        f"{low / base:.2f} x",
        "<= 0.55 x",
    ]


def agent_row(blocks: int) -> list[str]:
    """A whole agent run."""
    graph, config, question = agent(2 * blocks + 2), {"callbacks": [guard()]}, {"messages": [("user", "go")]}
    times = measured(
        {
            "bare": async_block(lambda: graph.ainvoke(question), 1),
            "guarded": async_block(lambda: graph.ainvoke(question, config=config), 1),
        },
        blocks,
    )
    return row("agent, 11 model + 10 tool calls, ainvoke", times["bare"], times["guarded"], "<= 0.18 x")


def row(name: str, bare: list[float], guarded: list[float], target: str) -> list[str]:
    """One row: base, what is added at p10 and median, and the ratio."""
    low, mid = p10(guarded) - p10(bare), statistics.median(g - b for g, b in zip(guarded, bare, strict=True))
    ratio = low / p10(bare)
    return [name, f"{p10(bare) * 1e6:.0f} us", f"{low * 1e6:+.1f} us", f"{mid * 1e6:+.1f} us", f"{ratio:.2f} x", target]


def import_row() -> list[str]:
    """Milliseconds that importing the package adds, and what it must not bring."""
    code = """
import sys, time
import langchain_core.callbacks, langchain_core.messages
start = time.perf_counter()
import langchain_costguard
lazy = time.perf_counter() - start
from langchain_costguard import CostGuard
full = time.perf_counter() - start
unwanted = [m for m in ("redis", "numpy", "tiktoken", "langsmith", "langgraph", "asyncio") if m in sys.modules]
print(lazy * 1000, full * 1000, ",".join(unwanted) or "-")
"""
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # the first of them compiles
    runs = [
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        for _ in range(5)
    ]
    parts = [run.stdout.split() for run in runs]
    lazy, full = (statistics.median(float(p[i]) for p in parts) for i in (0, 1))
    return ["import", "", f"{lazy:+.1f} ms", f"{full:+.1f} ms with CostGuard", f"unwanted: {parts[0][2]}", "<= 45 ms"]


def main() -> None:
    """Print the table."""
    rows = [*overhead(int(sys.argv[1]) if len(sys.argv) > 1 else 60), import_row()]
    print(table(["what", "bare", "added p10", "added median", "ratio", "target"], rows, left=1))


if __name__ == "__main__":
    main()
