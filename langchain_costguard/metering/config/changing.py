"""A guard whose budgets and prices come from a file, and change while the program runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from langchain_costguard.metering.budgets import alerts as thresholds
from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.metering.fees import Fees, ToolPrice
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.pricing.prices import Price
from langchain_costguard.metering.quick import Quick
from langchain_costguard.metering.settings import check_budgets, check_fees


class Changing:
    """The side of a guard that a file of budgets sees."""

    meter: Meter
    fees: Fees
    quick: Quick

    if TYPE_CHECKING:

        def __init__(self, *budgets: Budget, config: str | Path | None = None, **arguments: Any) -> None: ...

    @classmethod
    def from_file(cls, path: str | Path, *budgets: Budget, **arguments: Any) -> Self:
        """A guard of a ``costguard.toml`` and of what is given besides, which wins. A ``ValueError`` names the line."""
        return cls(*budgets, config=path, **arguments)

    def change(
        self,
        budgets: Sequence[Budget],
        *,
        prices: Mapping[str, Price] | None = None,
        tool_prices: Mapping[str, ToolPrice] | None = None,
        alerts: Sequence[float] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        """Put other budgets (and prices, fees, alerts, aliases) in the place of those there are, for calls that start
        from then on, whole or not at all. Balances stay with the store: a budget of the same label goes on from them.

        Raises:
            ValueError: names the field and the value.
        """
        check_budgets(budgets)
        check_fees(tool_prices or {})
        meter = self.meter
        ledger, shares = meter.ledger.with_budgets(budgets), None if alerts is None else thresholds.checked(alerts)
        book = meter.book.changed(prices, aliases)
        if tool_prices is not None:
            self.fees.change(tool_prices)
        meter.use(ledger, book, shares)
        self.quick.renew()
