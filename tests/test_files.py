"""Files that we write: whole, private, beside and then in the place, and never over somebody else's."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding

from langchain_costguard import Budget, CostGuard, SQLiteStore
from langchain_costguard.caching import Entry, ShadowLog, SQLiteCache, SQLiteIndex
from langchain_costguard.cli import main
from langchain_costguard.observe.log import open_log
from langchain_costguard.observe.telemetry.prompts import PromptLog
from langchain_costguard.routing import ClassifierRouter, Examples, RunLog, SemanticRouter
from langchain_costguard.routing.records import Record
from langchain_costguard.testing import ScriptedChatModel

PROGRAM = "import pathlib\npathlib.Path('ran').write_text('x')\n"
LOST = "was not written by costguard, and would be lost"


def _records(folder: Path) -> str:
    rows = [{"prompt": f"{'sum' if i % 2 else 'poem'} {i}", "quality": {"a": 1, "b": i % 2}} for i in range(120)]
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return "records.jsonl"


def _log(folder: Path) -> str:
    open_log("spend.db").close()
    return "spend.db"


def _program(folder: Path) -> str:
    (folder / "x.py").write_text(PROGRAM, "utf-8")
    return "x.py"


COMMANDS: dict[str, tuple[Callable[[Path], str], Callable[[str, str], list[str]]]] = {
    "run": (_program, lambda given, out: ["run", "--quiet", "--json", out, given]),
    "report": (_log, lambda given, out: ["report", given, "--html", out]),
    "demo": (lambda folder: "cache", lambda given, out: ["demo", "--scene", given, "--svg", out]),
    "router": (_records, lambda given, out: ["router", "train", given, "-o", out]),
}


def forced(words: list[str]) -> list[str]:
    first = words.index("train") if "train" in words else 0
    return [*words[: first + 1], "--force", *words[first + 1 :]]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_replaces_its_own_file_and_no_other(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare, line = COMMANDS[command]
    given, out = prepare(tmp_path), tmp_path / "out"
    assert main(line(given, "out")) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    out.chmod(0o640)
    assert main(line(given, "out")) == 0  # its own
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    (tmp_path / "ran").unlink(missing_ok=True)

    (tmp_path / "thesis").write_text("my thesis", "utf-8")
    assert main(line(given, "thesis")) == 2
    assert LOST in capsys.readouterr().err
    assert (tmp_path / "thesis").read_text("utf-8") == "my thesis"
    (tmp_path / "link").symlink_to(out)
    (tmp_path / "loose").symlink_to(tmp_path / "nowhere")
    for name in ("link", "loose", "no/such", ".", "é" * 300, "d/" * 3_000):
        assert main(forced(line(given, name))) == 2
    assert not (tmp_path / "ran").exists()  # it was said before anything ran
    assert not (tmp_path / "nowhere").exists()
    assert main(forced(line(given, "thesis"))) == 0
    assert b"costguard" in (tmp_path / "thesis").read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def _semantic() -> SemanticRouter:
    model, seeds = "openai:gpt-4o", {"cats": ("cats", "my cats"), "tax": ("tax", "my tax")}
    routes = {name: Examples(model=model, utterances=texts) for name, texts in seeds.items()}
    return SemanticRouter(routes, embeddings=DeterministicFakeEmbedding(size=8), default=model)


def _classifier() -> ClassifierRouter:
    rows = [("sum" if i % 2 else "poem", {"a": 1.0, "b": float(i % 2)}) for i in range(120)]
    return ClassifierRouter.train([Record(prompt=f"{text} {i}", quality=q) for i, (text, q) in enumerate(rows)])


@pytest.mark.parametrize("make", [_semantic, _classifier])
def test_what_is_saved_replaces_what_was_saved_and_nothing_else(make: Callable[[], Any], tmp_path: Path) -> None:
    made, place = make(), tmp_path / "router"
    made.save(place)
    made.save(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    place.write_text("my thesis", "utf-8")
    with pytest.raises(ValueError, match=f"path: .*{LOST}.*force=True"):
        made.save(place)
    made.save(place, force=True)
    assert b"costguard" in place.read_bytes()


def _guarded(folder: Path, **arguments: Any) -> None:
    guard = CostGuard(Budget(usd="1"), **arguments)
    ScriptedChatModel().invoke("hi", {"callbacks": [guard]})
    guard.close()


def _cached(folder: Path) -> None:
    cache = SQLiteCache(folder / "cache.db")
    cache.put("a" * 64, Entry(reply="{}", created=0, expires=9e9), now=1.0)


MAKING: dict[str, Callable[[Path], Any]] = {
    "store": lambda folder: _guarded(folder, store=SQLiteStore(folder / "store.db")),
    "spool": lambda folder: _guarded(folder, store=SQLiteStore(folder / "store.db"), spool=folder / "spool"),
    "spend log": lambda folder: _guarded(folder, log=folder / "spend.db"),
    "cache": _cached,
    "index": lambda folder: SQLiteIndex(folder / "index.db"),
    "shadow log": lambda folder: ShadowLog(folder / "shadow.jsonl")._write({"id": "1"}),
    "run log": lambda folder: RunLog(folder / "runs.jsonl").answered("hi", "m"),
    "prompt log": lambda folder: PromptLog(folder / "prompts.jsonl").write({}, "hi", {}, None),
}


@pytest.mark.parametrize("making", MAKING)
def test_a_new_file_is_for_its_owner_alone_whatever_the_umask(making: str, tmp_path: Path, umask: int) -> None:
    MAKING[making](tmp_path)
    modes = {path.name: oct(path.stat().st_mode & 0o077) for path in tmp_path.rglob("*")}
    assert modes
    assert set(modes.values()) == {"0o0"}


@pytest.fixture(params=[0o000, 0o022])
def umask(request: pytest.FixtureRequest) -> Any:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)
