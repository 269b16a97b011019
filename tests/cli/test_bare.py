"""Where an operating system or an image has less: no fork, no process groups, no table of time zones."""

from __future__ import annotations

import re
import sys

import pytest

from tests.cli import programs
from tests.cli.conftest import Shell

HIDDEN = """
import importlib.abc, os, sys, zoneinfo
for name in ("fork", "forkpty", "register_at_fork", "killpg", "getpgrp", "tcgetpgrp"):
    delattr(os, name)
zoneinfo.reset_tzpath(to=[])
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
"""
MAIN = "from langchain_costguard.cli import main\nsys.exit(main(sys.argv[1:]))\n"
WINDOWS = """
from langchain_costguard import Budget, CostGuard
from langchain_costguard.testing import ScriptedChatModel
guard = CostGuard(Budget(usd="1", window="day"), Budget(usd="1", window="hour"))
ScriptedChatModel().invoke("hi", {"callbacks": [guard]})
print(guard.report().total.calls)
try:
    Budget(usd="1", window="day", tz="Europe/Berlin")
except ValueError as error:
    print(error)
"""


def test_windowed_budgets_hold_without_a_table_of_time_zones(shell: Shell) -> None:
    script = shell.write("bare.py", HIDDEN.format(hidden=("tzdata", "fcntl", "termios")) + WINDOWS)
    done = shell.finish(shell.start(sys.executable, script))
    assert (done.returncode, done.stderr) == (0, "")
    calls, berlin = done.stdout.splitlines()
    assert calls == "1"
    assert berlin.startswith("tz: 'Europe/Berlin' is no time zone here")
    assert "pip install tzdata" in berlin


@pytest.mark.parametrize("command", [("run", "--model-calls", "2"), ("doctor",)], ids=lambda words: words[0])
def test_programs_are_run_and_examined_without_forks_and_process_groups(shell: Shell, command: tuple[str, ...]) -> None:
    ours = shell.write("ours.py", HIDDEN.format(hidden=("fcntl", "termios")) + MAIN)
    script = shell.write("agent.py", programs.SPENDS)
    done = shell.finish(shell.start(sys.executable, ours, *command, script))
    if command[0] == "run":
        assert (done.returncode, done.stdout) == (75, "call 1\ncall 2\n")
        assert "stopped by the guard" in done.stderr
    else:
        assert done.returncode == 0
        assert re.search(r"model call +agent\.py:\d+ +gpt-4o", done.stdout)
