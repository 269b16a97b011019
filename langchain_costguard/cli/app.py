"""The commands by name. What a command is lies in a module of its own, which is loaded when the command is called."""

from __future__ import annotations

from importlib import import_module

import rich_click as click

COMMANDS = {
    "run": "run a program under a budget",
    "demo": "watch a stuck agent being stopped: no key, no network",
    "doctor": "prove that the guard binds in your program",
    "status": "show what is halted, and what every account has left",
    "kill": "stop agents in every process that shares a store, within 5 s",
    "revive": "take a kill back",
    "grant": "give a budget more, or list what was granted",
    "report": "who spent what, out of a spend log: as a table, a page or a statement",
    "serve": "the same page, live, with the brake",
    "top": "agents, budgets and refusals as they are now, on a live screen",
    "export": "a spend log for finance and platforms: FOCUS, invoices, OpenMeter's meters",
    "failures": "what failed and was refused, put together by cause",
    "dashboard": "print a dashboard for Grafana",
    "alerts": "print rules for Prometheus, or test where alerts go",
    "log": "drop a spend log's old rows, or forget a name in it",
    "config": "check a file of budgets, show what it comes to, print its schema",
    "budgets": "suggest budgets from what was really spent",
    "prices": "show what models would be charged at, and where that is from",
    "router": "learn from records when a cheaper model will do",
    "lint-prompts": "find what keeps prompts out of the cache",
    "cache": "show what caches remember, or make them forget it",
    "context": "see what context policies would have saved on recorded conversations",
    "tokens": "count the tokens of a prompt, by each counter at hand",
    "completion": "print what lets a shell complete commands, options and names",
}
"""Each command and what it is for. Its module is ``langchain_costguard.cli.NAME``, and in that ``command``."""


class Commands(click.RichGroup):
    """Knows commands by name and summary, and loads the one that is called.

    https://click.palletsprojects.com/en/stable/complex/#lazily-loading-subcommands
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """What a list shows of a command: nothing is loaded for it."""
        summary = COMMANDS.get(cmd_name)
        return None if summary is None else click.Command(cmd_name, help=summary)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called, itself."""
        name, found, rest = super().resolve_command(ctx, args)
        if name is None or found is None:
            return name, found, rest
        module = import_module(f"langchain_costguard.cli.{name.replace('-', '_')}")
        command: click.Command = module.command
        command.no_args_is_help = False  # a complaint in one line, as of all else that is missing
        return name, command, rest


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="langchain-costguard", prog_name="costguard", message="%(prog)s %(version)s")
def app() -> None:
    """Budgets that hold for LangChain and LangGraph agents."""


# Near words are looked for among these names. https://click.palletsprojects.com/en/stable/api/#click.Group.commands
app.commands = {name: click.Command(name) for name in COMMANDS}
