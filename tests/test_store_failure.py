"""A store that does not answer: refuse soon, or go on alone; and whatever was spent meanwhile is counted once."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from langchain_costguard import (
    Budget,
    BudgetExceededError,
    CostGuard,
    MemoryStore,
    RedisStore,
    SQLiteStore,
    StoreUnavailableError,
)
from langchain_costguard.events import Alert, StoreFailed
from langchain_costguard.metering.stores import Balance, Claim, Grant, Refusal, StoreError
from langchain_costguard.metering.stores.failover import DOWN_AFTER, RECEIPTS, FailoverStore
from langchain_costguard.testing import FakeProvider, ManualClock, Recorder, ScriptedChatModel
from tests.conftest import PRICES, Caller
from tests.servers import redis_server, silent_server
from tests.waits import waits_less_than

SOON = 2.0
"""Seconds within which a refusal must come: some time-outs of 250 ms, on a machine that is busy."""


class Outage:
    """A store of one kind, and how to bring it down."""

    def __init__(self, store: Any, down: Any) -> None:
        self.store = store
        self.down: Any = down


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody writes to the file and does not finish."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with redis_server() as running:
        yield running


@pytest.fixture(params=["redis", "sqlite"])
def outage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outage]:
    if request.param == "redis":
        running = request.getfixturevalue("server")
        store: Any = RedisStore(running.url, namespace=tmp_path.name)
        yield Outage(store, running.stopped)
    else:
        store = SQLiteStore(tmp_path / "budgets.db")
        yield Outage(store, lambda: locked(tmp_path / "budgets.db"))
    store.close()


def balance(store: Any, name: str, now: float = 0) -> Balance:
    return next((found for account, found in store.scan(now=now) if account == name), Balance(0, 0))


def model(**changes: Any) -> ScriptedChatModel:
    return ScriptedChatModel(usage=(10, 5), max_tokens=5, **changes)


ONE_CALL = 10 * 2500 + 5 * 10_000


# The policy "refuse"


def test_a_call_is_refused_soon_and_spends_nothing(outage: Outage, call: Caller) -> None:
    recorder = Recorder()
    guard = CostGuard(Budget(per="all", usd="1"), store=outage.store, prices=PRICES, sinks=[recorder])
    fake = model()
    with outage.down():
        with waits_less_than(SOON), pytest.raises(StoreUnavailableError, match="on_store_failure='local'") as caught:
            call(fake, "hi", {"callbacks": [guard]})
        with waits_less_than(2 * SOON):  # not a time-out for each of them
            for _ in range(40):
                with pytest.raises(StoreUnavailableError):
                    call(fake, "hi", {"callbacks": [guard]})
    assert fake.calls == 0
    assert type(outage.store).__name__ in caught.value.store
    assert {event.policy for event in recorder.of(StoreFailed)} == {"refuse"}
    assert guard.report().total.spent == 0
    assert guard.report().total.refused == 41


def test_calls_go_through_again_when_the_store_is_back(outage: Outage, call: Caller) -> None:
    clock = ManualClock()
    guard = CostGuard(Budget(per="all", usd="1"), store=outage.store, prices=PRICES, clock=clock)
    with outage.down(), pytest.raises(StoreUnavailableError):
        call(model(), "hi", {"callbacks": [guard]})
    clock.advance(1)
    call(model(), "hi", {"callbacks": [guard]})
    assert balance(outage.store, "all|usd").spent == ONE_CALL


@pytest.mark.parametrize("policy", ["refuse", "local"])
def test_a_call_that_ends_while_the_store_is_away_is_counted_there_once(
    policy: Any, outage: Outage, call: Caller
) -> None:
    clock = ManualClock()
    guard = CostGuard(
        Budget(per="all", usd="1"), store=outage.store, prices=PRICES, clock=clock, on_store_failure=policy
    )
    outages = [outage.down() for _ in range(2)]

    def away(request: Any) -> str:
        for each in outages[:1]:  # it goes away once the call is admitted
            each.__enter__()
        return "four little words here"

    with FakeProvider(away) as provider:
        asked = provider.openai(max_tokens=50)
        call(asked, "hello there", {"callbacks": [guard]})
        cost = 2 * 2500 + 4 * 10_000
        assert guard.report().total.spent == cost
        outages.pop(0).__exit__(None, None, None)
        outages.clear()
        clock.advance(1)
        call(asked, "hello there", {"callbacks": [guard]})
    found = balance(outage.store, "all|usd")
    assert (found.spent, found.held) == (2 * cost, 0)


def test_a_server_that_never_says_a_word_is_refused_soon(call: Caller) -> None:
    with silent_server() as url:
        guard = CostGuard(Budget(per="all", usd="1"), store=RedisStore(url), prices=PRICES)
        with waits_less_than(SOON), pytest.raises(StoreUnavailableError):
            call(model(), "hi", {"callbacks": [guard]})


def test_an_outage_takes_the_event_loop_a_time_out_and_no_more() -> None:
    async def main(guard: CostGuard) -> None:
        fake = model()
        calls = [fake.ainvoke("hi", {"callbacks": [guard]}) for _ in range(50)]
        said = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(error, StoreUnavailableError) for error in said)

    with silent_server() as url:
        guard = CostGuard(Budget(per="all", usd="1"), store=RedisStore(url), prices=PRICES)
        with waits_less_than(SOON):
            asyncio.run(main(guard))


def test_waiting_for_a_store_that_went_away_ends_in_a_refusal(outage: Outage, world: str) -> None:
    clock = ManualClock()
    guard = CostGuard(Budget(per="all", model_calls=1), store=outage.store, prices=PRICES, clock=clock, wait=30)
    with FakeProvider("fine", gate=True) as provider:
        wrapped = guard.wrap(provider.openai(max_tokens=50))
        first = threading.Thread(target=wrapped.invoke, args=("hi",))
        first.start()
        provider.wait_for_requests(1)
        with outage.down(), pytest.raises(StoreUnavailableError):
            asyncio.run(wrapped.ainvoke("hi")) if world == "async" else wrapped.invoke("hi")
        clock.advance(1)
        provider.gate.set()
        first.join()
    assert guard.lines == {}
    assert guard.meter.open_calls == {}


# The policy "local"


def test_each_process_goes_on_within_what_was_left(outage: Outage, call: Caller) -> None:
    recorder, clock = Recorder(), ManualClock()
    guard = CostGuard(
        Budget(per="all", model_calls=5),
        store=outage.store,
        prices=PRICES,
        on_store_failure="local",
        sinks=[recorder],
        clock=clock,
    )
    config: Any = {"callbacks": [guard]}
    for _ in range(2):
        call(model(), "hi", config)
    with outage.down():
        for _ in range(3):
            call(model(), "hi", config)
        with pytest.raises(BudgetExceededError):
            call(model(), "hi", config)
    assert {event.policy for event in recorder.of(StoreFailed)} == {"local"}
    assert [alert.threshold for alert in recorder.of(Alert)] == [0.7, 1.0]
    clock.advance(1)
    with pytest.raises(BudgetExceededError):
        call(model(), "hi", config)
    # A reservation nobody heard of may have been carried out: it is a hold that expires.
    found = balance(outage.store, "all|model_calls", clock.advance(700))
    assert (found.spent, found.held) == (5, 0)


def test_what_others_had_spent_when_last_heard_of_counts_too(outage: Outage, call: Caller) -> None:
    budget, clock = Budget(per="all", model_calls=5), ManualClock()
    here, other = (
        CostGuard(budget, store=outage.store, prices=PRICES, on_store_failure="local", clock=clock) for _ in range(2)
    )
    for _ in range(3):
        call(model(), "hi", {"callbacks": [other]})
    call(model(), "hi", {"callbacks": [here]})
    with outage.down():
        call(model(), "hi", {"callbacks": [here]})
        with pytest.raises(BudgetExceededError):
            call(model(), "hi", {"callbacks": [here]})


def test_a_store_that_was_never_there_leaves_the_whole_budget(call: Caller) -> None:
    with silent_server() as url:
        guard = CostGuard(
            Budget(per="all", model_calls=2), store=RedisStore(url), prices=PRICES, on_store_failure="local"
        )
        for _ in range(2):
            call(model(), "hi", {"callbacks": [guard]})
        with pytest.raises(BudgetExceededError):
            call(model(), "hi", {"callbacks": [guard]})


# The store itself, step by step


class Flaky(MemoryStore):
    """A shared store that goes away when told to, before or after it has done what it was asked."""

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.does_it_first = False
        self.asked = 0

    def _answer(self, work: Any) -> Any:
        self.asked += 1
        if not self.away:
            return work()
        if self.does_it_first:
            work()
        raise StoreError("no answer")

    def reserve(self, claims: Sequence[Claim], **options: Any) -> Grant | Refusal:
        return self._answer(lambda: MemoryStore.reserve(self, claims, **options))  # type: ignore[no-any-return]

    def settle(self, claims: Sequence[Claim], held: Any, actual: Any, **options: Any) -> list[int]:
        return self._answer(lambda: MemoryStore.settle(self, claims, held, actual, **options))  # type: ignore[no-any-return]

    def read(self, accounts: Sequence[str], *, now: float) -> list[Balance]:
        return self._answer(lambda: MemoryStore.read(self, accounts, now=now))  # type: ignore[no-any-return]

    def flags(self) -> Mapping[str, str]:
        return self._answer(lambda: MemoryStore.flags(self))  # type: ignore[no-any-return]

    def of(self, account: str) -> tuple[int, int]:
        found = MemoryStore.read(self, [account], now=0)[0]
        return found.spent, found.held


CLAIM = Claim("a", 100, 10)
UNTIL = 600


@pytest.fixture
def flaky() -> Flaky:
    return Flaky()


class Timed(FailoverStore):
    """Waits by the time of the call that was made last."""

    time = 0.0


def failover(flaky: Flaky, policy: Any = "local") -> Timed:
    store = Timed(flaky, policy, lambda message: None, clock=lambda: store.time)
    return store


def fallen(store: Timed, now: float) -> None:
    """It has failed so often that it is left alone."""
    for _ in range(DOWN_AFTER):
        with suppress(StoreError):
            hold(store, now, Claim("other", 100, 0))


def hold(store: Timed, now: float, claim: Claim = CLAIM) -> Grant | Refusal:
    store.time = now
    return store.reserve([claim], units=(0, 0), until=UNTIL, now=now)


def pay(store: Timed, now: float, amount: int = 7, held: int = 10) -> list[int]:
    store.time = now
    return store.settle([CLAIM], [held], [amount], until=UNTIL, now=now)


@pytest.mark.parametrize("policy", ["refuse", "local"])
@pytest.mark.parametrize("does_it_first", [False, True])
def test_a_settlement_nobody_answered_is_carried_out_once(policy: Any, does_it_first: bool, flaky: Flaky) -> None:
    store = failover(flaky, policy)
    hold(store, 1)
    pay(store, 1)
    hold(store, 2)
    flaky.away, flaky.does_it_first = True, does_it_first
    for now in range(3, 9):  # each of them looks whether the store is back
        if now == 3:
            pay(store, now)
        elif policy == "refuse":
            with pytest.raises(StoreError):
                hold(store, now)
        else:
            hold(store, now, Claim("b", 100, 1))
    flaky.away = False
    hold(store, 10, Claim("b", 100, 1))
    assert flaky.of("a") == (14, 0)


def test_a_hold_made_here_is_not_released_there(flaky: Flaky) -> None:
    store, other = failover(flaky), failover(flaky)
    hold(other, 1)
    flaky.away = True
    hold(store, 1)
    flaky.away = False
    hold(store, 3)
    assert flaky.of("a") == (0, 20)
    pay(store, 4)
    assert flaky.of("a") == (7, 20)
    pay(store, 4)
    assert flaky.of("a") == (14, 10)
    pay(other, 4)
    assert flaky.of("a") == (21, 0)


def test_a_hold_made_there_is_released_there_though_it_is_settled_while_the_store_is_away(flaky: Flaky) -> None:
    store = failover(flaky)
    hold(store, 1)
    flaky.away = True
    hold(store, 2)
    pay(store, 2)
    pay(store, 2)
    flaky.away = False
    hold(store, 4, Claim("b", 100, 1))
    assert flaky.of("a") == (14, 0)


def test_a_hold_extended_here_and_there_leaves_nothing_behind(flaky: Flaky) -> None:
    store = failover(flaky)
    hold(store, 1)
    flaky.away = True
    hold(store, 2, CLAIM._replace(fixed=25))
    flaky.away = False
    store.settle([CLAIM], [35], [30], until=UNTIL, now=4)
    assert flaky.of("a") == (30, 0)


def test_own_calls_under_way_count_against_what_is_left(flaky: Flaky) -> None:
    store = failover(flaky)
    for _ in range(8):
        hold(store, 1)
    flaky.away = True
    assert [type(hold(store, now)) for now in (2, 2, 2)] == [Grant, Grant, Refusal]


def test_time_goes_on_from_when_the_store_says_it_began(flaky: Flaky) -> None:
    store = failover(flaky)
    clock = Claim("c", 5000, 0, 0, True)
    assert hold(store, 100.0, clock) == Grant(0, (100_000,))
    flaky.away = True
    assert hold(store, 104.9, clock) == Grant(0, (100_000,))
    assert isinstance(hold(store, 105.0, clock), Refusal)


def test_nothing_is_reserved_there_before_it_knows_what_was_spent(flaky: Flaky) -> None:
    store = failover(flaky)
    flaky.away = True
    for _ in range(9):
        hold(store, 1)
        pay(store, 1, 10)
    flaky.away = False
    assert isinstance(hold(store, 3), Grant)
    assert isinstance(hold(store, 3), Refusal)
    assert flaky.of("a") == (90, 10)


def test_what_waits_for_the_store_does_not_grow_with_the_calls(flaky: Flaky) -> None:
    store = failover(flaky)
    flaky.away = True
    for i in range(1000):
        pay(store, 1 + i / 10_000, 1, 0)
    asked = flaky.asked
    flaky.away = False
    hold(store, 3, Claim("b", 100, 1))
    assert flaky.of("a") == (1000, 0)
    assert flaky.asked - asked < 10


def test_many_threads_count_everything_once_through_an_outage(flaky: Flaky) -> None:
    store, calls = failover(flaky), 200
    big = Claim("a", 10**9, 10)
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait()
        for i in range(calls):
            if number == 0 and i % 20 == 0:
                flaky.does_it_first = not flaky.does_it_first
                flaky.away = not flaky.away
            now = float(i)
            store.reserve([big], units=(0, 0), until=10**6, now=now)
            store.settle([big], [10], [1], until=10**6, now=now)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flaky.away = False
    assert store.close(5)
    assert flaky.of("a")[0] == 8 * calls


def test_receipts_are_few_and_nobody_sees_them(flaky: Flaky) -> None:
    store = failover(flaky)
    for now in range(50):
        hold(store, now)
        pay(store, now, 1)
    assert [name for name, _ in store.scan(now=50)] == ["a"]
    assert sum(name.startswith(RECEIPTS) for name, _ in flaky.scan(now=50)) == 1


def test_a_store_that_is_back_is_asked_by_one_caller_first(flaky: Flaky) -> None:
    store = failover(flaky, "refuse")
    flaky.away = True
    for _ in range(10):
        with pytest.raises(StoreError):
            hold(store, 1)
    assert flaky.asked == DOWN_AFTER
    for _ in range(2):
        with pytest.raises(StoreError):
            hold(store, 2)
    assert flaky.asked == DOWN_AFTER + 1
    # The question changes nothing: what times out may be carried out unheard.
    assert flaky.of("a") == (0, 0)
