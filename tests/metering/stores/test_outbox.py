"""What a store was not told waits, is counted, and arrives once."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from langchain_costguard.metering.stores import Balance, Claim, MemoryStore, StoreError
from langchain_costguard.metering.stores.outbox import RECEIPTS, WATCHED, Outbox
from langchain_costguard.metering.stores.remembered import Remembered
from langchain_costguard.metering.stores.spool import Entry, Spool

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


class Counted(MemoryStore):
    """One that carries out so many settlements, heard or unheard, and then none; it knows what it was asked for."""

    def __init__(self, carries_out: int, *, heard: bool = True) -> None:
        super().__init__()
        self.carries_out, self.heard, self.claims = carries_out, heard, []  # type: ignore[var-annotated]

    def settle(self, claims: Any, *args: Any, **kwargs: Any) -> list[int]:
        self.claims.append(claims)
        if not self.carries_out:
            raise StoreError("away")
        self.carries_out -= 1
        totals = super().settle(claims, *args, **kwargs)
        if not self.heard:
            raise StoreError("unheard")
        return totals


@pytest.mark.parametrize("spooled", [False, True])
def test_what_still_waits_is_still_counted_where_others_have_arrived(spooled: bool, tmp_path: Path) -> None:
    store = Counted(0 if spooled else 1)
    outbox = Outbox(store, Spool(tmp_path, of="store") if spooled else None, lambda: None)
    for index, (usd, calls) in enumerate(((7, 1), (0, 0), (4, 1), (0, 1))):
        outbox.keep([USD, CALLS] if usd else [CALLS], [10, 1][-2 if usd else -1 :], [usd, calls][-2 if usd else -1 :],
                    UNTIL + 60 * index)  # fmt: skip
    assert (outbox.count, outbox.nano) == (3, 11)
    store.carries_out = 2
    with pytest.raises(StoreError):
        outbox.flush(NOW)
    spent = [balance.spent for balance in store.read(["all|usd", "all|model_calls"], now=NOW)]
    assert (bool(outbox), outbox.nano, outbox.count) == (True, 11 - spent[0], 3 - spent[1])
    assert len(list(tmp_path.iterdir())) == spooled
    store.carries_out = 9
    outbox.flush(NOW)
    assert (bool(outbox), outbox.count, outbox.nano) == (False, 0, 0)
    assert store.read(["all|usd", "all|model_calls"], now=NOW) == [Balance(11, 0, 100), Balance(3, 0, 100)]
    assert not list(tmp_path.iterdir())


def test_what_was_held_for_several_settlements_is_released_with_them() -> None:
    store = MemoryStore()
    outbox = Outbox(store, None, lambda: None)
    store.reserve([USD._replace(fixed=25)], units=(0, 0), until=UNTIL, now=NOW)
    for _ in range(2):
        outbox.keep([USD], [10], [7], UNTIL)
    outbox.flush(NOW)
    assert store.read(["all|usd"], now=NOW)[0] == Balance(14, 5, 100)


@pytest.mark.parametrize("spooled", [False, True])
@pytest.mark.parametrize("heard", [False, True])
def test_of_settlements_in_doubt_each_is_carried_out_once(heard: bool, spooled: bool, tmp_path: Path) -> None:
    store, forgotten = Counted(2, heard=heard), []
    spool = Spool(tmp_path, of="store") if spooled else None
    outbox = Outbox(store, spool, lambda: forgotten.append(True))

    def send(amount: int) -> None:
        with contextlib.suppress(StoreError):
            outbox.send([USD], [10], [amount], UNTIL, NOW)

    for amount in (1, 2, 4, 8):  # two that it carries out, and two that it does not
        send(amount)
    assert (outbox.count, outbox.nano) == ((2, 12) if heard else (4, 15))
    store.carries_out, store.heard, sent = 9, True, len(store.claims)
    outbox.flush(NOW)
    assert (store.read(["all|usd"], now=NOW)[0].spent, outbox.count, outbox.nano) == (15, 0, 0)
    assert len(store.claims) - sent == (2 if spooled else 1)  # added up, unless each is a file of its own
    assert forgotten == []
    lasts = {claim.ttl for claims in store.claims for claim in claims if claim.account.startswith(RECEIPTS)}
    assert lasts == {(30 if spooled else 2) * 86_400}


@pytest.mark.parametrize("spooled", [False, True])
@pytest.mark.parametrize("carried_out", [0, 1])
def test_what_is_carried_out_again_and_late_is_taken_back_and_nothing_of_what_others_hold(
    carried_out: int, spooled: bool, tmp_path: Path
) -> None:
    store = Counted(carried_out, heard=False)
    outbox = Outbox(store, Spool(tmp_path, of="store") if spooled else None, lambda: None)

    def balance() -> tuple[int, int]:
        return store.read(["all|usd"], now=NOW)[0][:2]

    store.reserve([USD._replace(fixed=100)], units=(0, 0), until=UNTIL, now=NOW)
    with pytest.raises(StoreError):
        outbox.send([USD], [10], [7], UNTIL, NOW)
    asked, held = store.claims[-1], 90
    store.carries_out, store.heard = 99, True
    if carried_out:  # and twice more, before anybody looks
        for _ in range(2):
            store.settle(asked, [10, 0], [7, 1], until=UNTIL, now=NOW)
        held = 70
    for _ in range(2):
        outbox.flush(NOW)
        assert balance() == (7, held)
    if not carried_out:
        assert outbox.watches
        for now in (NOW, NOW + WATCHED - 1):
            store.settle(asked, [10, 0], [7, 1], until=UNTIL, now=NOW)
            held -= 10
            outbox.flush(now)
            assert balance() == (7, held)
    outbox.flush(NOW + WATCHED)
    assert outbox.watches == (spooled and not carried_out)  # what was taken back late can come late, too
    outbox.flush(NOW + 2 * WATCHED)
    assert not outbox.watches


def test_what_is_carried_out_while_it_is_sent_again_is_taken_back(tmp_path: Path) -> None:
    class Overtaken(Counted):
        late: Any = None

        def settle(self, claims: Any, *args: Any, **kwargs: Any) -> list[int]:
            if self.late is not None:
                late, self.late = self.late, None
                super().settle(late, [10, 0], [7, 1], **kwargs)
            return super().settle(claims, *args, **kwargs)

    store = Overtaken(0)
    outbox = Outbox(store, Spool(tmp_path, of="store"), lambda: None)
    with pytest.raises(StoreError):
        outbox.send([USD], [10], [7], UNTIL, NOW)
    store.late, store.carries_out = store.claims[-1], 99
    outbox.flush(NOW)
    outbox.flush(NOW)
    assert store.read(["all|usd"], now=NOW)[0].spent == 7


def test_a_ledger_that_begins_again_is_noticed_at_the_next_settlement_and_what_it_was_not_told_is_not_lost() -> None:
    store, forgotten = Counted(1), []
    outbox = Outbox(store, None, lambda: forgotten.append(True))
    outbox.send([USD], [0], [1], UNTIL, NOW)
    store.forget([name for name, _ in list(store.scan(now=NOW))])
    with pytest.raises(StoreError):
        outbox.send([USD], [0], [5], UNTIL, NOW)
    store.carries_out = 9
    outbox.flush(NOW)
    assert store.read(["all|usd"], now=NOW)[0].spent == 5
    store.forget([name for name, _ in list(store.scan(now=NOW))])
    assert outbox.send([USD], [0], [1], UNTIL, NOW) == [1]
    assert forgotten == [True]


def test_two_settlements_at_once_have_each_a_receipt_of_its_own() -> None:
    store = Counted(9)
    outbox = Outbox(store, None, lambda: None)

    def meanwhile(*args: Any, **kwargs: Any) -> list[int]:
        outbox.send([USD], [0], [1], UNTIL, NOW)
        return store.settle(*args, **kwargs)

    outbox.send([USD], [0], [2], UNTIL, NOW, by=meanwhile)
    assert len({claims[-1].account for claims in store.claims}) == 2


def test_what_another_process_left_is_carried_out_unless_it_was() -> None:
    store = MemoryStore()
    outbox, entry = Outbox(store, None, lambda: None), Entry([USD], [0], [5], UNTIL)
    for count, spent in ((1, 0), (0, 5), (0, 5), (1, 10), (1, 10)):
        outbox.deliver(entry, RECEIPTS + "other|1", count, NOW)
        assert store.read(["all|usd"], now=NOW)[0].spent == spent


def test_what_a_ledger_forgot_is_raised_to_what_was_heard_of_it_once() -> None:
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


def test_what_is_restored_is_what_was_heard_and_holds_stay_what_they_are() -> None:
    store, memory, claim = MemoryStore(), Remembered(), Claim("a|usd", 1_000, 0)
    for until in range(1_001, 1_100):
        store.reserve([claim._replace(fixed=1)], units=(0, 0), until=until, now=NOW)
    memory.heard([claim], [7])
    store.settle([claim], [0], [3], until=UNTIL, now=NOW)
    assert memory.restore(store, {}, NOW) == 1
    assert store.read(["a|usd"], now=NOW)[0] == Balance(7, 99, 1_000)


def test_while_one_restores_another_finds_it_at_it() -> None:
    found: list[int] = []

    class Looked(MemoryStore):
        def read(self, *args: Any, **kwargs: Any) -> list[Balance]:
            if not found:
                found.append(-1)
                found.append(memory.restore(self, {}, NOW))
            return super().read(*args, **kwargs)

    store, memory = Looked(), Remembered()
    memory.heard([USD], [7])
    assert memory.restore(store, {}, NOW) == 1
    assert found == [-1, 0]


def test_of_many_accounts_those_heard_of_last_are_remembered() -> None:
    store, memory = MemoryStore(), Remembered()
    for number in range(10_010):
        memory.heard([Claim(f"{number}|usd", 9, 0)], [1])
    restored = memory.restore(store, {}, NOW)
    assert 9_000 < restored < 10_010
    assert [balance.spent for balance in store.read(["0|usd", "10009|usd"], now=NOW)] == [0, 1]


@pytest.mark.parametrize(("error", "waits"), [(StoreError("away"), 1), (KeyboardInterrupt(), 1), (ValueError("no"), 0)])
def test_a_settlement_waits_where_nobody_can_say_whether_it_was_carried_out(error: BaseException, waits: int) -> None:
    outbox = Outbox(MemoryStore(), None, lambda: None)

    def broken(*args: Any, **kwargs: Any) -> list[int]:
        raise error

    with pytest.raises(type(error)):
        outbox.send([USD], [0], [1], UNTIL, NOW, by=broken)
    assert (outbox.count, bool(outbox)) == (waits, bool(waits))


@pytest.mark.parametrize("spooled", [False, True])
def test_a_child_brings_what_is_its_own(spooled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    outbox = Outbox(store, Spool(tmp_path, of="store") if spooled else None, lambda: None)
    outbox.keep([USD], [0], [1], UNTIL)
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as after a fork
    outbox.keep([USD], [0], [5], UNTIL)
    assert outbox.count == 1
    assert len(list(tmp_path.iterdir())) == 2 * spooled
    outbox.flush(NOW)
    assert store.read(["all|usd"], now=NOW)[0].spent == 5
    assert len(list(tmp_path.iterdir())) == spooled, "the parent's"
