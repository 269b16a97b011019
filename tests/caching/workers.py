"""What other processes do in the tests. Brings in no more than they need: each of them imports it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

from langchain_costguard.caching.entry import Entry
from langchain_costguard.caching.exact.redis import RedisCache  # noqa: F401 - loaded once, in the server they fork from
from langchain_costguard.caching.exact.sqlite import SQLiteCache  # noqa: F401 - as above


def contend(cache: Any, key: str, now: float, names: Iterable[str], barrier: Barrier, answer: Connection) -> None:
    """A thread for each name, all of which want the same answer; tells which of them have the claim."""
    got: list[str] = []
    lock = threading.Lock()

    def one(name: str) -> None:
        if cache.claim(key, name, until=now + 30, now=now):
            with lock:
                got.append(name)

    threads = [threading.Thread(target=one, args=(name,)) for name in names]
    barrier.wait()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answer.send(got)


def claim_and_hang(cache: Any, key: str, now: float, answer: Connection) -> None:
    """Claim, and wait to be killed."""
    answer.send(cache.claim(key, "killed", until=now + 30, now=now))
    signal.pause()


def write(cache: Any, keys: list[str], made: Entry, now: float, answer: Connection) -> None:
    """Put an answer under each key, a second later each, and read one of those before."""
    for n, key in enumerate(keys):
        cache.put(key, made, now=now + n)
        cache.get(keys[n // 2], now=now + n)
    answer.send(made.reply)
