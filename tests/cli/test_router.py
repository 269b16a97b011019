"""``costguard router``: from records to a router that chooses."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from langchain_costguard.cli import main
from langchain_costguard.routing.classifier import ClassifierRouter
from langchain_costguard.routing.route import RouteRequest

pytest.importorskip("numpy")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    draw = random.Random(0)
    rows = []
    for number in range(120):
        hard = number % 2
        prompt = f"{'prove' if hard else 'greet'} {draw.choice(['harbour', 'canal', 'ferry'])} {number}"
        good = draw.random() < (0.1 if hard else 0.95)
        rows.append({"prompt": prompt, "quality": {"tiny": good, "huge": True}, "cost": {"tiny": 0.001, "huge": 0.01}})
    path = tmp_path / "runs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


def test_what_was_learnt_is_printed_and_the_file_routes(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "router.json"
    assert main(["router", "train", str(runs), "-o", str(out), "--target-quality", "0.9"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Learnt from 120 records when tiny (weak) will do instead of huge (strong).")
    for word in ("threshold", "to strong", "95 % interval", "cost", "<-", "100.0%"):
        assert word in told
    router = ClassifierRouter.load(out)
    assert router(RouteRequest(messages=[HumanMessage("prove the ferry")])).model == "huge"
    assert router(RouteRequest(messages=[HumanMessage("greet the ferry")])).model == "tiny"
    assert main(["router", "explain", str(out), "prove the ferry"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("huge: ")
    assert "prove" in told


def test_a_spend_may_be_asked_for(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "router.json"
    assert main(["router", "train", str(runs), "-o", str(out), "--target-spend", "0.4"]) == 0
    assert ClassifierRouter.load(out).point.spend <= 0.4


def test_a_bad_line_is_told_and_the_rest_is_learnt_from(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], complaint: Callable[..., str]
) -> None:
    runs.write_text("{oops\n" + runs.read_text("utf-8"), "utf-8")
    out = str(tmp_path / "router.json")
    assert main(["router", "train", str(runs), "-o", out]) == 0
    assert "skipped line 1: no JSON" in capsys.readouterr().err
    assert "line 1: no JSON" in complaint("router", "train", str(runs), "-o", out, "--strict")


def test_what_is_wrong_is_told_in_one_line(runs: Path, tmp_path: Path, complaint: Callable[..., str]) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text(runs.read_text("utf-8").split("\n")[0], "utf-8")
    out = str(tmp_path / "router.json")
    said = {
        ("train", str(few), "-o", out): "records: 1 are too few to learn from; 50 or more are needed",
        ("train", str(tmp_path / "none.jsonl"), "-o", out): f"{tmp_path / 'none.jsonl'}: No such file or directory",
        ("train", str(runs), "-o", out, "--weak", "x"): "weak: 'x' is in no record; known: huge, tiny",
        ("train", str(runs), "-o", out, "--target-quality", "95"): (
            "--target-quality: '95' must be a share above 0, at most 1, such as 0.95"
        ),
        ("train", str(runs), "-o", str(tmp_path)): f"{tmp_path}: Is a directory",
    }
    for words, wanted in said.items():
        assert complaint("router", *words) == wanted
    assert "no router that can be read" in complaint("router", "explain", str(runs), "x")
