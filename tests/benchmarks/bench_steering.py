"""What steering adds to an agent's loop, beside what the meter adds, as ratios to the same loop without either.

Run it with ``python tests/benchmarks/bench_steering.py``. The loop is the meter's: 11 model and 10 tool calls, of a
model that answers at once, so that nothing hides what we take.
"""

from __future__ import annotations

import sys
from typing import Any

from bench_overhead import async_block, guard, look_up, measured, model, row, sync_block
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware

from langchain_costguard import Budget, CostGuard
from langchain_costguard.observe.tables import table
from langchain_costguard.steering import Breaker, LoopDetector, Retry, max_tool_calls, steer
from langchain_costguard.testing import Reply

QUESTION: Any = {"messages": [("user", "go")]}


class Nothing(AgentMiddleware):  # type: ignore[type-arg]
    """A middleware with both hooks, for comparison: what the host itself takes for them."""

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        return handler(request)

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        return await handler(request)

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        return handler(request)

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        return await handler(request)


def everything(attached: CostGuard) -> Any:
    """Every policy there is."""
    return steer(
        attached,
        breaker=Breaker(),
        model_breaker=Breaker(),
        retry=Retry(tools={"look_up"}),
        loops=LoopDetector(),
        on_exceeded="interrupt",
        approve_tools={"send_*"},
        guardrails=[max_tool_calls(5)],
        throttle_at=0.8,
        usd_per_minute="1000000",
    )


def agent(runs: int, **kwargs: Any) -> Any:
    """An agent whose every run is 11 model calls and 10 tool calls."""
    script = [*(Reply(tool_calls=[("look_up", {"key": str(i)})]) for i in range(10)), Reply("done")]
    scripted = model().model_copy(update={"replies": script * runs})
    return create_agent(scripted, [look_up], name="research", **kwargs)


def reserved() -> CostGuard:
    """The meter's benchmark's budgets, one of them with steps and a reserve."""
    return CostGuard(*guard().budgets, Budget(per="user", steps=10**9, usd="1e6", reserve="1", name="last cent"))


def main() -> None:
    """Print the table."""
    blocks = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    runs = 3 * blocks + 3
    metered: Any = {"callbacks": [guard()]}
    agents = {
        "bare": (agent(runs), None),
        "nothing": (agent(runs, middleware=[Nothing()]), None),
        "the meter as a callback": (agent(runs), metered),
        "steer(guard)": (agent(runs, middleware=steer(guard())), None),
        "steer(), all of it on": (agent(runs, middleware=everything(reserved())), None),
    }
    rows = []
    for world in ("invoke", "ainvoke"):
        block = sync_block if world == "invoke" else async_block
        times = measured(
            {
                name: block(lambda g=graph, c=config, w=world: getattr(g, w)(QUESTION, c), 1)  # type: ignore[arg-type]
                for name, (graph, config) in agents.items()
            },
            blocks,
        )
        bare, meter = times["bare"], times["the meter as a callback"]
        rows.append(row(f"{world}: a middleware that does nothing", bare, times["nothing"], ""))
        rows.append(row(f"{world}: the meter as a callback", bare, meter, ""))
        rows.append(row(f"{world}: steer(guard), meter included", bare, times["steer(guard)"], ""))
        rows.append(row(f"{world}: all of it on, meter included", bare, times["steer(), all of it on"], ""))
        added = [bare_ + on - off for bare_, on, off in zip(bare, times["steer(), all of it on"], meter, strict=True)]
        rows.append(row(f"{world}: all of it on, beyond the meter", bare, added, "<= 0.15 x"))
    print(table(["11 model + 10 tool calls", "bare", "added p10", "added median", "ratio", "target"], rows, left=1))


if __name__ == "__main__":
    main()
