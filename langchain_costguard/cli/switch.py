"""``costguard kill``, ``revive`` and ``status``: what a person does to, and sees of, a shared store."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from langchain_costguard.cli.accounts import HEADER, lines_of
from langchain_costguard.cli.words import count
from langchain_costguard.metering.budgets import switch
from langchain_costguard.metering.stores import open_store
from langchain_costguard.metering.stores.base import Store, StoreError
from langchain_costguard.observe.tables import table

T = TypeVar("T")
_REASON = "stopped by an operator"


def kill(options: argparse.Namespace) -> int:
    """Stop agents; returns the exit status."""
    store = shared(options.store)
    asking(lambda: switch.halt(store, options.agent, options.reason or _REASON))
    print(f"{_who(options.agent)} halted: {options.reason or _REASON}. Every process on this store stops within 5 s.")
    return 0


def revive(options: argparse.Namespace) -> int:
    """Take a kill back; returns the exit status."""
    store = shared(options.store)
    before = asking(lambda: switch.halted(store))
    if (options.agent or switch.ALL) not in before:
        what = f"Agent {options.agent!r} has not been" if options.agent else "Not all agents have been"
        print(f"{what} halted{_others(before)}: nothing to revive.")
        return 0
    asking(lambda: switch.revive(store, options.agent))
    del before[options.agent or switch.ALL]
    print(f"{_who(options.agent)} no longer halted{_others(before)}.")
    return 0


def status(options: argparse.Namespace) -> int:
    """Show the halts and the accounts; returns the exit status."""
    store = shared(options.store)
    now = time.time()
    halts = asking(lambda: switch.halted(store))
    for agent, reason in sorted(halts.items()):
        print(f"{_who(None if agent == switch.ALL else agent)} halted: {reason}")
    if not halts:
        print("Nothing is halted.")
    lines = lines_of(asking(lambda: list(store.scan(now=now))), now)
    if lines:
        print(f"\n{table(HEADER, [line.row() for line in lines], left=4)}")
        more = (
            " Caps include what was granted; costguard grant lists it." if any(line.granted for line in lines) else ""
        )
        text = f"{count(len(lines), 'account')}. A budget refuses when spent and held together would pass its cap."
        print(f"\n{text}{more}")
    else:
        print("No account has been used yet.")
    return 0


def shared(url: str | None) -> Store:
    """The store of a URL.

    Raises:
        ValueError: there is none, or no other process sees it.
    """
    if not url:
        raise ValueError("which store? give --store sqlite:PATH or redis://..., or set COSTGUARD_STORE")
    store = open_store(url)
    if not store.shared:
        raise ValueError(f"--store: {url!r} is seen by one process alone; give sqlite:PATH or redis://...")
    return store


def asking(ask: Callable[[], T]) -> T:
    """What a store says.

    Raises:
        ValueError: it does not answer.
    """
    try:
        return ask()
    except StoreError as error:
        raise ValueError(f"the store does not answer: {error}") from None


def _who(agent: str | None) -> str:
    return f"Agent {agent!r} is" if agent else "All agents are"


def _others(halts: Mapping[str, str]) -> str:
    """What is halted besides: reviving one name does not lift a halt of all."""
    names = ["all agents" if name == switch.ALL else repr(name) for name in sorted(halts)]
    return f" (still halted: {', '.join(names)})" if names else ""
