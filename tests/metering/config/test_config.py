"""A file of budgets: what is wrong is said with its line, what is right is a guard, and what changes is taken over."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from langchain_costguard import Budget, BudgetExceededError, CostGuard, MemoryStore, Spend, SQLiteStore
from langchain_costguard.cli import main
from langchain_costguard.metering.config.file import load, parse
from langchain_costguard.testing import ScriptedChatModel

FILE = """\
"$schema" = "costguard.schema.json"
preset = "production"
log = "spend.db"
unpriced = "refuse"

[[budgets]]
per = "user"
usd = 1.10
window = "day"

[[budgets]]
per = ["user", "feature"]
tokens = 1_000
only = { agent = ["research", "writer"] }
reserve = 0.05

[agents.research]
usd = "2.00"

[agents."the summarizer"]
usd = 0.20

[prices."my model"]
input = 1.5
output = "3"

[tool_prices]
web_search = 0.01
"""

WRONG = [
    ("usd = 1.10", "usd = -1", "line 8: budgets[0].usd: usd: -1 must be a finite amount above zero"),
    ("usd = 1.10", "usd = true", "line 8: budgets[0].usd = True: must be an amount such as 0.50"),
    ("usd = 1.10", "usd = 'much'", "line 8: budgets[0].usd: usd: 'much' is no amount of USD"),
    ('window = "day"', 'window = "daily"', "line 9: budgets[0].window = 'daily': Input should be 'hour', 'day'"),
    (
        "tokens = 1_000",
        "token = 1000",
        "line 13: budgets[1].token = 1000: there is no such field; did you mean tokens?",
    ),
    ("tokens = 1_000", 'tokens = "many"', "line 13: budgets[1].tokens = 'many': Input should be a valid integer"),
    ("tokens = 1_000", "tokens = -3", "line 13: budgets[1].tokens: tokens: -3 must be a whole number above zero"),
    ('per = "user"', 'per = "usr"', "line 7: budgets[0].per = 'usr'"),
    ('log = "spend.db"', 'lgo = "spend.db"', "line 3: lgo = 'spend.db': there is no such field; did you mean log?"),
    ("input = 1.5", "", "line 23: prices.my model: input is missing"),
    ("input = 1.5", 'input = "x"', "line 24: prices.my model.input: Price.input must be a number of USD"),
    ('agent = ["research", "writer"]', 'agnt = "x"', "line 11: budgets[1]: only={'agnt': ['x']}: 'agnt' is not one of"),
    ('usd = "2.00"', 'window = "day"', "line 17: agents.research: Budget(per='agent') has no limit"),
    ('usd = "2.00"', "usd = ", "Invalid value (at line 18"),
    ('"refuse"', '"refused"', "line 4: unpriced = 'refused': Input should be 'estimate', 'refuse' or 'free'"),
    ('per = ["user", "feature"]', 'per = "user"\nusd = 3\nwindow = "day"\n', "two budgets cap usd per 'user.day'"),
]


@pytest.mark.parametrize(("right", "wrong", "complaint"), WRONG, ids=[wrong[1].strip() or "nothing" for wrong in WRONG])
def test_what_is_wrong_is_said_with_file_line_field_and_value(right: str, wrong: str, complaint: str) -> None:
    assert right in FILE
    text = FILE.replace(right, wrong, 1)
    if "two budgets" in complaint:
        text = text.replace('only = { agent = ["research", "writer"] }\n', "")
    with pytest.raises(ValueError) as caught:
        parse(text, "costguard.toml")
    assert str(caught.value).startswith("costguard.toml")
    assert complaint in str(caught.value)


def test_what_is_right_is_what_the_arguments_would_be_and_a_number_is_exact() -> None:
    found = parse(FILE, "costguard.toml")
    assert [budget.label for budget in found.budgets] == [
        "session", "user.day", "user+feature.[agent=research+writer]", "agent.[agent=research]",
        "agent.[agent=the summarizer]",
    ]  # fmt: skip
    session, user, both, *_ = found.budgets
    assert session.caps() == Budget.production().caps()
    assert user.caps() == {"usd": 1_100_000_000}
    assert both.reserves() == {"tokens": 50}
    assert dict(found.options) == {"unpriced": "refuse"}


def test_the_schema_knows_what_is_right_and_what_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    import tomllib

    assert main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tomllib.loads(FILE), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(FILE.replace("tokens", "token")), schema)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "costguard.toml"
    path.write_text('[[budgets]]\nper = "all"\nname = "team"\nmodel_calls = 3\n', "utf-8")
    return path


def ask(guard: CostGuard, times: int = 1) -> int:
    """How many of so many calls were let through."""
    done = 0
    for _ in range(times):
        try:
            ScriptedChatModel(usage=(10, 5)).invoke("hi", {"callbacks": [guard]})
        except BudgetExceededError:
            continue
        done += 1
    return done


def test_arguments_win_over_the_environment_and_that_over_the_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = file.read_text("utf-8")
    file.write_text('store = "sqlite:file.db"\nlog = "file-log.db"\nunpriced = "refuse"\n' + text, "utf-8")
    monkeypatch.setenv("COSTGUARD_CONFIG", str(file))
    bare = CostGuard()
    assert ([b.label for b in bare.budgets], bare.meter.book.unpriced) == (["team"], "refuse")
    assert bare.log is not None
    assert bare.log.place == "file-log.db"
    monkeypatch.setenv("COSTGUARD_STORE", "sqlite:environment.db")
    monkeypatch.setenv("COSTGUARD_LOG", "environment-log.db")
    second = CostGuard(unpriced="estimate")
    assert (tmp_path / "environment.db").exists()
    assert second.log is not None
    assert (second.log.place, second.meter.book.unpriced) == ("environment-log.db", "estimate")
    own = MemoryStore()
    third = CostGuard(Budget(per="user", usd="1"), Budget(per="all", name="team", model_calls=7), store=own)
    assert third.store is own
    assert [(b.label, b.model_calls) for b in third.budgets] == [("user", None), ("team", 7)]
    monkeypatch.delenv("COSTGUARD_CONFIG")
    assert CostGuard().budgets == ()
    assert [b.label for b in CostGuard.from_file(file, store=own).budgets] == ["team"]
    with pytest.raises(ValueError, match=r"config: .no\.toml. cannot be read: No such file"):
        CostGuard.from_file("no.toml")


def until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_change_is_taken_over_whole_or_not_at_all_while_the_guard_runs(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    guard = CostGuard.from_file(file)
    assert ask(guard, 2) == 2
    file.write_text(file.read_text("utf-8").replace("= 3", "= 2"), "utf-8")
    until(lambda: guard.budgets[0].model_calls == 2)
    assert ask(guard) == 0  # a lowered cap binds at the next call
    with caplog.at_level(logging.ERROR):
        file.write_text('[[budgets]]\nper = "all"\nname = "other"\nmodel_calls = 9\n[[budgets]]\nusd = -1\n', "utf-8")
        until(lambda: "line 6" in caplog.text)
    assert [b.label for b in guard.budgets] == ["team"]
    assert "what it said before stands" in caplog.text
    file.write_text('[[budgets]]\nper = "all"\nname = "other"\nmodel_calls = 1\n', "utf-8")
    until(lambda: guard.budgets[0].label == "other")
    assert ask(guard, 2) == 1  # a budget that is gone counts no more
    file.write_text('[[budgets]]\nper = "all"\nname = "team"\nmodel_calls = 4\n', "utf-8")
    until(lambda: guard.budgets[0].label == "team")
    assert ask(guard, 5) == 2  # one that comes back goes on from what its account has


def test_a_development_budget_warns_in_the_log_and_lets_through(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "costguard.toml"
    file.write_text('preset = "development"\nalerts = [0.1]\n', "utf-8")
    guard = CostGuard.from_file(file, session="s")
    model = ScriptedChatModel(usage=(150_000, 100_000), max_tokens=100_000)
    for _ in range(2):
        model.invoke("hi", {"callbacks": [guard]})
    assert "budget 'session' is at 10% of its tokens (session|s|tokens)" in caplog.text


def test_check_and_show_say_what_a_file_comes_to(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["config", "check", str(file)]) == 0
    assert capsys.readouterr().out == f"{file} is right: 1 budget, 0 prices.\n"
    monkeypatch.setenv("COSTGUARD_CONFIG", str(file))
    monkeypatch.setenv("COSTGUARD_STORE", "redis://u:secret@host:1/0")
    assert main(["config", "show"]) == 0
    out = capsys.readouterr().out
    assert "team" in out
    assert "store: redis://***@host:1/0 ($COSTGUARD_STORE)" in out
    file.write_text("[[budgets]]\nusd = 0\n", "utf-8")
    assert main(["config", "check"]) == 2
    assert "line 2: budgets[0].usd: usd: 0 must be a finite amount above zero" in capsys.readouterr().err


def test_suggested_budgets_are_a_file_that_a_guard_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from langchain_costguard.observe.suggest import suggest
    from tests.observe.test_spend_log import MONDAY, settled, write

    place = str(tmp_path / "spend.db")
    write(place, *(settled(MONDAY + n, n * 1_000_000, session=f"s{n}", agent='re"search') for n in range(1, 101)))
    (found,) = suggest(Spend(place))
    figures = (found.sessions, found.p50, found.p95, found.p99, found.worst, found.cap, found.stopped)
    assert figures == (100, 50_000_000, 95_000_000, 99_000_000, 100_000_000, 130_000_000, 0)
    assert suggest(Spend(place), margin=0)[0].stopped == 1
    assert main(["budgets", "suggest", place]) == 0
    text = capsys.readouterr().out
    assert "100 sessions spent: p50 $0.050, p95 $0.095, p99 $0.099, the worst $0.100; needed $0.099." in text
    (budget,) = parse(text, "suggested.toml").budgets
    assert (budget.label, budget.caps()) == ('agent re"search', {"usd": 130_000_000})


def test_a_suggested_cap_has_room_for_what_is_held_before_a_call(tmp_path: Path) -> None:
    from dataclasses import replace

    from langchain_costguard.observe.suggest import suggest
    from tests.observe.test_spend_log import MONDAY, settled, write

    place = str(tmp_path / "spend.db")
    first, second = (replace(settled(MONDAY + n, 1_000_000, session="s"), held=5_000_000) for n in (1, 2))
    write(place, first, second)
    (found,) = suggest(Spend(place), margin=0)
    assert (found.worst, found.needed, found.cap, found.stopped) == (2_000_000, 6_000_000, 6_000_000, 0)


def test_a_store_of_a_file_is_shared_by_who_reads_it(file: Path) -> None:
    file.write_text('store = "sqlite:b.db"\n' + file.read_text("utf-8"), "utf-8")
    assert ask(CostGuard.from_file(file), 2) + ask(CostGuard.from_file(file), 2) == 3
    assert dict(SQLiteStore("b.db").scan(now=0))["team|model_calls"].spent == 3
    assert load(file).store == "sqlite:b.db"
