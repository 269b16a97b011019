"""Odd command lines: each ends with a status and at most one line of complaint, and what is refused leaves nothing."""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import rich_click as click

from langchain_costguard.cli import main
from langchain_costguard.cli.app import COMMANDS
from tests.fuzz.oddities import SECRET, TEXTS, URLS

SECONDS = 15
LASTING = ("serve", "top", "demo", "doctor", "run")
LASTING_SECONDS = 5
"""Commands that may go on for as long as they are let, and how long that is."""
ABREAST = 16
"""Command lines under way at once: many do nothing but last."""
STATUSES = (0, 1, 2, 3, 75)
WORDS = [
    *TEXTS[:12], *URLS, "memory:", "sqlite:x.db", "x.db", "no/such.db", "redis://127.0.0.1:1",
    "postgresql://127.0.0.1:1/x",
    "user=u1", "team=x", "user=", "=", "agent", "research", "0.50", "-5", "1e9", "10%", "7d", "2026-11-01", "day",
    "--", "-", "--json", "--no-such", "-h", "x.py", "openai:gpt-4o-mini", "\n", "--store", "sqlite:y.db", "--create",
]  # fmt: skip


def _params(command: click.Command, chance: random.Random) -> Iterator[str]:
    """A subcommand where there is one, then some of what the command takes, and some of what it does not."""
    if isinstance(command, click.Group):
        names = command.list_commands(click.Context(command))
        name = chance.choice(names)
        yield name if chance.random() < 0.9 else chance.choice(WORDS)
        inner = command.get_command(click.Context(command), name)
        if inner is not None:
            yield from _params(inner, chance)
        return
    for param in command.params:
        if chance.random() < 0.4:
            if isinstance(param, click.Option):
                yield chance.choice(param.opts)
                if param.is_flag:
                    continue
            kind = param.type
            yield chance.choice(
                list(kind.choices) if isinstance(kind, click.Choice) and chance.random() < 0.7 else WORDS
            )
    if chance.random() < 0.3:
        yield chance.choice(WORDS)


def line(chance: random.Random) -> list[str]:
    """One command line."""
    if chance.random() < 0.05:
        return [chance.choice(WORDS) for _ in range(chance.randrange(4))]
    name = chance.choice(list(COMMANDS))
    command = import_module(f"langchain_costguard.cli.{name.replace('-', '_')}").command
    words = [name, *_params(command, chance)]
    return [word for word in words if "\0" not in word and "\ud800" not in word]  # no shell passes these on


class Trial:
    """A command line under way, in an empty folder and a process of its own."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self._folder = tempfile.TemporaryDirectory()
        self._inside = Path(self._folder.name, "empty")
        self._inside.mkdir()
        self._child = os.fork()
        if not self._child:
            _run(words, self._folder.name)

    def fault(self) -> str | None:
        """Wait for its end; what is wrong with how it ends, None where nothing is."""
        _, ended = os.waitpid(self._child, 0)
        with self._folder as folder:
            left = [path.name for path in self._inside.rglob("*")]
            out, err = (Path(folder, name).read_text("utf-8", "replace") for name in ("out", "err"))
        return _fault(self.words, os.waitstatus_to_exitcode(ended), out, err, left)


def _run(words: list[str], folder: str) -> None:
    """In a child of its own: what a shell would start, in an empty folder; does not return."""
    os.setpgid(0, 0)
    signal.alarm(LASTING_SECONDS if words[0] in LASTING else SECONDS)
    os.chdir(f"{folder}/empty")
    for name in [name for name in os.environ if name.startswith("COSTGUARD_")]:
        del os.environ[name]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    status = 70
    try:
        status = main(words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _fault(words: list[str], status: int, out: str, err: str, left: list[str]) -> str | None:
    if SECRET in (err if words[0] == "prices" else out + err):  # which are of models, whatever their names
        return f"it shows a password: {(out + err)[:200]}"
    if "Traceback" in err:
        return f"a traceback: {err.strip().splitlines()[-1][:200]}"
    if status == -signal.SIGALRM:
        return None if words[0] in LASTING else f"it takes longer than {SECONDS} s"
    if status not in STATUSES:
        return f"its status is {status}: {err[-200:]}"
    if status == 2 and not err.startswith("costguard: "):
        return f"status 2 without a complaint of ours: {err[:200]}"
    if status == 2 and err.count("\n") > 1 and words[0] != "run":
        return f"a complaint of several lines: {err[:300]}"
    return f"it refuses, and leaves {left}: {err[:200]}" if status == 2 and left else None


def faults(number: int, chance: random.Random) -> Iterator[tuple[str, str]]:
    """So many command lines; yields those that end badly, and how."""
    under_way: deque[Trial] = deque()
    for count in range(number + ABREAST):
        words = line(chance) if count < number else []
        if words:
            under_way.append(Trial(words))
        if under_way and (len(under_way) == ABREAST or count >= number):
            trial = under_way.popleft()
            fault = trial.fault()
            if fault is not None:
                yield " ".join(map(repr, trial.words)), fault
