"""``costguard grant``: give an account of a shared store more, or list what was granted."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from langchain_costguard.cli.accounts import NAMES, Line, lines_of
from langchain_costguard.cli.switch import asking, shared
from langchain_costguard.cli.tags import parsed
from langchain_costguard.cli.words import amount, count, unit
from langchain_costguard.metering.budgets import grants
from langchain_costguard.metering.budgets.budget import MEASURES, SCOPES
from langchain_costguard.metering.stores.base import Claim
from langchain_costguard.observe.tables import table
from langchain_costguard.vocabulary.calendar import WINDOWS, window_at, zone


def grant(options: argparse.Namespace) -> int:
    """Grant, or list the grants; returns the exit status."""
    given = {m: text for m in MEASURES if (text := getattr(options, m)) is not None}
    store, tags, now = shared(options.store), parsed(options.scope), time.time()
    if not options.budget and (given or tags or options.key):
        raise ValueError("which budget? give --budget, by the name that costguard status shows")
    amounts = grants.amounts_of({**given, **_whole(given)}) if options.budget else {}
    lines = lines_of(asking(lambda: list(store.scan(now=now))), now)
    if not options.budget:
        _list(lines)
        return 0
    chosen = _chosen(lines, options.budget, tags, amounts, now)
    gifts = [
        (Claim(line.account, line.cap - line.granted, 0, clock=line.measure == "seconds", ttl=grants.RECORDED), value)
        for line, value in zip(chosen, amounts.values(), strict=True)
    ]
    applied = asking(lambda: grants.give(store, gifts, key=options.key, now=now))
    if not applied:
        print(f"Nothing granted: the grant {options.key!r} has been applied before.")
        return 0
    for line, value in zip(chosen, amounts.values(), strict=True):
        left = max(0, line.cap + value - line.spent - line.held)
        print(f"Granted {_said(line.measure, value)} to {_who(line)}; left: {_said(line.measure, left)}.")
    return 0


def _list(lines: Sequence[Line]) -> None:
    given = [line for line in lines if line.granted]
    if not given:
        print("Nothing has been granted.")
        return
    rows = [[*line.names(), *(amount(line.measure, n) for n in (line.granted, line.spent, line.cap))] for line in given]
    print(table([*NAMES, "granted", "spent", "cap"], rows, left=4))
    print(f"\n{count(len(rows), 'account')}. Caps include what was granted.")


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
    values = [unquote(value) for value in line.where.split("|")[1].split(",")] if line.scope else []
    names = _key(line)[0]
    if names is None:
        return set(tags.values()) <= set(values)
    return tags.items() <= dict(zip(names, values, strict=False)).items()


def _is_current(line: Line, now: float) -> bool:
    """Whether the account's window is that of now; of a named budget the time zone is not known: it may be any."""
    if not line.window:
        return True
    _, window, tz = _key(line)
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


def _key(line: Line) -> tuple[list[str] | None, Any, str]:
    """What an unnamed budget's key says: the scopes in it, its window and time zone."""
    names, _, rest = line.where.partition("|")[0].partition(".")
    scopes = names.split("+")
    if not set(scopes) <= set(SCOPES):
        return None, "", ""
    window, _, tz = rest.partition(".[")[0].partition("@")
    return scopes, window if window in WINDOWS else "", tz or "UTC"


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
