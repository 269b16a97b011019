"""The pricing, under the path that users import; each is loaded when it is asked for."""

from typing import Any

from langchain_costguard.metering import pricing

__all__ = pricing.__all__


def __getattr__(name: str) -> Any:
    return getattr(pricing, name)
