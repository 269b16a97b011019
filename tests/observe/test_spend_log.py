"""The spend log keeps a row for each thing a guard tells, outlives the process, and is asked by any name and time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.tools import tool

from langchain_costguard import Budget, BudgetExceededError, CostGuard, ModelRef, Scope, Spend, Usage
from langchain_costguard.events import CallSettled, Recalled
from langchain_costguard.observe.log import open_log
from langchain_costguard.observe.log.entry import NAMES, Entry, entry_of
from langchain_costguard.observe.log.schema import MIGRATIONS
from langchain_costguard.observe.log.sink import SpendLog
from langchain_costguard.observe.log.sqlite import SQLiteLog
from langchain_costguard.testing import FakeProvider, ScriptedChatModel
from tests.bytecodes import bytecodes
from tests.conftest import PRICES
from tests.servers import Server, postgres_program, postgres_server

DAY = 86_400
MONDAY = 1_764_547_200.0 - 86_400 * 0
"""Midnight (UTC) of the first of December 2025, a Monday."""


@tool
def look_up(query: str) -> str:
    """Look up."""
    return query


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    if postgres_program() is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "redis", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a log may be."""
    if request.param == "sqlite":
        return str(tmp_path / "spend.db")
    if request.param == "redis":
        server: Server = request.getfixturevalue("server")
        import redis

        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        return server.url
    url = str(request.getfixturevalue("postgres_url"))
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS costguard CASCADE")
    return url


def settled(at: float, charge: int = 1_000, **names: str) -> CallSettled:
    """A call that cost so much."""
    scope = Scope(**{"agent": "a", "model": "gpt-4o", **names})
    usage = Usage(100, 10, cache_read=40)
    return CallSettled(at, scope, uuid4(), ModelRef("openai", "gpt-4o"), usage, charge, 2_000, 5, False, 1.5, 0.25)


def write(place: str, *events: Any) -> None:
    log = open_log(place)
    log.write([entry for event in events if (entry := entry_of(event)) is not None])
    log.close()


def name(row: Entry, column: str) -> str:
    return row.names[NAMES.index(column)]


def test_what_a_guard_does_is_in_the_log_after_it_whatever_keeps_it(place: str, provider: FakeProvider) -> None:
    poor = Budget(per="user", usd="0.000001", only={"user": "poor"}, name="poor")
    guard = CostGuard(poor, Budget(per="all", usd="1"), log=place, prices=PRICES, tool_prices={"look_up": "0.01"})
    model, config = provider.openai(max_tokens=16), {"callbacks": [guard]}
    with guard.scope(user="u1", feature="search", session="s1"):
        model.invoke("Hello", config)
        list(model.stream("Hello", config))
        look_up.invoke({"query": "May"}, config)
    with guard.scope(user="poor"), pytest.raises(BudgetExceededError):
        model.invoke("Hello", config)
    guard.tell(Recalled(time.time(), guard.whose(), "gpt-4o", "asked before", 70, "exact"))
    assert guard.log is not None
    guard.log.close()

    spend = Spend(place)
    report, before = spend.by("user", "feature"), guard.report().by("user", "feature")
    assert report.to_dicts() == before.to_dicts()
    assert report.actions.to_dicts() == before.actions.to_dicts()
    first, second = spend.rows("model")
    assert (first.first_millis, second.first_millis is None) == (None, False)
    assert (name(first, "status"), name(first, "source")) == ("ok", "set by the user: prices['gpt-4o']")
    assert (spend.where(user="u1").by("tool").rows[0][0], spend.where(user="nobody").total.calls) == (("look_up",), 0)
    (refused,) = spend.rows("refused")
    assert (refused.extra["budget"], refused.extra["measure"], name(refused, "status")) == (
        "poor", "usd", "BudgetExceededError",
    )  # fmt: skip
    assert refused.extra["asked"] > refused.extra["left"] > 0
    assert spend.refusals() == [("BudgetExceededError", "poor", 1)]
    assert {standing.account for standing in spend.standings()} >= {"all|usd"}
    assert (spend.total.spent, spend.calls(1)[0].counts[8]) == (guard.report().total.spent, 10_000_000)


