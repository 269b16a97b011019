"""Leases of a real server's balances: several processes, random calls, crashes and time, against what must hold."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from langchain_costguard.metering.stores import Claim, Grant, PostgresStore, RedisStore
from langchain_costguard.metering.stores.failover import FailoverStore
from langchain_costguard.metering.stores.leases import leased
from langchain_costguard.metering.stores.leases.leased import LeasedStore
from langchain_costguard.metering.stores.leases.sizes import checked
from tests.metering.stores.conftest import repeatable
from tests.servers import postgres_program

CAPS = {"all|usd": 100_000, "user=u|tokens": 20_000, "user=u|model_calls": 300}
HOLD, GRAIN = 40, 4
PROCESSES = 3


@dataclass
class Process:
    """One process: its leases, the calls it has under way, and what it spent that the server has not heard of."""

    store: LeasedStore
    calls: list[tuple[list[Claim], list[int], int]] = field(default_factory=list)

    def under_way(self, name: str, now: float) -> int:
        return sum(
            amount
            for claims, held, until in self.calls
            for claim, amount in zip(claims, held, strict=True)
            if claim.account == name and until > now
        )


class Leases(RuleBasedStateMachine):
    """What all have spent and hold never exceeds a cap, and the server's holds cover all that may still be spent."""

    shared: RedisStore | PostgresStore

    @initialize(lease=st.sampled_from(["2%", "20%", "50%"]), data=st.data())
    def start(self, lease: str, data: st.DataObject) -> None:
        self.lease = lease
        self.processes = [self.born() for _ in range(PROCESSES)]
        self.now = 1_000_000.0
        self.spent = dict.fromkeys(CAPS, 0)
        self.cap = dict(CAPS)

    def born(self) -> Process:
        size = checked(self.lease)
        assert size is not None
        below = FailoverStore(self.shared, "refuse", print)
        measures = ("usd", "tokens", "model_calls")
        return Process(LeasedStore(below, size, measures=measures, hold_seconds=HOLD))

    @rule(
        who=st.integers(0, PROCESSES - 1),
        usd=st.integers(0, 4_000),
        tokens=st.integers(0, 800),
        units=st.tuples(st.integers(0, 20), st.integers(0, 200)).map(sorted),
        per_unit=st.integers(0, 20),
        times=st.integers(1, 30),
    )
    def reserve(self, who: int, usd: int, tokens: int, units: list[int], per_unit: int, times: int) -> None:
        process = self.processes[who]
        claims = [
            Claim("all|usd", CAPS["all|usd"], usd, per_unit),
            Claim("user=u|tokens", CAPS["user=u|tokens"], tokens, 1),
            Claim("user=u|model_calls", CAPS["user=u|model_calls"], 1),
        ]
        until = (int(self.now + HOLD) // GRAIN + 1) * GRAIN
        for _ in range(times):
            answer = process.store.reserve(claims, units=(units[0], units[1]), until=until, now=self.now)
            if not isinstance(answer, Grant):
                self.nobody_was_refused_for_a_lease_of_his_own(process, claims, units[0])
                return
            assert units[0] <= answer.units <= units[1]
            process.calls.append((claims, [c.fixed + c.per_unit * answer.units for c in claims], until))

    def nobody_was_refused_for_a_lease_of_his_own(self, process: Process, claims: list[Claim], least: int) -> None:
        balances = self.shared.read(list(CAPS), now=self.now)
        short = [
            c for c, b in zip(claims, balances, strict=True) if b.spent + b.held + c.fixed + c.per_unit * least > c.cap
        ]
        assert short
        assert any(self.held_by(process, c.account) <= process.under_way(c.account, 0) for c in short)

    def held_by(self, process: Process, name: str) -> int:
        lease: Any = process.store.book.leases.get(name)
        return 0 if lease is None or lease.until <= self.now else int(lease.taken)

    @precondition(lambda self: any(process.calls for process in self.processes))
    @rule(data=st.data(), count=st.integers(1, 40))
    def settle(self, data: st.DataObject, count: int) -> None:
        process = data.draw(st.sampled_from([p for p in self.processes if p.calls]))
        for _ in range(min(count, len(process.calls))):
            claims, held, until = process.calls.pop(0)
            share = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
            actual = [int(amount * share) for amount in held]
            process.store.settle(claims, held, actual, until=until, now=self.now)
            if until > self.now:
                for claim, amount in zip(claims, actual, strict=True):
                    self.spent[claim.account] += amount
            else:  # it took longer than its hold
                for claim, amount in zip(claims, actual, strict=True):
                    self.spent[claim.account] += amount
                    self.cap[claim.account] += amount
                process.store.tell()  # nothing covers it until then

    @rule(who=st.integers(0, PROCESSES - 1))
    def return_all(self, who: int) -> None:
        self.processes[who].store.close(1)

    @rule(who=st.integers(0, PROCESSES - 1))
    def crash(self, who: int) -> None:
        store = self.processes[who].store
        for name, total in zip(CAPS, store.totals(list(CAPS)), strict=True):
            lease: Any = store.book.leases.get(name)
            if lease is not None:  # what it had spent and not told goes with it
                self.spent[name] -= total - lease.known
        store.abandon()
        self.processes[who] = self.born()

    @rule(seconds=st.sampled_from([0.01, 0.3, 0.9, 2.0, 7.0, 25.0, 90.0]))
    def wait(self, seconds: float) -> None:
        if seconds > 0.5:  # as their threads would have done
            for process in self.processes:
                process.store.tell()
        self.now += seconds

    @invariant()
    def no_cap_is_overshot(self) -> None:
        for name, balance in zip(CAPS, self.shared.read(list(CAPS), now=self.now), strict=True):
            under_way = sum(process.under_way(name, self.now) for process in self.processes)
            assert self.spent[name] + under_way <= self.cap[name]
            told = self.spent[name] - sum(self.untold(process, name) for process in self.processes)
            assert balance.spent == told
            room = sum(self.room(process, name) for process in self.processes)
            untold = sum(self.untold(process, name) for process in self.processes)
            assert balance.spent + untold + under_way + room <= self.cap[name]
            assert balance.held >= under_way + room + untold

    def untold(self, process: Process, name: str) -> int:
        lease: Any = process.store.book.leases.get(name)
        return 0 if lease is None else process.store.totals([name])[0] - lease.known

    def room(self, process: Process, name: str) -> int:
        lease: Any = process.store.book.leases.get(name)
        if lease is None or lease.ends <= self.now:
            return 0
        spent, held, _ = process.store.memory.standing(name, lease.ends, self.now)
        return max(0, lease.taken - spent - held)

    def teardown(self) -> None:
        for process in self.processes:
            process.store.close(1)
        for name, balance in zip(CAPS, self.shared.read(list(CAPS), now=self.now + 3 * HOLD), strict=True):
            assert (balance.spent, balance.held) == (self.spent[name], 0)


@pytest.mark.parametrize("kind", ["redis", *(["postgres"] if postgres_program() else [])])
def test_leases_never_overshoot_and_lose_nothing_but_what_a_crash_takes_along(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leased, "TELL_AFTER", 1e6)  # time is the model's own
    url = request.getfixturevalue("server").url if kind == "redis" else request.getfixturevalue("postgres")
    examples = int(os.environ.get("EXAMPLES", "20")) // (1 if kind == "redis" else 4)
    ledgers = (f"leases {number}" for number in count())

    class Fresh(Leases):
        def __init__(self) -> None:
            super().__init__()
            make = RedisStore if kind == "redis" else PostgresStore
            self.shared = make(url, namespace=next(ledgers), timeout=5)

        def teardown(self) -> None:
            super().teardown()
            self.shared.close()

    run_state_machine_as_test(Fresh, settings=repeatable(examples, 60))
