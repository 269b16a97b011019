"""``costguard run``: a program under a budget, without a change to it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import rich_click as click

from langchain_costguard.cli import options
from langchain_costguard.cli.closing import MARK, Closing
from langchain_costguard.cli.inside.plan import Plan
from langchain_costguard.cli.program import Program, ProgramCommand, program
from langchain_costguard.cli.screen import warn
from langchain_costguard.cli.supervising import supervise
from langchain_costguard.cli.tags import parsed
from langchain_costguard.observe.files import may_write

_MEASURES: Mapping[str, Callable[[str], Any]] = {
    "usd": str, "tokens": int, "model_calls": int, "tool_calls": int, "steps": int, "seconds": float,
}  # fmt: skip


@click.command(cls=ProgramCommand, context_settings={"allow_interspersed_args": False})
@options.limits
@options.scope("who is spending")
@options.store
@click.option("--json", "file", metavar="FILE", help="write the report to this file")
@options.force
@click.option("--log", metavar="LOG", envvar="COSTGUARD_LOG", help="the spend log (default: $COSTGUARD_LOG)")
@click.option("--otlp", metavar="URL", help="send spans and metrics to this collector")
@click.option("--prometheus", metavar="ADDR", help="serve metrics at this address, such as localhost:9464")
@click.option("--quiet", is_flag=True, help="no status and no table; say only what was refused")
@click.argument("words", nargs=-1, metavar="PROGRAM [ARGS]...", type=click.UNPROCESSED)
def command(
    words: tuple[str, ...],
    scope: tuple[str, ...],
    store: str | None,
    file: str | None,
    force: bool,
    log: str | None,
    otlp: str | None,
    prometheus: str | None,
    quiet: bool,
    **limits: str | None,
) -> int:
    """Run a program under a budget.

    PROGRAM is a script, -m MODULE, a notebook, or a command such as streamlit or uvicorn. It runs as it would without
    us, with every LangChain and LangGraph call in it metered, and refused when it does not fit the limits. These are
    for the run as a whole, the Python processes it starts included; without a limit, it is metered only. Other
    programs that it starts, and Python without this environment, cannot be guarded.

    With --store, runs that give the same --scope share one account: together they stay within the limits; without
    --scope a run has an account of its own. Options come before the program; what follows is the program's own.

    The table and the JSON file come at the end, however the program ends. Exit status: 75 when the guard stopped the
    program, 2 when costguard was called wrongly, else the program's own.
    """
    what = program(words, "run")
    tags = parsed(scope)
    given = {measure: number(measure, text) for measure, text in limits.items() if text is not None}
    name, own = _account(store, tags)
    with tempfile.TemporaryDirectory(prefix="costguard-run-", ignore_cleanup_errors=True) as folder:
        telemetry = {key: value for key, value in (("OTLP", otlp), ("PROMETHEUS", prometheus)) if value}
        kept = _absolute(log) if log else ""
        plan = Plan(folder, os.getpid(), _absolute(store), name, own, given, tags, quiet, log=kept, telemetry=telemetry)
        plan.made_budget()  # says what is wrong with the limits
        if file:
            may_write("--json", file, MARK, force=force)
        what.check()
        if store:
            plan.made_store()
        _mention(what, given, quiet)
        plan.write()
        pid, code = supervise(_started(what), plan.environment())
        return Closing(plan, what.words, pid, code).close(file, force=force)


def _started(what: Program) -> list[str]:
    return notebook_command(what.target) if what.notebook else what.command


def notebook_command(path: str) -> list[str]:
    """What runs a notebook's cells."""
    import sys
    from importlib.util import find_spec

    for package in ("nbclient", "nbformat", "ipykernel"):
        if find_spec(package) is None:
            raise ValueError(f"a notebook needs {package}: pip install 'langchain-costguard[notebook]'")
    return [sys.executable, "-m", "langchain_costguard.cli.inside.notebook", path]


def _mention(what: Program, given: Mapping[str, Any], quiet: bool) -> None:
    """Say what a person may not have meant: a limit behind the program's name, or none at all."""
    flags = {options.flag_of(measure): measure for measure in _MEASURES}
    for word in what.args:
        flag = word.partition("=")[0]
        if flag in flags and flags[flag] not in given:
            warn(f"{flag} comes after {what.target} and so is the program's own; a limit comes before it.")
            return
    if not given and not quiet:
        warn("no limit was given: this run is metered only (--usd 0.50 sets one).")


def _account(store: str | None, tags: Mapping[str, str]) -> tuple[str, bool]:
    """The budget's name, and whether it is this run's own."""
    if not store:
        return "run", False
    if tags:
        return " ".join(["run", *(f"{k}={v}" for k, v in sorted(tags.items()))]), False
    return f"run {time.strftime('%Y-%m-%d %H:%M:%S')} {uuid4().hex[:6]}", True


def _absolute(where: str | None) -> str:
    """The URL, or the path, of a store or a log, for processes in whatever folder."""
    from langchain_costguard.vocabulary.urls import place_of

    place = place_of(where) if where else None
    if place is not None and place[0] == "sqlite":
        return f"sqlite:{Path(place[1]).absolute()}"
    return str(Path(where).absolute()) if where and place is None and "://" not in where else where or ""


def number(measure: str, text: str) -> Any:
    """The number of a limit.

    Raises:
        ValueError: it is none.
    """
    read = _MEASURES[measure]
    try:
        return read(text)
    except ValueError:
        kind = "whole number" if read is int else "number"
        raise ValueError(f"{measure}: {text!r} must be a {kind} above zero") from None
