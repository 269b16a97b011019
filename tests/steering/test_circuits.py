"""Circuits by name: of one process, and of workers that share a store."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import ToolMessage

from langchain_costguard.cli import main
from langchain_costguard.metering.budgets.switch import KillSwitch
from langchain_costguard.metering.stores import MemoryStore, RedisStore, SQLiteStore, Store, StoreError
from langchain_costguard.metering.stores.failover import FailoverStore
from langchain_costguard.steering.layers import circuits as module
from langchain_costguard.steering.layers.circuits import Circuits, unavailable
from langchain_costguard.steering.policies.breaker import Breaker
from langchain_costguard.testing import ManualClock
from tests.metering.stores.conftest import emptied
from tests.servers import Server, redis_server, silent_server
from tests.waits import waits_less_than

DOWN = RuntimeError("down")
SHARED = Breaker(shared=True)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with redis_server() as running:
        yield running


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
    elif request.param == "sqlite":
        sqlite = SQLiteStore(tmp_path / "budgets.db", timeout=5)
        yield sqlite
        sqlite.close()
    else:
        remote = RedisStore(emptied(request.getfixturevalue("server").url), timeout=5)
        yield remote
        remote.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["here", "shared"])
def circuits(request: pytest.FixtureRequest, clock: ManualClock) -> Circuits:
    """The same rules, wherever the state is."""
    return Circuits(Breaker(shared=request.param == "shared"), store=MemoryStore(), clock=clock, prefix="tool")


class CountingStore:
    """A store that says what it was asked, and fails on request."""

    shared = True

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.asked: list[str] = []
        self.failing = False

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def ask(*args: Any, **kwargs: Any) -> Any:
            self.asked.append(verb)
            if self.failing:
                raise StoreError("gone")
            return getattr(self.inner, verb)(*args, **kwargs)

        return ask

    def since(self) -> list[str]:
        asked, self.asked = self.asked, []
        return asked


def call(circuits: Circuits, outcome: Any, name: str = "search") -> str:
    """What one call came to: ``refused``, or the change it made."""
    leave = circuits.admit(name)
    return "refused" if leave.seconds else circuits.record(name, leave, outcome)


def many(count: int, work: Callable[[], Any]) -> list[Any]:
    """What ``work`` returns to so many threads that begin at once."""
    results: list[Any] = []
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait()
        results.append(work())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# The same, here and shared


def test_it_opens_at_the_fifth_failure_and_closes_after_a_probe(circuits: Circuits, clock: ManualClock) -> None:
    assert [call(circuits, DOWN) for _ in range(6)] == ["", "", "", "", "opened", "refused"]
    clock.advance(20)
    assert circuits.admit("search").seconds == pytest.approx(40)
    clock.advance(40)
    assert [call(circuits, "found"), call(circuits, "found")] == ["closed", ""]


def test_a_tool_message_with_an_error_counts(circuits: Circuits) -> None:
    failed = ToolMessage("no", tool_call_id="1", status="error")
    assert [call(circuits, failed) for _ in range(5)][-1] == "opened"


def test_a_success_starts_the_count_again(circuits: Circuits) -> None:
    outcomes = [DOWN] * 4 + ["found"] + [DOWN] * 4
    assert {call(circuits, outcome) for outcome in outcomes} == {""}
    assert call(circuits, DOWN) == "opened"


def test_each_name_has_its_own(circuits: Circuits) -> None:
    for _ in range(5):
        call(circuits, DOWN)
    assert call(circuits, "found", "other") == ""
    assert call(circuits, "found") == "refused"


def test_a_probe_that_fails_opens_it_again(circuits: Circuits, clock: ManualClock) -> None:
    for _ in range(5):
        call(circuits, DOWN)
    clock.advance(60)
    assert [call(circuits, DOWN), call(circuits, DOWN)] == ["opened", "refused"]
    clock.advance(59)
    assert call(circuits, DOWN) == "refused"
    clock.advance(1)
    assert call(circuits, "found") == "closed"


def test_an_abandoned_probe_leaves_room_for_another_at_once(circuits: Circuits, clock: ManualClock) -> None:
    for _ in range(5):
        call(circuits, DOWN)
    clock.advance(60)
    probe = circuits.admit("search")
    assert circuits.admit("search").seconds > 0
    circuits.abandon("search", probe)
    assert call(circuits, asyncio.CancelledError()) == ""
    assert call(circuits, "found") == "closed"


def test_a_probe_that_never_reports_back_is_given_up(circuits: Circuits, clock: ManualClock) -> None:
    for _ in range(5):
        call(circuits, DOWN)
    clock.advance(60)
    assert circuits.admit("search").seconds == 0
    clock.advance(59)
    assert call(circuits, "found") == "refused"
    clock.advance(1)
    assert call(circuits, "found") == "closed"


def test_a_late_success_of_a_call_begun_before_does_not_close_it(circuits: Circuits, clock: ManualClock) -> None:
    begun = [circuits.admit("search") for _ in range(6)]
    assert [circuits.record("search", leave, DOWN) for leave in begun[:5]][-1] == "opened"
    assert circuits.record("search", begun[5], "found") == ""
    assert circuits.admit("search").seconds == 60
    clock.advance(60)
    assert circuits.admit("search").probe
    assert circuits.record("search", begun[5], "found") == ""
    assert circuits.admit("search").seconds > 0


def test_of_fifty_callers_at_once_one_makes_the_probe(circuits: Circuits, clock: ManualClock) -> None:
    for _ in range(5):
        call(circuits, DOWN)
    clock.advance(60)
    leaves = many(50, lambda: circuits.admit("search"))
    assert sorted(leave.seconds > 0 for leave in leaves) == [False] + [True] * 49
    (probe,) = (leave for leave in leaves if leave.probe)
    assert circuits.record("search", probe, "found") == "closed"
    assert {leave.seconds for leave in many(50, lambda: circuits.admit("search"))} == {0}


def test_a_predicate_that_fails_loses_no_reply(clock: ManualClock) -> None:
    circuits = Circuits(Breaker(is_failure=lambda _: 1 / 0 > 0), store=None, clock=clock, prefix="tool")
    assert call(circuits, "found") == ""


def test_a_model_that_makes_names_up_takes_no_memory(circuits: Circuits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 10)
    for _ in range(5):
        call(circuits, DOWN)
    for number in range(50):
        call(circuits, DOWN, f"made up {number}")
    assert len(circuits._entries) == 10
    assert call(circuits, "found") == "refused"  # an open one is not what goes first


def test_the_agent_is_told_the_name_and_the_seconds_left() -> None:
    text = unavailable("search", 41.2)
    assert text.startswith("The service is temporarily unavailable, try an alternative approach.")
    assert "'search'" in text
    assert "42 s" in text


def test_shared_circuits_need_a_store(clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="shared"):
        Circuits(SHARED, store=None, clock=clock, prefix="tool")


# Workers


def workers(store: Any, clock: Callable[[], float], count: int = 10) -> list[Circuits]:
    return [Circuits(SHARED, store=store, clock=clock, prefix="tool") for _ in range(count)]


def test_ten_workers_in_turn_pay_five_failures_together(store: Store, clock: ManualClock) -> None:
    crew = workers(store, clock)
    assert [call(worker, DOWN) for worker in crew] == ["", "", "", "", "opened"] + ["refused"] * 5
    clock.advance(60)
    leaves = [worker.admit("search") for worker in crew]
    assert [leave.seconds > 0 for leave in leaves] == [False] + [True] * 9
    assert crew[0].record("search", leaves[0], "found") == "closed"
    clock.advance(1)
    assert {worker.admit("search").seconds for worker in crew} == {0}


def test_workers_that_have_just_heard_that_all_is_well_pay_one_failure_more_each(
    store: Store, clock: ManualClock
) -> None:
    crew = workers(store, clock)
    for worker in crew:
        assert call(worker, "found") == ""
    assert [call(worker, DOWN) for worker in crew] == ["", "", "", "", "opened"] + [""] * 5
    assert {call(worker, DOWN) for worker in crew} == {"refused"}


def test_of_ten_workers_at_once_one_opens_it_and_none_pays_after_it_has_heard(store: Store) -> None:
    crew = iter(workers(store, time.time))

    def work() -> list[str]:
        worker, changes = next(crew), []
        while len(changes) < 50:
            leave = worker.admit("search")
            if leave.seconds:
                break
            time.sleep(0.002)
            changes.append(worker.record("search", leave, DOWN))
        return changes

    paid = many(10, work)
    changes = [change for changes in paid for change in changes]
    assert changes.count("opened") == 1
    # Five failures open it. By then each of the other nine may be in a call it began before, and in no second one.
    assert 5 <= len(changes) <= 5 + 9


def test_of_fifty_workers_at_once_one_makes_the_probe_and_one_says_that_it_closed(
    store: Store, clock: ManualClock
) -> None:
    crew = workers(store, clock, 50)
    for worker in crew[:5]:
        call(worker, DOWN)
    clock.advance(60)
    turn = iter(crew)
    leaves = many(50, lambda: ((worker := next(turn)), worker.admit("search")))
    probes = [(worker, leave) for worker, leave in leaves if not leave.seconds]
    assert len(probes) == 1
    ((worker, probe),) = probes
    assert probe.probe
    assert worker.record("search", probe, "found") == "closed"
    clock.advance(1)
    assert {worker.admit("search").seconds for worker in crew} == {0}


def test_a_success_of_another_worker_starts_the_count_again(store: Store, clock: ManualClock) -> None:
    first, second = workers(store, clock, 2)
    for _ in range(4):
        assert call(first, DOWN) == ""
    assert call(second, "found") == ""
    assert [call(first, DOWN) for _ in range(5)] == ["", "", "", "", "opened"]


def test_successes_of_two_workers_at_once_count_failures_back_once(store: Store, clock: ManualClock) -> None:
    first, second = workers(store, clock, 2)
    for _ in range(4):
        call(first, DOWN)
    leaves = [first.admit("search"), second.admit("search")]
    assert first.record("search", leaves[0], "found") == second.record("search", leaves[1], "found") == ""
    clock.advance(1)
    assert [call(first, DOWN) for _ in range(5)] == ["", "", "", "", "opened"]


def test_a_worker_that_dies_while_it_opens_the_circuit_stands_in_nobodys_way(clock: ManualClock) -> None:
    store = CountingStore()
    first, second = workers(store, clock, 2)
    for _ in range(4):
        call(first, DOWN)
    leave = first.admit("search")
    settle, store.settle = store.settle, lambda *args, **kwargs: (_ for _ in ()).throw(SystemExit)  # type: ignore[method-assign]
    store.inner.settle(
        [first._book._claim("search", "0|failures")],
        [0],
        [1],
        until=0,
        now=clock(),  # type: ignore[union-attr]
    )
    with pytest.raises(SystemExit):
        first._move(first._book, "search", first._entry("search"), 1, clock())  # type: ignore[arg-type]
    store.settle = settle  # type: ignore[method-assign]
    assert call(second, DOWN) == ""  # five, but another seems to be at it
    clock.advance(11)
    assert call(second, DOWN) == "opened"
    assert first.record("search", leave, DOWN) == ""


def test_tools_and_models_of_one_name_are_two(clock: ManualClock) -> None:
    store = MemoryStore()
    tools, models = (Circuits(SHARED, store=store, clock=clock, prefix=prefix) for prefix in ("tool", "model"))  # type: ignore[arg-type]
    for _ in range(5):
        call(tools, DOWN)
    assert call(models, "found") == ""
    assert call(tools, "found") == "refused"


# What it costs, and what the store has of it


def test_a_circuit_that_is_well_is_asked_about_once_a_second(clock: ManualClock) -> None:
    store = CountingStore()
    (circuits,) = workers(store, clock, 1)
    for _ in range(100):
        call(circuits, "found")
    assert store.since() == ["read"]
    clock.advance(1)
    for _ in range(100):
        call(circuits, "found")
    assert store.since() == ["read"]


def test_round_trips_are_few_in_trouble_as_well(clock: ManualClock) -> None:
    store = CountingStore()
    (circuits,) = workers(store, clock, 1)
    asked = []
    for _ in range(5):
        call(circuits, DOWN)
        asked.append(store.since())
    assert asked == [["read", "settle"]] * 4 + [["read", "settle", "reserve", "settle"]]
    for _ in range(100):
        call(circuits, DOWN)
    assert store.since() == []
    clock.advance(60)
    call(circuits, "found")
    assert store.since() == ["reserve", "reserve", "settle"]


def test_a_probe_of_another_worker_is_asked_about_once_a_second(clock: ManualClock) -> None:
    store = CountingStore()
    first, second = workers(store, clock, 2)
    for _ in range(5):
        call(first, DOWN)
    clock.advance(60)
    assert first.admit("search").probe
    store.since()
    for _ in range(100):
        assert second.admit("search").seconds > 0
    assert store.since() == ["read", "reserve"] or store.since() == []
    clock.advance(1)
    for _ in range(100):
        assert second.admit("search").seconds > 0
    assert store.since() == ["reserve"]


def test_people_who_look_at_the_store_see_nothing_of_it(
    tmp_path: Path, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    store = SQLiteStore(tmp_path / "budgets.db", timeout=5)
    (circuits,) = workers(store, clock, 1)
    for outcome in [DOWN] * 5:
        call(circuits, outcome, "search|the|usd")
    clock.advance(60)
    call(circuits, "found", "search|the|usd")
    assert len(list(store.scan(now=clock()))) > 3
    assert store.flags() == KillSwitch(store).halts() == {}
    store.close()
    assert main(["status", "--store", f"sqlite:{tmp_path / 'budgets.db'}"]) == 0
    assert capsys.readouterr().out == "Nothing is halted.\nNo account has been used yet.\n"


# A store that fails


def test_a_store_that_fails_fails_no_call_and_this_process_goes_on_alone(clock: ManualClock) -> None:
    store = CountingStore()
    (circuits,) = workers(store, clock, 1)
    assert call(circuits, "found") == ""
    store.failing = True
    clock.advance(1)
    assert [call(circuits, DOWN) for _ in range(6)] == ["", "", "", "", "opened", "refused"]
    assert len(store.since()) <= 2
    clock.advance(60)
    assert call(circuits, "found") == "closed"
    store.failing = False
    clock.advance(1)
    assert [call(circuits, DOWN) for _ in range(6)] == ["", "", "", "", "opened", "refused"]


def test_a_circuit_that_is_open_stays_so_when_the_store_fails(clock: ManualClock) -> None:
    store = CountingStore()
    first, second = workers(store, clock, 2)
    for _ in range(5):
        call(first, DOWN)
    assert call(second, DOWN) == "refused"
    store.failing = True
    clock.advance(30)
    assert call(second, DOWN) == "refused"
    clock.advance(30)
    leaves = [second.admit("search") for _ in range(3)]
    assert [leave.seconds > 0 for leave in leaves] == [False, True, True]
    assert second.record("search", leaves[0], "found") == "closed"
    store.failing = False
    clock.advance(1)
    assert call(second, "found") == "closed"  # of what the others know: it was open there


@pytest.mark.parametrize("policy", ["refuse", "local"])
def test_behind_the_guards_own_failover_it_opens_while_the_store_is_gone(clock: ManualClock, policy: Any) -> None:
    store = CountingStore()
    failover = FailoverStore(store, policy, lambda why: None)  # type: ignore[arg-type]
    (circuits,) = workers(failover, clock, 1)
    assert call(circuits, "found") == ""
    store.failing = True
    clock.advance(1)
    assert [call(circuits, DOWN) for _ in range(6)] == ["", "", "", "", "opened", "refused"]


def test_a_store_that_is_silent_costs_one_time_out_a_second() -> None:
    with silent_server() as url:
        store = RedisStore(url, timeout=0.1)
        (circuits,) = workers(store, time.time, 1)
        with waits_less_than(2.5):  # half of what fifty time-outs take
            for _ in range(50):
                call(circuits, "found")
        store.close()


def test_from_a_coroutine_it_waits_for_nobody(clock: ManualClock) -> None:
    circuits = Circuits(Breaker(), store=None, clock=clock, prefix="model")

    async def one() -> str:
        leave = circuits.admit("gpt-4o")
        if leave.seconds:
            return "refused"
        await asyncio.sleep(0)
        return circuits.record("gpt-4o", leave, DOWN)

    async def all_of_them() -> list[str]:
        return [await one() for _ in range(6)]

    assert asyncio.run(all_of_them()) == ["", "", "", "", "opened", "refused"]
