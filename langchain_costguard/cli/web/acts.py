"""What a person does on the page: kill, revive and grant; each is in the log with who did it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from langchain_costguard.cli.accounts import Line, gift_of, lines_of
from langchain_costguard.cli.words import amount
from langchain_costguard.events.steered import Granted, Killed, Revived, Steered
from langchain_costguard.metering.budgets import grants, switch
from langchain_costguard.metering.stores.base import Store
from langchain_costguard.vocabulary.scope import Scope


class Acts:
    """The brake of a store.

    Args:
        store: Where halts and balances are.
        tell: Takes each act, as an event.
    """

    def __init__(self, store: Store, tell: Callable[[Steered], None]) -> None:
        self._store = store
        self._tell = tell

    def state(self) -> dict[str, Any]:
        """What is halted, and every account that can be given more."""
        lines = self._lines()
        agents = {value for line in lines for name, value in line.tags.items() if name == "agent"}
        halts = switch.halted(self._store)
        return {
            "halts": sorted(halts.items()),
            "agents": sorted(agents | set(halts) - {switch.ALL}),
            "accounts": [
                {
                    "account": line.account,
                    "name": " ".join(part for part in line.names() if part),
                    "left": amount(line.measure, line.left),
                    "cap": amount(line.measure, line.cap),
                }
                for line in lines
            ],
        }

    def act(self, given: Mapping[str, Any]) -> str:
        """Do what is asked for; returns the sentence that says so.

        Raises:
            ValueError: names what cannot be done.
        """
        action, who = given.get("action"), _text(given, "who")
        if not who:
            raise ValueError("who: say who you are; it is in the log")
        if action == "grant":
            return self._grant(_text(given, "account"), _text(given, "amount"), who)
        if action not in ("kill", "revive"):
            raise ValueError(f"action: {action!r} is not kill, revive or grant")
        agent, why = _text(given, "agent"), _text(given, "reason") or "stopped by an operator"
        name, scope, now = agent or "all agents", Scope(agent=agent), time.time()
        if action == "kill":
            switch.halt(self._store, agent or None, why)
            self._tell(Killed(now, scope, name, why, by=who))
            return f"{name}: halted in every process on the store within 5 s."
        switch.revive(self._store, agent or None)
        self._tell(Revived(now, scope, name, "taken back", by=who))
        return f"{name}: not halted any more."

    def _grant(self, account: str, text: str, who: str) -> str:
        line = next((line for line in self._lines() if line.account == account), None)
        if line is None:
            raise ValueError(f"account: {account!r} is not in the store")
        ((measure, value),) = grants.amounts_of({line.measure: text}).items()
        grants.give(self._store, [gift_of(line, value)], key=None, now=time.time())
        why = f"granted on the page by {who}"
        self._tell(Granted(time.time(), Scope(), line.budget, why, 0, line.budget, measure, account, value, who))
        return f"{line.budget}: {amount(measure, value)} more."

    def _lines(self) -> list[Line]:
        now = time.time()
        return lines_of(list(self._store.scan(now=now)), now)


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str) or len(value) > 500:
        raise ValueError(f"{name}: {str(value)[:50]!r} must be a text of at most 500 characters")
    return value.strip()
