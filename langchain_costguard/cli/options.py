"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import rich_click as click

F = TypeVar("F", bound=Callable[..., Any])

_LIMITS = {
    "usd": ("USD", "money, such as 0.50"),
    "tokens": ("N", "input and output tokens together"),
    "model_calls": ("N", "calls to any model"),
    "tool_calls": ("N", "calls to any tool"),
    "steps": ("N", "executions of a graph's nodes"),
    "seconds": ("S", "time from the first call"),
}
_SHARED = "balances shared with other processes: sqlite:PATH or redis://HOST:PORT/DB"


def flag_of(measure: str) -> str:
    """``--tool-calls`` of ``tool_calls``."""
    return f"--{measure.replace('_', '-')}"


def limits(command: F) -> F:
    """One option for each measure; they come as keyword arguments of their measures' names, None where not given."""
    for measure, (metavar, text) in reversed(_LIMITS.items()):
        command = click.option(flag_of(measure), metavar=metavar, help=text)(command)
    return command


def scope(text: str) -> Callable[[F], F]:
    """``--scope NAME=VALUE``, as often as one likes; comes as the tuple ``scope``."""
    more = "user, session, agent, feature or task; may be repeated"
    return click.option("--scope", metavar="NAME=VALUE", multiple=True, help=f"{text}: {more}")


def store(command: F) -> F:
    """``--store URL``; comes as ``store``, None where neither it nor ``$COSTGUARD_STORE`` is given."""
    return click.option("--store", metavar="URL", envvar="COSTGUARD_STORE", help=_SHARED, show_envvar=True)(command)


def there(command: F) -> F:
    """``--create`` beside ``--store``: a mistyped path would make an empty store, on which nobody is."""
    text = "make the store's file where there is none"
    return store(click.option("--create", is_flag=True, help=text)(command))


def force(command: F) -> F:
    """``--force``: write over a file that is not ours."""
    return click.option("--force", is_flag=True, help="also over a file that costguard did not write")(command)


def json(command: F) -> F:
    """``--json``: what is shown, for programs."""
    return click.option("--json", "as_json", is_flag=True, help="for programs: JSON instead of tables")(command)
