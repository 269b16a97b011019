"""Caching: answers remembered. A cache says what was answered before; steering asks it, and counts nothing.

``MemoryCache``, ``SQLiteCache`` and ``RedisCache`` keep exact answers: in this process, in a file, or in Redis. Use one
as ``steer(guard, cache=...)``, or give it to LangChain: ``set_llm_cache(MemoryCache())``. ``SemanticCache`` answers
questions that come to the same, from a ``MemoryIndex``, ``SQLiteIndex`` or ``RedisIndex``. ``PromptCache`` remembers
nothing: it keeps prompts in the provider's own cache.

The caches are imported when first asked for, so that ``import langchain_costguard.caching`` brings in neither redis nor
sqlite3.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Unpack

from langchain_costguard.caching.base import Answers, CacheError
from langchain_costguard.caching.entry import Entry, Stock, Wanted
from langchain_costguard.caching.rules import Options, Rules
from langchain_costguard.vocabulary.urls import place_of, without_password

if TYPE_CHECKING:
    from langchain_costguard.caching.exact.cache import ExactCache
    from langchain_costguard.caching.exact.memory import MemoryCache
    from langchain_costguard.caching.exact.postgres import PostgresCache as PostgresCache
    from langchain_costguard.caching.exact.redis import RedisCache
    from langchain_costguard.caching.exact.sqlite import SQLiteCache
    from langchain_costguard.caching.index.memory import MemoryIndex
    from langchain_costguard.caching.index.redis import RedisIndex
    from langchain_costguard.caching.index.redis_search import RedisSearchIndex
    from langchain_costguard.caching.index.redis_sets import RedisVectorSetIndex
    from langchain_costguard.caching.index.sqlite import SQLiteIndex
    from langchain_costguard.caching.prompt.linter import lint_prompts
    from langchain_costguard.caching.prompt.promptcache import PromptCache
    from langchain_costguard.caching.semantic.cache import SemanticCache
    from langchain_costguard.caching.semantic.fit import Fit
    from langchain_costguard.caching.semantic.shadow import ShadowLog

__all__ = [
    "Answers",
    "CacheError",
    "Entry",
    "ExactCache",
    "Fit",
    "MemoryCache",
    "MemoryIndex",
    "Options",
    "PromptCache",
    "RedisCache",
    "RedisIndex",
    "RedisSearchIndex",
    "RedisVectorSetIndex",
    "Rules",
    "SQLiteCache",
    "SQLiteIndex",
    "SemanticCache",
    "ShadowLog",
    "Stock",
    "Wanted",
    "lint_prompts",
    "open_cache",
]

_LAZY = {
    "ExactCache": "exact.cache",
    "Fit": "semantic.fit",
    "MemoryCache": "exact.memory",
    "MemoryIndex": "index.memory",
    "PostgresCache": "exact.postgres",
    "PromptCache": "prompt.promptcache",
    "RedisCache": "exact.redis",
    "RedisIndex": "index.redis",
    "RedisSearchIndex": "index.redis_search",
    "RedisVectorSetIndex": "index.redis_sets",
    "SQLiteCache": "exact.sqlite",
    "SQLiteIndex": "index.sqlite",
    "SemanticCache": "semantic.cache",
    "ShadowLog": "semantic.shadow",
    "lint_prompts": "prompt.linter",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def open_cache(url: str, **options: Unpack[Options]) -> ExactCache:
    """The cache a URL names: ``memory:``, ``sqlite:PATH``, ``redis://…``, ``rediss://…``, ``unix://…`` or
    ``postgresql://…``.

    ``sqlite:///PATH`` is understood as SQLAlchemy does: three slashes and a relative path, four for an absolute one.

    Raises:
        ValueError: the URL names no cache, or one that cannot be used, or an option cannot be.
    """
    match place_of(url):
        case "memory", _:
            from langchain_costguard.caching.exact.memory import MemoryCache

            return MemoryCache(**options)
        case "sqlite", path:
            from langchain_costguard.caching.exact.sqlite import SQLiteCache

            return SQLiteCache(path, **options)
        case "redis", _:
            from langchain_costguard.caching.exact.redis import RedisCache

            return RedisCache(url, **options)
        case "postgres", _:
            from langchain_costguard.caching.exact.postgres import PostgresCache

            return PostgresCache(url, **options)
    known = "memory:, sqlite:PATH, redis://…, rediss://…, unix://… or postgresql://…"
    raise ValueError(f"a cache's URL must be {known}, not {without_password(url)!r}")
