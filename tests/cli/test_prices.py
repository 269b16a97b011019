"""``costguard prices``: known and unknown models, and where a price is from."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from langchain_costguard.cli import main


def test_prices_say_what_is_charged_and_where_that_is_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prices", "gpt-4o", "openai:gpt-99", "--at", "2026-01-31"]) == 0
    shown = capsys.readouterr().out
    head, _, *rows = [line.split("  ") for line in shown.splitlines()]
    assert [cell.strip() for cell in head if cell] == ["gpt-4o", "openai:gpt-99"]
    cells = {row[0]: [cell.strip() for cell in row[1:] if cell] for row in rows}
    assert cells["input"][0] == "$2.50"
    assert cells["estimated"] == ["no", "yes"]
    assert "genai-prices" in cells["source"][0]
    assert "no price known; charged as" in cells["source"][1]
    assert max(map(len, shown.splitlines())) <= 80


def test_a_day_that_is_none_is_told_in_one_line(complaint: Callable[..., str]) -> None:
    assert complaint("prices", "gpt-4o", "--at", "May") == "--at: 'May' is no day; write it like 2026-01-31"
