"""``%load_ext langchain_costguard`` in a real kernel: a cell under a budget, and a kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient

from langchain_costguard import Budget, CostGuard
from langchain_costguard.testing import FakeProvider
from tests.conftest import PRICES, Caller

SETUP = """
%load_ext langchain_costguard
from langchain_costguard.testing import FakeProvider
provider = FakeProvider("hello there").start()
model = provider.openai(max_tokens=100)
"""


def ran(*cells: str) -> list[list[Any]]:
    """What the cells show, each after those before it, in one kernel; errors do not end it."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (SETUP, *cells)])
    NotebookClient(book, timeout=60, allow_errors=True).execute()
    assert book.cells[0].outputs == []
    return [cell.outputs for cell in book.cells[1:]]


def panels(outputs: list[Any]) -> list[str]:
    """The texts of the panels among the outputs."""
    shown = [each.data for each in outputs if each.output_type == "display_data"]
    return [data["text/plain"] for data in shown if 'class="costguard ' in data["text/html"]]


def test_a_kernel_meters_its_cells_and_shows_what_each_costs() -> None:
    one, waited, attached, plain, free, refused, told, wrong, gone = ran(
        "%%costguard --usd 0.10\nmodel.invoke('hi').text",
        "%%costguard --model-calls 9\n(await model.ainvoke('hi')).text",
        "guard = %costguard attach --usd 1\nguard",
        "model.invoke('hi').text",
        "1 + 1",
        "%%costguard --model-calls 2\nfor n in range(3):\n    model.invoke('hi')",
        "%costguard report model",
        "%costguard attach --tool-cals 3",
        "%costguard detach\n%unload_ext langchain_costguard\nmodel.invoke('hi').text",
    )
    assert [panels(cell) for cell in (one, waited)] == [
        ["costguard  $0.0000225  1 model call · 3 tokens\ncell: $0.000022 of $0.100000, $0.099978 left"],
        ["costguard  $0.0000225  1 model call · 3 tokens\ncell: 1 of 9 model calls, 8 left"],
    ]
    assert one[-1].data["text/plain"] == waited[-1].data["text/plain"] == "'hello there'"
    assert panels(attached) == []
    assert 'role="progressbar"' in attached[-1].data["text/html"]
    assert panels(plain) == [
        "costguard  $0.0000225  1 model call · 3 tokens\nkernel: $0.000022 of $1.000000, $0.999978 left"
    ]
    assert panels(free) == []
    assert panels(refused) == [
        "costguard  $0.0000450  2 model calls · 6 tokens · 1 refused\n"
        "cell: 2 of 2 model calls, 0 left\nkernel: $0.000068 of $1.000000, $0.999932 left"
    ]
    error = next(each for each in refused if each.output_type == "error")
    assert "Budget 'cell' refused a call to gpt-4o" in error.traceback[0]
    assert error.traceback[1] == "  at line 3 of the cell"
    assert "<th" in told[0].data["text/html"]
    assert told[0].data["text/plain"].split()[-5:-2] == ["gpt-4o", "3", "3"]
    assert re.match(r"UsageError: %costguard: No such option.*--tool-cals.*--tool-calls", wrong[0].text)
    assert [each.output_type for each in gone] == ["execute_result"]


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "langchain_costguard")
    yield shell
    shell.run_line_magic("unload_ext", "langchain_costguard")
    InteractiveShell.clear_instance()


def test_on_a_terminal_a_cell_says_in_the_end_what_it_cost(
    shell: InteractiveShell, provider: FakeProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.user_ns["model"] = provider.openai(max_tokens=100)
    shell.run_cell("%%costguard --tokens 500\n_ = model.invoke('hi')\nprint('asked')").raise_error()
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "asked"
    assert said[1].startswith("costguard  $")
    assert said[2] == "cell: 5 of 500 tokens, 495 left"
    shell.run_cell("_ = model.invoke('hi')").raise_error()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--usd abc", "usd: 'abc' is no amount of USD"),
        ("--tokens 1.5", "tokens: '1.5' must be a whole number above zero"),
        ("attach nobody", "attach: there is no nobody here"),
        ("attach number", "attach: number is a int, no CostGuard"),
        ("attach guard --usd 1", "guard has its own budgets"),
        ("--usd 1 attach", "--usd comes after the command: %costguard attach ..."),
        ("detach", "no guard is attached"),
        ("report", "no guard is attached"),
        ("forever", "No such command 'forever'"),
    ],
)
def test_what_cannot_be_is_one_line(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    shell.user_ns |= {"number": 1, "guard": CostGuard()}
    shell.run_cell(f"%costguard {line}")
    told = capsys.readouterr()
    assert (told.out + told.err).startswith("UsageError: %costguard: ")
    assert said in told.out + told.err


def test_a_guard_of_ones_own_goes_on_when_it_is_detached(shell: InteractiveShell, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="user", usd="1"), prices=PRICES)
    shell.user_ns |= {"guard": guard, "model": provider.openai()}
    for line in ("%costguard attach guard", "model.invoke('hi')", "%costguard detach", "model.invoke('hi')"):
        shell.run_cell(line).raise_error()
    assert guard.report().total.calls == 1


def test_budgets_are_bars_of_those_who_used_most(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(
        Budget(per="user", usd="0.001", name="<i>"),
        Budget(per="agent", model_calls=4, only={"agent": "research"}),
        prices=PRICES,
    )
    for user, times in (("u1", 1), ("u2", 3)):
        for _ in range(times):
            with guard.scope(user=user):
                call(provider.openai(max_tokens=10), "hello there", {"callbacks": [guard]})
    for shown in (guard._repr_html_(), guard.report()._repr_html_(), guard.report().by("user")._repr_html_()):
        assert "<i>" not in shown
        assert re.findall(r'aria-label="([^"]*)".*?aria-valuenow="(\d+)"', shown) == [
            ("&lt;i&gt; (u2)", "14"),
            ("agent.[agent=research]", "0"),
        ]
        assert "$0.00014 of $0.00100, $0.00086 left" in shown
        assert shown.count("<th ") > 1
        assert "mathjax_ignore" in shown  # what stands between two dollars is no formula
