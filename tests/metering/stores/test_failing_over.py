"""A store that fails, step by step: what is asked of it and when, what is said, and what waits. No thread but this one
works here, and no time passes but what a test says."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from langchain_costguard.metering.stores import Balance, Claim, Grant, MemoryStore, Refusal, StoreError, failover
from langchain_costguard.metering.stores.base import Reservation, Settlement, StoreBusyError
from langchain_costguard.metering.stores.failover import RECEIPTS, FailoverStore
from langchain_costguard.metering.stores.outbox import WATCHED

USD, CLOCK = Claim("all|usd", 10**17, 11), Claim("all|seconds", 10**9, 0, clock=True)
NOW, UNTIL = 1_000.0, 9_000
UNITS = (0, 0)


class Far(MemoryStore):
    """A shared store that says what it was asked, and fails as it is told: before it does something, or after."""

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.times: list[float] = []
        self.fails: BaseException | None = None
        self.only = ""
        self.does_it_first = False
        self.meanwhile: Callable[[], object] = lambda: None

    def __repr__(self) -> str:
        return "Far()"

    def _do(self, verb: str, work: Callable[[], Any]) -> Any:
        self.asked.append(verb)
        fails = self.fails if verb in (self.only or verb) else None
        if fails is not None and not self.does_it_first:
            raise fails
        found = work()
        if fails is not None:
            raise fails
        return found

    def said(self) -> list[str]:
        asked, self.asked = self.asked, []
        return asked

    def reserve(self, claims: Sequence[Claim], **options: Any) -> Any:
        return self._do("reserve", lambda: MemoryStore.reserve(self, claims, **options))

    def settle(self, claims: Sequence[Claim], held: Any, actual: Any, **options: Any) -> Any:
        self.times.append(options["now"])
        return self._do("settle", lambda: MemoryStore.settle(self, claims, held, actual, **options))

    def read(self, accounts: Sequence[str], *, now: float) -> Any:
        return self._do("read", lambda: MemoryStore.read(self, accounts, now=now))

    def flags(self) -> Any:
        self.meanwhile()
        return self._do("flags", lambda: MemoryStore.flags(self))

    def of(self, claim: Claim = USD) -> tuple[int, int]:
        return MemoryStore.read(self, [claim.account], now=NOW)[0][:2]


class Turning(Far):
    """One that settles and reserves in one trip, and knows what may make it forget."""

    def turn(self, settlement: Settlement, reservation: Reservation, *, now: float) -> tuple[list[int], Any]:
        def both() -> tuple[list[int], Any]:
            claims, held, actual, until = settlement
            wanted, units, then = reservation
            totals = MemoryStore.settle(self, claims, held, actual, until=until, now=now)
            return totals, MemoryStore.reserve(self, wanted, units=units, until=then, now=now)

        found: tuple[list[int], Any] = self._do("turn", both)
        return found

    def risks(self) -> list[str]:
        self.asked.append("risks")
        return ["it may burn", "it may drown"]


class Waited:
    """A store with what may fail behind it, by a clock that is set."""

    made: ClassVar[list[Waited]] = []

    def __init__(self, far: Far, policy: Any = "refuse", **options: Any) -> None:
        self.far, self.at, self.failed = far, 0.0, list[str]()
        self.store = FailoverStore(far, policy, self.failed.append, clock=lambda: self.at, **options)
        self.forgot: list[bool] = []
        self.made.append(self)
        self.store.forgot = lambda: self.forgot.append(True)

    def reserve(self, claim: Claim = USD) -> Grant | Refusal:
        return self.store.reserve([claim], units=UNITS, until=UNTIL, now=NOW + self.at)

    def settle(self, amount: int, held: int = 0, *claims: Claim) -> list[int]:
        wanted = claims or (USD,)
        rest = [0] * (len(wanted) - 1)
        return self.store.settle(wanted, [held, *rest], [amount, *rest], until=UNTIL, now=NOW + self.at)

    def waits(self) -> tuple[int, int, int]:
        """Settlements, money, and deliveries that are due."""
        return self.store._outbox.count, self.store._outbox.nano, len(self.store._writer)

    def bring(self) -> None:
        """As the thread does that brings what waits."""
        self.store._writer._deliver_some()


@pytest.fixture(autouse=True)
def no_thread(no_more_threads: Callable[[str], None]) -> Iterator[None]:
    no_more_threads("costguard-settlements")
    yield
    while Waited.made:  # else they would say at the end of the process what is not delivered
        Waited.made.pop().store.close(0)


AWAY = StoreError("no answer")


@pytest.mark.parametrize(
    ("far", "policy", "asked"),
    [(Turning, "refuse", ["turn"]), (Turning, "local", ["settle", "reserve"]), (Far, "refuse", ["settle", "reserve"])],
)
def test_a_trip_that_settles_and_reserves_is_one_where_it_can_be(far: Any, policy: Any, asked: list[str]) -> None:
    made = Waited(far(), policy)
    settlement, reservation = Settlement([USD], [0], [7], UNTIL), Reservation([USD, CLOCK], UNITS, UNTIL)
    for total in (7, 14):
        answer = made.store.turn(settlement, reservation, now=NOW)
        assert answer == ([total], Grant(0, (1_000_000,)))
        assert made.far.said() == asked
    made.far.fails, made.far.does_it_first = AWAY, True
    if policy == "refuse":
        with pytest.raises(StoreError, match=r"^no answer$"):
            made.store.turn(settlement, reservation, now=NOW)
    else:
        assert made.store.turn(settlement, reservation, now=NOW) == ([21], Grant(0, (1_000_000,)))
    assert made.failed == ["no answer"] * 2
    assert made.waits() == (1, 7, 1)
    made.far.fails = None
    assert isinstance(made.reserve(), Grant)
    assert (made.far.of()[0], made.waits()) == (21, (0, 0, 1))
    assert [name for name, _ in made.store.scan(now=NOW)] == ["all|usd", "all|seconds"]


@pytest.mark.parametrize("policy", ["refuse", "local"])
def test_after_three_failures_it_is_left_alone_and_one_caller_looks_each_second(policy: Any) -> None:
    made, looked = Waited(Far(), policy), list[Any]()

    def ask() -> object:
        try:
            return made.reserve()
        except StoreError as error:
            return str(error)

    def reads() -> object:
        try:
            return made.store.read([USD.account], now=NOW)[0][1]
        except StoreError as error:
            return str(error)

    here = policy == "local"
    assert ask() == Grant(0)
    assert (made.far.said(), reads(), made.far.said()) == (["reserve"], 11, ["read"])
    made.far.fails = StoreBusyError("busy")
    for _ in range(4):  # it works, for others
        assert ask() == (Grant(0) if here else "busy")
    assert made.far.said() == ["reserve"] * 4
    made.far.fails = AWAY
    for _ in range(2):
        assert ask() == (Grant(0) if here else "no answer")
    made.far.fails = None
    assert made.settle(5) == [5]  # a hiccup
    assert made.far.said() == ["reserve", "reserve", "settle"]
    made.far.fails = AWAY
    for _ in range(2):
        ask()
    made.far.fails = None
    assert ask() == Grant(0)
    made.far.fails = AWAY
    assert reads() == ((9 if here else 0) * 11 + 11 if here else "no answer")
    for _ in range(5):
        ask()
        reads()
    assert made.far.said() == ["reserve"] * 3 + ["read", "reserve", "read"]
    made.far.meanwhile = lambda: looked.append(ask())
    made.at += 0.75
    ask()
    assert made.far.said() == []
    made.at += 0.25
    ask()
    ask()
    assert (made.far.said(), looked) == (["flags"], [Grant(0) if here else "no answer"])
    made.at += 1.0
    made.far.fails = None
    assert ask() == Grant(0)
    assert made.far.said() == ["flags", "reserve"]
    assert len(looked) == 2
    made.far.fails = AWAY
    for _ in range(4):
        ask()
    assert made.far.said() == ["reserve"] * 3
    made.settle(1)
    made.far.fails = None
    made.bring()  # which finds that it is back, so that the next is asked at once
    assert made.far.said() == ["flags", "settle"]
    made.far.fails = AWAY
    for _ in range(4):
        ask()
    assert made.far.said() == ["reserve"] * 3
    made.at += 1.0
    made.far.fails = None
    assert made.settle(2) == [8]
    assert made.far.said() == ["flags", "settle"]
    assert (made.waits(), made.far.of()[0]) == ((0, 0, 0), 8)
    for store in (made, Waited(Far(), policy)):
        store.far.said()
        store.far.fails = AWAY
        for _ in range(4):
            with suppress(StoreError):
                store.reserve()
        assert store.far.said() == ["reserve"] * 3


@pytest.mark.parametrize("held", [0, 11])
def test_what_is_spent_of_what_the_store_held_waits_with_it_and_arrives_by_itself(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Waited(Far())
    ticks: Any = SimpleNamespace(monotonic=lambda: ticks.at, time=lambda: 0.0, at=64.0)
    monkeypatch.setattr(failover, "time", ticks)
    made.reserve()
    made.far.fails, made.far.only = AWAY, "settle"
    assert [made.settle(7, held), made.settle(5)] == [[7], [5]]
    assert made.waits() == (2, 12, 1)
    made.at = 2.0
    made.settle(0)  # nothing is spent: no settlement, though it waits
    assert made.waits() == (2, 12, 1)
    ticks.at += 32.0
    pauses = []
    for _ in range(6):
        made.bring()
        assert made.waits() == (2, 12, 1)
        pauses.append(made.store._writer._pause())
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    made.far.fails = None
    made.bring()
    assert made.waits() == (0, 0, 1)
    assert made.far.times[-1] == NOW + 2.0 + 32.0
    assert made.far.of() == (12, 11 - held)
    assert made.store._writer.seconds_left == math.inf  # so it is looked at again: what was sent first may come late
    ticks.at += WATCHED
    made.bring()
    assert (made.waits(), made.store._outbox.watches) == ((0, 0, 0), False)
    assert made.store.close(1)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TimeoutError("a worker's limit")])
@pytest.mark.parametrize(("only", "first"), [("flags", False), ("settle", False), ("settle", True)])
def test_a_settlement_that_is_interrupted_waits_and_arrives_once(error: BaseException, only: str, first: bool) -> None:
    made = Waited(Far())
    made.far.fails = AWAY
    for _ in range(3 * (only == "flags")):
        with pytest.raises(StoreError):
            made.reserve()
    made.at += 1.0
    made.far.fails, made.far.only, made.far.does_it_first = error, only, first
    with pytest.raises(type(error)):
        made.settle(7)
    assert made.waits() == (1, 7, 1)
    made.far.fails = None
    made.at += 1.0
    assert made.settle(5) == [12]
    assert made.far.of()[0] == 12
    assert made.store.close(1)
    assert made.far.of()[0] == 12


FORGOTTEN = "Far() has forgotten what was spent (emptied, evicted, restarted or failed over?)"


def emptied(far: Far) -> None:
    far.forget([name for name, _ in list(MemoryStore.scan(far, now=NOW))])


def test_a_ledger_that_forgets_is_told_again_once_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    made = Waited(Far())
    other = USD._replace(account="other|usd")
    assert (made.settle(40), made.settle(2, 0, other)) == ([40], [2])
    made.reserve(CLOCK)
    emptied(made.far)
    made.reserve(CLOCK)
    assert made.settle(3, 0, USD, CLOCK, other) == [43, 0, 2]
    assert (made.far.of()[0], made.far.of(other)[0]) == (43, 2)
    said = f"{FORGOTTEN}: 2 accounts were raised again to what this process last saw"
    assert (made.failed, made.forgot) == ([said], [True])
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "Far() has forgotten what was spent; 2 accounts were raised again"
    ]
    assert made.settle(1) == [44]
    assert (made.failed, made.forgot) == ([said], [True])
    emptied(made.far)
    made.far.fails, made.far.only = AWAY, "read"
    assert made.settle(1) == [1]  # it cannot be told now
    assert made.failed[1:] == ["no answer"]
    made.far.fails = None
    assert made.settle(5) == [50]
    assert made.failed[2:] == [said]
    assert made.settle(1) == [51]


def test_or_nothing_more_is_reserved_in_it(caplog: pytest.LogCaptureFixture) -> None:
    made = Waited(Far(), forgotten="refuse")
    made.settle(40)
    assert made.reserve() == Grant(0)
    emptied(made.far)
    made.far.said()
    assert made.settle(3, 0, USD, CLOCK) == [3, 0]
    why = f"{FORGOTTEN}; restore it, or accept what it says, and start this process again"
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            made.reserve()
        assert str(caught.value) == why
    assert (made.failed, made.forgot) == ([why], [True])
    assert [record.getMessage() for record in caplog.records] == [why]
    assert made.settle(4) == [7]
    assert made.far.said() == ["settle", "settle"]


@pytest.mark.parametrize("away_first", [False, True])
def test_what_may_make_it_forget_is_said_once_and_behind_the_call(
    away_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    made = Waited(Turning())
    if away_first:
        made.far.fails, made.far.only = AWAY, "settle"
        made.settle(7)
        made.far.fails = None
    made.bring()
    assert "risks" not in made.far.said()
    for _ in range(3):
        made.reserve()
    assert made.far.said() == ["reserve"] * 3
    for _ in range(2):
        made.bring()
        made.settle(1)
        made.store._writer.wake(None)
    assert made.far.said().count("risks") == 1
    assert [record.getMessage() for record in caplog.records] == ["Far(): it may burn", "Far(): it may drown"]


@pytest.mark.parametrize("kept", ["", "spool", "behind"])
@pytest.mark.parametrize(("amounts", "what"), [
    ((0,), ""), ((7,), "1 settlement, $0.0000"), ((9 * 10**15,), "1 settlement, $9000000.0000"),
    ((9 * 10**14, *[10**11] * 1_000), "1,001 settlements, $1000000.0000"),
])  # fmt: skip
def test_what_is_not_delivered_in_the_end_is_said_and_where_it_is(
    kept: str, amounts: tuple[int, ...], what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "spool"
    made = Waited(Far(), **({"spool": folder} if kept else {}))
    assert len(made.store._writer) == bool(kept)  # what others left there is brought at once
    made.far.fails = AWAY
    if kept == "behind":
        folder.rmdir()
        folder.write_text("somebody else's")
    for amount in amounts:
        made.settle(amount)
    made.bring()
    assert made.store.close(0) is False
    number = f"{len(amounts):,}"
    where = {"": "and is lost", "spool": f"but is kept in {folder}",
             "behind": f"and {number} could not be written to {folder}"}[kept]  # fmt: skip
    said = [record.getMessage() for record in caplog.records if "not delivered" in record.getMessage()]
    assert said == ([f"{what}, not delivered to Far(), {where}: no answer"] if what else [])


def test_where_all_is_delivered_nothing_is_said_and_what_another_left_is_brought(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far = Far()
    left = Waited(far, spool=tmp_path)
    far.fails = AWAY
    left.settle(7)
    far.fails = None
    left.store._outbox.spool._close()  # type: ignore[union-attr]
    far.fails, far.only = AWAY, "read"
    assert Waited(far, spool=tmp_path).store.close(0.01) is False
    assert far.of()[0] == 0
    far.fails = None
    made = Waited(far, spool=tmp_path)
    assert made.store.close(1)
    assert (far.of()[0], caplog.records) == (7, [])
    assert list(tmp_path.iterdir()) == []


def test_the_mirror_is_read_while_the_store_is_away_and_not_before() -> None:
    for policy in ("refuse", "local"):
        made = Waited(Far(), policy)
        made.far.settle([USD], [0], [30], until=UNTIL, now=NOW)  # others' spending
        made.settle(5)
        assert made.store.read([USD.account], now=NOW) == [Balance(35, 0, 10**17)]
        made.far.fails = AWAY
        if policy == "local":
            assert made.store.read([USD.account], now=NOW) == [Balance(35, 0, 10**17)]
            assert made.settle(2) == [37]
        else:
            with pytest.raises(StoreError, match=r"^no answer$"):
                made.store.read([USD.account], now=NOW)
            assert made.settle(2) == [2]
        made.far.fails = None
        assert made.store.read([USD.account], now=NOW)[0].spent == 37
        made.store.flag("halt:a", "stay")
        assert made.store.flags() == {"halt:a": "stay"} == MemoryStore.flags(made.far)
        receipts = [name for name, _ in MemoryStore.scan(made.far, now=NOW) if name.startswith(RECEIPTS)]
        assert 1 <= len(receipts) <= 2


def test_what_one_process_restores_no_other_does_meanwhile_and_it_begins_again_where_it_failed() -> None:
    far = Far()
    here, there = Waited(far), Waited(far)
    assert (here.settle(40), there.settle(2)) == ([40], [42])
    emptied(far)
    far.fails, far.only = AWAY, "read"
    assert here.settle(1) == [1]
    far.fails = None
    assert there.settle(3) == [4]  # as the other is at it, this one leaves it alone
    assert there.failed[0].startswith(f"{FORGOTTEN}: 0 accounts")
    assert here.settle(5) == [46]
    assert here.failed[-1].startswith(f"{FORGOTTEN}: 1 accounts")
    assert (there.settle(1), here.settle(1)) == ([47], [48])
    emptied(far)
    here.far.fails = AWAY
    assert here.settle(1) == [1]
    far.fails, here.at = None, 30.0  # too late: it may be another's turn
    far.reserve([Claim("restoring|", 1, 1, ttl=60)], units=UNITS, until=UNTIL, now=NOW + here.at)
    assert here.settle(1) == [2]
