"""``costguard run``: a program under a budget, without a change to it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from langchain_costguard.cli.closing import STOPPED, check_writable, reason_of, sentences, table_of, write_json
from langchain_costguard.cli.gauge import Gauge
from langchain_costguard.cli.live import Live
from langchain_costguard.cli.program import Ending, Program, play
from langchain_costguard.cli.tags import parsed, tagged
from langchain_costguard.guard import CostGuard
from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.metering.seams.quiet import quiet_refusals
from langchain_costguard.vocabulary.errors import CostGuardError

_MEASURES: Mapping[str, Callable[[str], Any]] = {
    "usd": str, "tokens": int, "model_calls": int, "tool_calls": int, "steps": int, "seconds": float,
}  # fmt: skip
_WEEK = 7 * 86_400


class _OwnAccount(Budget):
    """The budget of one run alone: nobody asks for its account when the run is over."""

    def idle(self) -> int:
        return _WEEK


def run(options: argparse.Namespace) -> int:
    """Run the program; returns the exit status."""
    program: Program = options.program
    tags = parsed(options.scope)
    budget = _budget(options, tags)
    if options.json:
        check_writable(options.json)
    program.check()
    guard = _guard(options.store, budget, tags)
    quiet_refusals()
    gauge = Gauge(guard, budget)
    live = Live(gauge, sys.stderr)
    guard.add_sink(gauge if options.quiet else live)
    with tagged(tags), guard.watch(), nullcontext() if options.quiet else live:
        ending = play(program)
    return _close(options, gauge, ending)


def _close(options: argparse.Namespace, gauge: Gauge, ending: Ending) -> int:
    stopped = reason_of(ending) == "refused"
    status = STOPPED if stopped else ending.status
    sys.stdout.flush()
    if not isinstance(ending.error, CostGuardError):
        ending.show()
    table = "" if options.quiet else table_of(gauge)
    if table:
        print(f"\n{table}\n", file=sys.stderr)
    if not options.quiet or gauge.refused:
        print("costguard:", " ".join(sentences(gauge, ending)), file=sys.stderr)
    if options.json:
        write_json(options.json, gauge, ending, status, options.program.words)
    return status


def _budget(options: argparse.Namespace, tags: Mapping[str, str]) -> Budget | None:
    """One account for the whole run: no thread id or user that the program sets opens another."""
    limits = {}
    for measure, read in _MEASURES.items():
        text = getattr(options, measure)
        if text is not None:
            limits[measure] = _number(measure, text, read)
    if not limits:
        return None
    if options.store is None:
        return Budget(per="all", name="run", **limits)
    if tags:
        return Budget(per="all", name=" ".join(["run", *(f"{k}={v}" for k, v in sorted(tags.items()))]), **limits)
    return _OwnAccount(per="all", name=f"run {time.strftime('%Y-%m-%d %H:%M:%S')} {_nonce()}", **limits)


def _number(measure: str, text: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(text)
    except ValueError:
        kind = "whole number" if read is int else "number"
        raise ValueError(f"{measure}: {text!r} must be a {kind} above zero") from None


def _nonce() -> str:
    from uuid import uuid4

    return uuid4().hex[:6]


def _guard(store: str | None, budget: Budget | None, tags: Mapping[str, str]) -> CostGuard:
    from langchain_costguard.metering.stores import open_store

    balances = open_store(store) if store else None
    return CostGuard(*([budget] if budget else []), store=balances, session=tags.get("session"))
