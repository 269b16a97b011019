"""What others that set a budget for LangChain do under the same load: the table of the README.

    python3 -m venv peers && peers/bin/pip install -U pip
    peers/bin/pip install -e '.[agents,openai]' --group peers
    peers/bin/python tests/benchmarks/bench_peers.py

Every call is 10,000 tokens in and 2,500 out at the prices of gpt-4o, which is $0.05; the cap is $0.50, so ten fit. The
provider is a fake on this machine that counts what it has served; each package is set up as its own documentation says
for ``ChatOpenAI``, with the options that help it here. Overhead is that of ``invoke`` of a model that gives a reply of
``ChatOpenAI`` again, all packages in one process in blocks of random order; it is a ratio to the call without any.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

from bench_overhead import measured, p10, replay, sync_block

from langchain_costguard import Budget, CostGuard
from langchain_costguard.observe.tables import table
from langchain_costguard.testing import FakeProvider, Reply

CAP, CALL, FIT = "0.50", 0.05, 10
PROMPT, ANSWER = "word " * 9_999, Reply("word " * 2_500)
TURNS, AT_ONCE, STREAMS, READ = 30, 50, 20, 2_000


class Peer(NamedTuple):
    """One package with a budget."""

    attach: Callable[[Any], Any]
    """The model, with the budget on it."""
    spent: Callable[[], float]
    """What the package says was spent, in USD."""


def _handled(handler: Any) -> Callable[[Any], Any]:
    return lambda bare: bare.model_copy(update={"callbacks": [handler]})


def costguard(usd: str) -> Peer:
    """``callbacks=[guard]``: what does not fit beside the others' holds is refused."""
    guard = CostGuard(Budget(per="all", usd=usd))
    return Peer(_handled(guard), lambda: guard.report().total.spent / 1e9)


def costguard_wrap(usd: str) -> Peer:
    """``guard.wrap(model)``: it waits for holds to be settled."""
    guard = CostGuard(Budget(per="all", usd=usd))
    return Peer(guard.wrap, lambda: guard.report().total.spent / 1e9)


def agentbudget(usd: str) -> Peer:
    """https://pypi.org/project/agentbudget/"""
    from agentbudget.integrations.langchain import LangChainBudgetCallback

    handler = LangChainBudgetCallback(budget=float(usd))
    return Peer(_handled(handler), lambda: handler.session.spent)


def agentguard47(usd: str) -> Peer:
    """https://pypi.org/project/agentguard47/"""
    from agentguard.guards import BudgetGuard
    from agentguard.integrations.langchain import AgentGuardCallbackHandler
    from agentguard.tracing import Tracer, TraceSink

    class Nowhere(TraceSink):
        def emit(self, event: Any) -> None:
            """Traces are not what is measured."""

    guard = BudgetGuard(max_cost_usd=float(usd))
    handler = AgentGuardCallbackHandler(tracer=Tracer(sink=Nowhere()), budget_guard=guard)
    return Peer(_handled(handler), lambda: guard.state.cost_used)


def baar_core(usd: str) -> Peer:
    """https://pypi.org/project/baar-core/"""
    from baar import BAARRouter
    from baar.integrations.langchain import BaarCallbackHandler

    router = BAARRouter(budget=float(usd), expected_output_tokens=2_500)
    return Peer(_handled(BaarCallbackHandler(router)), lambda: router.spent)


def floe_guard(usd: str) -> Peer:
    """https://pypi.org/project/floe-guard/"""
    from floe_guard import BudgetGuard
    from floe_guard.integrations.langchain import budget_guard_callback_handler

    guard = BudgetGuard(limit_usd=float(usd), on_block=lambda *_: None)
    return Peer(_handled(budget_guard_callback_handler(guard)), lambda: guard.spent_usd)


