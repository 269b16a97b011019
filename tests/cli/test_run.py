"""``costguard run``: what a program says and how it ends stay its own, unless the guard stops it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from langchain_costguard.metering.stores import open_store
from tests.cli import programs
from tests.cli.conftest import COMMAND, Shell
from tests.observe.test_metrics import free_port
from tests.observe.test_notify import Receiver

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
    assert done.stderr.count(" % of model_calls") == 1
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


def on_a_terminal(shell: Shell, answers: Sequence[tuple[bytes, bytes]], *words: str) -> tuple[int, str]:
    """The command on a terminal of its own, where somebody answers; returns its status and all that was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(shell.folder)
        os.execve(COMMAND[0], [*COMMAND, *words], {**shell.env, "TERM": "xterm", "NO_COLOR": "1"})
    shown, heard = b"", 0
    waiting = list(answers)
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the other side is closed
            break
        if waiting and waiting[0][0] in shown[heard:]:
            heard = len(shown)
            os.write(terminal, waiting.pop(0)[1])
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def screen(text: str) -> list[str]:
    """What is left to be seen: a line that is erased is gone."""
    lines = [""]
    for part in re.split(r"(\n|\x1b\[1A|\x1b\[2K|\r)", re.sub(r"\x1b\[\?25[lh]|\x1b\[[0-9;]*m", "", text)):
        if part == "\n":
            lines.append("")
        elif part == "\x1b[1A":
            lines.pop()
        elif part == "\x1b[2K":
            lines[-1] = ""
        elif part != "\r":
            lines[-1] += part
    return lines


def test_a_status_line_is_gone_before_the_program_writes_or_reads(shell: Shell) -> None:
    script = shell.write("agent.py", programs.ASKS)
    answers = [(b"you> ", b"one\n"), (b"well\r\nyou> ", b"two\n"), (b"well\r\nyou> ", b"bye\n"), (b"last? ", b"x\n")]
    status, text = on_a_terminal(shell, answers, "run", "--usd", "0.0500", "--model-calls", "4", script)
    assert status == 0
    assert re.search(r"costguard .* 0 of 4 calls", text)
    assert re.search(r"costguard .* 25 %.*1 of 4 calls.*\$0.0035000 of \$0.0500", text), "the tightest comes first"
    seen = screen(text)
    talk = [line for line in seen if line.startswith(("you", "bot", "last", "heard"))]
    assert talk == ["you> one", "bot: well", "you> two", "bot: well", "you> bye", "last? x", "heard x"]
    assert not [line for line in seen if re.match(r"costguard\b(?!:)", line)]


@pytest.mark.parametrize(("how", "status", "said"), [("exit", 7, "ended"), ("terminate", 143, "was ended by SIGTERM")])
def test_a_program_that_ends_at_once_leaves_its_table_and_file(shell: Shell, how: str, status: int, said: str) -> None:
    script = shell.write("agent.py", programs.ENDS_AT_ONCE)
    done = shell.run("run", "--usd", "1", "--json", "out.json", script, how)
    assert (done.returncode, done.stdout) == (status, "asked\n")
    assert f"the program {said}; it spent $0.0035000 for 1 model call" in done.stderr
    report = json.loads((shell.folder / "out.json").read_text())
    assert (report["exit"]["status"], report["total"]["usd"]) == (status, "0.0035")


def test_what_waits_is_delivered_before_sigterm_ends_a_program(shell: Shell) -> None:
    script = shell.write("agent.py", programs.ENDS_AT_ONCE)
    assert shell.run("run", "--quiet", "--log", "spend.db", script, "terminate").returncode == 143
    rows = json.loads(shell.run("report", "spend.db", "--by", "model", "--format", "json").stdout)["rows"]
    assert [row["calls"] for row in rows] == [1]


def test_a_pool_of_threads_that_is_never_shut_down_ends_as_it_does_under_python(shell: Shell) -> None:
    done = shell.run("run", "--usd", "1", shell.write("agent.py", programs.POOL))
    assert (done.returncode, done.stdout) == (0, "four little words here\n")
    assert "for 3 model calls" in done.stderr