def test_days_weeks_and_months_are_those_of_the_time_zone(place: str) -> None:
    late = MONDAY - 1_800  # 23:30 on Sunday in London, 00:30 on Monday in Berlin, 05:15 in Kathmandu
    write(place, settled(late, 1, feature="f"), settled(MONDAY + 60, 20, feature="f"), settled(MONDAY + DAY, 300))
    days = {tz: dict(_spent(Spend(place, tz=tz).by("day"))) for tz in ("UTC", "Europe/Berlin", "Asia/Kathmandu")}
    assert days["UTC"] == {"2025-11-30": 1, "2025-12-01": 20, "2025-12-02": 300}
    assert days["Europe/Berlin"] == days["Asia/Kathmandu"] == {"2025-12-01": 21, "2025-12-02": 300}
    assert _spent(Spend(place).by("week")) == [("2025-W48", 1), ("2025-W49", 320)]
    assert _spent(Spend(place).by("month")) == [("2025-11", 1), ("2025-12", 320)]
    assert Spend(place, tz="Asia/Kathmandu").by("hour").rows[0][0] == ("2025-12-01T05+0545",)
    assert [key for key, _ in Spend(place).by("day", "feature").rows][-1] == ("2025-12-02", "")


def _spent(report: Any) -> list[tuple[str, int]]:
    return [(key[0], row.spent) for key, row in report.rows]


@pytest.mark.parametrize("dimensions", [(), ("agent",), ("day",), ("user",), ("day", "agent")])
def test_a_period_has_what_lies_in_it_to_the_microsecond_however_it_is_asked(
    tmp_path: Path, dimensions: tuple[str, ...]
) -> None:
    place = str(tmp_path / "spend.db")
    moments = [MONDAY + k * 437.000_013 for k in range(40)]
    write(place, *(settled(at, 1, user="u") for at in moments))
    for since in (0, 3, 4, 11):
        for until in (11, 12, 30):
            spend = Spend(place, since=moments[since], until=moments[until])
            assert spend.by(*dimensions).total.calls == max(0, until - since), (since, until)
    spend = Spend(place, since=moments[10], until=moments[20])
    assert spend.before().by(*dimensions).total.calls == 10


def test_a_call_that_is_heard_of_after_all_is_one_call_at_its_real_price(tmp_path: Path) -> None:
    place = str(tmp_path / "spend.db")
    guess, real = settled(MONDAY, 900), settled(MONDAY + 1, 400)
    write(place, guess, _corrected(real, 900))
    total = Spend(place).total
    assert (total.calls, total.spent, total.input_tokens) == (1, 400, 100)


def _corrected(event: CallSettled, before: int) -> CallSettled:
    from dataclasses import replace

    return replace(event, charged_before=before, usage_before=Usage(100, 10))