def llm_cost_guard(usd: str) -> Peer:
    """https://pypi.org/project/llm-cost-guard/"""
    from llm_cost_guard import CostTracker
    from llm_cost_guard.budget import Budget as Cap
    from llm_cost_guard.budget import BudgetAction
    from llm_cost_guard.integrations.langchain import CostTrackingCallback

    tracker = CostTracker(budgets=[Cap(name="cap", limit=float(usd), period="day", action=BudgetAction.BLOCK)])
    return Peer(_handled(CostTrackingCallback(tracker)), lambda: tracker.get_costs().total_cost)


PEERS = [costguard, costguard_wrap, agentbudget, agentguard47, baar_core, floe_guard, llm_cost_guard]


def in_turn(make: Callable[[str], Peer]) -> str:
    """Thirty calls, one after the other: how many were paid."""

    def calls(guarded: Any) -> None:
        for _ in range(TURNS):
            with suppress(Exception):
                guarded.invoke(PROMPT)

    return _paid(make, calls)


def in_threads(make: Callable[[str], Peer]) -> str:
    """Fifty threads at once."""

    def calls(guarded: Any) -> None:
        def one(_: int) -> None:
            with suppress(Exception):
                guarded.invoke(PROMPT)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(one, range(AT_ONCE)))

    return _paid(make, calls)


def in_coroutines(make: Callable[[str], Peer]) -> str:
    """Fifty coroutines at once."""

    async def calls(guarded: Any) -> None:
        await asyncio.gather(*(guarded.ainvoke(PROMPT) for _ in range(AT_ONCE)), return_exceptions=True)

    return _paid(make, lambda guarded: asyncio.run(calls(guarded)))


def _paid(make: Callable[[str], Peer], calls: Callable[[Any], None]) -> str:
    with FakeProvider(Reply(ANSWER.text, delay=0.2)) as provider:
        calls(make(CAP).attach(provider.openai("gpt-4o", max_tokens=2_500)))
        return str(provider.usage().calls)


def broken_off(make: Callable[[str], Peer]) -> str:
    """Streams that nobody reads to the end: how much of the bill is counted."""
    with FakeProvider(Reply(ANSWER.text, hold_after=READ)) as provider:
        peer = make("100")
        guarded = peer.attach(provider.openai("gpt-4o", max_tokens=2_500))
        for _ in range(STREAMS):
            with suppress(Exception):
                stream = guarded.stream(PROMPT)
                for _ in range(READ):
                    next(stream)
                stream.close()
        provider.wait_until_idle()
        used = provider.usage()
        billed = used.input_tokens * 2.5e-6 + used.output_tokens * 10e-6
        return f"{peer.spent() / billed:.0%}"


def overhead(blocks: int) -> list[str]:
    """What each adds to ``invoke``."""
    with FakeProvider("fine") as provider:
        bare = replay(provider.openai())
    variants = {"bare": sync_block(lambda: bare.invoke("hello"), 50)}
    for make in PEERS:
        guarded = make("1000000").attach(bare)
        variants[make.__name__] = sync_block(lambda guarded=guarded: guarded.invoke("hello"), 50)
    times = measured(variants, blocks)
    base = p10(times["bare"])
    return [f"+{(p10(times[make.__name__]) - base) / base:.2f} x" for make in PEERS]


def main() -> None:
    """Print the table; an argument is the number of blocks of the overhead."""
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    rows = [
        [what, *(look(make) for make in PEERS)]
        for what, look in (
            (f"{TURNS} calls in turn: paid (cap: {FIT})", in_turn),
            (f"{AT_ONCE} threads at once: paid (cap: {FIT})", in_threads),
            (f"{AT_ONCE} coroutines at once: paid (cap: {FIT})", in_coroutines),
            ("streams broken off: counted of the bill", broken_off),
        )
    ]
    rows.append(["added to invoke", *overhead(int(sys.argv[1]) if len(sys.argv) > 1 else 30)])
    print(table(["", *(make.__name__ for make in PEERS)], rows, left=1))


if __name__ == "__main__":
    main()
