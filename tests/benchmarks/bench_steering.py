"""What steering adds to an agent's loop, beside what the meter adds, as ratios to the same loop without either.

Run it with ``python tests/benchmarks/bench_steering.py``. The loop is the meter's: 11 model and 10 tool calls, of a
model that answers at once, so that nothing hides what we take. Seconds scatter on a shared machine: the second table
counts bytecodes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
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


def variants(runs: int) -> dict[str, tuple[Any, Any]]:
    """Each agent, and the config it is run with."""
    return {
        "bare": (agent(runs), None),
        "a middleware that does nothing": (agent(runs, middleware=[Nothing()]), None),
        "the meter as a callback": (agent(runs), {"callbacks": [guard()]}),
        "steer(guard), meter included": (agent(runs, middleware=steer(guard())), None),
        "the meter with steps and a reserve": (agent(runs), {"callbacks": [reserved()]}),
        "all of steer() on, that meter included": (agent(runs, middleware=everything(reserved())), None),
    }


def bytecodes(run: Callable[[], Any]) -> int:
    """Bytecodes that one run executes on this thread: unlike its seconds, the same each time."""
    count = 0

    def each(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return each

    run()
    run()
    sys.settrace(each)
    try:
        run()
    finally:
        sys.settrace(None)
    return count


def counted() -> list[list[str]]:
    """The rows of ``invoke`` in bytecodes."""
    counts = {
        name: bytecodes(lambda g=graph, c=config: g.invoke(QUESTION, c))  # type: ignore[misc]
        for name, (graph, config) in variants(4).items()
    }
    bare = counts["bare"]
    rows = [[name, f"{count:,}", f"{(count - bare) / bare:.2f} x", ""] for name, count in counts.items()]
    beyond = counts["all of steer() on, that meter included"] - counts["the meter with steps and a reserve"]
    return [*rows, ["all of steer() on, beyond that meter", f"{beyond:,}", f"{beyond / bare:.2f} x", "<= 0.15 x"]]


def main() -> None:
    """Print the tables."""
    blocks = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    rows = []
    for world in ("invoke", "ainvoke"):
        block: Any = sync_block if world == "invoke" else async_block
        times = measured(
            {
                name: block(lambda g=graph, c=config, w=world: getattr(g, w)(QUESTION, c), 1)
                for name, (graph, config) in variants(blocks + 2).items()
            },
            blocks,
        )
        bare, *_, meter, everything_on = times.values()
        rows += [row(f"{world}: {name}", bare, taken, "") for name, taken in times.items() if taken is not bare]
        added = [b + on - off for b, on, off in zip(bare, everything_on, meter, strict=True)]
        rows.append(row(f"{world}: all of steer() on, beyond that meter", bare, added, "<= 0.15 x"))
    print(table(["11 model + 10 tool calls", "bare", "added p10", "added median", "ratio", "target"], rows, left=1))
    print("\n" + table(["invoke", "bytecodes", "added", "target"], counted(), left=1))


if __name__ == "__main__":
    main()
