"""What a far store costs an event loop: ``python tests/benchmarks/bench_event_loops.py``. Starts its own server.

A hundred calls at once, of a model that answers in ``MODEL`` seconds, with Redis so many milliseconds away: how long
the loop stood still at a stretch (the longest step of any task, the host's own work included, which the first rows
show), and how long all of them took, beside one alone.
"""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.events import Handle
from pathlib import Path
from typing import Any

from langchain_core.language_models import FakeListChatModel

sys.path.insert(0, str(Path(__file__).parents[2]))

from langchain_costguard import Budget, CostGuard, RedisStore
from tests.proxy import proxied
from tests.servers import redis_server

CALLS = 100
ROUNDS = 7
MODEL = 0.3
"""Seconds: a quick model's answer."""
BUDGETS = [Budget(per="session", usd=10**6, model_calls=10**6), Budget(per="user", tokens=10**9, window="day")]


class Model(FakeListChatModel):
    """Takes its time."""

    seconds: float = MODEL

    async def _acall(self, *args: Any, **kwargs: Any) -> str:
        await asyncio.sleep(self.seconds)
        return "fine"

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(self.seconds)
        return self._generate(*args, **kwargs)


class Steps:
    """The longest step of a loop since the last look."""

    def __init__(self) -> None:
        self.longest = 0.0
        run = Handle._run

        def timed(handle: Handle) -> None:
            began = time.perf_counter()
            run(handle)
            self.longest = max(self.longest, time.perf_counter() - began)

        Handle._run = timed  # type: ignore[method-assign]

    def taken(self) -> float:
        longest, self.longest = self.longest, 0.0
        return longest


def low(values: list[float]) -> float:
    return sorted(values)[len(values) // 4]


async def measured(model: Any, config: Any, steps: Steps) -> tuple[float, float, float]:
    """Seconds of one call, of all at once, and of the longest step."""
    await asyncio.gather(*(model.ainvoke("hi", config) for _ in range(CALLS)))  # threads and connections are there
    alone, together, longest = [], [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await model.ainvoke("hi", config)
        alone.append(time.perf_counter() - began)
        steps.taken()
        began = time.perf_counter()
        await asyncio.gather(*(model.ainvoke("hi", config) for _ in range(CALLS)))
        together.append(time.perf_counter() - began)
        longest.append(steps.taken())
    return low(alone), low(together), low(longest)


def main() -> None:
    steps = Steps()
    print(f"{'100 ainvoke at once':44} {'one ms':>8} {'all ms':>8} {'ratio':>6}  {'longest step ms':>15}")

    def row(name: str, model: Any, config: Any) -> None:
        alone, together, longest = asyncio.run(measured(model, config, steps))
        print(f"{name:44} {alone * 1e3:8.0f} {together * 1e3:8.0f} {together / alone:6.2f}  {longest * 1e3:15.1f}")

    with redis_server() as server:
        for seconds in (MODEL, 0.0):
            kind = f"model {seconds * 1e3:.0f} ms"
            row(f"{kind}, no guard", Model(responses=["fine"], seconds=seconds), {})
            for away, lease in ((0.0, None), (0.02, None), (0.2, None), (0.02, "2%")):
                with proxied(server.port, away) as proxy:
                    guard = CostGuard(*BUDGETS, store=RedisStore(proxy.url, timeout=5, lease=lease))
                    model = Model(responses=["fine"], seconds=seconds)
                    where = f"{kind}, redis {away * 1e3:.0f} ms away" + (", leased" if lease else "")
                    row(where, model, {"callbacks": [guard]})
                    if away == 0.02:
                        row(f"{where}, guard.wrap", guard.wrap(model), {})
                    guard.close()


if __name__ == "__main__":
    main()