@pytest.mark.parametrize(("how", "most", "calls"), [("fork", 3, 4), ("spawn", 3, 4), ("exec", 1, 2)])
def test_worker_processes_spend_from_the_one_budget(shell: Shell, how: str, most: int, calls: int) -> None:
    script = shell.write("program.py", programs.WORKERS)
    done = shell.run("run", "--model-calls", str(most), "--json", "out.json", script, how)
    assert (done.returncode, done.stdout) == (0, " ".join(["BudgetExceededError", *["ok"] * most]) + "\n")
    report = json.loads((shell.folder / "out.json").read_text())
    assert report["total"]["calls"] == report["limits"]["model_calls"]["spent"] == most
    assert sum(refusal["count"] for refusal in report["refusals"]) == calls - most
    assert "1 call was refused" in done.stderr


def test_python_that_is_started_without_the_guard_is_named(shell: Shell) -> None:
    done = shell.run("run", "--usd", "1", shell.write("agent.py", programs.LEAVES_THE_GUARD))
    assert done.returncode == 0
    named = done.stderr[done.stderr.index("Not guarded: ") :]
    assert named.count(sys.executable) == 2
    assert " -I -c pass" in named
    assert "true" not in named


def test_a_sitecustomize_of_the_users_own_still_runs_and_the_path_is_theirs(shell: Shell) -> None:
    shell.write("own/sitecustomize.py", "import builtins\nbuiltins.mine = 'own'\n")
    script = shell.write("agent.py", "import sys\nprint(mine, sys.path[0], sys.path[1], 'click' in sys.modules)\n")
    own = str(shell.folder / "own")
    done = shell.run("run", "--quiet", script, PYTHONPATH=own)
    assert (done.stdout, done.stderr) == (f"own {shell.folder} {own} False\n", "")


def test_a_notebook_runs_cell_by_cell_under_the_guard_and_stays_as_it_is(shell: Shell) -> None:
    import nbformat

    cells = [programs.MODEL, "for n in range(9):\n    model.invoke('hi')\n    print('cell', n)", "print('never')"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    script = shell.write("agent.ipynb", nbformat.writes(book))
    done = shell.run("run", "--model-calls", "2", script)
    assert (done.returncode, done.stdout) == (75, "cell 0\ncell 1\n")
    assert "stopped by the guard after $0.0070000 for 2 model calls" in done.stderr
    assert "Traceback" not in done.stderr
    assert (shell.folder / "agent.ipynb").read_text() == nbformat.writes(book)


def test_what_is_piped_stays_clean_and_an_empty_environment_will_do(shell: Shell) -> None:
    script = shell.write("agent.py", programs.WELL_BEHAVED)
    words = [*COMMAND, "run", "--usd", "0.50", script]
    plain = shell.finish(shell.start("env", "-i", *words))
    assert (plain.returncode, plain.stdout) == (0, "argv agent.py\nfour little words here\n")
    assert "\x1b" not in plain.stderr
    assert "\r" not in plain.stderr
    status, text = on_a_terminal(shell, [], "run", "--usd", "0.50", "sh", "-c", f"{sys.executable} {script} | cat")
    assert status == 0
    assert "\x1b[2K" not in text
    assert "for 1 model call" in text


def test_a_limit_behind_the_program_or_none_at_all_is_said(shell: Shell) -> None:
    script = shell.write("agent.py", programs.WELL_BEHAVED)
    behind, none, given = map(
        shell.finish,
        [
            shell.costguard("run", script, "--usd", "0.50"),
            shell.costguard("run", script),
            shell.costguard("run", "--usd", "1", script, "--usd=2"),
        ],
    )
    assert "--usd comes after agent.py and so is the program's own" in behind.stderr
    assert "no limit was given" in none.stderr
    assert "comes after" not in given.stderr
    assert "no limit" not in given.stderr


def test_an_interrupted_program_ends_with_130_and_its_table(shell: Shell) -> None:
    child = shell.costguard("run", shell.write("agent.py", programs.SPENDS), "0.2")
    assert child.stdout is not None
    assert child.stdout.readline() == "call 1\n"
    child.send_signal(signal.SIGINT)
    done = shell.finish(child)
    assert done.returncode == 130
    assert "KeyboardInterrupt" in done.stderr
    assert "the program was interrupted; it spent $0.0035000 for 1 model call" in done.stderr


def test_the_spend_log_of_a_run_has_each_call_once_be_it_asked_for_in_words_or_by_the_environment(shell: Shell) -> None:
    program = shell.write("agent.py", programs.OWN_GUARD)
    for log, words, env in (("one.db", ("--log", "one.db"), {}), ("two.db", (), {"COSTGUARD_LOG": "two.db"})):
        done = shell.run("run", "--quiet", *words, program, **env)
        assert done.returncode == 0, done.stderr
        rows = shell.run("report", log, "--by", "model", "--format", "json")
        assert [row["calls"] for row in json.loads(rows.stdout)["rows"]] == [1]


def test_spans_and_metrics_of_a_run_go_where_they_are_asked_to(shell: Shell) -> None:
    collector, port = Receiver(), free_port()
    script = shell.write("agent.py", programs.READS_ITS_METRICS)
    asked = ("--otlp", collector.url, "--prometheus", f"127.0.0.1:{port}")
    done = shell.run("run", "--quiet", "--model-calls", "1", *asked, script, f"http://127.0.0.1:{port}/metrics")
    collector.close()
    assert done.returncode == 75, done.stderr
    served = {line.split("{")[0] for line in done.stdout.splitlines()}
    assert {"costguard_requests_total", "costguard_cost_usd_total", "costguard_budget_spent"} <= served
    sent: dict[str, str] = {}
    for posted in collector.posted:
        sent[posted.path] = sent.get(posted.path, "") + posted.text
    assert all(word in sent["/v1/traces"] for word in ("chat gpt-4o", "costguard.cost.nano_usd", "refused model"))
    assert "costguard.cost.usd" in sent["/v1/metrics"]
    assert "BudgetExceededError" in sent["/v1/logs"]


def test_runs_with_the_same_store_and_scope_share_one_account_and_others_do_not(shell: Shell) -> None:
    script = shell.write("agent.py", programs.SPENDS)
    shared = ["run", "--quiet", "--store", "sqlite:b.db", "--scope", "user=u1", "--usd", "1"]
    shared += ["--model-calls", "10", script]
    own = ["run", "--quiet", "--usd", "1", "--model-calls", "1", script]
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
        (["run", "no-such-script.py"], "there is no script 'no-such-script.py', and no command of that name"),
        (["run", "-m", "no_such_module"], "no module named 'no_such_module'"),
        (["run", "--dear", "1", "x.py"], "No such option '--dear'"),
        (
            ["run", "--ust", "1", "x.py"],
            "No such option '--ust'. (Did you mean one of: '--steps', '--store', '--usd'?)",
        ),
        (["walk"], "No such command 'walk'"),
        (["statis"], "No such command 'statis'. Did you mean 'status'"),
    ],
)
def test_bad_input_is_told_in_one_line(complaint: Callable[..., str], words: list[str], said: str) -> None:
    assert complaint(*words).startswith(said)


