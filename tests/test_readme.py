"""The README is run: every block of Python, and every command of the shell."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from langchain_costguard import Budget, CostGuard, SQLiteStore
from langchain_costguard.caching import SQLiteCache
from langchain_costguard.steering import SteeredModel, steer
from langchain_costguard.testing import FakeProvider, Reply, Request, ScriptedChatModel

ROOT = Path(__file__).parent.parent


class Page:
    """A text for readers, and the fenced blocks in it with the note (an HTML comment) above each."""

    def __init__(self, path: Path) -> None:
        self.name = path.relative_to(ROOT).as_posix()
        self.text = path.read_text("utf-8")
        block = r"(?:<!-- (?P<note>[^\n]*) -->\n)?```(?P<language>\w+)\n(?P<body>.*?)```"
        self.blocks = [
            (match["note"] or "", match["language"], match["body"])
            for match in re.finditer(block, self.text, re.DOTALL)
        ]
        self.setup = {note: body for note, _, body in self.blocks if note in ("demo", "tests")}
        self.outputs = {
            note.removeprefix("output of "): body for note, _, body in self.blocks if note.startswith("output of ")
        }
        self.commands = [
            line
            for note, language, body in self.blocks
            if language == "bash" and note not in self.setup
            for line in body.splitlines()
        ]


README = Page(ROOT / "README.md")
PRINTED = {
    "README.md": ("research",),
    "notebooks/guide/brake.md": ("runaway loop",),
    "notebooks/guide/steering.md": ("costguard.budget",),
    "notebooks/guide/testing.md": ("Totals(calls=2",),
}
"""What must be seen among what a page prints, besides the outputs that it shows."""
PAGES = [README, *map(Page, sorted((ROOT / "notebooks" / "guide").glob("*.md")))]


def answer(request: Request) -> Reply | str:
    """A model that searches once, and then answers; told to read it all, it reads thirty pages."""
    searches = sum(message.get("role") == "tool" for message in request.messages)
    if request.tools and searches < 30 and "Read all the minutes" in str(request.messages):
        return Reply(tool_calls=[("search", {"query": f"minutes, page {searches + 1}"})])
    if request.tools and not searches:
        return Reply(tool_calls=[("search", {"query": "May"})])
    return "We decided nothing."


def runs() -> str:
    """Records that a router can learn from: the cheaper model finds what was decided, and proves nothing."""
    prompts = [f"{asks} in week {week}?" for week in range(30) for asks in ("What was decided", "Prove what follows")]
    return "".join(
        json.dumps({"prompt": prompt, "quality": {"gpt-4o-mini": prompt[0] == "W", "gpt-4o": 1}}) + "\n"
        for prompt in prompts
    )


def requests() -> str:
    """Requests whose prompts begin with the time of day."""
    handbook = "\n".join(f"{n}. Look up the carrier first, then say what it tells." for n in range(200))
    rows = [
        {
            "at": f"2026-01-31T12:{n:02}:00Z",
            "feature": "support",
            "model": "gpt-4o",
            "messages": [
                {"role": "system", "content": f"It is 12:{n:02}. {handbook}"},
                {"role": "user", "content": "Where is it?"},
            ],
        }
        for n in range(30)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def comparable(text: str) -> str:
    """Without the numbers, some of which depend on whether tiktoken's vocabulary is at hand, and on one line."""
    return " ".join(re.sub(r"\$?\d[\d.]*", "0", text).split())


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the README's agent and the records of its router, and a provider that costs nothing."""
    for page in PAGES:
        for note, _, body in page.blocks:
            if note.startswith("file: "):
                (tmp_path / note.removeprefix("file: ")).write_text(body, "utf-8")
    (tmp_path / "runs.jsonl").write_text(runs(), "utf-8")
    (tmp_path / "requests.jsonl").write_text(requests(), "utf-8")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_python_runs_from_top_to_bottom(
    page: Page, newcomer: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeProvider(answer) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        names: dict[str, object] = {"__name__": "readme"}
        for note, language, body in page.blocks:
            if language == "python":
                exec(compile(body, f"{page.name} {note}", "exec"), names)
    printed = capsys.readouterr().out
    shown = [body for note, _, body in page.blocks if note == "output"]
    assert all(comparable(body) in comparable(printed) for body in shown)
    assert shown or page.name not in PRINTED
    assert all(text in printed for text in PRINTED.get(page.name, ()))


@pytest.mark.parametrize("page", [page for page in PAGES if "ipython" in str(page.blocks)], ids=lambda page: page.name)
def test_every_cell_of_a_notebook_runs(page: Page, newcomer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = InteractiveShell.instance()
    with FakeProvider(answer) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        shell.run_cell((newcomer / "agent.py").read_text("utf-8")).raise_error()
        for _, language, body in page.blocks:
            if language == "ipython":
                shell.run_cell(body).raise_error()
    shell.run_line_magic("unload_ext", "langchain_costguard")
    InteractiveShell.clear_instance()


@pytest.mark.parametrize(
    ("page", "command"),
    [pytest.param(page, command, id=f"{page.name}: {command}") for page in PAGES for command in page.commands],
)
def test_every_command_runs(page: Page, command: str, newcomer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "budgets.db" in command:  # of what somebody has spent
        shared = CostGuard(Budget(per="user", usd="1.00", window="day"), store=SQLiteStore("budgets.db"))
        with shared.scope(user="u1"):
            ScriptedChatModel().invoke("hello", config={"callbacks": [shared]})
    if "spend.db" in command:  # of what the page's first block has spent
        logged = CostGuard(log="spend.db", session="s1")
        with logged.scope(user="u1", agent="research"):
            ScriptedChatModel(usage=(1000, 500)).invoke("hello", config={"callbacks": [logged]})
        assert logged.log is not None
        logged.log.close()
    with FakeProvider(answer) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        if "cache" in command:
            kept = steer(CostGuard(), cache=SQLiteCache(str(newcomer / "answers.db")))
            SteeredModel(provider.openai(temperature=0), kept).invoke("What is a ledger?")
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=120, check=False)
    # The doctor's verdict on that agent is tested with the doctor; the linter's says that it found something.
    expected = {0, 1} if "doctor" in command or "lint" in command else {0}
    assert done.returncode in expected, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert comparable(page.outputs.get(command, "")) in comparable(done.stdout)


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.text):
            assert (ROOT / Path(page.name).parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_is_short_and_begins_with_a_picture_that_is_there() -> None:
    assert README.text.count("\n") <= 250
    pictures = re.findall(r'<img src="([^"]+)" width="\d+" alt="[^"]{40,}">', README.text)
    assert [(ROOT / picture).exists() for picture in pictures] == [True]
    assert README.text.index("<img") < README.text.index("\n## ")


def test_the_two_commands_set_everything_up_themselves_and_are_what_ci_runs() -> None:
    assert set(README.setup) == {"demo", "tests"}
    assert all(body.startswith("python3 -m venv .venv && .venv/bin/pip install") for body in README.setup.values())
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "command_after tests" in script
    assert "command_after demo" in script


def test_the_pages_name_no_machine() -> None:
    for page in PAGES:
        assert not re.search(r"/home/|/root/", page.text)
        assert str(ROOT) not in page.text
