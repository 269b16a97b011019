"""``costguard demo``: what a newcomer sees, in a plain log, on a terminal and in the README's picture."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from decimal import Decimal
from importlib import import_module
from pathlib import Path

import pytest
from rich.console import Console

from langchain_costguard.cli.demo import SCENES
from langchain_costguard.cli.demo.stage import Stage
from tests.cli.conftest import Done, Shell

GUIDE = Path(__file__).parents[2] / "notebooks" / "guide"


@pytest.fixture(scope="module")
def shown(shared_shell: Shell) -> Done:
    """The demo as it is run by the README, and as its picture is drawn: ``costguard demo --svg demo.svg``."""
    nowhere = {"HTTP_PROXY": "http://127.0.0.1:9", "LANGSMITH_TRACING": "true", "TIKTOKEN_CACHE_DIR": "none"}
    return shared_shell.run("demo", "--svg", "demo.svg", **nowhere)


def test_the_demo_shows_a_stuck_agent_stopped_at_its_budget(shown: Done) -> None:
    assert (shown.returncode, shown.stderr) == (0, "")
    calls = re.findall(r"^ +(\d+) +[\d,]+ +\$(\d\.\d{5}) .* \$(\d\.\d{5})$", shown.stdout, re.M)
    assert [int(number) for number, _, _ in calls] == list(range(1, 12))
    left = [Decimal(amount) for _, _, amount in calls]
    assert left == sorted(left, reverse=True)
    assert re.search(r"^ +12   refused before it was sent$", shown.stdout, re.M)
    bills = re.findall(r"^(?:provider billed|ledger counted) +11 calls +\$(\d\.\d{9})", shown.stdout, re.M)
    assert len(bills) == 2
    assert len(set(bills)) == 1
    assert abs(Decimal(bills[0]) - sum(Decimal(cost) for _, cost, _ in calls)) < Decimal("0.0001")


def test_the_picture_in_the_readme_is_what_the_demo_draws(shown: Done, shared_shell: Shell) -> None:
    drawn = (shared_shell.folder / "demo.svg").read_text("utf-8")
    assert drawn == (GUIDE / "demo.svg").read_text("utf-8"), "costguard demo --svg notebooks/guide/demo.svg"
    text = shown.stdout.removeprefix("$ costguard demo\n")
    assert f"```text\n{text}```" in (GUIDE / "demo.md").read_text("utf-8")  # which a package index shows in its place
    assert not re.search(r"https?://(?!www\.w3\.org)|127\.0\.0\.1", drawn)


def columns(text: str) -> Iterator[int]:
    """How wide each line is, without what only a terminal understands."""
    return (len(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)) for line in re.split(r"[\r\n]", text))


@pytest.mark.parametrize(("scene", "terminal"), [("budget", True), *((scene, False) for scene in SCENES)])
def test_a_scene_plays_to_its_end_within_eighty_columns(scene: str, terminal: bool) -> None:
    screen = io.StringIO()
    stage = Stage(Console(file=screen, width=80, force_terminal=terminal, no_color=True, markup=False, highlight=False))
    assert stage.moves is terminal
    stage.delay = 0
    assert import_module(f"langchain_costguard.cli.demo.{scene}").play(stage)
    text = screen.getvalue()
    assert "the same" in text
    assert max(columns(text)) < 80
    assert ("\x1b" in text) is terminal
    assert {int(call) for call in re.findall(r"(\d+) +asking", text)} == set(range(1, 12) if terminal else ())
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", text)  # no colour, as NO_COLOR asks


def test_a_cache_saves_each_of_the_answers_it_gives() -> None:
    screen = io.StringIO()
    assert import_module("langchain_costguard.cli.demo.cache").play(Stage(Console(file=screen, width=80)))
    saved, billed = (Decimal(amount) for amount in re.findall(r"\$(\d\.\d+)(?: saved|\nledger)", screen.getvalue()))
    assert saved == 19 * billed
