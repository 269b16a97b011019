"""``costguard status``: what is halted, and what every account of a shared store has left."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import rich_click as click
from rich.console import Group
from rich.live import Live

from langchain_costguard.cli import options
from langchain_costguard.cli.accounts import HEADER, Line, lines_of, rows_of
from langchain_costguard.cli.screen import console, show, table
from langchain_costguard.cli.stores import asking, budgets, shared
from langchain_costguard.cli.words import count
from langchain_costguard.metering.budgets import switch
from langchain_costguard.metering.budgets.budget import MEASURES
from langchain_costguard.metering.stores.base import Store
from langchain_costguard.vocabulary.money import usd

_ORDERS: Mapping[str, Callable[[Line], Any]] = {
    "name": Line.names,
    "used": lambda line: (-line.share, *line.names()),
    "spent": lambda line: (line.measure, -line.spent, *line.names()),
    "left": lambda line: (line.measure, line.left, *line.names()),
}


@click.command()
@click.option("--budget", metavar="NAME", help="this budget alone", shell_complete=budgets)
@click.option("--scope", metavar="VALUE", help="accounts of this user, session, ... alone: u1 or user=u1")
@click.option("--measure", type=click.Choice(MEASURES), help="this measure alone", metavar="MEASURE")
@click.option("--sort", type=click.Choice(list(_ORDERS)), default="name", show_default=True, help="what comes first")
@options.json
@click.option("--watch", metavar="S", type=click.FloatRange(0.1), help="show it anew every S seconds, until Ctrl-C")
@options.store
def command(
    budget: str | None,
    scope: str | None,
    measure: str | None,
    sort: str,
    as_json: bool,
    watch: float | None,
    store: str | None,
) -> None:
    """Show what is halted, and what every account has left."""
    balances = shared(store)

    def look() -> tuple[Mapping[str, str], list[Line], int]:
        now = time.time()
        lines = lines_of(asking(lambda: list(balances.scan(now=now))), now)
        return _halts(balances), sorted(_chosen(lines, budget, scope, measure), key=_ORDERS[sort]), len(lines)

    if as_json:
        halts, lines, _ = look()
        print(json.dumps({"halted": dict(halts), "accounts": [_facts(line) for line in lines]}, indent=2))
    elif watch is None:
        show(*_shown(*look()))
    else:
        _watch(look, watch)


def _watch(look: Callable[[], tuple[Mapping[str, str], list[Line], int]], every: float) -> None:
    if not sys.stdout.isatty():
        raise ValueError("--watch: there is no terminal to show it on; --json gives what programs want")
    with Live(Group(*_shown(*look())), console=console(), auto_refresh=False) as live:
        while True:
            time.sleep(every)
            live.update(Group(*_shown(*look())), refresh=True)


def _halts(store: Store) -> dict[str, str]:
    return dict(sorted(asking(lambda: switch.halted(store)).items()))


def _chosen(lines: Sequence[Line], budget: str | None, scope: str | None, measure: str | None) -> list[Line]:
    name, equals, value = (scope or "").partition("=")
    return [
        line
        for line in lines
        if budget in (None, line.budget)
        and measure in (None, line.measure)
        and (not scope or scope in line.scope.split(", ") or (equals and line.tags.get(name) == value))
    ]


def _shown(halts: Mapping[str, str], lines: Sequence[Line], known: int) -> list[Any]:
    said: list[Any] = [f"{_who(agent)} halted: {reason}" for agent, reason in halts.items()]
    said = said or ["Nothing is halted."]
    if not lines:
        return [*said, "No account is of what was asked for." if known else "No account has been used yet."]
    more = " Caps include what was granted; costguard grant lists it." if any(line.granted for line in lines) else ""
    text = f"{count(len(lines), 'account')}. A budget refuses when spent and held together would pass its cap."
    rows = rows_of(lines, "spent", "held", "left", "cap")
    return [*said, "", table(HEADER, rows, left=4), "", f"{text}{more}"]


def _who(agent: str) -> str:
    return "All agents are" if agent == switch.ALL else f"Agent {agent!r} is"


def _facts(line: Line) -> dict[str, Any]:
    """An account for programs: money is text in USD, so that no reader rounds it; time is in seconds."""
    known = {"budget": line.budget, "scope": line.scope, "window": line.window, "measure": line.measure}
    return known | {name: _plain(line.measure, getattr(line, name)) for name in ("spent", "held", "left", "cap")}


def _plain(measure: str, value: int) -> Any:
    if measure == "usd":
        return f"{usd(value).normalize():f}"
    return float(Decimal(value) / 1000) if measure == "seconds" else value
