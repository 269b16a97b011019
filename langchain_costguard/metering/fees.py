"""What a tool call costs: a fee by its name, fixed or computed from its arguments and output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from inspect import signature
from typing import Any

from langchain_costguard.metering.voice import Voice
from langchain_costguard.vocabulary.money import Money, nano

ToolPrice = Money | Callable[..., Money]
"""A fee per call, or what computes it from the tool's name, its arguments and (None before the call) its output; where
it has a fourth argument ``seconds``, also from how long the tool ran (0 before the call)."""


@dataclass(frozen=True, kw_only=True)
class ToolFee:
    """A tool's fee by what it uses, in USD: for each call, each second it runs, and each unit of its output.

    ``units`` says how many units an output has. Default: its length, or 1 where it has none. What is held before the
    call is the fee for a call, and ``seconds`` of it where that is given.

    Raises:
        ValueError: an amount that is none; names the field.
    """

    call: Money = 0
    second: Money = 0
    unit: Money = 0
    units: Callable[[Any], int] | None = None
    seconds: float = 0

    def __post_init__(self) -> None:
        for name in ("call", "second", "unit"):
            nano(getattr(self, name), f"ToolFee.{name}", zero=True)
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, int | float) or self.seconds < 0:
            raise ValueError(f"ToolFee.seconds: {self.seconds!r} must be a number of seconds, zero or more")

    def __call__(self, tool: str, arguments: Any, output: Any, seconds: float = 0) -> Decimal:
        """The fee, in USD."""
        ran = Decimal(str(round(seconds or self.seconds, 3)))
        made = 0 if output is None else self.units(output) if self.units is not None else _length(output)
        return Decimal(self.call) + Decimal(self.second) * ran + Decimal(self.unit) * made


def _length(output: Any) -> int:
    content = getattr(output, "content", output)
    return len(content) if hasattr(content, "__len__") else 1


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

    def after(self, tool: str, arguments: Any, output: Any, seconds: float, *, failed: bool) -> int | None:
        """What a call has cost, where that is computed from its output or its duration; else None. A failed one has no
        output, but has run."""
        price = self._prices.get(tool)
        if not callable(price) or (failed and not _takes_seconds(price)):
            return None
        return self._fee(price, tool, arguments, output, seconds)

    def computed(self, tool: str) -> bool:
        """Whether the tool's fee is known only after the call."""
        return callable(self._prices.get(tool))

    def _fee(self, price: ToolPrice | None, tool: str, arguments: Any, output: Any, seconds: float = 0) -> int | None:
        if price is None:
            return 0
        try:
            fee = _computed(price, tool, arguments, output, seconds) if callable(price) else price
            return nano(fee, f"tool_prices[{tool!r}]", zero=True)
        except Exception as error:
            self._voice.complain(f"tool_prices[{tool!r}]", error)
            return None


def _computed(price: Callable[..., Money], tool: str, arguments: Any, output: Any, seconds: float) -> Money:
    if _takes_seconds(price):
        return price(tool, arguments, output, seconds=seconds)
    return price(tool, arguments, output)


def _takes_seconds(price: Callable[..., Money]) -> bool:
    try:
        return "seconds" in signature(price).parameters
    except (TypeError, ValueError):  # a callable that does not say
        return False
