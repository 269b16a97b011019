"""``costguard run``: what a program says and how it ends stay its own, unless the guard stops it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sys
from collections.abc import Callable
from decimal import Decimal

import pytest

from langchain_costguard.metering.stores import open_store
from tests.cli import programs
from tests.cli.conftest import COMMAND, Shell

PRICE = Decimal("0.0035")
"""What a call of the programs' model costs: 1,000 tokens in and 100 out, of gpt-4o."""


def test_a_program_within_its_limits_keeps_its_arguments_output_and_status(shell: Shell) -> None:
    script = shell.write("agent.py", programs.WELL_BEHAVED)
    done = shell.run(
        "run", "--usd", "0.50", "--scope", "user=u1", "--json", "out.json", script, "--usd", "9", "--", "x"
    )
    assert (done.returncode, done.stdout) == (0, "argv agent.py --usd 9 -- x\nfour little words here\n")
    assert "gpt-4o" in done.stderr
    assert done.stderr.rstrip().endswith("the program finished; it spent $0.0035000 for 1 model call and 0 tool calls.")
    report = json.loads((shell.folder / "out.json").read_text())
    assert report["exit"] == {"status": 0, "reason": "finished", "message": None}
    assert report["limits"]["usd"] == {"cap": "0.5", "spent": "0.0035", "held": "0", "left": "0.4965"}
    assert [(row["user"], row["usd"]) for row in report["rows"]] == [("u1", "0.0035")]
    assert report["total"]["input_tokens"] == 1_000
    assert report["refusals"] == []


def test_a_program_that_is_refused_ends_with_75_and_one_clear_sentence(shell: Shell) -> None:
    script = shell.write("agent.py", programs.SPENDS)
    done = shell.run("run", "--model-calls", "3", "--json", "out.json", script)
    assert (done.returncode, done.stdout) == (75, "call 1\ncall 2\ncall 3\n")
    assert "Traceback" not in done.stderr
    assert "Error in" not in done.stderr  # LangChain logs every refusal as an error of a callback
    assert "100 % of model_calls reached: 3 of 3" in done.stderr
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.startswith(
        "costguard: stopped by the guard after $0.0105 for 3 model calls and 0 tool calls. Budget 'run'"
    )
    report = json.loads((shell.folder / "out.json").read_text())
    assert (report["exit"]["status"], report["exit"]["reason"]) == (75, "refused")
    assert [(r["error"], r["kind"], r["count"]) for r in report["refusals"]] == [("BudgetExceededError", "model", 1)]


def test_a_refusal_that_the_program_handles_leaves_its_status_and_one_it_wraps_does_not(shell: Shell) -> None:
    for name, text in (("catches.py", programs.CATCHES), ("wraps.py", programs.WRAPS)):
        shell.write(name, text)
    children = [shell.costguard("run", "--quiet", "--model-calls", "1", name) for name in ("catches.py", "wraps.py")]
    catches, wraps = map(shell.finish, children)
    assert (catches.returncode, catches.stdout) == (7, "caught\n")
    assert "the program ended; it spent $0.0035000" in catches.stderr
    assert "1 call was refused. First: Budget 'run' refused a call to gpt-4o" in catches.stderr
    assert wraps.returncode == 75
    assert re.search(r"^Traceback .*BudgetExceededError: .*^LookupError: no answer$", wraps.stderr, re.M | re.S)


def test_programs_end_as_they_do_under_python(shell: Shell) -> None:
    for name in ("FAILS", "DOES_NOT_PARSE", "LEAVES_THREADS"):
        shell.write(f"{name.lower()}.py", getattr(programs, name))
    for path, text in programs.MODULE.items():
        shell.write(path, text)
    scripts = ["fails.py", "does_not_parse.py", "leaves_threads.py"]
    lines = [*([script, "one", "--two"] for script in scripts), ["-m", "pkg.tool", "-x"], ["-m", "pkg", "-x"]]
    ours = [shell.costguard("run", "--quiet", *line) for line in lines]
    theirs = [shell.start(sys.executable, *line) for line in lines]
    for line, child, other in zip(lines, ours, theirs, strict=True):
        ended, expected = shell.finish(child), shell.finish(other)
        assert (ended.returncode, ended.stdout) == (expected.returncode, expected.stdout), line
        assert ended.stderr == expected.stderr, line


