"""A hundredth of ``.ci/extended fuzz``, with a fixed seed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz import arguments, commands

SEED = 11


def test_odd_arguments_work_or_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(arguments.faults(100, random.Random(SEED))) == []


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_odd_command_lines_end_in_a_status_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(commands.faults(30, random.Random(SEED))) == []
