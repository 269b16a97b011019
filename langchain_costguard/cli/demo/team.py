"""An agent asks two others; each has a budget of its own, and one of them cannot stop."""

from __future__ import annotations

from langchain_costguard.cli.demo.budget import search
from langchain_costguard.cli.demo.stage import Stage, agent, asked, money
from langchain_costguard.events.metered import CallSettled, Event
from langchain_costguard.events.steered import EndedEarly
from langchain_costguard.guard import CostGuard
from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.testing import FakeProvider, Reply, Request
from langchain_costguard.vocabulary.scope import Scope

_BUDGETS = {"research": "0.02", "writer": "0.02", "desk": "0.02"}


def play(stage: Stage) -> bool:
    """The researcher is ended at its budget, the desk goes on to the writer; whether provider and ledger agree."""
    from langchain_costguard.steering import steer

    guard = CostGuard(*(Budget(per="agent", usd=usd, only={"agent": name}) for name, usd in _BUDGETS.items()))
    guard.add_sink(lambda event: _tell(stage, guard, event))
    with FakeProvider(lambda request: _answer(request, stage.delay)) as provider:
        team = {name: agent(provider, name, [search], middleware=steer(guard)) for name in ("research", "writer")}

        def research(query: str) -> str:
            """Ask the researcher."""
            return str(team["research"].invoke(asked(f"research {query}"), {"callbacks": []})["messages"][-1].text)

        def write(notes: str) -> str:
            """Ask the writer."""
            return str(team["writer"].invoke(asked(f"write {notes}"), {"callbacks": []})["messages"][-1].text)

        stage.say(("Three agents, a budget of $0.02 each.", "bold"))
        stage.say("")
        desk = agent(provider, "desk", [research, write], middleware=steer(guard))
        done = desk.invoke(asked("A page on the lighthouse"))
        stage.say("")
        stage.say(("The desk answers: ", "bold"), done["messages"][-1].text)
        return stage.bill(guard, provider)


def _tell(stage: Stage, guard: CostGuard, event: Event) -> None:
    name = event.scope.agent or ""
    if isinstance(event, CallSettled):
        room = guard.headroom(Scope(agent=name)).rows[0]
        left = [*stage.bar(room.left, room.held, room.cap), f"  {money(room.left)}"]
        stage.say(f"{name:<9} {money(event.charge)}   ", *left)
    elif isinstance(event, EndedEarly):
        stage.say((f"{name:<9} ended at its budget; what it has goes back", "bold red"))


def _answer(request: Request, delay: float) -> Reply:
    """The researcher searches for ever; the writer writes at once; the desk asks one, then the other."""
    tools = {tool.name for tool in request.tools}
    results = sum(message.get("role") == "tool" for message in request.messages)
    if "research" in tools and results < 2:
        name, field = [("research", "query"), ("write", "notes")][results]
        return Reply(tool_calls=[(name, {field: "the lighthouse"})], delay=delay)
    if "research " in str(request.messages):
        return Reply(tool_calls=[("search", {"query": f"lighthouse, page {results + 1}"})], delay=delay)
    return Reply("The tower stood about a hundred metres high.", delay=delay)
