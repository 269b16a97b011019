"""Where balances are kept: in this process, in a SQLite file, in Redis or in PostgreSQL.

The stores are imported when first asked for, so that importing this room brings in none of redis,
sqlite3 and psycopg.
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
from langchain_costguard.vocabulary.urls import place_of, without_password

if TYPE_CHECKING:
    from langchain_costguard.metering.stores.memory import MemoryStore
    from langchain_costguard.metering.stores.postgres import PostgresStore as PostgresStore
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

_LAZY = {"MemoryStore": "memory", "PostgresStore": "postgres", "RedisStore": "redis", "SQLiteStore": "sqlite"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def open_store(url: str) -> Store:
    """The store a URL names: ``memory:``, ``sqlite:PATH``, ``redis://…``, ``rediss://…``, ``unix://…`` or
    ``postgresql://…``.

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
        case "postgres", _:
            from langchain_costguard.metering.stores.postgres import PostgresStore

            return PostgresStore(url)
    kinds = "memory:, sqlite:PATH, redis://…, rediss://…, unix://… or postgresql://…"
    raise ValueError(f"store must be {kinds}, not {without_password(url)!r}")
