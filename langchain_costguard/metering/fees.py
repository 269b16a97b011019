"""What a tool call costs: a fee by its name, fixed or computed from its arguments and output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langchain_costguard.metering.voice import Voice
from langchain_costguard.vocabulary.money import Money, nano

ToolPrice = Money | Callable[[str, Any, Any], Money]
"""A fee per call, or what computes it from the tool's name, its arguments and (None before the call) its output."""


class Fees:
    """The fees of a guard's tools.

    Args:
        prices: By tool name, in USD a call.
        voice: Tells of a callable that fails.
    """

    def __init__(self, prices: Mapping[str, ToolPrice], voice: Voice) -> None:
        self._prices = prices
        self._voice = voice

    def change(self, prices: Mapping[str, ToolPrice]) -> None:
        """Put other prices in the place of these."""
        self._prices = prices

    def before(self, tool: str, arguments: Any) -> int | None:
        """What a call costs (nano-USD), as far as is known before it; None where its price cannot be computed: no
        reason to lose the tool."""
        return self._fee(self._prices.get(tool), tool, arguments, None)

    def after(self, tool: str, arguments: Any, output: Any) -> int | None:
        """What a call has cost, where that is computed from its output; else None."""
        price = self._prices.get(tool)
        return self._fee(price, tool, arguments, output) if callable(price) else None

    def computed(self, tool: str) -> bool:
        """Whether the tool's fee is known only after the call."""
        return callable(self._prices.get(tool))

    def _fee(self, price: ToolPrice | None, tool: str, arguments: Any, output: Any) -> int | None:
        if price is None:
            return 0
        try:
            fee = price(tool, arguments, output) if callable(price) else price
            return nano(fee, f"tool_prices[{tool!r}]", zero=True)
        except Exception as error:
            self._voice.complain(f"tool_prices[{tool!r}]", error)
            return None
