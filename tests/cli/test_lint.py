"""``costguard lint-prompts``: records in, a table and a price out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langchain_costguard.cli import main
from tests.caching.test_lint import HANDBOOK, clock, records


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return str(path)


def test_what_was_found_is_printed_with_its_place_and_price(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "requests.jsonl", records(lambda n: f"Now: {clock(n)}\n{HANDBOOK}"))
    assert main(["lint-prompts", path]) == 1
    header, _, row, *_, last = capsys.readouterr().out.strip().split("\n")
    assert header.split()[:4] == ["feature", "model", "where", "characters"]
    assert "support  gpt-4o  system message  5-25        timestamp" in row
    assert "19 of 19  2026-01-01 00:01" in row
    assert last.startswith("20 requests; all of this together costs $")


def test_a_clean_file_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint-prompts", written(tmp_path / "requests.jsonl", records())]) == 0
    assert capsys.readouterr().out == "Nothing breaks the prefix of 20 requests.\n"


def test_bad_lines_are_told_and_the_rest_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "requests.jsonl"
    written(path, records())
    path.write_text("{oops\n" * 12 + path.read_text("utf-8"), "utf-8")
    assert main(["lint-prompts", str(path)]) == 0
    told = capsys.readouterr()
    assert told.err.count("skipped line ") == 10
    assert "skipped line 1: no JSON" in told.err
    assert "skipped 2 more lines" in told.err
    assert "20 requests" in told.out


def test_what_cannot_be_looked_at_is_told_in_one_line(tmp_path: Path, complaint: Callable[..., str]) -> None:
    missing = str(tmp_path / "none.jsonl")
    assert complaint("lint-prompts", missing) == f"{missing}: No such file or directory"
    empty = written(tmp_path / "empty.jsonl", [])
    assert complaint("lint-prompts", empty).startswith(f"{empty}: no records; a line is a request")
