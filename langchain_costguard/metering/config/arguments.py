"""Where a guard's arguments come from: what is given wins over the environment, and that over the file it names."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_costguard.events.metered import Alert, Event
from langchain_costguard.metering.budgets.alerts import DEFAULT_THRESHOLDS
from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.metering.budgets.switch import KillSwitch
from langchain_costguard.metering.stores import open_store
from langchain_costguard.vocabulary.checks import filed

if TYPE_CHECKING:
    from langchain_costguard.metering.config.file import Configuration

log = logging.getLogger("langchain_costguard")
CONFIG, STORE, LOG = "COSTGUARD_CONFIG", "COSTGUARD_STORE", "COSTGUARD_LOG"
F = TypeVar("F", bound=Callable[..., None])


def configured(init: F) -> F:
    """A constructor that also reads ``COSTGUARD_CONFIG``, ``COSTGUARD_STORE`` and ``COSTGUARD_LOG``, and ``config=``.

    What it was given is known here, and not inside: an argument that says the same as the default is one nevertheless.
    """

    known = signature(init).parameters.keys()

    @wraps(init)
    def constructor(self: Any, *budgets: Budget, **given: Any) -> None:
        path = given.get("config") or os.environ.get(CONFIG)
        if path is None:
            init(self, *budgets, **{**_from_environment(given), **given})
            return
        from langchain_costguard.metering.config.file import joined, load
        from langchain_costguard.metering.config.following import Follower, stamp_of

        path = filed("config", path)
        stamp = stamp_of(path)
        file = load(path)
        arguments = {**_from_file(file), **_from_environment(given), **given}
        if strange := arguments.keys() - known:
            raise ValueError(f"{file.path}: {sorted(strange)[0]}: this version's CostGuard has no such argument")
        sinks = [*arguments.get("sinks", ()), *([_warn] if file.warns else [])]
        init(self, *joined(file.budgets, budgets), **_opened({**arguments, "sinks": sinks}))
        change = _Change(self, budgets, given)
        self.following = Follower(path, change, stamp)

    return constructor  # type: ignore[return-value]


class _Change:
    """Takes over what a file says now, but for what a guard was given itself."""

    def __init__(self, guard: Any, budgets: Sequence[Budget], given: Mapping[str, Any]) -> None:
        from weakref import ref

        self._guard = ref(guard)
        self._budgets = tuple(budgets)
        self._given = frozenset(given)

    def __call__(self, configuration: Configuration) -> bool:
        """Whether there is still a guard to change.

        Raises:
            ValueError: what the file says cannot be together with what was given.
        """
        from langchain_costguard.metering.config.file import joined

        guard = self._guard()
        if guard is None:
            return False
        alerts = DEFAULT_THRESHOLDS if configuration.alerts is None else configuration.alerts
        changes = {"prices": configuration.prices, "tool_prices": configuration.tool_prices, "alerts": alerts}
        changes["aliases"] = configuration.aliases
        guard.change(
            joined(configuration.budgets, self._budgets),
            **{name: value for name, value in changes.items() if name not in self._given},
        )
        return True

    def over(self) -> bool:
        """Whether the guard is gone."""
        return self._guard() is None


def _from_environment(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    store, place = os.environ.get(STORE), os.environ.get(LOG)
    if store and "store" not in given:
        found["store"] = _store(store, STORE)
    if place:
        found["log"] = place
    return found


def _from_file(file: Configuration) -> dict[str, Any]:
    named = {
        "prices": file.prices, "tool_prices": file.tool_prices, "alerts": file.alerts, "store": file.store,
        "log": file.log, "switch": file.switch, "aliases": file.aliases,
    }  # fmt: skip
    return {**file.options, **{name: value for name, value in named.items() if value}}


def _opened(arguments: dict[str, Any]) -> dict[str, Any]:
    """The store and the switch of what names them; last, so that one which loses to another is not opened."""
    store, switch = arguments.get("store"), arguments.get("switch")
    if isinstance(store, str):
        arguments["store"] = _store(store, "store")
    if isinstance(switch, str):
        arguments["switch"] = KillSwitch(switch if "://" in switch else Path(switch))
    return arguments


def _store(url: str, field: str) -> Any:
    try:
        return open_store(url)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def _warn(event: Event) -> None:
    """The sink of a guard in development: alerts are said in the program's log."""
    if isinstance(event, Alert):
        log.warning(
            "budget %r is at %.0f%% of its %s (%s)", event.budget, 100 * event.threshold, event.measure, event.account
        )
