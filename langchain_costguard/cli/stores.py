"""The store that a command asks, and the names that it knows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from langchain_costguard.metering.stores.base import Store

T = TypeVar("T")


def shared(url: str | None, *, create: bool = True) -> Store:
    """The store of a URL; unless it may be created, one that is there.

    Raises:
        ValueError: there is none, or no other process sees it.
    """
    from langchain_costguard.metering.stores import open_store
    from langchain_costguard.vocabulary.urls import place_of

    if not url:
        raise ValueError("which store? give --store sqlite:PATH or redis://..., or set COSTGUARD_STORE")
    place = place_of(url)
    if not create and place is not None and place[0] == "sqlite" and not os.path.exists(place[1]):
        raise ValueError(f"--store: there is no file {place[1]}; is the path right? --create makes a new store there")
    try:
        store = open_store(url)
    except ImportError as error:
        raise ValueError(f"--store: {error}") from None
    if not store.shared:
        raise ValueError(f"--store: {url!r} is seen by one process alone; give sqlite:PATH or redis://...")
    return store


def asking(ask: Callable[[], T]) -> T:
    """What a store says.

    Raises:
        ValueError: it does not answer.
    """
    from langchain_costguard.metering.stores.base import StoreError

    try:
        return ask()
    except StoreError as error:
        raise ValueError(f"the store does not answer: {error}") from None


def budgets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The budgets that have accounts in the store of this command line, for a shell to complete."""
    return _known(ctx, "budget", incomplete)


def agents(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The agents that are halted, or have accounts, there."""
    return _known(ctx, "agent", incomplete)


def _known(ctx: click.Context, what: str, incomplete: str) -> list[str]:
    from langchain_costguard.cli.accounts import lines_of
    from langchain_costguard.metering.budgets import switch

    try:
        store = shared(ctx.params.get("store") or os.environ.get("COSTGUARD_STORE"))
        lines = lines_of(store.scan(now=time.time()), time.time())
        found = set(switch.halted(store)) - {switch.ALL} if what == "agent" else {line.budget for line in lines}
    except Exception:  # a shell that completes has no place for complaints
        return []
    if what == "agent":
        found |= {value for line in lines for name, value in line.tags.items() if name == "agent"}
    return sorted(name for name in found if name.startswith(incomplete))
