"""The stores, under the path that users import; each is loaded when it is asked for."""

from typing import Any

from langchain_costguard.metering import stores

__all__ = stores.__all__


def __getattr__(name: str) -> Any:
    return getattr(stores, name)
