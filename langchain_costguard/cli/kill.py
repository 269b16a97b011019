"""``costguard kill``: stop agents in every process that shares a store."""

from __future__ import annotations

import rich_click as click

from langchain_costguard.cli import options
from langchain_costguard.cli.stores import asking, shared
from langchain_costguard.cli.whom import whom
from langchain_costguard.metering.budgets import switch


@click.command()
@whom
@click.option("--reason", default="stopped by an operator", metavar="TEXT", help="told to whoever is stopped")
@options.store
def command(agent: str | None, reason: str, store: str | None) -> None:
    """Stop agents in every process that shares a store, within 5 s."""
    balances = shared(store)
    asking(lambda: switch.halt(balances, agent, reason))
    who = f"Agent {agent!r} is" if agent else "All agents are"
    print(f"{who} halted: {reason}. Every process on this store stops within 5 s.")
