"""The same stuck agent, steered: it is told that it repeats itself, and ended when it goes on all the same."""

from __future__ import annotations

from langchain_costguard.cli.demo.budget import search
from langchain_costguard.cli.demo.stage import Stage, agent, asked, money
from langchain_costguard.events.metered import CallSettled, Event
from langchain_costguard.events.steered import LoopDetected
from langchain_costguard.guard import CostGuard
from langchain_costguard.testing import FakeProvider, Reply, stuck_in_a_loop


def play(stage: Stage) -> bool:
    """Two loops seen, one nudge, one end; whether provider and ledger agree, and the agent ended by itself."""
    from langchain_costguard.steering import steer

    stuck, made = stuck_in_a_loop(), 0

    def tell(event: Event) -> None:
        nonlocal made
        if isinstance(event, CallSettled):
            made += 1
            stage.say(f"{made:4}   {money(event.charge)}   the same search again")
        elif isinstance(event, LoopDetected):
            stage.say((f"       {event.answer}: {event.why}", "yellow"))

    with FakeProvider(lambda request: Reply(tool_calls=stuck(request).tool_calls, delay=stage.delay)) as provider:
        guard = CostGuard(sinks=[tell])
        stage.say(("An agent that is stuck, with middleware=steer(guard).", "bold"))
        stage.say("")
        done = agent(provider, "research", [search], middleware=steer(guard)).invoke(asked("How tall is it?"))
        stage.say("")
        stage.say(("The agent's last words: ", "bold"), done["messages"][-1].text.split("\n")[0])
        return stage.bill(guard, provider) and guard.report().actions.times("LoopDetected") == 2
