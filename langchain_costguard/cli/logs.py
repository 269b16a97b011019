"""The spend log that a command reads, and what it is asked about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import rich_click as click

from langchain_costguard.observe.log.sql import LogError
from langchain_costguard.observe.spend import DIMENSIONS, Spend
from langchain_costguard.vocabulary.scope import TAGS

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
FILTERS = tuple(name for name in DIMENSIONS if name not in ("provider", "answered", "status", "source"))


def place(command: F) -> F:
    """``[LOG]``: a path or URL, or ``$COSTGUARD_LOG``; comes as ``log``."""
    return click.argument("log", metavar="[LOG]", envvar="COSTGUARD_LOG", required=False)(command)


def filters(command: F) -> F:
    """``--user``, ``--model`` and the like, as often as one likes; come as tuples of their names."""
    for name in reversed(FILTERS):
        text = f"of this {name}; may be repeated"
        command = click.option(f"--{name}", metavar="NAME", multiple=True, help=text)(command)
    return command


def period(command: F) -> F:
    """``--since``, ``--until`` and ``--tz``."""
    command = click.option("--tz", metavar="ZONE", default="UTC", help="of days and dates (default: UTC)")(command)
    command = click.option("--until", metavar="WHEN", help="before then (default: now)")(command)
    return click.option("--since", metavar="WHEN", help="7d, 12h, or a date such as 2026-11-01")(command)


def named(log: str | None) -> str:
    """The log's place.

    Raises:
        ValueError: there is none.
    """
    if not log:
        raise ValueError("which log? give its path or URL, or set COSTGUARD_LOG")
    return log


def spend_of(
    log: str | None, since: str | None, until: str | None, tz: str, given: dict[str, tuple[str, ...]]
) -> Spend:
    """What is asked for.

    Raises:
        ValueError: names what cannot be.
    """
    spend = Spend(named(log), since=since, until=until, tz=tz)
    return spend.where(**{name: values for name, values in given.items() if values})


def asking(ask: Callable[[], T]) -> T:
    """What a log says.

    Raises:
        ValueError: it does not answer.
    """
    try:
        return ask()
    except LogError as error:
        raise ValueError(str(error)) from None


def whose(text: str, option: str) -> dict[str, str]:
    """The name in ``user=u1``.

    Raises:
        ValueError: it is none.
    """
    name, equals, value = text.partition("=")
    if name not in TAGS or not equals or not value:
        raise ValueError(f"{option}: {text!r} is not NAME=VALUE, such as user=u1; NAME is one of {', '.join(TAGS)}")
    return {name: value}
