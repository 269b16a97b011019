"""A grant is room for one scope, at once and in every process; it is applied once, and what was spent stays true."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_costguard import (
    Budget,
    BudgetExceededError,
    CostGuard,
    MemoryStore,
    RedisStore,
    Scope,
    SQLiteStore,
    StoreUnavailableError,
)
from langchain_costguard.events import Alert, Granted
from langchain_costguard.metering.budgets.grants import amounts_of, give
from langchain_costguard.metering.stores import MAX_AMOUNT, Balance, Claim, Store, StoreError
from langchain_costguard.testing import ManualClock, Recorder, ScriptedChatModel
from tests.conftest import PRICES, Caller
from tests.servers import redis_server

ONE_CALL = 10 * 2500 + 5 * 10_000
FOUR_CALLS = str(Decimal(4 * ONE_CALL) / 10**9)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with redis_server() as running:
        yield running


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "sqlite":
        return SQLiteStore(tmp_path / "b.db")
    return RedisStore(request.getfixturevalue("server").url, namespace=tmp_path.name)


def model(**changes: Any) -> ScriptedChatModel:
    return ScriptedChatModel(usage=(10, 5), max_tokens=5, **changes)


def admitted(guard: CostGuard, call: Caller, times: int = 9, **tags: str) -> int:
    """How many of the calls were let through."""
    done = 0
    for _ in range(times):
        try:
            with guard.scope(**tags):
                call(model(), "hi", {"callbacks": [guard]})
        except BudgetExceededError:
            continue
        done += 1
    return done


def refusal(guard: CostGuard, call: Caller, **tags: str) -> BudgetExceededError:
    with guard.scope(**tags), pytest.raises(BudgetExceededError) as caught:
        call(model(), "hi", {"callbacks": [guard]})
    return caught.value


def test_a_refusal_is_granted_more_and_the_run_goes_on_in_every_process(store: Any, call: Caller) -> None:
    budget, clock = Budget(per="user", output_tokens=10, model_calls=9, window="day"), ManualClock()
    here, there = (CostGuard(budget, store=store, prices=PRICES, clock=clock) for _ in range(2))
    assert admitted(here, call, user="u1") == 2
    error = pickle.loads(pickle.dumps(refusal(there, call, user="u1")))
    assert here.grant(error, output_tokens=20)
    assert admitted(there, call, 1, user="u1") == 1
    assert admitted(here, call, user="u1") == 3
    assert refusal(there, call, user="u1").measure == "output_tokens"
    assert admitted(here, call, user="u2") == 2


def test_money_is_granted_as_text_and_shown_as_what_was_spent_and_what_may_be(store: Any, call: Caller) -> None:
    recorder = Recorder()
    guard = CostGuard(Budget(per="session", usd="0.0003"), store=store, prices=PRICES, sinks=[recorder], session="s1")
    before = admitted(guard, call)
    assert guard.grant(refusal(guard, call), usd=FOUR_CALLS, why="the boss said so")
    assert admitted(guard, call) == 4
    (row,) = guard.headroom().rows
    assert (row.spent, row.granted, row.cap) == ((before + 4) * ONE_CALL, 4 * ONE_CALL, 300_000)
    assert row.left == 300_000 - before * ONE_CALL
    (event,) = recorder.of(Granted)
    assert (event.budget, event.measure, event.amount) == ("session", "usd", 4 * ONE_CALL)
    assert (event.account, event.why, event.scope.session) == ("session|s1|usd", "the boss said so", "s1")
    assert guard.report().actions.times("Granted") == 1
    assert guard.report().total.spent == (before + 4) * ONE_CALL


def test_a_key_applies_a_grant_once_whoever_asks(store: Any, call: Caller) -> None:
    budget, recorder = Budget(per="all", model_calls=1), Recorder()
    here, there = (CostGuard(budget, store=store, prices=PRICES, sinks=[recorder]) for _ in range(2))
    admitted(here, call)
    error = refusal(here, call)
    assert here.grant(error, model_calls=2, key="thread 1|interrupt 7") is True
    assert there.grant(error, model_calls=2, key="thread 1|interrupt 7") is False
    assert here.grant(budget, model_calls=3, key="thread 1|interrupt 7") is False
    assert here.grant(error, model_calls=1, key="usd") is True
    assert len(recorder.of(Granted)) == 2
    assert admitted(there, call) == 3


def test_many_threads_with_one_key_are_one_grant(store: Any, call: Caller) -> None:
    budget = Budget(per="all", model_calls=1)
    guards = [CostGuard(budget, store=store, prices=PRICES) for _ in range(4)]

    def ask(i: int) -> bool:
        return guards[i % 4].grant("all", model_calls=5, key="once")

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(ask, range(16))) == 1
    assert admitted(guards[0], call, 9) == 6


def test_time_is_granted_to_a_clock_that_runs(store: Any, call: Caller) -> None:
    clock = ManualClock()
    guard = CostGuard(Budget(per="session", seconds=60), store=store, prices=PRICES, clock=clock)
    with pytest.raises(ValueError, match=r"seconds: .*all of them are left"):
        guard.grant("session", seconds=30)
    assert admitted(guard, call, 1) == 1
    clock.advance(61)
    error = refusal(guard, call)
    assert (error.measure, error.spent, error.cap) == ("seconds", 61_000, 60_000)
    assert guard.grant(error, seconds="30.5")
    assert admitted(guard, call, 1) == 1
    assert guard.headroom().seconds_left == 29.5
    (row,) = guard.headroom().rows
    assert (row.spent, row.granted, row.cap) == (61_000, 30_500, 60_000)
    clock.advance(30)
    assert admitted(guard, call, 1) == 0


def test_of_a_budget_by_the_day_it_is_today_that_is_granted_more(call: Caller) -> None:
    clock = ManualClock()
    guard = CostGuard(Budget(per="user", model_calls=1, window="day"), prices=PRICES, clock=clock)
    admitted(guard, call, user="u1")
    error = refusal(guard, call, user="u1")
    clock.advance(86_400)
    assert guard.grant(error, model_calls=2)
    assert admitted(guard, call, user="u1") == 3
    clock.advance(86_400)
    assert admitted(guard, call, user="u1") == 1


def test_a_budget_or_its_label_is_granted_more_for_a_scope(call: Caller) -> None:
    budget = Budget(per=("user", "feature"), model_calls=1, tokens=10**6, name="team")
    guard = CostGuard(budget, Budget(per="all", usd="9"), prices=PRICES)
    with guard.scope(user="u1", feature="f"):
        assert guard.grant(budget, model_calls=1)
    assert guard.grant("team", model_calls="1", tokens=Decimal(5), scope=Scope(user="u2", feature="f"))
    assert admitted(guard, call, user="u1", feature="f") == 2
    assert admitted(guard, call, user="u2", feature="f") == 2
    assert admitted(guard, call, user="u3", feature="f") == 1


def test_alerts_come_again_when_a_grant_is_used_up(call: Caller) -> None:
    recorder = Recorder()
    guard = CostGuard(Budget(per="all", model_calls=2), prices=PRICES, sinks=[recorder], alerts=[1.0])
    admitted(guard, call)
    guard.grant("all", model_calls=2)
    admitted(guard, call)
    assert [alert.threshold for alert in recorder.of(Alert)] == [1.0, 1.0]


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    ("user", {}, "at least one of usd, tokens"),
    ("user", {"usd": 1.5}, r"usd: 1.5.*write \"1.5\""),
    ("user", {"usd": "-1"}, "usd: '-1'"),
    ("user", {"usd": "0"}, "usd: '0'"),
    ("user", {"tokens": "many"}, "tokens: 'many'"),
    ("user", {"tokens": 2**60}, "tokens: 1152921504606846976 is more"),
    ("user", {"tokens": 1.5}, "tokens: 1.5"),
    ("user", {"tokens": "2.5"}, "tokens: '2.5'"),
    ("user", {"tokens": "NaN"}, "tokens: 'NaN'"),
    ("user", {"tokens": "Infinity"}, "tokens: 'Infinity'"),
    ("user", {"tokens": "1e999999"}, "tokens: '1e999999'"),
    ("user", {"seconds": "x"}, "seconds: 'x'"),
    ("user", {"steps": 5}, "has no cap on steps, but on usd, tokens"),
    ("nobody", {"usd": "1"}, "no budget 'nobody'; known: 'user', 'step', 'trace', 'call', 'mine'$"),
    ("step", {"usd": "1"}, "'step' starts afresh"),
    ("trace", {"usd": "1"}, "'trace' starts afresh"),
    ("call", {"usd": "1"}, "'call' starts afresh"),
    ("mine", {"usd": "1"}, "'mine' is only for .*research"),
    ("user", {"usd": "1", "key": ""}, "key: ''"),
    ("user", {"usd": "1", "key": 5}, "key: 5"),
    (5, {"usd": "1"}, "what: 5 is no refusal"),
]


@pytest.mark.parametrize(("what", "fields", "said"), WRONG, ids=[said for _, _, said in WRONG])
def test_what_cannot_be_granted_is_said(what: Any, fields: dict[str, Any], said: str) -> None:
    guard = CostGuard(
        Budget(per="user", usd="1", tokens=9),
        Budget(per="step", usd="1"),
        Budget(per="trace", usd="1"),
        Budget(per="call", usd="1"),
        Budget(per="agent", usd="1", only={"agent": "research"}, name="mine"),
        Budget(per="agent", tokens=9, only={"agent": "writer"}, name="mine"),
    )
    with pytest.raises(ValueError, match=said):
        guard.grant(what, **fields)
    assert list(guard.store.scan(now=0)) == []


def test_a_refusal_says_whose_account_it_is_itself(call: Caller) -> None:
    guard = CostGuard(Budget(per="all", model_calls=1), prices=PRICES)
    admitted(guard, call)
    with pytest.raises(ValueError, match="scope: "):
        guard.grant(refusal(guard, call), model_calls=1, scope=Scope())


# A store that does not answer


class Flaky(MemoryStore):
    """A shared store whose settlements are lost, or are carried out unheard."""

    shared = True
    away = False
    does_it_first = False

    def settle(self, *args: Any, **kwargs: Any) -> list[int]:
        if not self.away:
            return super().settle(*args, **kwargs)
        if self.does_it_first:
            super().settle(*args, **kwargs)
        raise StoreError("no answer")


@pytest.mark.parametrize("does_it_first", [False, True])
def test_a_grant_that_was_not_heard_of_is_applied_once(does_it_first: bool, call: Caller) -> None:
    flaky, clock = Flaky(), ManualClock()
    guard = CostGuard(Budget(per="all", model_calls=1), store=flaky, prices=PRICES, clock=clock)
    admitted(guard, call)
    error = refusal(guard, call)
    flaky.away, flaky.does_it_first = True, does_it_first
    assert guard.grant(error, model_calls=2, key="k")
    flaky.away = False
    clock.advance(1)
    assert guard.grant(error, model_calls=2, key="k") is False
    assert admitted(guard, call) == 2
    assert guard.headroom().rows[0].granted == 2


def test_a_grant_to_a_store_that_is_away_is_refused_or_counted_here(tmp_path: Path, call: Caller) -> None:
    url = "redis://127.0.0.1:1"
    budget = Budget(per="all", model_calls=1)
    guard = CostGuard(budget, store=RedisStore(url), prices=PRICES)
    with pytest.raises(StoreUnavailableError):
        guard.grant("all", model_calls=1, key="k")
    local = CostGuard(budget, store=RedisStore(url), prices=PRICES, on_store_failure="local")
    assert local.grant("all", model_calls=1, key="k") is True
    assert local.grant("all", model_calls=1, key="k") is False
    assert admitted(local, call) == 2


def test_a_grant_somebody_began_and_did_not_finish_is_free_again_later(call: Caller) -> None:
    from langchain_costguard.metering.budgets.grants import KEYS
    from langchain_costguard.metering.stores import Claim

    store: Store = MemoryStore()
    clock = ManualClock()
    guard = CostGuard(Budget(per="all", model_calls=1), store=store, prices=PRICES, clock=clock)
    now = clock()
    store.reserve([Claim(KEYS + "k", 1, 1)], units=(0, 0), until=int(now) + 30, now=now)
    with pytest.raises(StoreUnavailableError, match="begun elsewhere"):
        guard.grant("all", model_calls=1, key="k")
    clock.advance(31)
    assert guard.grant("all", model_calls=1, key="k") is True


def test_amounts_as_text_are_whole_numbers_up_to_what_an_account_can_hold() -> None:
    assert amounts_of({"tokens": "1e3", "steps": "2.0", "seconds": "1.5"}) == {
        "tokens": 1000,
        "steps": 2,
        "seconds": 1500,
    }
    assert amounts_of({"tokens": MAX_AMOUNT}) == {"tokens": MAX_AMOUNT}
    with pytest.raises(ValueError, match="more than an account can hold"):
        amounts_of({"tokens": MAX_AMOUNT + 1})


def test_a_grant_takes_nothing_from_holds_and_leaves_none() -> None:
    store, gift = MemoryStore(), Claim("a|tokens", 10, 0)
    for until in range(1_000, 1_100):
        store.reserve([gift._replace(cap=1_000, fixed=1)], units=(0, 0), until=until, now=999)
    for applied in (True, False):
        assert give(store, [(gift, 5)], key="k", now=999.0) == applied
        assert store.read(["a|tokens", "granted:a|tokens", "grant-key:|k"], now=999) == [
            Balance(-5, 100, 10), Balance(5, 0, MAX_AMOUNT), Balance(1, 0, 1)
        ]  # fmt: skip
