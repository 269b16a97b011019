"""``costguard kill``, ``revive`` and ``status`` against real stores, and processes that were running before."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from langchain_costguard import Budget
from langchain_costguard.cli import main
from langchain_costguard.metering.budgets.ledger import Ledger
from langchain_costguard.metering.stores import open_store
from langchain_costguard.vocabulary.scope import Scope
from tests.cli import programs
from tests.cli.conftest import Shell
from tests.servers import redis_server


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'balances.db'}"
        return
    with redis_server() as server:
        yield server.url


def test_a_kill_stops_running_processes_within_five_seconds_until_a_revive(
    store: str, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    script = shell.write("agent.py", programs.SPENDS)
    run = ["run", "--quiet", "--usd", "9", "--store", store]
    halted = shell.costguard(*run, "--scope", "agent=research", script, "0.1")
    other = shell.costguard(*run, "--scope", "agent=writer", script, "0.1")
    for child in (halted, other):
        assert child.stdout is not None
        assert child.stdout.readline() == "call 1\n"
    assert main(["kill", "--agent", "research", "--reason", "too dear", "--store", store]) == 0
    done = shell.finish(halted)
    assert done.returncode == 75
    assert len(done.stdout.splitlines()) < 60  # a call each tenth of a second, of a thousand
    assert "agent 'research' is halted: too dear" in done.stderr
    assert other.poll() is None
    other.kill()
    capsys.readouterr()
    assert main(["status", "--store", store]) == 0
    shown = capsys.readouterr().out
    assert "Agent 'research' is halted: too dear\n" in shown
    assert "run agent=research" in shown
    assert main(["revive", "--agent", "research", "--store", store]) == 0
    assert main(["revive", "--all", "--store", store]) == 0
    assert main(["status", "--store", store]) == 0
    shown = capsys.readouterr().out
    assert "Agent 'research' is no longer halted.\nNot all agents have been halted: nothing to revive.\n" in shown
    assert "Nothing is halted.\n" in shown


def test_status_shows_accounts_in_units_people_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:{tmp_path / 'balances.db'}"
    budgets = [
        Budget(per="session", usd="0.50", seconds=120),
        Budget(per=("user", "feature"), tokens=20_000, window="day"),
        Budget(per="all", model_calls=3, window="month", name="the team"),
    ]
    ledger = Ledger(budgets, open_store(url), hold_seconds=600)
    now = time.time()
    hold = ledger.reserve(
        Scope(user="u,1", session="s1", feature="f"), "", (2_000_000, 9, 9, 0, 1, 0, 0, 0), now=now - 30
    )
    ledger.settle(hold, (1_500_000, 7, 7, 0, 1, 0, 0, 0), now)
    ledger.reserve(Scope(user="u,1", session="s1", feature="f"), "", (2_000_000, 0, 0, 0, 0, 0, 0, 0), now=now)
    assert main(["status", "--store", url]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    day, month = time.strftime("%Y-%m-%d", time.gmtime(now)), time.strftime("%Y-%m", time.gmtime(now))
    monkeypatch.setenv("COLUMNS", "120")

    def cells(*words: str) -> list[tuple[str, ...]]:
        assert main(["status", "--store", url, *words]) == 0
        rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
        return [tuple(cell.strip() for cell in row if cell.strip()) for row in rows if len(row) > 4][1:]

    dollars = ("session", "s1", "usd", "$0.0015", "$0.0020", "$0.4965", "$0.5000")
    tokens = ("user+feature.day", "u,1, f", day, "tokens", "7", "0", "19,993", "20,000")
    team = ("the team", month, "model_calls", "1", "0", "2", "3")
    seconds, *others = cells()  # the time since the first call goes on
    assert seconds[:3] == ("session", "s1", "seconds")
    assert seconds[-1] == "120 s"
    assert others == [dollars, team, tokens]
    assert [row[-5] for row in cells("--sort", "used")] == ["model_calls", "seconds", "usd", "tokens"]
    assert cells("--budget", "session", "--measure", "usd") == [dollars]
    assert cells("--scope", "session=s1")[1:] == cells("--scope", "s1")[1:] == [dollars]
    assert main(["status", "--store", url, "--json", "--measure", "usd"]) == 0
    [account] = json.loads(capsys.readouterr().out)["accounts"]
    names = {"budget": "session", "scope": "s1", "window": "", "measure": "usd"}
    assert account == names | {"spent": "0.0015", "held": "0.002", "left": "0.4965", "cap": "0.5"}


@pytest.mark.parametrize("command", [["kill", "--all"], ["revive", "--all"], ["status"]])
def test_a_store_that_is_missing_or_not_shared_is_told_in_one_line(
    command: list[str], complaint: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert complaint(*command).startswith("which store?")
    assert complaint(*command, "--store", "memory:").startswith("--store: 'memory:' is seen by one process alone")
    monkeypatch.setenv("COSTGUARD_STORE", "redis://127.0.0.1:1")
    assert complaint(*command).startswith("the store does not answer: ")


def test_whom_to_kill_must_be_said(complaint: Callable[..., str]) -> None:
    assert complaint("kill", "--store", "memory:").startswith("one of --agent NAME and --all is required")
    assert "not allowed with --agent" in complaint("kill", "--all", "--agent", "a", "--store", "memory:")


@pytest.mark.parametrize("command", [["kill", "--all"], ["revive", "--all"], ["status"]])
def test_a_store_that_is_not_there_is_not_made_by_a_mistyped_path(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "balancs.db"
    assert main([*command, "--store", f"sqlite:{path}"]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert not path.exists()
    assert main([*command, "--store", f"sqlite:{path}", "--create"]) == 0
