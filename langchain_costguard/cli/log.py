"""``costguard log``: what may be done to a spend log's rows."""

from __future__ import annotations

import time

import rich_click as click

from langchain_costguard.cli import logs
from langchain_costguard.cli.words import count
from langchain_costguard.observe.log import Log, open_log
from langchain_costguard.observe.log.keeping import new_key
from langchain_costguard.vocabulary.calendar import span


@click.group()
def command() -> None:
    """Drop a spend log's old rows, or forget a name in it."""


@command.command()
@logs.place
@click.option("--keep", metavar="TIME", required=True, help="what is younger stays: 400d")
def vacuum(log: str | None, keep: str) -> None:
    """Drop the rows that are older, and give their room back. Nothing is dropped unasked."""
    before = time.time() - span(keep, "--keep")
    opened = _open(log)
    gone = logs.asking(lambda: opened.drop(before))
    logs.asking(opened.shrink)
    print(f"{count(gone, 'row')} dropped; what is younger than {keep} stays.")


@command.command()
@click.argument("whose", metavar="user=NAME")
@logs.place
def forget(whose: str, log: str | None) -> None:
    """Put a keyed hash in the place of a name (user, session, agent, feature or task); the rows stay.

    The key is $COSTGUARD_LOG_KEY: the same name gets the same hash again. Without it the key is one that nobody keeps.
    """
    ((dimension, name),) = logs.whose(whose, "forget").items()
    opened = _open(log)
    rows = logs.asking(lambda: opened.forget(dimension, name, new_key()))
    logs.asking(opened.shrink)  # so that the name is not left in the gaps of a file
    print(
        f"{dimension} {name!r} is forgotten in {count(rows, 'row')}." if rows else f"No row has {dimension} {name!r}."
    )


def _open(log: str | None) -> Log:
    place = logs.named(log)
    return logs.asking(lambda: open_log(place, create=False))