def test_help_is_quick_to_come_and_names_every_command(shell: Shell) -> None:
    done = shell.run("--help")
    assert done.returncode == 0
    for command in ("run", "demo", "doctor", "kill", "revive", "status", "prices"):
        assert re.search(rf"^\W+{command} ", done.stdout, re.M)
    light = "import sys; from langchain_costguard.cli import main; main(['--help']); "
    checked = shell.finish(shell.start(sys.executable, "-c", light + "print('langchain_core' in sys.modules)"))
    assert checked.stdout.endswith("\nFalse\n")
    assert max(map(len, shell.run("run", "--help", COLUMNS="80").stdout.splitlines())) <= 80
    assert re.fullmatch(r"costguard \d+\.\d+.*\n", shell.run("--version").stdout)


def test_shells_complete_commands_options_and_names(shell: Shell, tmp_path: Path) -> None:
    from langchain_costguard import Budget, CostGuard, SQLiteStore
    from langchain_costguard.testing import ScriptedChatModel

    store = SQLiteStore(tmp_path / "b.db")
    guard = CostGuard(Budget(per="agent", usd="1"), Budget(per="all", usd="1", name="the-team"), store=store)
    with guard.scope(agent="research"):
        ScriptedChatModel().invoke("hi", {"callbacks": [guard]})
    asked = {
        "costguard st": "status",
        "costguard grant --b": "--budget",
        f"costguard grant --store sqlite:{tmp_path / 'b.db'} --budget the": "the-team",
        f"costguard kill --store sqlite:{tmp_path / 'b.db'} --agent re": "research",
    }
    for words, found in asked.items():
        env = {"_COSTGUARD_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        assert f"plain,{found}" in shell.run(**env).stdout.splitlines()
    assert "_COSTGUARD_COMPLETE=bash_complete" in shell.run("completion", "bash").stdout
