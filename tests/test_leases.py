"""Leases, through the front door: guards on one server, each with a slice of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from blockbuster import blockbuster_ctx
from langchain.agents import create_agent
from langchain_core.tools import tool

from langchain_costguard import Budget, BudgetExceededError, CostGuard, RedisStore, StoreUnavailableError
from langchain_costguard.events import Alert, CallSettled, CallStarted, ToolSettled
from langchain_costguard.metering.stores.leases import book
from langchain_costguard.stores import PostgresStore
from langchain_costguard.testing import FakeProvider, Recorder, Reply, ScriptedChatModel
from tests.conftest import PRICES, Caller
from tests.proxy import Proxy, proxied
from tests.servers import Server

ONE_CALL = 10 * 2500 + 5 * 10_000


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with proxied(server.port) as found:
        yield found


@pytest.fixture
def guards(proxy: Proxy, tmp_path: Path) -> Iterator[Callable[..., CostGuard]]:
    """Makes guards that share a ledger, each as a process of its own would."""
    made: list[CostGuard] = []

    def make(*budgets: Budget, lease: Any = "2%", **settings: Any) -> CostGuard:
        store = RedisStore(proxy.url, namespace=tmp_path.name, timeout=5, lease=lease)
        made.append(CostGuard(*budgets, store=store, prices=PRICES, session="s", **settings))
        return made[-1]

    yield make
    for guard in made:
        guard.close()


def model() -> ScriptedChatModel:
    return ScriptedChatModel(usage=(10, 5), max_tokens=5)


def spend(guard: CostGuard, calls: int) -> int:
    """So many calls, or until one is refused; how many were let in."""
    asked, config = model(), {"callbacks": [guard]}
    for number in range(calls):
        try:
            asked.invoke("hi", config)
        except BudgetExceededError:
            return number
    return calls


def test_several_processes_use_a_budget_up_in_few_trips(guards: Callable[..., CostGuard], proxy: Proxy) -> None:
    calls = 2_000
    several = [guards(Budget(per="all", model_calls=calls), lease="5%") for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        let_in = sum(pool.map(lambda guard: spend(guard, calls), several))
    assert 0.95 * calls <= let_in <= calls
    assert proxy.trips <= calls / 25  # a fiftieth of ten thousand and more: `.ci/extended leases`


def test_what_is_leased_is_said_and_returned_on_close(guards: Callable[..., CostGuard], proxy: Proxy) -> None:
    budget = Budget(per="session", model_calls=1000)
    one, other = guards(budget), guards(budget)
    assert spend(one, 3) == 3
    (own,), (others,) = one.headroom().rows, other.headroom().rows
    assert (own.spent, own.held, own.left) == (3, 0, 997)
    assert (others.spent + others.held, others.left) == (21, 979)
    assert one.close()
    (others,) = other.headroom().rows
    assert (others.spent, others.held) == (3, 0)


def test_an_idle_lease_is_returned(guards: Callable[..., CostGuard]) -> None:
    budget = Budget(per="all", model_calls=1000)
    one, other = guards(budget), guards(budget)
    spend(one, 3)
    until = time.monotonic() + 10
    while (row := other.headroom().rows[0]).held and time.monotonic() < until:
        threading.Event().wait(0.05)
    assert (row.spent, row.held) == (3, 0)


class Talkative(ScriptedChatModel):
    """Says more than it was asked to."""

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {**super()._get_ls_params(stop, **kwargs), "ls_max_tokens": 5}


def test_what_a_stream_took_on_top_of_its_lease_is_held_no_more_when_it_is_over(
    guards: Callable[..., CostGuard], stream: Caller
) -> None:
    guard = guards(Budget(per="all", output_tokens=1000))
    for words in (4, 4, 600):
        model = Talkative(replies=[Reply(chunks=["word "] * words)], usage=(10, words))
        stream(model, "hi", {"callbacks": [guard]})
    (row,) = guard.headroom().rows
    assert (row.spent, row.held) == (608, 0)


PROGRAM = """
import os, sys
from langchain_costguard import Budget, CostGuard, RedisStore
from langchain_costguard.testing import ScriptedChatModel
store = RedisStore(sys.argv[1], namespace=sys.argv[2], lease="10%")
guard = CostGuard(Budget(per="all", model_calls=1000), store=store, hold_seconds=60)
for _ in range(3):
    ScriptedChatModel(usage=(10, 5)).invoke("hi", {"callbacks": [guard]})
