"""``costguard report`` tells who spent what in each form; its page asks nobody for anything; a statement adds up."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from langchain_costguard import Spend
from langchain_costguard.cli import main
from langchain_costguard.events import Refused, ToolSettled
from langchain_costguard.vocabulary.scope import Scope
from tests.observe.test_spend_log import DAY, MONDAY, settled, write


@pytest.fixture
def log(tmp_path: Path) -> str:
    place = str(tmp_path / "spend.db")
    one = settled(MONDAY, 12_345_678_901, user="u1", feature="</script><b>", session="s1")
    two = settled(MONDAY + DAY, 3, user="u1", feature="=cmd()", session="s2")
    three = settled(MONDAY + DAY, 50_000_000, user="u2", agent="b|c", session="s3")
    scope = Scope(user="u1", agent="a", feature="chat")
    fee = ToolSettled(MONDAY + 5, scope, one.run_id, "web_search", 10_000_000, 1.0, False)
    no = Refused(MONDAY + 6, scope, None, "model", "gpt-4o", "BudgetExceededError", "too much", False, None, "session")
    write(place, one, two, three, fee, no)
    return place


def test_every_form_has_the_same_rows(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = {}
    for form in ("table", "csv", "json", "markdown"):
        assert main(["report", log, "--by", "day,user", "--format", form]) == 0
        told[form] = capsys.readouterr().out
    rows = json.loads(told["json"])["rows"]
    assert [(row["day"], row["user"], row["usd"]) for row in rows] == [
        ("2025-12-01", "u1", "12.355678901"), ("2025-12-02", "u2", "0.05"), ("2025-12-02", "u1", "3E-9"),
    ]  # fmt: skip
    assert [row["user"] for row in csv.DictReader(io.StringIO(told["csv"]))] == ["u1", "u2", "u1"]
    assert told["markdown"].startswith("| day | user | calls |")
    assert told["table"].splitlines()[0].split()[:3] == ["day", "user", "calls"]


def test_filters_and_the_time_before_are_told(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["report", log, "--by", "agent", "--user", "u1", "--user", "u2", "--feature", "", "--format", "csv"]) == 0
    )
    assert [row["agent"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))] == ["b|c"]
    assert main(["report", log, "--since", "2025-12-02", "--until", "2025-12-03", "--by", "user"]) == 0
    assert "$0.0500 in 2 calls; the time before: $12.3557 in 1 calls, -100%." in capsys.readouterr().out
    assert main(["report", log, "--by", "agent", "--format", "markdown"]) == 0
    assert "| b\\|c | 1 |" in capsys.readouterr().out


def test_the_page_is_one_file_that_asks_nobody_and_runs_no_name(log: str, tmp_path: Path) -> None:
    assert main(["report", log, "--html", str(tmp_path / "out.html"), "--title", "<i>Ours"]) == 0
    text = (tmp_path / "out.html").read_text("utf-8")
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", text)
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert "connect-src 'none'" in text
    assert "</script><b>" not in text
    assert "&lt;i&gt;Ours" in text
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert facts["total"]["spent"] == Spend(log).total.spent
    assert facts["over_time"]["feature"]["series"][0]["name"] == "</script><b>"
    assert facts["refused"]["why"] == [{"error": "BudgetExceededError", "budget": "session", "times": 1}]
    assert facts["traces"][0]["tree"]["inside"][0]["name"] == "a"


def test_a_statement_adds_up_to_the_nano_dollar_and_is_no_formula(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", log, "--statement", "user=u1", "--month", "2025-12"]
    assert main([*words, "--format", "csv"]) == 0
    *lines, total = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert [(line["day"], line["feature"], line["item"], line["usd"]) for line in lines] == [
        ("2025-12-01", "</script><b>", "gpt-4o", "12.345678901"),
        ("2025-12-01", "chat", "web_search", "0.010000000"),
        ("2025-12-02", "'=cmd()", "gpt-4o", "0.000000003"),
    ]
    assert sum(Decimal(line["usd"]) for line in lines) == Decimal(total["usd"]) == Decimal("12.355678904")
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("Statement for user u1, 2025-12 (UTC)\n")
    assert main([*words[:-1], "2024-01"]) == 0
    assert "Nothing was used." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--by", "weekday"], "by: 'weekday' is not one of"),
        (["--statement", "user=u1"], "--statement: of which --month? Give one such as 2026-11"),
        (["--statement", "u1", "--month", "2025-12"], "--statement: 'u1' is not NAME=VALUE"),
        (["--statement", "user=u1", "--month", "12/2025"], "month: '12/2025' is no month such as 2026-11"),
        (["--html", "no/such/out.html"], "--html: there is no directory 'no/such'"),
        (["--tz", "Mars"], "tz: 'Mars' is no time zone"),
    ],
)
def test_what_cannot_be_is_one_line(log: str, complaint: Callable[..., str], words: list[str], said: str) -> None:
    assert complaint("report", log, *words).startswith(said)


def test_without_a_log_it_asks_which(complaint: Callable[..., str]) -> None:
    assert complaint("report") == "which log? give its path or URL, or set COSTGUARD_LOG"
    assert complaint("report", "nowhere.db").startswith("log: 'nowhere.db' cannot be read: there is no file")
