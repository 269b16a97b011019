"""A store's accounts as an observer reads them: of which budget and measure, with what was granted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import unquote

from langchain_costguard.metering.budgets.accounts import GRANTED
from langchain_costguard.metering.budgets.budget import MEASURES
from langchain_costguard.metering.budgets.grants import KEYS
from langchain_costguard.metering.stores.base import Balance
from langchain_costguard.observe.witness import AccountLine


def account_lines(accounts: Iterable[tuple[str, Balance]]) -> Iterator[AccountLine]:
    """The budgets' accounts among all that a store keeps; clocks are left out, which no call fills."""
    found = dict(accounts)
    for name, balance in found.items():
        measure = name.rpartition("|")[2]
        if measure not in MEASURES or measure == "seconds" or name.startswith((GRANTED, KEYS)):
            continue
        beside = found.get(GRANTED + name)
        granted = beside.spent if beside else 0
        budget = unquote(name.partition("|")[0])
        spent, cap = max(0, balance.spent + granted), balance.cap + granted
        yield AccountLine(budget, name, measure, spent, balance.held, cap)
