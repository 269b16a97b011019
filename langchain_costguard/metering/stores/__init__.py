"""Where balances are kept: in this process, in a SQLite file, or in Redis.

The stores are imported when first asked for, so that importing this room brings in neither redis nor
sqlite3.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from langchain_costguard.metering.stores.base import (
    MAX_AMOUNT,
    Balance,
    Claim,
    Grant,
    Refusal,
    Store,
    StoreError,
)
from langchain_costguard.vocabulary.urls import place_of, shown

if TYPE_CHECKING:
    from langchain_costguard.metering.stores.memory import MemoryStore
    from langchain_costguard.metering.stores.redis import RedisStore
    from langchain_costguard.metering.stores.sqlite import SQLiteStore

__all__ = [
    "MAX_AMOUNT",
    "Balance",
    "Claim",
    "Grant",
    "MemoryStore",
    "RedisStore",
    "Refusal",
    "SQLiteStore",
    "Store",
    "StoreError",
    "open_store",
]

_LAZY = {"MemoryStore": "memory", "RedisStore": "redis", "SQLiteStore": "sqlite"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def open_store(url: str) -> Store:
    """The store a URL names: ``memory:``, ``sqlite:PATH``, ``redis://…``, ``rediss://…`` or ``unix://…``.

    ``sqlite:///PATH`` is understood as SQLAlchemy does: three slashes and a relative path, four for an absolute one.

    Raises:
        ValueError: the URL names no store, or one that cannot be used.
    """
    match place_of(url):
        case "memory", _:
            from langchain_costguard.metering.stores.memory import MemoryStore

            return MemoryStore()
        case "sqlite", path:
            from langchain_costguard.metering.stores.sqlite import SQLiteStore

            return SQLiteStore(path)
        case "redis", _:
            from langchain_costguard.metering.stores.redis import RedisStore

            return RedisStore(url)
    said = url if isinstance(url, str) and url.startswith(("memory:", "sqlite:")) else shown(url)
    raise ValueError(f"store must be memory:, sqlite:PATH, redis://…, rediss://… or unix://…, not {said!r}")
