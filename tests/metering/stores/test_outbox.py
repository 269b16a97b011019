"""What a store was not told waits, is counted, and arrives once."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_costguard.metering.stores import Balance, Claim, MemoryStore, StoreError
from langchain_costguard.metering.stores.outbox import Outbox
from langchain_costguard.metering.stores.remembered import Remembered

NOW, UNTIL = 1_000.0, 1_060
USD, CALLS = Claim("all|usd", 100, 10), Claim("all|model_calls", 100, 1)


class Away(MemoryStore):
    """One that may not answer: before it has settled, or after."""

    away = ""

    def settle(self, *args: Any, **kwargs: Any) -> list[int]:
        if self.away == "before":
            raise StoreError("away")
        totals = super().settle(*args, **kwargs)
        if self.away == "after":
            raise StoreError("away")
        return totals


def test_what_waits_is_counted_until_it_has_arrived_once() -> None:
    store, forgotten = Away(), []
    outbox = Outbox(store, None, lambda: forgotten.append(True))

    def waits() -> tuple[bool, int, int]:
        return bool(outbox), outbox.count, outbox.nano

    def spent() -> list[int]:
        return [balance.spent for balance in store.read(["all|usd", "all|model_calls"], now=NOW)]

    assert waits() == (False, 0, 0)
    outbox.keep([USD, CALLS], [10, 1], [7, 1], UNTIL)
    assert waits() == (True, 1, 7)
    outbox.keep([USD, CALLS], [10, 1], [0, 0], UNTIL)  # a hold that is given back
    outbox.keep([USD, CALLS], [10, 1], [4, 1], UNTIL + 60)
    assert waits() == (True, 2, 11)
    store.away = "before"
    with pytest.raises(StoreError):
        outbox.send([USD, CALLS], [10, 1], [2, 1], UNTIL, NOW)
    assert waits() == (True, 3, 13)
    with pytest.raises(StoreError):
        outbox.flush(NOW)
    assert waits() == (True, 3, 13)
    assert spent() == [0, 0]
    store.away = ""
    outbox.flush(NOW)
    assert waits() == (False, 0, 0)
    assert spent() == [13, 3]
    store.away = "after"
    with pytest.raises(StoreError):
        outbox.send([USD, CALLS], [10, 1], [5, 1], UNTIL, NOW)
    assert waits() == (True, 1, 5)
    store.away = ""
    outbox.flush(NOW)
    assert waits() == (False, 0, 0)
    assert (spent(), forgotten) == ([18, 4], [])
    outbox.send([USD], [0], [1], UNTIL, NOW)
    for name, _ in list(store.scan(now=NOW)):
        store.settle([Claim(name, 0, 0)], [0], [-store.read([name], now=NOW)[0].spent], until=UNTIL, now=NOW)
    outbox.send([USD], [0], [1], UNTIL, NOW)  # of a ledger that begins again at zero, its receipt says so
    assert forgotten


def test_what_a_ledger_forgot_is_raised_to_what_was_heard_of_it_by_one_process() -> None:
    store, memory = MemoryStore(), Remembered()
    names = ["a|usd", "b|usd", "c|usd", "t|seconds"]
    memory.heard([*(Claim(name, 100, 0) for name in names[:3]), Claim("t|seconds", 9, 0, clock=True)], [5, 7, 9, 11])
    memory.heard([Claim("a|usd", 100, 0)], [6])
    store.settle([Claim("b|usd", 100, 0), Claim("c|usd", 100, 0)], [0, 0], [7, 20], until=UNTIL, now=NOW)
    assert memory.restore(store, {"a|usd": 4, "b|usd": 1}, NOW) == 2
    assert store.read(names, now=NOW) == [Balance(10, 0, 100), Balance(8, 0, 100), Balance(20, 0, 100), (0, 0, 0)]
    assert store.read(["restoring|"], now=NOW)[0][:2] == (0, 0)
    assert memory.restore(store, {"a|usd": 4, "b|usd": 1}, NOW) == 0
    store.reserve([Claim("restoring|", 1, 1, ttl=60)], units=(0, 0), until=UNTIL, now=NOW)
    assert memory.restore(store, {"a|usd": 50}, NOW) == 0  # somebody else is at it
    assert store.read(names, now=NOW)[0].spent == 10
