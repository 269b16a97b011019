"""Three agents are under way; one of them is stopped, and may go on when somebody says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_costguard.cli.demo.budget import search
from langchain_costguard.cli.demo.stage import Stage, agent, asked
from langchain_costguard.guard import CostGuard
from langchain_costguard.testing import FakeProvider, Reply, Request
from langchain_costguard.vocabulary.errors import AgentHaltedError

_NAMES = ("research", "support", "billing")
_ROUNDS, _PULLED = 4, 2


def play(stage: Stage) -> bool:
    """The agents take turns; after two rounds one is halted; whether the others went on, and the bill is right."""
    with FakeProvider(lambda request: _answer(request, stage.delay)) as provider:
        guard = CostGuard()
        stage.say(("Three agents at work.", "bold"))
        stage.say("")
        runs = {name: _turns(agent(provider, name, [search]), guard) for name in _NAMES}
        halted = 0
        for turn in range(1, _ROUNDS + 1):
            if turn == _PULLED + 1:
                stage.say(("costguard kill --agent research --reason 'runaway loop'", "bold"))
                guard.kill(agent="research", reason="runaway loop")
            for name in list(runs):
                stage.now(f"{name:<9} asking")
                try:
                    stage.say(f"{name:<9} call {turn}   {next(runs[name])}")
                except AgentHaltedError as halt:
                    halted += runs.pop(name) is not None
                    stage.say((f"{name:<9} call {turn}   stopped: {halt.reason}", "bold red"))
        guard.revive(agent="research")
        again = next(_turns(agent(provider, "research", [search]), guard))
        stage.say(("costguard revive --agent research", "bold"))
        stage.say(f"{'research':<9} call 1   {again}")
        return stage.bill(guard, provider) and halted == 1


def _turns(graph: Any, guard: CostGuard) -> Iterator[str]:
    """What an agent's model says, call by call."""
    for step in graph.stream(asked("How tall is the lighthouse?"), {"callbacks": [guard]}):
        for message in step.get("model", {}).get("messages", ()):
            yield "searches" if message.tool_calls else "answers"


def _answer(request: Request, delay: float) -> Reply:
    results = sum(message.get("role") == "tool" for message in request.messages)
    if results < _ROUNDS - 1:
        return Reply(tool_calls=[("search", {"query": f"page {results + 1}"})], delay=delay)
    return Reply("About a hundred metres.", delay=delay)
