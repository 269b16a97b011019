"""``costguard config``: a file of budgets, checked and shown."""

from __future__ import annotations

import json
import os

import rich_click as click

from langchain_costguard.cli.screen import show, table
from langchain_costguard.cli.words import amount, count
from langchain_costguard.metering.config.arguments import CONFIG, LOG, STORE
from langchain_costguard.metering.config.file import Configuration, load
from langchain_costguard.vocabulary.urls import shown


@click.group()
def command() -> None:
    """Check a file of budgets, show what it comes to, print its schema."""


@command.command()
@click.argument("file", metavar="[FILE]", envvar=CONFIG, required=False)
def check(file: str | None) -> None:
    """Say whether a file can be used; the first thing that is wrong, with its line."""
    found = load(_named(file))
    print(f"{found.path} is right: {count(len(found.budgets), 'budget')}, {count(len(found.prices), 'price')}.")


@command.command(name="show")
@click.argument("file", metavar="[FILE]", envvar=CONFIG, required=False)
def show_(file: str | None) -> None:
    """Show the budgets and settings of a file, and what the environment puts in their place."""
    found = load(_named(file))
    rows = [
        [budget.label, measure, amount(measure, cap), budget.window or "-"]
        for budget in found.budgets
        for measure, cap in budget.caps().items()
    ]
    show(table(["budget", "measure", "cap", "window"], rows, left=2) if rows else "No budget: calls are metered only.")
    print()
    for name, value in _settings(found).items():
        print(f"{name}: {value}")


@command.command()
def schema() -> None:
    """Print the JSON Schema of a file: editors complete and check with it, where the file names it as "$schema"."""
    from langchain_costguard.metering.config.model import schema as made

    print(json.dumps(made(), indent=2))


def _named(file: str | None) -> str:
    if not file:
        raise ValueError(f"which file? give its path, or set {CONFIG}: it is never looked for")
    return file


def _settings(found: Configuration) -> dict[str, str]:
    """Each setting and where it is from."""
    settings = {name: str(value) for name, value in found.options.items()}
    settings |= {name: str(value) for name in ("alerts", "switch") if (value := getattr(found, name)) is not None}
    for name, variable in (("store", STORE), ("log", LOG)):
        value = os.environ.get(variable) or getattr(found, name)
        if value:
            settings[name] = f"{shown(value)}{f' (${variable})' if os.environ.get(variable) else ''}"
    for name in ("prices", "tool_prices", "aliases"):
        if given := getattr(found, name):
            settings[name] = ", ".join(given)
    return settings