def test_a_name_that_is_forgotten_is_nowhere_in_the_log_and_its_rows_stay(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSTGUARD_LOG_KEY", "a key")
    guard = CostGuard(Budget(per="user", usd="0.0001", name="each"), log=place, prices=PRICES)
    model = ScriptedChatModel(usage=(10, 5), max_tokens=5)
    with guard.scope(user="jane.doe@example.com"):
        model.invoke("hi", {"callbacks": [guard]})
        with pytest.raises(BudgetExceededError):
            model.invoke("hi", {"callbacks": [guard]}, max_tokens=100_000)
    assert guard.log is not None
    guard.log.close()
    before = Spend(place).total
    from langchain_costguard.cli import main

    for rows in (True, False):
        assert main(["log", "forget", "user=jane.doe@example.com", place]) == 0, rows
    spend = Spend(place)
    (((alias,), row),) = spend.by("user").rows
    assert (alias.startswith("forgotten-"), row.spent, spend.total) == (True, before.spent, before)
    assert "jane" not in str(spend.rows()) + str(spend.standings())
    write(place, settled(MONDAY, user="jane.doe@example.com"))
    assert main(["log", "forget", "user=jane.doe@example.com", place]) == 0
    assert [key for key, _ in Spend(place).by("user").rows] == [(alias,)]
    if not place.startswith(("redis", "postgresql")):
        assert b"jane" not in Path(place).read_bytes()


def test_old_rows_are_dropped_when_asked_and_only_then(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    write(place, settled(now - 500 * DAY, 1, user="old"), settled(now - DAY, 20), settled(now, 300))
    from langchain_costguard.cli import main

    assert main(["log", "vacuum", "--keep", "400d", place]) == 0
    dropped = 0 if place.startswith("redis") else 1  # a stream knows when a row was written
    assert capsys.readouterr().out.startswith(f"{dropped} row")
    if dropped:
        assert (Spend(place).total.spent, Spend(place).by("agent").total.spent) == (320, 320)
        assert Spend(place).by("user", "agent").total.spent == 320


def test_a_log_of_an_older_version_is_made_todays_and_one_to_come_is_refused(tmp_path: Path) -> None:
    import sqlite3

    place = tmp_path / "spend.db"
    write(str(place), settled(MONDAY, 20, feature="f"), settled(MONDAY, 300))
    with sqlite3.connect(place) as old:
        old.execute("DROP TABLE spend_slots")
        old.execute("UPDATE spend_meta SET value = 1 WHERE key = 'version'")
    assert _spent(Spend(place).by("feature")) == [("", 300), ("f", 20)]
    with sqlite3.connect(place) as future:
        future.execute("UPDATE spend_meta SET value = 99 WHERE key = 'version'")
    with pytest.raises(ValueError, match=f"version 99, and this costguard knows {len(MIGRATIONS)}"):
        Spend(place)


KILLED = """
import os, sys, time
from langchain_costguard import CostGuard
from langchain_costguard.testing import ScriptedChatModel
guard = CostGuard(log=sys.argv[1])
for _ in range(20):
    ScriptedChatModel(usage=(10, 5)).invoke("hi", {"callbacks": [guard]})
time.sleep(1)
ScriptedChatModel(usage=(10, 5)).invoke("hi", {"callbacks": [guard]})
os.kill(os.getpid(), 9)
"""


def test_a_killed_process_leaves_a_file_that_opens_and_loses_a_second_at_most(tmp_path: Path) -> None:
    place = tmp_path / "spend.db"
    done = subprocess.run([sys.executable, "-c", KILLED, str(place)], timeout=60, check=False)
    assert done.returncode == -9
    assert Spend(place).total.calls >= 20


def test_events_beyond_the_queue_are_counted_said_and_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = SpendLog(tmp_path / "spend.db", capacity=5)
    with sink.log.transaction():  # type: ignore[attr-defined]
        for _ in range(12):
            sink(settled(MONDAY))
    assert sink.flush()
    sink(settled(MONDAY))
    assert sink.close()
    lost = sink.lost
    assert lost > 0
    assert caplog.messages.count("spend-log: more is told than can be delivered, and some is lost (said once)") == 1
    spend = Spend(tmp_path / "spend.db")
    assert sum(row.extra["rows"] for row in spend.rows("note")) == lost
    assert spend.total.calls + lost == 13


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="each Python has bytecodes of its own; these are 3.11's")
def test_a_log_takes_few_steps_of_a_call(tmp_path: Path) -> None:
    sink = SpendLog(tmp_path / "spend.db")
    assert bytecodes(lambda: sink(settled(MONDAY))) <= 200
    sink.close()


@pytest.mark.parametrize(
    ("ask", "complaint"),
    [
        (lambda place: Spend(place, since="soon"), "since: 'soon' is no date such as 2026-11-01, nor a time ago"),
        (lambda place: Spend(place, tz="Mars"), "tz: 'Mars' is no time zone"),
        (lambda place: Spend(place).by("weekday"), "by: 'weekday' is not one of user, session"),
        (lambda place: Spend(place).where(usr="u"), "where: 'usr' is not one of"),
        (lambda place: Spend(place).where(user=3), "where: user=3 must be a text"),
        (lambda place: Spend(place).before(), "before: this has no beginning"),
        (lambda place: Spend(place).course("money"), "course: 'money' is not one of user"),
        (lambda place: Spend(place, since="2026-02-01", until="2026-01-01"), "until: '2026-01-01' is before since"),
        (lambda place: Spend(place + ".not"), "log: .* cannot be read: there is no file"),
        (lambda place: Spend("https://x"), "log: 'https://x' is no path, nor sqlite:PATH"),
        (lambda place: CostGuard(log="https://u:secret@x"), r"log: 'https://\*\*\*@x' is no path"),
        (lambda place: CostGuard(log=place + "/no/such"), "log: .* cannot be used"),
    ],
)
def test_what_cannot_be_asked_is_said_with_its_field_and_value(
    tmp_path: Path, ask: Callable[[str], Any], complaint: str
) -> None:
    place = str(tmp_path / "spend.db")
    SQLiteLog(place).close()
    with pytest.raises(ValueError, match=complaint):
        ask(place)
