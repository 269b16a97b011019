"""``costguard top``: agents, budgets and refusals as they are now, as ``htop`` is for processes."""

from __future__ import annotations

import time
from urllib.parse import unquote

import rich_click as click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from langchain_costguard.cli import options
from langchain_costguard.cli.logs import asking
from langchain_costguard.cli.stores import shared
from langchain_costguard.metering.budgets.lines import account_lines
from langchain_costguard.metering.stores.base import Store, StoreError
from langchain_costguard.observe.log.entry import NAMES
from langchain_costguard.observe.report import Tally
from langchain_costguard.observe.spend import Spend
from langchain_costguard.observe.witness import AccountLine
from langchain_costguard.vocabulary.money import show

_WIDE = 22
"""Letters of an account: a line each in 80 columns."""
_STATUS, _FULL = NAMES.index("status"), 1.0


@click.command()
@click.argument("log", metavar="[LOG]", envvar="COSTGUARD_LOG", required=False)
@options.store
@click.option("--every", metavar="S", type=float, default=2.0, help="seconds between two looks (default: 2)")
@click.option("--once", is_flag=True, help="print it once, and leave")
def command(log: str | None, store: str | None, every: float, once: bool) -> None:
    """Agents, budgets filling, the last refusals, and the last hour against the average one.

    Budgets come from a shared store (--store), the rest from a spend log; one of them will do.
    """
    if not log and not store:
        raise ValueError("what of? give a spend log, or --store, or set COSTGUARD_LOG or COSTGUARD_STORE")
    if every < 0.1:
        raise ValueError(f"--every: {every:g} must be 0.1 seconds or more")
    balances = shared(store, create=False) if store else None
    console = Console()
    if once or not console.is_terminal:
        console.print(screen(log, balances, time.time()))
        return
    with Live(screen(log, balances, time.time()), console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(every)
                live.update(screen(log, balances, time.time()), refresh=True)
        except KeyboardInterrupt:
            return


def screen(log: str | None, store: Store | None, now: float) -> Group:
    """All there is to see."""
    parts: list[Text | Table] = [Text(time.strftime("costguard  %H:%M:%S", time.localtime(now)), style="bold")]
    if log:
        spend = asking(lambda: Spend(log, since=now - 86_400))
        hour = asking(lambda: spend.between(now - 3_600).by("agent"))
        day = asking(lambda: spend.by("agent"))
        parts += [_rate(hour.total.spent, day.total.spent), _agents(hour.rows, dict(day.rows))]
        parts.append(_refusals(spend))
    if store is not None:
        parts.append(_budgets(store, now))
    return Group(*(each for part in parts for each in (part, Text())))


def _rate(hour: int, day: int) -> Text:
    average = day // 24
    style = "bold red" if average and hour > 3 * average else ""
    return Text(f"last hour {show(hour)}, an average hour of the day {show(average)}", style=style)


def _agents(rows: list[tuple[tuple[str, ...], Tally]], day: dict[tuple[str, ...], Tally]) -> Table:
    made = _table("agent", "calls", "tools", "input", "output", "last hour", "day", "refused")
    spent = dict(rows)
    for key, tally in list(day.items())[:15]:
        here = spent.get(key, Tally())
        figures = (here.calls, here.tool_calls, here.input_tokens, here.output_tokens)
        cells = [f"{figure:,}" for figure in figures]
        made.add_row(key[0] or "-", *cells, show(here.spent), show(tally.spent), f"{tally.refused:,}")
    return made


def _budgets(store: Store, now: float) -> Table:
    made = _table("budget", "account", "spent", "held", "cap", "", "used", left=2)
    try:
        lines = sorted(account_lines(store.scan(now=now)), key=_used, reverse=True)[:15]
    except StoreError as error:
        raise ValueError(f"the store does not answer: {error}") from None
    for line in lines:
        amounts = [show(a) if line.measure == "usd" else f"{a:,}" for a in (line.spent, line.held, line.cap)]
        whose = unquote(line.account).partition("|")[2].rpartition("|")[0].replace("|", " ")
        whose = whose if len(whose) <= _WIDE else f"{whose[: _WIDE - 1]}…"
        used = _used(line)
        bar = ProgressBar(
            total=1.0, completed=min(used, 1.0), width=10, complete_style="red" if used >= _FULL else "green"
        )
        unit = "" if line.measure == "usd" else line.measure.replace("_", " ")  # of money the figures say so
        made.add_row(line.budget, f"{whose} {unit}".strip(), *amounts, f"{used:.0%}", bar)
    return made


def _refusals(spend: Spend) -> Table:
    made = _table("last refusals", "agent", "why", left=3)
    for row in reversed(asking(lambda: spend.rows("refused", limit=5))):
        names = dict(zip(NAMES, row.names, strict=True))
        budget = row.extra.get("budget")
        why = f"budget {budget}" if budget else names["status"]
        made.add_row(time.strftime("%H:%M:%S", time.localtime(row.at)), names["agent"] or "-", why)
    return made


def _used(line: AccountLine) -> float:
    return (line.spent + line.held) / line.cap if line.cap else 0.0


def _table(*names: str, left: int = 1) -> Table:
    made = Table(box=None, pad_edge=False, title_justify="left", header_style="bold", expand=False)
    for n, name in enumerate(names):
        made.add_column(name, justify="left" if n < left else "right")
    return made
