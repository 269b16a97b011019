"""The ``costguard`` command as a person starts it: a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TIMEOUT = 240
COMMAND = [str(Path(sys.executable).with_name("costguard"))]
if not os.path.exists(COMMAND[0]):
    COMMAND = [sys.executable, "-m", "langchain_costguard.cli"]

Done = subprocess.CompletedProcess[str]


class Shell:
    """Starts commands in ``folder``; those still running at the end of the test are ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LANG", "OPENAI_", "COSTG"))}
        self.env = {**kept, "PYTHONIOENCODING": "utf-8", "COLUMNS": "160"}

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return name

    def start(self, *command: str, **env: str) -> subprocess.Popen[str]:
        """Start a command, for ``finish``; many may run at once."""
        child = subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self.env, **env},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.running.append(child)
        return child

    def costguard(self, *words: str, **env: str) -> subprocess.Popen[str]:
        return self.start(*COMMAND, *words, **env)

    def finish(self, child: subprocess.Popen[str]) -> Done:
        out, err = child.communicate(timeout=TIMEOUT)
        return subprocess.CompletedProcess(child.args, child.returncode, out, err)

    def run(self, *words: str, **env: str) -> Done:
        """The costguard command, from start to end."""
        return self.finish(self.costguard(*words, **env))

    def end(self) -> None:
        for child in self.running:
            if child.poll() is None:
                child.kill()
                child.communicate()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.end()


@pytest.fixture(scope="module")
def shared_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """One for all tests of a module, where they look at different sides of the same run."""
    shell = Shell(tmp_path_factory.mktemp("shell"))
    yield shell
    shell.end()


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the command says of bad input, without the line's end; it must be one line on stderr, and status 2."""
    from langchain_costguard.cli import main

    def ask(*words: str) -> str:
        assert main(words) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("costguard: ")
        assert told.err.count("\n") == 1
        return told.err.removeprefix("costguard: ").rstrip("\n")

    return ask
