"""``costguard tokens``: what each counter at hand makes of a prompt, with its error."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage, messages_to_dict

from langchain_costguard.cli import main


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def counted(shown: str) -> dict[tuple[str, str], list[str]]:
    """By model and counter, its tokens and its error."""
    lines = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in shown.splitlines()]
    return {(cells[0], cells[1]): cells[2:] for cells in lines if len(cells) == 4}


def test_a_text_is_counted_for_each_model_by_its_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("The quick brown fox jumps over the lazy dog. " * 100, "utf-8")
    assert main(["tokens", str(path), "--model", "gpt-4o", "--model", "anthropic:claude-sonnet-4-6"]) == 0
    rows = counted(capsys.readouterr().out)
    models = {model for model, _ in rows if model != "model"}
    assert models == {"gpt-4o", "anthropic:claude-sonnet-4-6"}
    for (model, counter), (tokens, error) in rows.items():
        if model in models:
            assert 800 < int(tokens.replace(",", "")) < 2_000
            assert error == "not stated" or "%" in error, counter


def test_conversations_are_counted_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.jsonl"
    run = json.dumps(messages_to_dict([HumanMessage("Find a berth. " * 50), AIMessage("Berth 7.")]))
    path.write_text(run, "utf-8")
    assert main(["tokens", str(path), "--model", "gpt-4o"]) == 0
    one = counted(capsys.readouterr().out)
    path.write_text(f"{run}\n{run}", "utf-8")
    assert main(["tokens", str(path), "--model", "gpt-4o"]) == 0
    two = counted(capsys.readouterr().out)
    approximate = ("gpt-4o", "LangChain, approximately")
    assert int(two[approximate][0]) == 2 * int(one[approximate][0])


def test_a_counter_that_is_not_there_is_told_beside_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], complaint: Callable[..., str]
) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("hello", "utf-8")
    assert main(["tokens", str(path), "--model", "mistral-large-latest"]) == 0
    rows = counted(capsys.readouterr().out)
    there = find_spec("mistral_common") is not None
    assert (rows["mistral-large-latest", "mistral-common"] == ["-", "pip install mistral-common"]) is not there
    assert rows["mistral-large-latest", "LangChain, approximately"][0] != "-"
    assert complaint("tokens", str(tmp_path / "none.txt")).endswith("No such file or directory")
