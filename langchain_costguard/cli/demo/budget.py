"""A research agent is stuck: it searches, is not satisfied, and searches again, with all it has read so far."""

from __future__ import annotations

from langchain_costguard.cli.demo.stage import Part, Stage, agent, asked, money
from langchain_costguard.events.metered import CallSettled, CallStarted, Event, Refused
from langchain_costguard.guard import CostGuard
from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.testing import FakeProvider, Reply, stuck_in_a_loop
from langchain_costguard.vocabulary.errors import CostGuardError
from langchain_costguard.vocabulary.scope import Scope

_USD = "0.05"
_QUESTION = "How tall is the lighthouse of Alexandria, to the millimetre? Search until you are certain."
_TEXT = "I am not certain of the last millimetres yet, so let me search once more with other words."
_PAGE = " ".join(
    f"Source {n} says that the tower stood about a hundred metres high, give or take, and that nobody knows any better;"
    for n in range(1, 13)
)


def search(query: str) -> str:
    """Search the web."""
    return _PAGE


def play(stage: Stage) -> bool:
    """Calls one by one, until one is refused; whether provider and ledger agree, and that call never left."""
    stuck = stuck_in_a_loop()
    with FakeProvider(lambda request: Reply(_TEXT, stuck(request).tool_calls, delay=stage.delay)) as provider:
        stage.say((f"An agent that is stuck may spend ${_USD}.", "bold"))
        stage.say("Agent and client are real; the provider is a fake")
        stage.say("on this machine: no key, no network, no money.")
        stage.say("")
        stage.say(("call   tokens       cost   left of the budget", "bright_black"))
        guard = CostGuard(Budget(per="all", usd=_USD, name="demo"))
        guard.add_sink(_Calls(stage, guard))
        with guard.watch():
            try:
                agent(provider, "research", [search]).invoke(asked(_QUESTION))
            except CostGuardError:
                pass
            else:
                stage.say(("The agent was not stopped: a bug in costguard.", "bold red"))
                return False
        same = stage.bill(guard, provider)
        stage.say("")
        stage.say("Your own program:  ", ("costguard run --usd 0.50 your_agent.py", "bold"))
        return same and len(provider.requests) == provider.usage().calls


class _Calls:
    """A sink that draws a line for each call."""

    def __init__(self, stage: Stage, guard: CostGuard) -> None:
        self._stage, self._guard, self._made = stage, guard, 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, CallStarted) and event.kind == "model":
            self._stage.now(f"{self._made + 1:4}{'asking':>20}   ", *self._left())
        elif isinstance(event, CallSettled):
            self._made += 1
            self._stage.say(f"{self._made:4}{event.usage.input_tokens:9,}{money(event.charge):>11}   ", *self._left())
        elif isinstance(event, Refused):
            self._stage.say((f"{self._made + 1:4}   refused before it was sent", "bold red"))
            self._stage.say((f"       it may cost {money(event.asked)}; {money(event.left)} is left", "red"))

    def _left(self) -> list[Part]:
        room = self._guard.headroom(Scope()).rows[0]
        return [*self._stage.bar(room.left, room.held, room.cap), f"  {money(room.left)}"]