def test_a_status_line_renews_itself_on_a_terminal_and_makes_room_for_the_program(shell: Shell) -> None:
    script = shell.write("agent.py", programs.SPENDS)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(shell.folder)
        os.execve(COMMAND[0], [*COMMAND, "run", "--usd", "0.0500", script, "0.1"], {**shell.env, "TERM": "xterm"})
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the other side is closed
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 75
    text = shown.decode()
    drawn = re.findall(r"\rcostguard \S+ +\d+ %  (\S+) spent  \S+ held  (\S+) left of \$0.0500  (\d+) calls?", text)
    assert len(drawn) > 3
    assert [int(calls) for _, _, calls in drawn] == sorted(int(calls) for _, _, calls in drawn)
    screen = [line.rsplit("\r\x1b[K", 1)[-1] for line in text.replace("\r\n", "\n").split("\n")]
    assert [line for line in screen if line.startswith("call ")] == [f"call {n}" for n in range(1, 15)]


def test_an_interrupted_program_ends_with_130_and_its_table(shell: Shell) -> None:
    child = shell.costguard("run", shell.write("agent.py", programs.SPENDS), "0.2")
    assert child.stdout is not None
    assert child.stdout.readline() == "call 1\n"
    child.send_signal(signal.SIGINT)
    done = shell.finish(child)
    assert done.returncode == 130
    assert "KeyboardInterrupt" in done.stderr
    assert "the program was interrupted; it spent $0.0035000 for 1 model call" in done.stderr


def test_runs_with_the_same_store_and_scope_share_one_account_and_others_do_not(shell: Shell) -> None:
    script = shell.write("agent.py", programs.SPENDS)
    shared = ["run", "--quiet", "--store", "sqlite:b.db", "--scope", "user=u1", "--usd", "0.0350", script]
    own = ["run", "--quiet", "--usd", "0.0035", script]
    one, two, other = map(
        shell.finish,
        [shell.costguard(*shared), shell.costguard(*shared), shell.costguard(*own, COSTGUARD_STORE="sqlite:b.db")],
    )
    assert (one.returncode, two.returncode, other.returncode) == (75, 75, 75)
    assert len((one.stdout + two.stdout).splitlines()) == 10
    accounts = open_store(f"sqlite:{shell.folder / 'b.db'}").scan(now=0.0)
    spent = sorted((name.partition("%20")[2], balance.spent) for name, balance in accounts if name.endswith("|usd"))
    assert spent[1] == ("user%3Du1|usd", 35_000_000)
    assert spent[0][1] == 3_500_000
    assert other.stdout == "call 1\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "run: which program?"),
        (["run", "--usd", "1"], "run: which program?"),
        (["run", "--usd", "-1", "x.py"], "usd: '-1' must be a finite amount above zero"),
        (["run", "--usd", "nan", "x.py"], "usd: 'nan' must be a finite amount above zero"),
        (["run", "--usd", "much", "x.py"], "usd: 'much' is no amount of USD"),
        (["run", "--tokens", "1.5", "x.py"], "tokens: '1.5' must be a whole number above zero"),
        (["run", "--tool-calls", "0", "x.py"], "tool_calls: 0 must be a whole number above zero"),
        (["run", "--seconds", "nan", "x.py"], "seconds: nan must be a number of seconds above zero"),
        (["run", "--scope", "team=a", "x.py"], "scope: 'team' is not one of user, session"),
        (["run", "--scope", "user", "x.py"], "--scope: 'user' is not NAME=VALUE"),
        (["run", "--json", "nowhere/x.json", __file__], "--json: there is no directory 'nowhere'"),
        (["run", "--store", "ftp://x", __file__], "store must be"),
        (["run", "no-such-script.py"], "there is no script 'no-such-script.py'"),
        (["run", "-m", "no_such_module"], "no module named 'no_such_module'"),
        (["run", "--dear", "1", "x.py"], "unrecognized arguments: --dear 1"),
        (["walk"], "argument command: invalid choice: 'walk'"),
    ],
)
def test_bad_input_is_told_in_one_line(complaint: Callable[..., str], words: list[str], said: str) -> None:
    assert complaint(*words).startswith(said)


def test_help_is_quick_to_come_and_names_every_command(shell: Shell) -> None:
    done = shell.run("--help")
    assert done.returncode == 0
    for command in ("run", "demo", "doctor", "kill", "revive", "status", "prices"):
        assert re.search(rf"^ +{command} ", done.stdout, re.M)
    light = "import sys, langchain_costguard.cli.options as o; o.parse(['demo']) if 0 else o._parser(); "
    checked = shell.finish(shell.start(sys.executable, "-c", light + "print('langchain_core' in sys.modules)"))
    assert checked.stdout == "False\n"
