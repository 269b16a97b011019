"""``costguard completion``: the script that lets a shell complete commands, options and names."""

from __future__ import annotations

import rich_click as click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command(epilog='For bash:  eval "$(costguard completion bash)"')
@click.argument("shell", type=click.Choice(_SHELLS))
def command(shell: str) -> None:
    """Print the script that completes commands, options, and the names that a store knows."""
    from langchain_costguard.cli.app import app

    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(app, {}, "costguard", "_COSTGUARD_COMPLETE").source())
