"""What a call costs, before and after it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_costguard.metering.pricing.estimate import Estimate, Estimator
    from langchain_costguard.metering.pricing.explaining import explain
    from langchain_costguard.metering.pricing.limits import output_limit
    from langchain_costguard.metering.pricing.prices import Price, PriceBook
    from langchain_costguard.metering.pricing.rates import Rates

__all__ = ["Estimate", "Estimator", "Price", "PriceBook", "Rates", "explain", "output_limit"]

_HOME = {
    "Estimate": "estimate",
    "Estimator": "estimate",
    "explain": "explaining",
    "output_limit": "limits",
    "Price": "prices",
    "PriceBook": "prices",
    "Rates": "rates",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
