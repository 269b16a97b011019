"""``costguard grant``: give an account of a shared store more, or list what was granted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import rich_click as click

from langchain_costguard.cli import options
from langchain_costguard.cli.accounts import NAMES, Line, gift_of, key_of, lines_of, rows_of
from langchain_costguard.cli.screen import show, table
from langchain_costguard.cli.stores import asking, budgets, shared
from langchain_costguard.cli.tags import parsed
from langchain_costguard.cli.words import amount, count, unit
from langchain_costguard.metering.budgets import grants
from langchain_costguard.metering.budgets.budget import MEASURES
from langchain_costguard.vocabulary.calendar import window_at, zone


@click.command()
@click.option("--budget", metavar="NAME", help="the name that refusals and status give it", shell_complete=budgets)
@options.scope("whose account")
@options.limits
@click.option("--input-tokens", metavar="N", help="input tokens alone")
@click.option("--output-tokens", metavar="N", help="output tokens alone")
@click.option("--key", metavar="TEXT", help="names this grant: given again, it is not applied again")
@options.store
def command(
    budget: str | None, scope: tuple[str, ...], key: str | None, store: str | None, **measures: str | None
) -> None:
    """Give a budget more, or list what was granted.

    It is given for one user, session or whoever its account is of; every process on the store has it at its next call.
    Of a budget by the day (or hour, week, month) it is today's account. With nothing but a store, lists what was
    granted.
    """
    given = {m: text for m in MEASURES if (text := measures.get(m)) is not None}
    balances, tags, now = shared(store, create=False), parsed(scope), time.time()
    if not budget and (given or tags or key):
        raise ValueError("which budget? give --budget, by the name that costguard status shows")
    gains = grants.amounts_of({**given, **_whole(given)}) if budget else {}
    lines = lines_of(asking(lambda: list(balances.scan(now=now))), now)
    if not budget:
        _list(lines)
        return
    chosen = _chosen(lines, budget, tags, gains, now)
    gifts = [gift_of(line, value) for line, value in zip(chosen, gains.values(), strict=True)]
    if not asking(lambda: grants.give(balances, gifts, key=key, now=now)):
        print(f"Nothing granted: the grant {key!r} has been applied before.")
        return
    for line, value in zip(chosen, gains.values(), strict=True):
        left = max(0, line.cap + value - line.spent - line.held)
        print(f"Granted {_said(line.measure, value)} to {_who(line)}; left: {_said(line.measure, left)}.")


def _list(lines: Sequence[Line]) -> None:
    given = [line for line in lines if line.granted]
    if not given:
        print("Nothing has been granted.")
        return
    show(
        table([*NAMES, "granted", "spent", "cap"], rows_of(given, "granted", "spent", "cap"), left=4),
        f"\n{count(len(given), 'account')}. Caps include what was granted.",
    )


def _chosen(
    lines: Sequence[Line], label: str, tags: Mapping[str, str], measures: Mapping[str, int], now: float
) -> list[Line]:
    """The accounts to give to, one for each measure."""
    of_budget = [line for line in lines if line.budget == label]
    if not of_budget:
        known = ", ".join(sorted({repr(line.budget) for line in lines})) or "none yet"
        raise ValueError(f"--budget: {label!r} has no account in this store; known: {known}")
    current = [line for line in of_budget if _is_current(line, now)]
    if not current:
        raise ValueError(f"--budget: {label!r} has not been used in the window of today: it has its whole cap")
    meant = [line for line in current if _is_of(line, tags)]
    found = {line.where: line for line in meant}
    if len(found) != 1:
        scopes = ", ".join(sorted({line.scope or "all" for line in current})[:10])
        what = "which account? give --scope" if found else f"--scope: no account is of {_plain(tags)}"
        raise ValueError(f"{what}; budget {label!r} has accounts of: {scopes}")
    by_measure = {line.measure: line for line in meant}
    for measure in measures:
        if measure not in by_measure:
            raise ValueError(f"{measure}: budget {label!r} has no account of it, but of {', '.join(by_measure)}")
    return [by_measure[measure] for measure in measures]


def _is_of(line: Line, tags: Mapping[str, str]) -> bool:
    """Whether an account is of whom ``--scope`` says; of a named budget only the values are known."""
    if key_of(line.where)[0] is None:
        return set(tags.values()) <= {unquote(value) for value in line.where.split("|")[1].split(",") if line.scope}
    return tags.items() <= line.tags.items()


def _is_current(line: Line, now: float) -> bool:
    """Whether the account's window is that of now; of a named budget the time zone is not known: it may be any."""
    if not line.window:
        return True
    _, window, tz = key_of(line.where)
    if window and _is_zone(tz):
        return line.window == window_at(window, tz, now)[0]
    try:
        hour = datetime.strptime(line.window, "%Y-%m-%dT%H%z")
    except ValueError:
        moments = (datetime.fromtimestamp(now, UTC) + timedelta(hours=hours) for hours in (-12, 0, 14))
        labels = {
            window_at(each, "UTC", moment.timestamp())[0] for moment in moments for each in ("day", "week", "month")
        }
        return line.window in labels
    return 0 <= now - hour.timestamp() < 3600


def _is_zone(tz: str) -> bool:
    try:
        zone(tz)
    except ValueError:
        return False
    return True


def _whole(given: Mapping[str, str]) -> dict[str, Any]:
    """Counts and seconds as numbers, or a complaint that names them."""
    numbers: dict[str, Any] = {}
    for measure, text in given.items():
        if measure != "usd":
            try:
                numbers[measure] = float(text) if measure == "seconds" else int(text)
            except ValueError:
                kind = "number" if measure == "seconds" else "whole number"
                raise ValueError(f"{measure}: {text!r} must be a {kind} above zero") from None
    return numbers


def _who(line: Line) -> str:
    parts = [part for part in (line.scope, line.window) if part]
    return f"budget {line.budget!r}" + (f" ({', '.join(parts)})" if parts else "")


def _said(measure: str, value: int) -> str:
    word = unit(measure)
    return f"{amount(measure, value)} {word.removesuffix('s') if value == 1 else word}".rstrip()


def _plain(tags: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in tags.items()) or "nobody"
