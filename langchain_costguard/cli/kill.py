"""``costguard kill``: stop agents in every process that shares a store."""

from __future__ import annotations

import sys
import time

import rich_click as click

from langchain_costguard.cli import options
from langchain_costguard.cli.accounts import lines_of
from langchain_costguard.cli.stores import asking, shared
from langchain_costguard.cli.whom import whom
from langchain_costguard.metering.budgets import switch
from langchain_costguard.metering.budgets.halts import near


@click.command()
@whom
@click.option("--reason", default="stopped by an operator", metavar="TEXT", help="told to whoever is stopped")
@options.there
def command(agent: str | None, reason: str, store: str | None, create: bool) -> None:
    """Stop agents in every process that shares a store, within 5 s."""
    balances = shared(store, create=create)
    asking(lambda: switch.halt(balances, agent, reason))
    who = f"Agent {agent!r} is" if agent else "All agents are"
    print(f"{who} halted: {reason}. Every process on this store stops within 5 s.")
    now = time.time()
    lines = lines_of(asking(lambda: list(balances.scan(now=now))), now)
    seen = {part for line in lines for part in line.scope.split(", ") if part}
    if agent and seen and agent not in seen:
        print(f"costguard: no account of this store is of {agent!r}{near(agent, seen)}", file=sys.stderr)
