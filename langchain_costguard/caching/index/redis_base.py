"""What the indexes in Redis have in common: the connection, the keys, and going through all that is held."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from redis.exceptions import RedisClusterException, RedisError, ResponseError

from langchain_costguard.caching.base import CacheError
from langchain_costguard.caching.entry import Entry, Stock, Wanted
from langchain_costguard.caching.index.base import entry_in, stocked
from langchain_costguard.caching.outage import Outage
from langchain_costguard.metering.stores.base import checked_timeout
from langchain_costguard.metering.stores.dial import Client, dial

T = TypeVar("T")

KEYS_AT_ONCE = 500


class Link:
    """A connection to a server, which fails soon and with ``CacheError``, or with the server's objection.

    Raises:
        ValueError: the URL, the client or the timeout cannot be used.
    """

    def __init__(self, url_or_client: str | Client, *, timeout: float) -> None:
        timeout = checked_timeout(timeout)
        self._own = isinstance(url_or_client, str)
        client, self.where = dial(url_or_client, who="an index in Redis", timeout=timeout)
        self.client: Any = client
        self._outage = Outage(time.monotonic)

    def ask(self, question: Callable[[Any], T]) -> T:
        """What the server answers to the client.

        Raises:
            CacheError: it did not, or not in time, now or a moment ago.
            ResponseError: it objects.
        """
        failing = (RedisError, RedisClusterException, OSError)
        return self._outage.ask(lambda: question(self.client), self.where, failing=failing, objecting=ResponseError)

    def close(self) -> None:
        """Close the connections, if they are its own."""
        if self._own:
            self.client.close()


class RemoteIndex(ABC):
    """Keys and verbs that do not depend on how the server finds neighbours.

    The answers of a setting are at ``{prefix}:{setting}:id``, the setting in braces: in one slot of a cluster. Each
    expires by itself, for which the machines' clocks must agree.
    """

    def __init__(self, url_or_client: str | Client | Link, *, prefix: str, timeout: float) -> None:
        if not isinstance(prefix, str) or not re.fullmatch(r"[\w:.-]+", prefix):
            raise ValueError(f"prefix: {prefix!r} must be a name of letters, digits and :._-")
        self.prefix = prefix
        self._link = url_or_client if isinstance(url_or_client, Link) else Link(url_or_client, timeout=timeout)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._link.where}, prefix {self.prefix!r}>"

    def close(self) -> None:
        """Close the index' own connections; a given client stays as it is."""
        self._link.close()

    def forget(self, wanted: Wanted) -> int:
        """Forget these answers; returns how many. Goes through all keys of the database.

        Raises:
            CacheError: the server did not answer in time, or objects.
        """
        gone = [key for key, entry, _ in self._held() if wanted.fits(entry)]
        for start in range(0, len(gone), KEYS_AT_ONCE):
            part = gone[start : start + KEYS_AT_ONCE]

            def drop(client: Any, keys: list[str] = part) -> None:
                pipe = client.pipeline(transaction=False)
                for key in keys:
                    pipe.delete(key)
                    self._drop_vector(pipe, *self._parts(key))
                pipe.execute()

            self._asked(drop)
        return len(gone)

    def stock(self, *, now: float) -> Iterable[Stock]:
        """What is held, by feature and model; the bytes are those of the vectors and the entries.

        Goes through all keys of the database.

        Raises:
            CacheError: the server did not answer in time, or objects.
        """
        return stocked((entry, size) for _, entry, size in self._held() if entry.expires > now)

    def _held(self) -> Iterator[tuple[str, Entry, int]]:
        """Key, answer and bytes of the vector of all that is held."""
        keys = self._asked(lambda client: iter(client.scan_iter(match=f"{self.prefix}:{{*}}:*", count=1_000)))
        seen: set[str] = set()  # a scan may come by twice
        while fetched := self._asked(lambda _: [_text(key) for key in islice(keys, KEYS_AT_ONCE)]):
            part = list(dict.fromkeys(key for key in fetched if key not in seen))
            seen.update(part)

            def read(client: Any, those: list[str] = part) -> list[Any]:
                pipe = client.pipeline(transaction=False)
                for key in those:
                    self._read(pipe, key, *self._parts(key))
                found: list[Any] = pipe.execute(raise_on_error=False)
                return found

            found = self._asked(read)
            for i, key in enumerate(part):
                entry = entry_in(found[2 * i])
                if entry is not None:
                    yield key, entry, self._bytes(found[2 * i + 1])

    def _asked(self, question: Callable[[Any], T]) -> T:
        try:
            return self._link.ask(question)
        except ResponseError as error:
            raise self._objection(error) from error

    def _objection(self, error: ResponseError) -> Exception:
        return CacheError(f"{self._link.where}: {error}")

    def _key(self, setting: str, id: str) -> str:
        return f"{self.prefix}:{{{setting}}}:{id}"

    def _parts(self, key: str) -> tuple[str, str]:
        """The setting and the id of a key."""
        setting, _, id = key[len(self.prefix) + 2 :].partition("}:")
        return setting, id

    # What the kinds differ in

    @abstractmethod
    def _read(self, pipe: Any, key: str, setting: str, id: str) -> None:
        """Two commands: for the answer of this key, and for the size of its vector."""

    @abstractmethod
    def _bytes(self, size: Any) -> int:
        """The bytes of a vector by the reply to the second."""

    def _drop_vector(self, pipe: Any, setting: str, id: str) -> None:  # noqa: B027 - where there is none, nothing is done
        """Take a vector out that does not go with the answer's key."""


def lifetime(entry: Entry, now: float) -> int:
    """Milliseconds for which an answer is kept, at least one."""
    return max(1, int((entry.expires - now) * 1000))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
