"""Where the wholes of cut results are kept, and the edits of threads that have no checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from langchain_costguard.caching.entry import Entry

if TYPE_CHECKING:
    from langchain_costguard.caching.base import Answers


class Stash:
    """Texts by owner and id, on the shelves of a cache of exact answers: ``Stash(SQLiteCache("stash.db"))``.

    Nobody gets at another owner's text: the owner is part of the key. Any verb may raise ``CacheError``.

    Args:
        shelf: A ``MemoryCache``, ``SQLiteCache`` or ``RedisCache``, with a bound of its own.
    """

    def __init__(self, shelf: Answers) -> None:
        self.shelf = shelf
        self.quick = bool(getattr(shelf, "quick", False))
        """Whether it may be asked on an event loop."""

    def __repr__(self) -> str:
        return f"Stash({self.shelf!r})"

    def put(self, owner: str, texts: Iterable[tuple[str, str]], *, now: float, ttl: float) -> None:
        """Keep these texts by their ids."""
        for id, text in texts:
            entry = Entry(reply=text, tenant=owner, created=now, expires=now + ttl)
            self.shelf.put(_key(owner, id), entry, now=now)

    def get(self, owner: str, id: str, *, now: float) -> str | None:
        """A text; None where there is none (any more)."""
        entry = self.shelf.get(_key(owner, id), now=now)
        return None if entry is None else entry.reply

    def put_json(self, owner: str, id: str, value: Any, *, now: float, ttl: float) -> None:
        """Keep a value that JSON has."""
        self.put(owner, [(id, json.dumps(value))], now=now, ttl=ttl)

    def get_json(self, owner: str, id: str, *, now: float) -> Any:
        """A value that was kept; None where there is none that can be read."""
        text = self.get(owner, id, now=now)
        try:
            return None if text is None else json.loads(text)
        except ValueError:
            return None


class MemoryStash(Stash):
    """Texts in this process, at most ``max_entries`` of them."""

    def __init__(self, max_entries: int = 10_000) -> None:
        from langchain_costguard.caching.exact.memory import MemoryCache

        super().__init__(MemoryCache(max_entries=max_entries))


_SERVER = re.compile(r"[^/\\]*@[^/\\@]+:\d+(/\d*)?")


def opened(store: Any) -> Stash:
    """The stash that was meant.

    Raises:
        ValueError: none can be made of it.
    """
    if store is None:
        return MemoryStash()
    if isinstance(store, Stash):
        return store
    if not isinstance(store, str) or not store:
        raise ValueError(f"store: {store!r} is no stash: give a Stash, a path of a SQLite file, or a Redis URL")
    from langchain_costguard.caching import open_cache
    from langchain_costguard.vocabulary.urls import place_of, without_password

    place = place_of(store)
    if not place and _SERVER.fullmatch(store):  # else its password would be the name of a file
        raise ValueError(f"store: {without_password(store)!r} is no path and no URL: a server's begins with redis://")
    try:
        return Stash(open_cache(store if place else f"sqlite:{store}"))
    except ValueError as error:
        raise ValueError(f"store: {error}") from None


def _key(owner: str, id: str) -> str:
    return blake2b(f"{owner}\0{id}".encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
