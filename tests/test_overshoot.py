"""No overshoot: a thousand callers at once, and never a nano-USD too much."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from langchain_costguard import Budget, CostGuard, CostGuardError, MemoryStore, SQLiteStore
from langchain_costguard.metering.stores import open_store
from langchain_costguard.testing import FakeProvider, Reply
from tests.conftest import PRICES
from tests.servers import redis_server
from tests.waits import waits_less_than

CALLERS = 1000
PROMPT = "please say something"


def crowd(world: str, model: Any, config: Any, callers: int = CALLERS) -> int:
    """So many callers at once; how many were refused."""

    def refused(index: int) -> int:
        try:
            model.invoke(PROMPT, config)
        except CostGuardError:
            return 1
        return 0

    async def arefused() -> int:
        try:
            await model.ainvoke(PROMPT, config)
        except CostGuardError:
            return 1
        return 0

    async def all_of_them() -> int:
        return sum(await asyncio.gather(*(arefused() for _ in range(callers))))

    if world == "async":
        return asyncio.run(all_of_them())
    with ThreadPoolExecutor(callers) as pool:
        return sum(pool.map(refused, range(callers)))


def hold_of_one_call(model: Any) -> int:
    """What the guard holds for one such call, in nano-USD."""
    guard = CostGuard(Budget(per="all", usd="100"), prices=PRICES)
    held: list[int] = []
    guard.add_sink(lambda event: held.append(getattr(event, "held", 0)))
    model.invoke(PROMPT, {"callbacks": [guard]})
    return held[0]


def test_a_thousand_callers_reach_the_provider_as_often_as_the_tightest_budget_affords(world: str) -> None:
    words = " ".join(["word"] * 40)
    with FakeProvider(words) as provider:
        model = provider.openai(max_tokens=40)
        hold = hold_of_one_call(model)
        provider.requests.clear()
        cap = 12 * hold + hold // 2
        guard = CostGuard(
            Budget(per="session", usd=f"{cap / 10**9:.9f}", tool_calls=15),
            Budget(per="user", model_calls=500, window="day"),
            Budget(per="all", tokens=10_000_000),
            prices=PRICES,
        )
        provider.gate.clear()
        with FakeProvider(words, gate=True) as gated:
            waiting = gated.openai(max_tokens=40)
            gated.gate.clear()

            def let_go(event: Any) -> None:
                # The gate opens when the last caller was answered or refused: all of them stood in line at once.
                nonlocal settled
                settled += type(event).__name__ == "Refused"
                if settled == CALLERS - 12:
                    gated.gate.set()

            settled = 0
            guard.add_sink(let_go)
            refused = crowd(world, waiting, {"callbacks": [guard]})
            truth = gated.usage()
    total = guard.report().total
    assert truth.calls == 12
    assert refused == CALLERS - 12
    assert total.spent == truth.input_tokens * 2500 + truth.output_tokens * 10_000
    assert total.spent <= cap
    assert total.refused == refused


def test_a_wrapped_model_uses_the_budget_up_and_no_more(world: str) -> None:
    # 60 callers whose calls cost about 30 % of their ceiling.
    with FakeProvider(Reply("word " * 300)) as provider:
        guard = CostGuard(Budget(per="session", usd="0.05"), prices=PRICES, wait=30)
        model = guard.wrap(provider.openai(max_tokens=1000))
        with waits_less_than(10):  # forty or so ask for less than they did: at once, and not half a second later each
            crowd(world, model, None, callers=60)
        truth = provider.usage()
    spent = truth.input_tokens * 2500 + truth.output_tokens * 10_000
    assert guard.report().total.spent == spent
    assert 0.95 * 50_000_000 <= spent <= 50_000_000


WORKER = """
import json, sys, threading
from concurrent.futures import ThreadPoolExecutor
from langchain_costguard import Budget, CostGuard, CostGuardError, Price
from langchain_costguard.vocabulary.errors import StoreUnavailableError
from langchain_costguard.metering.stores import RedisStore, open_store
from langchain_openai import ChatOpenAI

import logging
logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.ERROR)
store, url, cap = sys.argv[1:]
guard = CostGuard(
    Budget(per="all", usd=cap), Budget(per="user", model_calls=900), Budget(per="agent", tokens=10**9),
    store=RedisStore(store, timeout=5) if store.startswith("redis") else open_store(store),
    prices={"gpt-4o": Price(input="2.50", output="10.00")},
)
model = ChatOpenAI(model="gpt-4o", base_url=url, api_key="x", max_retries=0, max_tokens=40)
model.get_num_tokens  # the client is made before the start signal
print("ready", flush=True)
sys.stdin.readline()

def call(index):
    try:
        model.invoke("please say something", {"callbacks": [guard]})
    except StoreUnavailableError as error:
        return "lost"
    except CostGuardError:
        return "refused"
    return "served"

