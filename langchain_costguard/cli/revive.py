"""``costguard revive``: take a kill back."""

from __future__ import annotations

from collections.abc import Mapping

import rich_click as click

from langchain_costguard.cli import options
from langchain_costguard.cli.stores import asking, shared
from langchain_costguard.cli.whom import whom
from langchain_costguard.metering.budgets import switch


@click.command()
@whom
@options.store
def command(agent: str | None, store: str | None) -> None:
    """Take a kill back."""
    balances = shared(store)
    before = asking(lambda: switch.halted(balances))
    if (agent or switch.ALL) not in before:
        what = f"Agent {agent!r} has not been" if agent else "Not all agents have been"
        print(f"{what} halted{_others(before)}: nothing to revive.")
        return
    asking(lambda: switch.revive(balances, agent))
    del before[agent or switch.ALL]
    who = f"Agent {agent!r} is" if agent else "All agents are"
    print(f"{who} no longer halted{_others(before)}.")


def _others(halts: Mapping[str, str]) -> str:
    """What is halted besides: reviving one name does not lift a halt of all."""
    names = ["all agents" if name == switch.ALL else repr(name) for name in sorted(halts)]
    return f" (still halted: {', '.join(names)})" if names else ""
