"""``costguard demo``: a stuck agent, stopped at its budget. A real agent and a real client, no key and no network."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import rich_click as click

from langchain_costguard.cli.closing import table_of
from langchain_costguard.cli.gauge import Gauge
from langchain_costguard.cli.live import Live
from langchain_costguard.cli.words import count
from langchain_costguard.events.metered import CallSettled, Event, Refused
from langchain_costguard.guard import CostGuard
from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.metering.seams.quiet import quiet_refusals
from langchain_costguard.vocabulary.errors import CostGuardError

if TYPE_CHECKING:
    from langchain_costguard.testing import FakeProvider

_MODEL = "gpt-4o"
_USD = "0.05"
_PACE = 0.15
_QUESTION = "How tall is the lighthouse of Alexandria, to the millimetre? Search until you are certain."
_INTRO = """\
A research agent is stuck: it searches, is not satisfied, and searches again, with all it has read so far.
It may spend {usd} USD. Agent (create_agent) and client (ChatOpenAI) are the real ones; the provider is a fake
at {url}: no key, no network, no real money.
"""
_TEXT = "I am not certain of the last millimetres yet, so let me search once more with other words."
_PAGE = " ".join(
    f"Source {n} says that the tower stood about a hundred metres high, give or take, and that nobody knows any better;"
    for n in range(1, 12)
)


@click.command()
def command() -> int:
    """Watch a stuck agent being stopped: no key, no network."""
    for package in ("langchain", "langchain_openai"):
        if find_spec(package) is None:
            raise ValueError(f"the demo needs {package}: pip install 'langchain-costguard[agents,openai]'")
    _stay_home()
    from langchain_costguard.testing import FakeProvider, Reply, stuck_in_a_loop

    stuck = stuck_in_a_loop()
    with FakeProvider(lambda request: Reply(_TEXT, stuck(request).tool_calls, delay=_PACE)) as provider:
        print(_INTRO.format(usd=_USD, url=provider.url))
        budget = Budget(per="all", usd=_USD, name="demo")
        guard = CostGuard(budget)
        gauge = Gauge(guard, budget)
        live = Live(gauge, sys.stdout)
        guard.add_sink(_call_by_call(live))
        refusal = None
        with guard.watch(), live:
            try:
                _agent(provider).invoke({"messages": [("user", _QUESTION)]})
            except CostGuardError as error:
                refusal = error
        return _close(gauge, provider, refusal)


def _agent(provider: FakeProvider) -> Any:
    from langchain.agents import create_agent

    def search(query: str) -> str:
        """Search the web."""
        return _PAGE

    return create_agent(provider.openai(_MODEL, max_tokens=300), [search], name="research")


def _call_by_call(live: Live) -> Callable[[Event], None]:
    """A sink that says what each call cost; the refusal is told at the end."""
    made: list[CallSettled] = []

    def tell(event: Event) -> None:
        if isinstance(event, Refused):
            live.note(event)
            return
        live(event)
        if isinstance(event, CallSettled):
            made.append(event)
            tokens = f"{event.usage.input_tokens:6,} tokens in {event.usage.output_tokens:4} out"
            live.say(f"  call {len(made):2} {tokens}   {_exact(event.charge)}   wants to search again")

    return tell


def _close(gauge: Gauge, provider: FakeProvider, refusal: CostGuardError | None) -> int:
    served = provider.usage()
    billed = _billed(gauge.guard, provider)
    spent = gauge.balances()["usd"].spent
    print(f"\n{table_of(gauge)}\n")
    if refusal is None:
        print("The agent was not stopped: this is a bug in costguard.")
        return 1
    print(f"{refusal}")
    reached = count(len(provider.requests), "request")
    print(f"So call {served.calls + 1} never left: {reached} reached the server, and all of them fitted the budget.")
    same = "the same to the nano-USD" if billed == spent else "NOT the same: this is a bug in costguard"
    print(f"The server billed {_exact(billed)}; the guard's ledger says {_exact(spent)}: {same}.")
    print("\nTry it on your own program:  costguard run --usd 0.50 your_agent.py")
    return 0 if billed == spent and len(provider.requests) == served.calls else 1


def _billed(guard: CostGuard, provider: FakeProvider) -> int:
    """What the server's own count of tokens costs, in nano-USD."""
    from langchain_costguard.vocabulary.usage import ModelRef

    rates = guard.meter.book.quote(ModelRef("openai", _MODEL), guard.now())
    return sum(rates.charge(request.usage) for request in provider.requests if request.usage is not None)


def _exact(nano: int) -> str:
    return f"${nano // 10**9}.{nano % 10**9:09d}"


def _stay_home() -> None:
    """Nothing may leave the machine: no tracing, and no proxy between us and the loopback."""
    os.environ.update(
        LANGSMITH_TRACING="false", LANGCHAIN_TRACING_V2="false", NO_PROXY="127.0.0.1", no_proxy="127.0.0.1"
    )
    quiet_refusals()
