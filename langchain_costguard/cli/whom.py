"""Whom to stop, or no longer: ``--agent NAME`` or ``--all``."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import rich_click as click

from langchain_costguard.cli.stores import agents


def whom(command: Callable[..., Any]) -> Callable[..., Any]:
    """The two options, of which one must be given; comes as ``agent``, None for all."""

    @click.option("--agent", metavar="NAME", help="this agent", shell_complete=agents)
    @click.option("--all", "everybody", is_flag=True, help="every agent")
    @wraps(command)
    def checked(*args: Any, agent: str | None, everybody: bool, **kwargs: Any) -> Any:
        if everybody and agent:
            raise click.UsageError("--all is not allowed with --agent", click.get_current_context())
        if not everybody and not agent:
            raise click.UsageError("one of --agent NAME and --all is required", click.get_current_context())
        return command(*args, agent=agent or None, **kwargs)

    return checked
