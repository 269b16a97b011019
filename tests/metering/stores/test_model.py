"""Every store against a dictionary that keeps each hold by itself and adds everything up anew."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from langchain_costguard.metering.stores import (
    Balance,
    Claim,
    Grant,
    MemoryStore,
    RedisStore,
    Refusal,
    SQLiteStore,
    Store,
)
from tests.metering.stores.conftest import repeatable
from tests.servers import Server

ACCOUNTS = ["a", "b", "c=é {x}", "d\n"]
CLOCKS = ["t", "u"]

LASTING = st.just(86_400)
amount_claims = st.builds(
    Claim,
    account=st.sampled_from(ACCOUNTS),
    cap=st.integers(0, 120),
    fixed=st.integers(0, 40),
    per_unit=st.integers(0, 5),
    clock=st.just(False),
    ttl=LASTING,
    reserve=st.integers(0, 20),
)
clock_claims = st.builds(
    Claim,
    account=st.sampled_from(CLOCKS),
    cap=st.integers(0, 60_000),
    fixed=st.just(0),
    per_unit=st.just(0),
    clock=st.just(True),
    ttl=LASTING,
)
claims = st.lists(amount_claims | amount_claims | clock_claims, max_size=5)
ranges = st.tuples(st.integers(0, 10), st.integers(0, 10)).map(lambda pair: (min(pair), max(pair)))


@dataclass
class Model:
    """The contract, with no thought of speed."""

    spent: dict[str, int] = field(default_factory=dict)
    caps: dict[str, int] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    holds: list[tuple[str, int, int]] = field(default_factory=list)

    def held(self, account: str, now: float) -> int:
        return sum(amount for name, amount, until in self.holds if name == account and until > now)

    def reserve(self, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float) -> Grant | None:
        milliseconds = int(now * 1000)
        for granted in range(units[1], units[0] - 1, -1):
            if all(self._fits(claim, claims, granted, now) for claim in claims):
                break
        else:
            return None
        started = []
        for claim in claims:
            if claim.clock:
                started.append(self.starts.setdefault(claim.account, milliseconds))
            else:
                self.holds.append((claim.account, claim.fixed + claim.per_unit * granted, until))
                self.spent.setdefault(claim.account, 0)
            self.caps[claim.account] = min(other.cap for other in claims if other.account == claim.account)
        return Grant(granted, tuple(started))

    def _fits(self, claim: Claim, claims: Sequence[Claim], units: int, now: float) -> bool:
        if claim.clock:
            now_ms = int(now * 1000)
            return now_ms - self.starts.get(claim.account, now_ms) < claim.cap
        same = [c for c in claims if c.account == claim.account]
        if not any(c.fixed or c.per_unit for c in same):
            return True  # who asks for nothing gets it, also of an account that is overrun
        wanted = sum(c.fixed + c.per_unit * units for c in same)
        return self.spent.get(claim.account, 0) + self.held(claim.account, now) + wanted <= self.bound(claim, claims)

    def bound(self, claim: Claim, claims: Sequence[Claim]) -> int:
        same = [c for c in claims if c.account == claim.account]
        return min(c.cap for c in same) - max(c.reserve for c in same)

    def settle(self, claim: Claim, held: int, actual: int, until: int, now: float) -> int:
        if claim.clock:
            if claim.account in self.starts:
                self.starts[claim.account] -= actual
            return 0
        if until > now:
            self.holds.append((claim.account, -held, until))
        self.spent[claim.account] = self.spent.get(claim.account, 0) + actual
        return self.spent[claim.account]

    def balance(self, account: str, now: float) -> Balance:
        spent = self.starts.get(account, self.spent.get(account, 0))
        return Balance(spent, self.held(account, now), self.caps.get(account, 0))


class Ledgers(RuleBasedStateMachine):
    """Random reservations, settlements and time, on a store and on the model."""

    fresh: Iterator[Store]

    @initialize(scale=st.sampled_from([1, 10**12]))
    def start(self, scale: int) -> None:
        self.store = next(self.fresh)
        self.scale = scale
        self.model = Model()
        self.now = 1_000_000.0
        self.open: list[tuple[list[Claim], list[int], int]] = []

    @rule(claims=claims, units=ranges, lasts=st.integers(1, 40))
    def reserve(self, claims: list[Claim], units: tuple[int, int], lasts: int) -> None:
        claims = [claim if claim.clock else self.scaled(claim) for claim in claims]
        until = int(self.now) + lasts
        answer = self.store.reserve(claims, units=units, until=until, now=self.now)
        expected = self.model.reserve(claims, units, until, self.now)
        if isinstance(answer, Refusal):
            assert expected is None
            self.check_reason(answer, claims, units)
            return
        assert answer == expected
        held = [0 if claim.clock else claim.fixed + claim.per_unit * answer.units for claim in claims]
        self.open.append((claims, held, until))

    def scaled(self, claim: Claim) -> Claim:
        """Amounts of calls, or of nano-USD: smaller than the time, or larger."""
        names = ("cap", "fixed", "per_unit", "reserve")
        return claim._replace(**{name: self.scale * getattr(claim, name) for name in names})

    def check_reason(self, refusal: Refusal, claims: list[Claim], units: tuple[int, int]) -> None:
        claim = claims[refusal.index]
        assert not self.model._fits(claim, claims, units[0], self.now)
        if not claim.clock:
            spent, held = self.model.spent.get(claim.account, 0), self.model.held(claim.account, self.now)
            needed = sum(c.fixed + c.per_unit * units[0] for c in claims if c.account == claim.account)
            fits = spent + needed <= self.model.bound(claim, claims)
            assert refusal == Refusal(refusal.index, needed, spent, held, by_holds=fits)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), forgets_the_hold=st.booleans())
    def settle(self, data: st.DataObject, forgets_the_hold: bool) -> None:
        index = data.draw(st.integers(0, len(self.open) - 1))
        claims, held, until = self.open.pop(index)
        if forgets_the_hold:
            held = [0] * len(held)
        actual = [(1 if claim.clock else self.scale) * data.draw(st.integers(-10, 50)) for claim in claims]
        totals = self.store.settle(claims, held, actual, until=until, now=self.now)
        for claim, release, amount in zip(claims, held, actual, strict=True):
            self.model.settle(claim, release, amount, until, self.now)
        for claim in claims:
            moved = sum(a for c, a in zip(claims, actual, strict=True) if c.account == claim.account)
            if not claim.clock or moved:
                self.model.caps[claim.account] = min(c.cap for c in claims if c.account == claim.account)
        assert totals == [0 if claim.clock else self.model.spent[claim.account] for claim in claims]

    @rule(seconds=st.floats(0.001, 5) | st.floats(5, 60))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_balances_are_those_of_the_model(self) -> None:
        names = ACCOUNTS + CLOCKS
        expected = [self.model.balance(name, self.now) for name in names]
        assert self.store.read(names, now=self.now) == expected
        known = {*self.model.spent, *self.model.starts}
        assert dict(self.store.scan(now=self.now)) == {n: b for n, b in zip(names, expected, strict=True) if n in known}


def memory_stores() -> Iterator[Store]:
    while True:
        yield MemoryStore()


def sqlite_stores(folder: Path) -> Iterator[Store]:
    for number in itertools.count():
        store = SQLiteStore(folder / f"{number}.db")
        yield store
        store.close()


def redis_stores(server: Server) -> Iterator[Store]:
    with redis.Redis.from_url(server.url) as client:
        for _ in itertools.count():
            client.flushall()
            yield RedisStore(client)


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
def test_a_store_does_what_the_model_does(kind: str, request: pytest.FixtureRequest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        fresh = {
            "memory": memory_stores,
            "sqlite": lambda: sqlite_stores(Path(folder)),
            "redis": lambda: redis_stores(request.getfixturevalue("server")),
        }[kind]()
        machine = type("Ledgers", (Ledgers,), {"fresh": fresh})
        run_state_machine_as_test(machine, settings=repeatable(60, 30))
        fresh.close()  # type: ignore[attr-defined]
