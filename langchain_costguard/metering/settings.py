"""A guard's arguments, validated: what is not as it must be is told with its field, its value and what to do."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from langchain_costguard.metering.budgets.budget import MEASURES, Budget
from langchain_costguard.metering.budgets.switch import KillSwitch
from langchain_costguard.metering.fees import ToolPrice
from langchain_costguard.metering.pricing.estimate import TokenCounter
from langchain_costguard.metering.stores.base import Store
from langchain_costguard.metering.stores.leases.sizes import of_store
from langchain_costguard.vocabulary.checks import called, listed, mapped, timed
from langchain_costguard.vocabulary.money import nano
from langchain_costguard.vocabulary.scope import TAGS, Scope
from langchain_costguard.vocabulary.urls import without_password

if TYPE_CHECKING:
    from langchain_costguard.metering.stores.failover import FailurePolicy, Forgotten


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of ``CostGuard`` that need a look, as given there.

    Raises:
        ValueError: names the field and the value.
    """

    budgets: Sequence[Budget]
    store: Store | None
    tool_prices: Mapping[str, ToolPrice]
    assume_output_tokens: int
    session: str | None
    switch: KillSwitch | None
    sinks: Sequence[Any]
    on_store_failure: FailurePolicy
    on_forgotten: Forgotten
    hold_seconds: float
    wait: float
    token_counter: TokenCounter | None
    counters: Mapping[str, TokenCounter] | None
    clock: Callable[[], float]
    require: Sequence[str]
    untagged: Literal["refuse", "warn"]

    def __post_init__(self) -> None:
        check_budgets(self.budgets)
        _check_store(self.store)
        _check_whole("assume_output_tokens", self.assume_output_tokens)
        _check_seconds("hold_seconds", self.hold_seconds, least=1)
        _check_seconds("wait", self.wait, least=0)
        _check_session(self.session)
        _check_switch(self.switch)
        _check_sinks(self.sinks)
        if self.token_counter is not None:
            called("token_counter", self.token_counter)
        _check_counters(self.counters)
        timed("clock", self.clock)
        if self.on_store_failure not in ("refuse", "local"):
            raise ValueError(f"on_store_failure: {self.on_store_failure!r} is not 'refuse' or 'local'")
        if self.on_forgotten not in ("restore", "refuse"):
            raise ValueError(f"on_forgotten: {self.on_forgotten!r} is not 'restore' or 'refuse'")
        check_fees(self.tool_prices)
        listed("require", self.require, f"tags: {', '.join(TAGS)}", lambda name: name in TAGS)
        if self.untagged not in ("refuse", "warn"):
            raise ValueError(f"untagged: {self.untagged!r} is not 'refuse' or 'warn'")


def check_guard(guard: Any) -> None:
    """Raise where it is no guard."""
    if not hasattr(guard, "meter"):
        raise ValueError(f"guard: {guard!r} is no CostGuard")


def check_scope(scope: Any) -> None:
    """Raise where it is no scope: what was meant for one would be somebody else's."""
    if scope is not None and not isinstance(scope, Scope):
        raise ValueError(f"scope: {scope!r} is no Scope, such as Scope(user='u1'): it would be somebody else's account")


def check_budgets(budgets: Sequence[Any]) -> None:
    """Raise where one is no budget."""
    listed("budgets", budgets, "budgets", lambda budget: True)
    for budget in budgets:
        if not isinstance(budget, Budget):
            raise ValueError(f"budgets: {budget!r} is not a Budget{_remedy(budget)}")


def _remedy(budget: Any) -> str:
    if isinstance(budget, (list, tuple)):
        return "; pass each on its own: CostGuard(*budgets)"
    if isinstance(budget, type):
        return "; give it limits: Budget(usd='0.50')"
    amount = isinstance(budget, (str, int, float)) and not isinstance(budget, bool)
    return f"; write CostGuard(Budget(usd={str(budget)!r}))" if amount else ""


def warn_of_loss(budgets: Sequence[Budget], store: Store) -> None:
    """Warn of a budget that outlives its balances: a month begins anew with each process."""
    for budget in budgets:
        if budget.window in ("week", "month") and not store.shared:
            warnings.warn(
                f"{budget!r}: its balance is kept in this process, and forgotten when that ends; keep it with "
                "store=SQLiteStore('budgets.db') or RedisStore(url)",
                stacklevel=5,
            )


def _check_store(store: Any) -> None:
    verbs = ("shared", "reserve", "settle", "read", "scan", "flags", "flag")
    if store is not None and (isinstance(store, type) or not all(hasattr(store, verb) for verb in verbs)):
        hint = "; langchain_costguard.stores.open_store(url) makes one of a URL" if isinstance(store, str) else ""
        raise ValueError(
            f"store: {without_password(store)!r} is no store, such as MemoryStore() or SQLiteStore(path){hint}"
        )


def _check_whole(field: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{field}: {value!r} must be a whole number above zero")


def _check_seconds(field: str, value: Any, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < 1e7:
        raise ValueError(f"{field}: {value!r} must be a number of seconds, {least} or more")


def _check_session(session: Any) -> None:
    if session is not None and not isinstance(session, str):
        raise ValueError(f"session: {session!r} must be a text")


def _check_switch(switch: Any) -> None:
    if switch is not None and not isinstance(switch, KillSwitch):
        raise ValueError(f"switch: {without_password(switch)!r} is no KillSwitch; KillSwitch(source) makes one")


def _check_sinks(sinks: Any) -> None:
    listed("sinks", sinks, "callables", callable)
    for sink in sinks:
        called("sinks", sink)


def _check_counters(counters: Any) -> None:
    mapped("counters", {} if counters is None else counters, '{"claude-*": counter}')
    for pattern, counter in (counters or {}).items():
        called(f"counters[{pattern!r}]", counter)


def check_fees(fees: Any) -> None:
    """Raise where one is no fee."""
    mapped("tool_prices", fees, '{"web_search": "0.01"}')
    for name, price in fees.items():
        if not callable(price):
            nano(price, f"tool_prices[{name!r}]", zero=True)


def failing_over(
    store: Store,
    policy: FailurePolicy,
    *,
    failed: Callable[[str], None],
    spool: str | os.PathLike[str] | None,
    clock: Callable[[], float],
    hold_seconds: float,
    forgotten: Forgotten,
) -> Store:
    """The store; one that others share is watched for outages, and leased from where it says so."""
    if not store.shared:
        return store
    from langchain_costguard.metering.stores.failover import FailoverStore

    size = of_store(store)
    watched = FailoverStore(store, policy, failed, spool=spool, clock=clock, forgotten=forgotten)
    if size is None:
        return watched
    from langchain_costguard.metering.stores.leases.leased import LeasedStore

    return LeasedStore(watched, size, measures=MEASURES, hold_seconds=hold_seconds)