if sys.argv[3] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("on_forgotten", ["restore", "refuse"])
def test_a_ledger_that_forgot_its_leases_is_not_spent_of_any_more(
    on_forgotten: Any, guards: Callable[..., CostGuard], server: Server, tmp_path: Path
) -> None:
    budget = Budget(per="all", model_calls=1000)
    one = guards(budget, on_forgotten=on_forgotten)
    assert spend(one, 3) == 3
    threading.Event().wait(1)  # it was told of that
    with redis.Redis.from_url(server.url) as client:
        client.delete(f"{{{tmp_path.name}}}:accounts")
    made = 3

    def go_on() -> None:
        nonlocal made
        for _ in range(30):
            made += spend(one, 1)
            threading.Event().wait(0.1)  # never idle: a lease that is idle comes back by itself

    if on_forgotten == "refuse":
        with pytest.raises(StoreUnavailableError, match="has forgotten"):
            go_on()
        return
    go_on()
    store: Any = one.store
    held = store.primary.read(["all|model_calls"], now=time.time())[0].held
    assert store.book.leases["all|model_calls"].taken <= held
    assert one.close()
    (row,) = guards(budget).headroom().rows
    assert (row.spent, row.held) == (made, 0)


@pytest.mark.parametrize("end", ["ended", "killed"])
def test_a_process_that_is_gone_holds_nothing_for_long(
    end: str, server: Server, tmp_path: Path, guards: Callable[..., CostGuard]
) -> None:
    command = [sys.executable, "-c", PROGRAM, server.url, tmp_path.name, end]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (0 if end == "ended" else -signal.SIGKILL), done.stderr
    later = guards(Budget(per="all", model_calls=1000), clock=lambda: time.time() + 100)
    now = guards(Budget(per="all", model_calls=1000))
    (row,) = now.headroom().rows
    assert row.spent + row.held == 3 if end == "ended" else row.spent + row.held > 90
    (row,) = later.headroom().rows
    assert row.spent == 3 if end == "ended" else row.spent <= 3
    assert not row.held


def test_alerts_are_told_once_among_all(guards: Callable[..., CostGuard]) -> None:
    recorder, budget = Recorder(), Budget(per="all", model_calls=600, usd="100")
    several = [guards(budget, sinks=[recorder], alerts=(0.1, 0.5, 0.9)) for _ in range(3)]
    for guard in several * 10:
        spend(guard, 19)
    for guard in several:
        guard.close()
    told = [event.threshold for event in recorder.events if isinstance(event, Alert)]
    assert told == [0.1, 0.5, 0.9]


def test_nobody_is_refused_for_a_lease_of_his_own(guards: Callable[..., CostGuard]) -> None:
    tight, wide = Budget(per="user", model_calls=4), Budget(per="all", model_calls=500)
    guard = guards(tight, wide, lease="50%")
    for user in ("u", "v"):
        with guard.scope(user=user):
            assert spend(guard, 9) == 4
    assert spend(guard, 1000) == 4  # nobody, who is a user, too


