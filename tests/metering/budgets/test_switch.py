"""The kill switch stops what it is told to, wherever its answer is from, and never makes anybody wait for it."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from langchain_costguard import AgentHaltedError, Budget, CostGuard, KillSwitch, MemoryStore, SQLiteStore
from langchain_costguard.events import Refused
from langchain_costguard.metering.budgets.halts import halts_in
from langchain_costguard.metering.budgets.switch import ALL, halt, halted, revive
from langchain_costguard.testing import FakeProvider, Recorder, Reply, ScriptedChatModel
from tests.conftest import PRICES, Caller
from tests.loopback import Answering, Listener
from tests.waits import waits_less_than

UNREADABLE = {ALL: "the kill switch cannot be read"}


class Ticks:
    """Seconds that go forward when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Source:
    """A source that says what it is told to, fails, or hangs, and counts how often it was asked."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.asked = 0
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def __call__(self) -> Any:
        self.asked += 1
        self.entered.set()
        self.open.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def until_said(switch: KillSwitch, wanted: Any) -> None:
    """Ask until the thread that reads the source has brought this answer."""
    deadline = time.monotonic() + 5
    while switch.halts() != wanted:
        assert time.monotonic() < deadline, switch.halts()


# Where the answer is from


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryStore()
        return
    sqlite = SQLiteStore(tmp_path / "budgets.db")
    yield sqlite
    sqlite.close()


def test_a_store_says_whom_to_stop_until_it_is_taken_back(store: Any) -> None:
    clock = Ticks()
    switch = KillSwitch(store, clock=clock)
    assert switch.halts() == {}
    halt(store, "research", "it costs too much")
    halt(store, None, "")
    clock.now += 2
    assert switch.halts() == {"research": "it costs too much", ALL: "stopped by an operator"} == halted(store)
    revive(store, None)
    clock.now += 2
    assert switch.reason("research") == ("research", "it costs too much")
    assert switch.reason("writer") is None
    revive(store, "research")
    revive(store, "research")
    clock.now += 2
    assert switch.halts() == {}


ANSWERS: list[tuple[Any, dict[str, str]]] = [
    (None, {}),
    (False, {}),
    ("", {}),
    ({}, {}),
    ([], {}),
    (True, {ALL: "stopped by the kill switch"}),
    ("maintenance", {ALL: "maintenance"}),
    ({"research": "too dear", "writer": False, "other": None}, {"research": "too dear"}),
    ({"research": True, ALL: "all"}, {"research": "stopped by the kill switch", ALL: "all"}),
    (["research"], {"research": "stopped by the kill switch"}),
]


@pytest.mark.parametrize(("answer", "wanted"), ANSWERS)
def test_a_callable_says_it_in_any_of_these_words(answer: Any, wanted: dict[str, str]) -> None:
    assert KillSwitch(lambda: answer).halts() == wanted


FILES = [
    (None, {}),
    ("", {ALL: "the file stop.txt is there"}),
    ("  maintenance\n", {ALL: "maintenance"}),
    ("now", {ALL: "now"}),
    ("{broken", {ALL: "{broken"}),
    ('{"research": "too dear"}', {"research": "too dear"}),
    ("{}", {}),
    ("true", {ALL: "stopped by the kill switch"}),
    ("false", {}),
    ("null", {}),
    ('["research"]', {"research": "stopped by the kill switch"}),
]


@pytest.mark.parametrize(("text", "wanted"), FILES)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_says_it_by_being_there(text: str | None, wanted: Any, kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "stop.txt"
    switch = KillSwitch(kind(path))
    if text is not None:
        path.write_text(text)
    assert switch.halts() == wanted


class Page(Listener):
    """Answers what it is told to."""

    def __init__(self) -> None:
        self.answer = (200, "")
        page = self

        class Handler(Answering):
            def do_GET(self) -> None:
                status, text = page.answer
                self.answer(text, status)

        super().__init__(Handler)
        self.server_port = self._server.server_port


@pytest.fixture
def web() -> Iterator[Any]:
    with Page() as page:
        yield page


PAGES = [
    ((200, ""), {}),
    ((404, "not found"), {}),
    ((200, "maintenance"), {ALL: "maintenance"}),
    ((200, '{"research": "too dear"}'), {"research": "too dear"}),
    ((500, "broken"), UNREADABLE),
    ((403, "who are you"), UNREADABLE),
]


@pytest.mark.parametrize(("page", "wanted"), PAGES)
def test_a_url_says_it_in_its_body(page: Any, wanted: Any, web: Any) -> None:
    web.answer = page
    assert KillSwitch(f"http://127.0.0.1:{web.server_port}/switch", timeout=5).halts() == wanted


BAD_SOURCES: list[Any] = [
    None, 5, "", ".", "ftp://host/x", "redis://host", "http://", Path(), MemoryStore, {"a": "b"}, Path("/"),
]  # fmt: skip


@pytest.mark.parametrize("source", BAD_SOURCES)
def test_a_source_that_can_say_nothing_is_refused(source: Any) -> None:
    with pytest.raises(ValueError, match="source: "):
        KillSwitch(source)


def test_a_coroutine_function_is_refused_for_nobody_would_await_it() -> None:
    async def ask() -> bool:
        return False

    with pytest.raises(ValueError, match="plain callable"):
        KillSwitch(ask)


@pytest.mark.parametrize("value", [0, -1, 6, float("nan"), float("inf"), True, "2", None])
@pytest.mark.parametrize("name", ["ttl", "timeout"])
def test_seconds_are_checked(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name}: "):
        KillSwitch(lambda: None, **{name: value})


@pytest.mark.parametrize("fields", [{"keep": 0}, {"keep": 1e9}, {"keep": None}, {"on_failure": "ignore"}])
def test_what_a_failure_means_is_checked(fields: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        KillSwitch(lambda: None, **fields)


# How it is asked


def test_an_answer_is_used_for_its_ttl() -> None:
    source, clock = Source(), Ticks()
    switch = KillSwitch(source, ttl=2, clock=clock)
    for _ in range(10):
        assert switch.halts() == {}
    assert source.asked == 1
    source.answer = "stop"
    clock.now += 1.9
    assert switch.halts() == {}
    clock.now += 0.1
    until_said(switch, {ALL: "stop"})
    assert source.asked == 2


def test_an_answer_of_five_seconds_is_too_old_to_stand_on_without_asking() -> None:
    source, clock = Source(), Ticks()
    switch = KillSwitch(source, timeout=5, clock=clock)
    assert switch.halts() == {}
    source.answer = "stop"
    clock.now += 5
    assert switch.halts() == {ALL: "stop"}


def test_a_pause_longer_than_an_answer_is_kept_refuses_nothing() -> None:
    source, clock = Source(), Ticks()
    switch = KillSwitch(source, keep=1, timeout=5, clock=clock)
    for _ in range(3):
        assert switch.halts() == {}
        clock.now += 3600


def test_callers_that_come_while_the_first_one_asks_wait_for_its_answer() -> None:
    source = Source()
    source.open.clear()
    switch = KillSwitch(source, timeout=5)
    said: list[Any] = []
    threads = [threading.Thread(target=lambda: said.append(switch.halts())) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert source.entered.wait(5)
    source.open.set()
    for thread in threads:
        thread.join()
    assert said == [{}] * 8
    assert source.asked == 1


def test_a_source_that_hangs_for_ever_keeps_one_thread_and_nobody_waiting() -> None:
    source, clock = Source(), Ticks()
    source.open.clear()
    switch = KillSwitch(source, timeout=0.1, clock=clock)
    with waits_less_than(2.5):  # half of what fifty time-outs take
        for _ in range(50):
            assert switch.halts() == UNREADABLE
            clock.now += 2
    assert source.asked == 1
    assert [thread.name for thread in threading.enumerate()].count("costguard-switch") == 1
    source.open.set()
    until_said(switch, {})


def test_a_source_that_turns_slow_does_not_delay_calls_while_the_answer_is_good() -> None:
    source, clock = Source(), Ticks()
    switch = KillSwitch(source, timeout=5, clock=clock)
    assert switch.halts() == {}
    source.open.clear()
    clock.now += 3
    with waits_less_than(2.5):
        assert switch.halts() == {}
    source.open.set()


@pytest.mark.parametrize(("on_failure", "wanted"), [("refuse", UNREADABLE), ("allow", {})])
def test_while_a_source_fails_its_last_answer_stands_for_a_while(on_failure: Any, wanted: Any) -> None:
    source, clock = Source({"research": "too dear"}), Ticks()
    switch = KillSwitch(source, ttl=2, keep=60, timeout=5, on_failure=on_failure, clock=clock)
    assert switch.halts() == {"research": "too dear"}
    source.answer = OSError("no route")
    for _ in range(12):
        clock.now += 5
        assert switch.halts() == {"research": "too dear"}
    clock.now += 2
    assert switch.halts() == wanted
    source.answer = None
    clock.now += 2
    assert switch.halts() == {}


@pytest.mark.parametrize("answer", [OSError("no route"), 5, object(), [1]])
@pytest.mark.parametrize(("on_failure", "wanted"), [("refuse", UNREADABLE), ("allow", {})])
def test_a_source_that_never_made_sense_is_a_failure_from_the_start(answer: Any, on_failure: Any, wanted: Any) -> None:
    source, clock = Source(answer), Ticks()
    switch = KillSwitch(source, timeout=5, on_failure=on_failure, clock=clock)
    for _ in range(5):
        assert switch.halts() == wanted
    assert source.asked == 1  # a failure is not asked about again at every event


def _ask_in_child(switch: KillSwitch, said: Any) -> None:
    said.put(dict(switch.halts()))


def test_a_forked_process_asks_for_itself() -> None:
    source = Source()
    source.open.clear()
    switch = KillSwitch(source, timeout=0.05)
    assert switch.halts() == UNREADABLE  # a thread of this process hangs now, and a child has no such thread
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    source.open = threading.Event()
    source.open.set()
    child = context.Process(target=_ask_in_child, args=(switch, said))
    child.start()
    assert said.get(timeout=10) == {}
    child.join(10)


# What it stops


def searching_agent(provider: FakeProvider, **options: Any) -> Any:
    @tool
    def search(q: str) -> str:
        """Search."""
        return "found"

    return create_agent(provider.openai(max_tokens=50), [search], **options)


QUESTION = {"messages": [("user", "hello")]}
SCRIPT = [Reply(tool_calls=[("search", {"q": "x"})]), "done"]


def halting_at(kind: str, guard: CostGuard) -> None:
    """Kill everything as soon as an event of this kind is told."""

    def brake(event: Any) -> None:
        if type(event).__name__ == kind:
            guard.kill(reason="enough")

    guard.add_sink(brake)


def test_nothing_begins_while_all_are_halted(call: Caller) -> None:
    recorder = Recorder()
    ran: list[int] = []
    with FakeProvider(SCRIPT) as provider:
        guard = CostGuard(prices=PRICES, switch=KillSwitch(lambda: "maintenance"), sinks=[recorder])
        things: list[Any] = [searching_agent(provider), provider.openai(), RunnableLambda(ran.append)]
        for thing in things:
            with pytest.raises(AgentHaltedError, match="all agents are halted: maintenance") as caught:
                call(thing, "hello" if thing is not things[0] else QUESTION, {"callbacks": [guard]})
            assert (caught.value.reason, caught.value.agent) == ("maintenance", "")
        assert (provider.requests, ran) == ([], [])
    assert [event.kind for event in recorder.of(Refused)] == ["chain", "model", "chain"]
    assert guard.report().total.refused == 3


def test_a_tool_is_not_run_after_the_switch_was_thrown(call: Caller) -> None:
    with FakeProvider(SCRIPT) as provider:
        guard = CostGuard(prices=PRICES)
        halting_at("CallSettled", guard)
        with pytest.raises(AgentHaltedError, match="enough"):
            call(searching_agent(provider), QUESTION, {"callbacks": [guard]})
        assert len(provider.requests) == 1
    assert guard.report().total.tool_calls == 0


def test_a_model_is_not_called_after_the_switch_was_thrown_in_a_tool(call: Caller) -> None:
    with FakeProvider(SCRIPT) as provider:
        guard = CostGuard(prices=PRICES)
        halting_at("ToolSettled", guard)
        with pytest.raises(AgentHaltedError, match="enough"):
            call(searching_agent(provider), QUESTION, {"callbacks": [guard]})
        assert len(provider.requests) == 1
    assert guard.report().total.tool_calls == 1


@pytest.mark.parametrize("how", ["callback", "wrapped"])
def test_a_stream_under_way_is_stopped_and_paid_so_far(how: str, world: str) -> None:
    # A stream looks at the switch every quarter of a second: by a clock that leaps, at every chunk.
    leaps = iter(range(1_800_000_000, 1_900_000_000))
    with FakeProvider(Reply(chunks=["one "] * 50, pace=0.001)) as provider:
        guard = CostGuard(prices=PRICES, clock=lambda: next(leaps))
        model: Any = provider.openai(max_tokens=60)
        config: Any = {"callbacks": [guard]} if how == "callback" else None
        model = guard.wrap(model) if how == "wrapped" else model
        got: list[Any] = []

        def take(piece: Any) -> None:
            got.append(piece)
            if sum(bool(each.content) for each in got) == 3:
                guard.kill(reason="enough")

        async def aread() -> None:
            async for piece in model.astream("count", config):
                take(piece)

        def read() -> None:
            for piece in model.stream("count", config):
                take(piece)

        with pytest.raises(AgentHaltedError, match="enough"):
            asyncio.run(aread()) if world == "async" else read()
        provider.wait_until(lambda: provider.requests[0].aborted or provider.requests[0].finished)
    total = guard.report().total
    assert 3 <= total.output_tokens <= 4
    assert total.refused == 1


def test_one_agent_is_stopped_and_the_others_go_on(call: Caller) -> None:
    with FakeProvider("fine") as provider:
        guard = CostGuard(prices=PRICES)
        guard.kill("research", "too dear")
        research, writer = (searching_agent(provider, name=name) for name in ("research", "writer"))
        with pytest.raises(AgentHaltedError, match="agent 'research' is halted: too dear") as caught:
            call(research, QUESTION, {"callbacks": [guard]})
        assert (caught.value.agent, caught.value.reason) == ("research", "too dear")
        assert "too dear" not in caught.value.for_model()
        call(writer, QUESTION, {"callbacks": [guard]})
        guard.revive("research")
        call(research, QUESTION, {"callbacks": [guard]})
        assert len(provider.requests) == 2


def test_a_kill_in_one_process_stops_the_guards_that_share_its_store(call: Caller, tmp_path: Path) -> None:
    clock = Ticks()
    stores = [SQLiteStore(tmp_path / "budgets.db") for _ in range(2)]
    model = ScriptedChatModel(usage=(1, 1))
    here = CostGuard(Budget(per="all", usd="1"), store=stores[0], prices=PRICES)
    there = CostGuard(store=stores[1], prices=PRICES, switch=KillSwitch(stores[1], clock=clock))
    for guard in (here, there):
        call(model, "hi", {"callbacks": [guard]})
    here.kill(reason="enough")
    with pytest.raises(AgentHaltedError, match="enough"):
        call(model, "hi", {"callbacks": [here]})
    clock.now += 5
    with pytest.raises(AgentHaltedError, match="enough"):
        call(model, "hi", {"callbacks": [there]})
    here.revive()
    call(model, "hi", {"callbacks": [here]})
    clock.now += 5
    call(model, "hi", {"callbacks": [there]})
    for store in stores:
        store.close()


def test_a_kill_here_is_taken_back_here_at_once_though_the_store_was_read_meanwhile(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "budgets.db")
    guard = CostGuard(store=store, prices=PRICES)
    model = ScriptedChatModel(usage=(1, 1))
    other = CostGuard(store=store, prices=PRICES)
    other.kill(reason="enough")
    with pytest.raises(AgentHaltedError):
        model.invoke("hi", {"callbacks": [guard]})
    guard.revive()
    model.invoke("hi", {"callbacks": [guard]})
    store.close()


def test_nobody_is_no_agent() -> None:
    with pytest.raises(ValueError, match="agent"):
        CostGuard().kill("")


def test_a_slow_switch_does_not_block_the_event_loop() -> None:
    source = Source()
    switch = KillSwitch(source, timeout=5)
    guard = CostGuard(prices=PRICES, switch=switch)
    model = ScriptedChatModel(usage=(1, 1))

    async def main() -> None:
        await model.ainvoke("hi", {"callbacks": [guard]})
        source.open.clear()
        switch.expire()
        for _ in range(20):
            await model.ainvoke("hi", {"callbacks": [guard]})

    with waits_less_than(2.5):
        asyncio.run(main())
    source.open.set()
    assert json.dumps(switch.halts()) == "{}"


# Documents of the forms that the field writes

STOPPED = "stopped by the kill switch"


@pytest.mark.parametrize(
    ("said", "halts"),
    [
        ({"kill_switch": True, "disabled_agents": ["research"]}, {ALL: STOPPED, "research": STOPPED}),
        ({"kill_switch": False, "disabled_agents": ["research"], "reason": "fire"}, {"research": "fire"}),
        ({"global": True}, {ALL: STOPPED}),
        ({"global": {"halted": True, "reason": "fire"}}, {ALL: "fire"}),
        ({"halt_all": "yes"}, {ALL: STOPPED}),
        ({"kill-switch": "on"}, {ALL: STOPPED}),
        ({"kill_switch": {"enabled": True}}, {ALL: STOPPED}),
        ({"kill_switch": {"enabled": False}}, {}),
        ({"status": "halted", "reason": "fire"}, {ALL: "fire"}),
        ({"status": "ok"}, {}),
        ({"agents": False, "reason": "fire"}, {}),
        ({"research": {"halted": 1.0}, "writer": {"halted": 0.0}}, {"research": STOPPED}),
        (["a", "b", {"name": "c", "halted": False}, {"name": "d"}], {"a": STOPPED, "b": STOPPED, "d": STOPPED}),
        ({"agents": {"research": "fire", "writer": False}}, {"research": "fire"}),
        (
            {"agents": [{"name": "a", "reason": "fire"}, {"agent": "b", "halted": False}, "c"]},
            {"a": "fire", "c": STOPPED},
        ),
        ({"version": 3, "halted": ["a"]}, {"a": STOPPED}),
        ([{"id": "a", "enabled": False}, {"id": "b", "enabled": True}], {"a": STOPPED}),
        ({"research": {"halted": True, "reason": "fire"}, "writer": {"enabled": True}}, {"research": "fire"}),
        ({"research": False, "writer": True}, {"writer": STOPPED}),
        ({"*": None}, {}),
        ({"research": 0, "writer": 1}, {"writer": STOPPED}),
        ([], {}),
        # What a switch is said to be is not what an agent is said to be.
        ({"kill_switch": "enabled"}, {ALL: STOPPED}),
        ({"kill_switch": "active"}, {ALL: STOPPED}),
        ({"kill_switch": "disengaged"}, {}),
        ({"kill_switch": {"on": True}}, {ALL: STOPPED}),
        ({"kill_switch": {"value": True, "reason": "fire"}}, {ALL: "fire"}),
        ({"kill_switch": {"active": True, "scope": "all"}}, {ALL: STOPPED}),
        ({"kill_switch": {"enabled": True, "agents": ["research"]}}, {"research": STOPPED}),
        ({"kill_switch": {"enabled": False, "agents": ["research"]}}, {}),
        ({"kill_switch": {"enabled": True, "agents": False}}, {ALL: STOPPED}),
        ({"kill_switch": {"enabled": True, "agents": ""}}, {ALL: STOPPED}),
        ({"killSwitchEnabled": True}, {ALL: STOPPED}),
        ({"globalKillSwitch": "off"}, {}),
        ({"is_halted": True, "reason": "fire"}, {ALL: "fire"}),
        ({"stop_all_agents": True}, {ALL: STOPPED}),
        ({"emergencyStop": 1, "disabledAgents": {"research": "fire"}}, {ALL: STOPPED, "research": "fire"}),
        ({"shutdown": True, "version": 2}, {ALL: STOPPED}),
        ({"data": {"kill_switch": True}}, {ALL: STOPPED}),
        ({"result": {"halted": ["research"]}, "updated_at": "now"}, {"research": STOPPED}),
        ({"agent": "research", "halted": True, "reason": "fire"}, {"research": "fire"}),
        ({"agent_id": "research", "reason": "fire"}, {"research": "fire"}),
        ({"research": "fire", "updated_at": "2026-01-01"}, {"research": "fire"}),
    ],
)
def test_a_document_is_read_as_it_is_meant(said: Any, halts: dict[str, str], tmp_path: Path) -> None:
    assert dict(halts_in(said)) == halts
    file = tmp_path / "switch.json"
    file.write_text(json.dumps(said))
    assert dict(KillSwitch(file).halts()) == halts


@pytest.mark.parametrize(
    "said",
    [
        {"enabled": True}, {"research": 5}, {"agents": 3}, {"agents": True}, [["a"]], {"research": [1]}, {"version": 3},
        {"error": "not found"}, {"detail": "Not Found"}, {"message": "Internal server error"}, {"success": True},
        {"data": {"version": 3}}, {"id": "switch", "updated_at": "now"},
        {"enabled": True, "active": True, "running": True, "allowed": True}, {"research": {"whatever": 1}},
        {"kill_switch": {"enabled": True, "agents": True}},
    ],
)  # fmt: skip
def test_a_document_that_cannot_be_read_stops_all_and_is_told_of_once(
    said: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, clock = tmp_path / "switch.json", Ticks()
    file.write_text(json.dumps(said))
    switch = KillSwitch(file, clock=clock)
    for _ in range(3):
        assert dict(switch.halts()) == UNREADABLE
        clock.now += 10
    assert sum("cannot be read" in record.message for record in caplog.records) == 1


def test_a_kill_of_a_name_nobody_has_seen_takes_effect_and_names_what_is_near(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with FakeProvider("ok") as provider:
        guard = CostGuard(prices=PRICES)
        with guard.scope(agent="research"):
            provider.openai().invoke("hi", {"callbacks": [guard]})
        guard.kill("reserch")
        assert "did you mean 'research'?" in caplog.text
        with guard.scope(agent="reserch"), pytest.raises(AgentHaltedError):
            provider.openai().invoke("hi", {"callbacks": [guard]})


@pytest.mark.parametrize("name", ["global", "all", "agents", "error", "data", "shutdown", "enabled", "research"])
def test_an_agent_that_a_store_says_is_halted_is_one_agent_whatever_it_is_called(name: str) -> None:
    store = MemoryStore()
    halt(store, name, "fire")
    assert dict(KillSwitch(store).halts()) == {name: "fire"}
