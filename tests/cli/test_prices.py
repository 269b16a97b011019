"""``costguard prices``: known and unknown models, and where a price is from."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from langchain_costguard.cli import main


def test_prices_say_what_is_charged_and_where_that_is_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prices", "gpt-4o", "openai:gpt-99", "--at", "2026-01-31"]) == 0
    known, unknown = capsys.readouterr().out.split("\n\n")
    assert known.startswith("gpt-4o\n")
    assert "$2.50 per 1M tokens" in known
    assert "genai-prices" in known
    assert unknown.startswith("openai:gpt-99\n")
    assert "no price known; charged as" in unknown


def test_a_day_that_is_none_is_told_in_one_line(complaint: Callable[..., str]) -> None:
    assert complaint("prices", "gpt-4o", "--at", "May") == "--at: 'May' is no day; write it like 2026-01-31"