def test_a_leased_call_needs_neither_trip_nor_thread(
    guards: Callable[..., CostGuard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "IDLE_AFTER", 60.0)  # on a machine that is busy a second may pass between two calls
    recorder, loop_thread = [], threading.current_thread()  # type: ignore[var-annotated]
    guard = guards(
        Budget(per="session", model_calls=1000, tool_calls=500, steps=900, tokens=10**6, seconds=600),
        Budget(per="user", usd="100", window="day"),
        sinks=[lambda event: recorder.append((type(event), threading.current_thread() is loop_thread))],
    )

    async def search(query: str) -> str:
        """Search."""
        return "three results"

    def answer(request: Any) -> Any:
        asked = sum(message["role"] == "tool" for message in request.body["messages"])
        return Reply(tool_calls=[("search", {"query": f"q{asked}"})]) if asked < 2 else "done"

    with FakeProvider(answer) as provider:
        agent = create_agent(provider.openai(max_tokens=50), [tool(search)])
        config: Any = {"callbacks": [guard]}

        async def main() -> None:
            await agent.ainvoke({"messages": [("user", "hi")]}, config)
            recorder.clear()
            with blockbuster_ctx("langchain_costguard"):
                await agent.ainvoke({"messages": [("user", "hi")]}, config)

        asyncio.run(main())
    told = [here for kind, here in recorder if kind in (CallStarted, CallSettled, ToolSettled)]
    assert told == [True] * 10  # three calls of the model, two of the tool: whoever asks the server does so on a thread
    rows = {row.measure: row.spent for row in guard.headroom().rows}
    assert (rows["model_calls"], rows["tool_calls"]) == (6, 4)


def test_a_lease_outlasts_an_outage_and_is_settled_after_it(
    guards: Callable[..., CostGuard], proxy: Proxy, server: Server, tmp_path: Path
) -> None:
    guard = guards(Budget(per="all", usd="1"))
    spend(guard, 1)
    proxy.refuse = True
    guard.store.primary.close()  # type: ignore[attr-defined]
    assert spend(guard, 5) == 5
    proxy.refuse = False
    assert guard.close(5)
    balance = RedisStore(server.url, namespace=tmp_path.name).read(["all|usd"], now=time.time())[0]
    assert (balance.spent, balance.held) == (6 * ONE_CALL, 0)


def test_a_forked_child_spends_nothing_of_its_parents_lease(
    guards: Callable[..., CostGuard], server: Server, tmp_path: Path
) -> None:
    guard = guards(Budget(per="all", model_calls=40), lease="50%")
    spend(guard, 1)
    child = os.fork()
    if not child:
        code = 99
        try:
            code = spend(guard, 100)
            guard.close()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) + 1 + spend(guard, 100) == 40


@pytest.mark.parametrize("give", [{"model_calls": 50}, None])
def test_grants_and_changes_of_budgets_are_heard(give: Any, guards: Callable[..., CostGuard]) -> None:
    budget = Budget(per="all", model_calls=100)
    one, other = guards(budget, lease="20%"), guards(budget, lease="20%")
    assert spend(one, 10) + spend(other, 10) == 20
    if give:
        one.grant(budget, **give)
        assert spend(one, 500) + spend(other, 500) == 130
    else:
        for guard in (one, other):
            guard.change([Budget(per="all", model_calls=30)])
        used, until = 0, time.monotonic() + 10
        while used < 10 and time.monotonic() < until:  # what is on its way back is nobody's for a moment
            used += spend(one, 500) + spend(other, 500)
        assert used + spend(one, 500) + spend(other, 500) == 10


@pytest.mark.parametrize(
    ("lease", "message"),
    [
        (0.02, 'lease: 0.02 is no share and no amount: write "2%"'),
        ("0%", "lease: '0%' must be a share of each cap"),
        ("60%", "lease: '60%' must be a share of each cap"),
        ("two%", "lease: 'two%' must be a share of each cap"),
        ("much", "lease: 'much' is no amount of USD"),
        (-1, "lease: -1 must be a finite amount above zero"),
    ],
)
@pytest.mark.parametrize("make", [RedisStore, PostgresStore])
def test_a_lease_that_cannot_be_is_refused_when_it_is_made(make: Any, lease: Any, message: str) -> None:
    url = "redis://localhost" if make is RedisStore else "postgresql://localhost/x"
    with pytest.raises(ValueError, match=re.escape(message)):
        make(url, lease=lease)