with ThreadPoolExecutor(30) as pool:
    answers = list(pool.map(call, range(60)))
total = guard.report().total
print(json.dumps({"spent": total.spent, **{k: answers.count(k) for k in ("served", "refused", "lost")}}))
"""


@pytest.fixture(params=["sqlite", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The address of a store that several processes share."""
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'budgets.db'}"
    else:
        with redis_server() as server:
            yield server.url


def test_four_processes_share_one_budget_to_the_nano(shared: str) -> None:
    with FakeProvider(" ".join(["word"] * 40), gate=False) as provider:
        hold = hold_of_one_call(provider.openai(max_tokens=40))
        provider.requests.clear()
        cap = 100 * hold
        args = [sys.executable, "-c", WORKER, shared, provider.url, f"{cap / 10**9:.9f}"]
        workers = [subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline().strip() == "ready"
        answers = []
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
        answers = [json.loads(worker.communicate(timeout=120)[0].splitlines()[-1]) for worker in workers]
        truth = provider.usage()
    spent = truth.input_tokens * 2500 + truth.output_tokens * 10_000
    assert sum(answer["lost"] for answer in answers) == 0
    assert sum(answer["served"] for answer in answers) == truth.calls
    assert sum(answer["spent"] for answer in answers) == spent
    assert spent <= cap
    # A hundred holds fit at once, and no call costs more than its hold.
    assert truth.calls >= 100
    store = open_store(shared)
    assert store.read(["all|usd"], now=0)[0].spent == spent


def test_what_a_killed_worker_held_is_free_again_when_the_hold_expires(shared: str) -> None:
    with FakeProvider("word " * 40, gate=True) as provider:
        hold = hold_of_one_call_at(provider)
        cap = 10 * hold
        args = [sys.executable, "-c", WORKER, shared, provider.url, f"{cap / 10**9:.9f}"]
        before = len(provider.requests)
        worker = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        assert worker.stdin is not None
        worker.stdout.readline()
        worker.stdin.write("\n")
        worker.stdin.flush()
        provider.wait_for_requests(before + 10)
        worker.kill()
        worker.communicate()
        provider.gate.set()
        now = [time.time()]
        guard = CostGuard(
            Budget(per="all", usd=f"{cap / 10**9:.9f}"),
            store=open_store(shared),
            prices=PRICES,
            clock=lambda: now[0],
        )
        model = provider.openai(max_tokens=40)
        with pytest.raises(CostGuardError):
            model.invoke(PROMPT, {"callbacks": [guard]})
        now[0] += 700
        served = 100 - crowd("sync", model, {"callbacks": [guard]}, callers=100)
    total = guard.report().total
    assert served >= 10
    assert cap - hold < total.spent <= cap


def hold_of_one_call_at(provider: FakeProvider) -> int:
    """The same for a provider whose gate is shut."""
    provider.gate.set()
    hold = hold_of_one_call(provider.openai(max_tokens=40))
    provider.gate.clear()
    return hold


def test_the_largest_of_several_ceilings_is_held(world: str) -> None:
    # Which of them is sent depends on the client.
    with FakeProvider("word " * 2000) as provider:
        for model in (
            provider.openai(max_tokens=100).bind(max_completion_tokens=1000),
            provider.openai(max_tokens=1000, use_responses_api=True).bind(max_tokens=100),
        ):
            guard = CostGuard(Budget(per="session", usd="0.005"), prices=PRICES)
            assert crowd(world, model, {"callbacks": [guard]}, callers=1) == 1
    assert provider.requests == []


def test_an_overrun_is_recorded_in_full_and_refuses_the_next_start() -> None:
    with FakeProvider(Reply("short", input_tokens=1_000_000)) as provider:
        guard = CostGuard(Budget(per="session", usd="0.01"), prices=PRICES, store=MemoryStore())
        model = provider.openai(max_tokens=5)
        model.invoke("hi", {"callbacks": [guard]})
        total = guard.report().total
        assert total.spent == 1_000_000 * 2500 + 10_000
        assert total.overrun > 0
        with pytest.raises(CostGuardError):
            model.invoke("hi", {"callbacks": [guard]})
    assert len(provider.requests) == 1


def test_sqlite_keeps_a_budget_over_a_restart(tmp_path: Path) -> None:
    for run in range(3):
        with FakeProvider("one two") as provider:
            guard = CostGuard(Budget(per="all", model_calls=2), store=SQLiteStore(tmp_path / "b.db"), prices=PRICES)
            model = provider.openai(max_tokens=5)
            if run < 2:
                model.invoke("hi", {"callbacks": [guard]})
            else:
                with pytest.raises(CostGuardError):
                    model.invoke("hi", {"callbacks": [guard]})
