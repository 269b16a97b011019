"""``costguard grant`` gives an account of a real store more, and says which there are where it cannot."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langchain_costguard import Budget, BudgetExceededError, CostGuard, SQLiteStore
from langchain_costguard.cli import main
from langchain_costguard.testing import ScriptedChatModel
from tests.conftest import PRICES

BUDGETS = [
    Budget(per="user", usd="0.001", model_calls=2, window="day", tz="Asia/Tokyo"),
    Budget(per=("user", "feature"), tokens=1000, name="the team"),
    Budget(per="all", seconds=60, window="month", name="monthly"),
    Budget(per="agent", steps=50),
]


class Shop:
    """A guard on a store, and what the command says to it."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:{folder / 'b.db'}"
        self.guard = CostGuard(*BUDGETS, store=SQLiteStore(folder / "b.db"), prices=PRICES)

    def spend(self, user: str, times: int = 1) -> int:
        done = 0
        with self.guard.scope(user=user, feature="f"):
            for _ in range(times):
                try:
                    ScriptedChatModel(usage=(10, 5), max_tokens=5).invoke("hi", {"callbacks": [self.guard]})
                except BudgetExceededError:
                    continue
                done += 1
        return done

    def grant(self, *words: str) -> list[str]:
        return ["grant", "--store", self.url, *words]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("COLUMNS", "120")
    return Shop(tmp_path)


def test_a_grant_lets_a_running_process_go_on_and_is_listed(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shop.grant()) == 0
    assert capsys.readouterr().out == "Nothing has been granted.\n"
    assert (shop.spend("u1", 5), shop.spend("u2")) == (2, 1)
    words = shop.grant("--budget", "user.day@Asia/Tokyo", "--scope", "user=u1", "--model-calls", "2", "--key", "k")
    assert main(words) == 0
    assert "Granted 2 calls to budget 'user.day@Asia/Tokyo' (u1, " in (out := capsys.readouterr().out)
    assert out.endswith("; left: 2 calls.\n")
    assert main(words) == 0
    assert capsys.readouterr().out == "Nothing granted: the grant 'k' has been applied before.\n"
    assert shop.spend("u1", 5) == 2
    assert main(shop.grant()) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["budget", "scope", "window", "measure", "granted", "spent", "cap"] in rows
    assert [row[-4:] for row in rows if "u1" in row] == [["model_calls", "2", "4", "4"]]
    assert main(["status", "--store", shop.url]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[-5:] for line in shown.splitlines() if "u1 " in line and "model_calls" in line] == [
        ["model_calls", "4", "0", "0", "4"]
    ]
    assert "granted:" not in shown
    assert "grant-key" not in shown
    assert "Caps include what was granted" in shown


def test_several_measures_of_a_named_budget_and_time_are_granted(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.spend("u1")
    assert main(shop.grant("--budget", "the team", "--scope", "user=u1", "--scope", "feature=f", "--tokens", "50")) == 0
    assert main(shop.grant("--budget", "monthly", "--seconds", "30")) == 0
    assert "Granted 30 s to budget 'monthly'" in capsys.readouterr().out
    with shop.guard.scope(user="u1", feature="f"):
        rows = {(row.budget, row.measure): row for row in shop.guard.headroom().rows}
        assert 80 < shop.guard.headroom().seconds_left <= 90
    assert rows["the team", "tokens"].granted == 50
    assert main(shop.grant("--budget", "user.day@Asia/Tokyo", "--usd", "1.00", "--model-calls", "1")) == 0
    out = capsys.readouterr().out
    assert "Granted $1.0000 to budget" in out
    assert "Granted 1 call to budget" in out


WRONG: list[tuple[list[str], str]] = [
    (["--budget", "nope", "--usd", "1"], "--budget: 'nope' has no account in this store; known: 'agent', 'monthly', "),
    (
        ["--budget", "user.day@Asia/Tokyo", "--usd", "1"],
        "which account? give --scope; budget 'user.day@Asia/Tokyo' has",
    ),
    (["--budget", "the team", "--scope", "user=u9", "--tokens", "1"], "--scope: no account is of user=u9; budget 'the"),
    (["--budget", "the team", "--scope", "u1", "--tokens", "1"], "--scope: 'u1' is not NAME=VALUE"),
    (["--budget", "the team", "--scope", "team=u1", "--tokens", "1"], "scope: 'team' is not one of user"),
    (["--budget", "monthly", "--usd", "1"], "usd: budget 'monthly' has no account of it, but of seconds"),
    (["--budget", "monthly"], "grant: give an amount of at least one of usd, tokens"),
    (["--budget", "monthly", "--seconds", "x"], "seconds: 'x' must be a number above zero"),
    (["--budget", "monthly", "--seconds", "-5"], "seconds: -5.0 must be"),
    (["--budget", "the team", "--tokens", "1.5"], "tokens: '1.5' must be a whole number above zero"),
    (["--budget", "the team", "--usd", "$1"], "usd: '$1' is no amount"),
    (["--usd", "1"], "which budget? give --budget"),
    (["--scope", "user=u1"], "which budget? give --budget"),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_what_cannot_be_granted_is_said_in_one_line(
    words: list[str], said: str, shop: Shop, complaint: Callable[..., str]
) -> None:
    shop.spend("u1")
    shop.spend("u2")
    assert complaint(*shop.grant(*words)).startswith(said)


def test_an_account_of_yesterday_is_given_nothing(tmp_path: Path, complaint: Callable[..., str]) -> None:
    for name in ("", "named"):
        store = SQLiteStore(tmp_path / f"{name}.db")
        budget = Budget(per="user", model_calls=2, window="day", name=name)
        past: Any = time.time() - 3 * 86_400
        guard = CostGuard(budget, store=store, prices=PRICES, clock=lambda past=past: past)
        ScriptedChatModel(usage=(10, 5), max_tokens=5).invoke("hi", {"callbacks": [guard]})
        words = [
            "grant",
            "--store",
            f"sqlite:{tmp_path / f'{name}.db'}",
            "--budget",
            budget.label,
            "--model-calls",
            "1",
        ]
        assert "has not been used in the window of today" in complaint(*words)


def test_a_store_must_be_given_and_answer(complaint: Callable[..., str]) -> None:
    assert complaint("grant").startswith("which store?")
    assert complaint("grant", "--store", "memory:").startswith("--store: 'memory:' is seen by one process alone")
    assert complaint("grant", "--store", "redis://127.0.0.1:1").startswith("the store does not answer: ")
