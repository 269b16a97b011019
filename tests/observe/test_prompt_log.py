"""The prompt log: whole calls, redacted, in a private file that turns."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from langchain_core.tools import tool

from langchain_costguard import CostGuard
from langchain_costguard.observe.telemetry import Telemetry
from langchain_costguard.observe.telemetry.prompts import PromptLog
from langchain_costguard.testing import FakeProvider
from tests.conftest import PRICES, Caller


@tool
def look_up(query: str) -> str:
    """Look it up."""
    return query


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_call_is_written_whole_and_redacted_and_only_its_owner_may_read(tmp_path: Path, call: Caller) -> None:
    path = tmp_path / "prompts.jsonl"
    guard = CostGuard(prices=PRICES, telemetry=Telemetry(prompts=path))
    with FakeProvider("Written to jo@example.com.") as provider, guard.scope(feature="mail", user="u1"):
        model = provider.openai().bind_tools([look_up])
        call(
            model, [("system", "Be brief."), ("user", "hi"), ("ai", "yes?"), ("user", "Write!")], {"callbacks": [guard]}
        )
    (row,) = rows(path)
    said = [(m["role"], m["parts"][0]["content"]) for m in row["messages"]]  # type: ignore[attr-defined]
    assert said == [("system", "Be brief."), ("user", "hi"), ("assistant", "yes?"), ("user", "Write!")]
    assert row["tools"][0]["function"]["name"] == "look_up"  # type: ignore[index]
    assert row["reply"] == [{"role": "assistant", "parts": [{"type": "text", "content": "Written to [e-mail]."}]}]
    assert (row["model"], row["costguard.feature"], row["user.id"]) == ("gpt-4o", "mail", "u1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_features_and_a_share_of_runs_are_chosen(tmp_path: Path, provider: FakeProvider) -> None:
    path = tmp_path / "prompts.jsonl"
    log = PromptLog(path, features=["mail"], share=0.5)
    guard = CostGuard(prices=PRICES, telemetry=Telemetry(prompts=log))
    for feature in ("mail", "search"):
        with guard.scope(feature=feature):
            for _ in range(30):
                provider.openai().invoke("hello", {"callbacks": [guard]})
    assert 2 <= len(rows(path)) <= 28
    assert {row["costguard.feature"] for row in rows(path)} == {"mail"}


def test_a_full_file_turns_and_the_oldest_goes(tmp_path: Path, provider: FakeProvider) -> None:
    path = tmp_path / "prompts.jsonl"
    guard = CostGuard(prices=PRICES, telemetry=Telemetry(prompts=PromptLog(path, megabytes=0.001, keep=2)))
    for n in range(12):
        provider.openai().invoke(f"number {n}", {"callbacks": [guard]})
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == ["prompts.jsonl", "prompts.jsonl.1", "prompts.jsonl.2"]
    kept = [row["messages"][0]["parts"][0]["content"] for name in reversed(files) for row in rows(tmp_path / name)]  # type: ignore[index]
    assert kept == [f"number {n}" for n in range(12 - len(kept), 12)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"features": "mail"}, "features: 'mail'"),
        ({"share": 0}, "share: 0"),
        ({"megabytes": -1}, "megabytes: -1"),
        ({"keep": 0}, "keep: 0"),
    ],
)
def test_arguments_that_cannot_be_are_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PromptLog("prompts.jsonl", **options)  # type: ignore[arg-type]
