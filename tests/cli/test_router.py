"""``costguard router``: from records to a router that chooses."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from langchain_costguard.cli import main
from langchain_costguard.routing.choice import ChoiceRouter
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
    for word in ("threshold", "to huge", "95 % interval", "cost", "<-", "100.0%"):
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


def test_of_more_than_two_models_all_may_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(0)
    rows = []
    for number in range(400):
        word, hard = ("prove", 1) if number % 2 else ("greet", 0)
        quality = {"tiny": draw.random() < (0.05 if hard else 0.98), "mid": draw.random() < 0.5, "huge": True}
        cost = {"tiny": 0.001, "mid": 0.005, "huge": 0.01}
        rows.append({"prompt": f"{word} the {draw.choice(['harbour', 'ferry'])}", "quality": quality, "cost": cost})
    path, out = tmp_path / "runs.jsonl", tmp_path / "router.json"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    assert main(["router", "train", str(path), "-o", str(out), "--target-quality", "0.95"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(
        "Learnt from 400 records which of 3 models will do; huge is the best. Cheaper and of use: mid, tiny"
    )
    assert "ChoiceRouter.load() reads it" in told
    router = ChoiceRouter.load(out)
    assert router(RouteRequest(messages=[HumanMessage("prove the ferry")])).model == "huge"
    assert router(RouteRequest(messages=[HumanMessage("greet the ferry")])).model == "tiny"
    assert main(["router", "explain", str(out), "prove the ferry"]) == 0
    assert capsys.readouterr().out.startswith("huge: ")
    assert main(["router", "train", str(path), "-o", str(out), "--weak", "mid", "--strong", "huge"]) == 0
    assert capsys.readouterr().out.startswith(
        "Learnt from 400 records when mid (weak) will do instead of huge (strong)."
    )


def test_an_interval_ends_where_nothing_is_possible(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["router", "train", str(runs), "-o", str(tmp_path / "router.json")])
    ends = re.findall(r"([-0-9.]+)% \.\. ([-0-9.]+)%", capsys.readouterr().out)
    assert len(ends) > 5
    assert all(0 <= float(low) <= float(high) <= 100 for low, high in ends)  # huge was always good


def test_a_log_of_runs_is_learnt_from_with_what_was_heard_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a cascade leaves it: tiny's answers, huge's where it was asked or is assumed good, and feedback by id."""
    draw = random.Random(0)
    rows: list[dict[str, object]] = []
    for number in range(120):
        hard = number % 2 == 1
        prompt = f"{'prove' if hard else 'greet'} {draw.choice(['harbour', 'canal'])} {number}"
        rows.append({"id": f"t{number}", "prompt": prompt, "model": "tiny", "good": None, "score": 0.5})
        rows.append({"prompt": prompt, "model": "huge", "good": True, "score": None, "assumed": True})
    rows += [{"id": f"t{number}", "good": number % 3 == 0} for number in range(120)]
    rows += [{"id": f"t{number}", "good": number % 2 == 0} for number in range(119)]
    rows.append({"id": "t119", "good": None})
    path, out = tmp_path / "runs.jsonl", tmp_path / "router.json"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    assert main(["router", "train", str(path), "-o", str(out), "--target-quality", "0.8"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("Learnt from 119 records when tiny (weak) will do instead of huge (strong).")
    assert "left out 1 answer of which nobody said whether good" in said.err
    router = ClassifierRouter.load(out)
    assert router(RouteRequest(messages=[HumanMessage("prove canal 7")])).model == "huge"
    assert router(RouteRequest(messages=[HumanMessage("greet canal 8")])).model == "tiny"


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
        (
            "train",
            str(tmp_path / "none.jsonl"),
            "-o",
            out,
        ): f"path: '{tmp_path / 'none.jsonl'}': No such file or directory",
        ("train", str(runs), "-o", out, "--weak", "x"): "weak: 'x' is in no record; known: huge, tiny",
        ("train", str(runs), "-o", out, "--target-quality", "95"): (
            "--target-quality: '95' must be a share above 0, at most 1, such as 0.95"
        ),
        ("train", str(runs), "-o", str(tmp_path)): f"--output: '{tmp_path}' cannot be written",
    }
    for words, wanted in said.items():
        assert complaint("router", *words) == wanted
    assert "no router that can be read" in complaint("router", "explain", str(runs), "x")
