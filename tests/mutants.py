"""Mutants of the meter's core: cosmic-ray's operators make them, forks of one warm process run them.

``python tests/mutants.py --folder F [--sample N] [--seed S] [MODULE...]``, in the root of a tree. Without ``--sample``
every mutant is run; with it, ``N`` of each module, drawn at random, and the share that the tests noticed has a 95 %
interval (Wilson).

cosmic-ray itself writes each mutant to the file and starts the tests anew, which takes this suite half a day. Here a
fork puts the mutant's code into the functions that are loaded, and runs the tests that come by its statement (coverage
knows), those first that leave the beaten track through the module, until one fails or ``SECONDS`` of them are over:
what is told is rather too low.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

from tests.mutants_swap import in_function, statement, swap

PACKAGE = Path("langchain_costguard/metering")
MODULES = (
    *(f"budgets/{name}" for name in ("accounts", "alerts", "budget", "grants", "halts", "headroom", "holds")),
    *(f"budgets/{name}" for name in ("ledger", "line", "lines")),
    *(f"stores/{name}" for name in ("account", "memory", "outbox", "page", "redis", "remembered", "repeats", "sqlite")),
    *("pricing/rates", "admission", "brake", "fees", "meter", "quick", "reckoning", "settlement", "seams/wrapping"),
)
OPERATORS = (
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE")),
    *(
        f"ReplaceComparisonOperator_{pair}"
        for pair in ("GtE_Gt", "GtE_Lt", "Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")
    ),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_FloorDiv", "FloorDiv_Mul", "Mod_Add")),
    *("ReplaceUnaryOperator_Delete_USub", "ReplaceUnaryOperator_Delete_Not", "AddNot", "ReplaceAndWithOr"),
    *("ReplaceOrWithAnd", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceBreakWithContinue"),
    *("ReplaceContinueWithBreak", "ZeroIterationForLoop", "NumberReplacer"),
)
"""Comparisons, signs, branches and constants."""
TESTS = (
    *("metering", "test_bill.py", "test_counted_once.py", "test_grants.py", "test_guard.py", "test_headroom.py"),
    *("test_overshoot.py", "test_refusals.py", "test_report.py", "test_reserve.py", "test_scope.py", "test_serving.py"),
    *("test_store_failure.py", "test_stores_that_hold.py", "test_streams.py", "test_times.py", "test_wrap.py"),
)
LEFT_OUT = "postgres or cluster or valkey or process or worker or bytecodes or fork or config or thousand"
"""Of those: other processes see no mutant, and other servers say the same again."""
SECONDS = 12.0
FIRST = 20
"""Tests that are run before the others are so much as collected."""
ARGUMENTS = ["-n0", "-q", "-x", "-p", "no:cacheprovider"]


class Mutant(NamedTuple):
    """One change: which operator made it, and which of its places in the module it is."""

    module: str
    operator: str
    occurrence: int
    line: int

    def source(self, text: str) -> str:
        """The module with it."""
        made: str = mutate_code(text, get_operator(f"core/{self.operator}")(), self.occurrence)
        return made

    def told(self, text: str) -> str:
        """What it changes, as ``what stands there -> what stands there then``."""
        pairs = zip(text.splitlines(), self.source(text).splitlines(), strict=False)
        return next((f"{old.strip()} -> {new.strip()}" for old, new in pairs if old != new), "")


def mutants(module: str) -> list[Mutant]:
    """All of a module."""
    nodes = list(ast_nodes(get_ast((PACKAGE / f"{module}.py").read_text("utf-8"))))
    found = []
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        lines = [start[0] for node in nodes for start, _ in operator.mutation_positions(node)]
        found += [Mutant(module, name, number, line) for number, line in enumerate(lines)]
    return found


def cover(folder: Path) -> dict[str, dict[int, set[str]]]:
    """Which tests come by which lines; and writes how long each takes."""
    from coverage import CoverageData

    data = folder / "coverage"
    options = ["-p", "tests.mutants_cover", *(f"tests/{name}" for name in TESTS), "-k", f"not ({LEFT_OUT})"]
    env = {**os.environ, "MUTANTS": str(folder), "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-m", "pytest", *[a for a in ARGUMENTS if a != "-x"], *options]
    if not data.exists():
        subprocess.run(command, env=env, check=True, stdout=sys.stderr)
    found = CoverageData(str(data))
    found.read()
    return {
        module: {
            line: {test for test in tests if test}
            for line, tests in found.contexts_by_lineno(str((PACKAGE / f"{module}.py").resolve())).items()
        }
        for module in MODULES
    }


def rarity(lines: dict[int, set[str]]) -> dict[str, float]:
    """How far each test leaves the beaten track through a module: of lines that all come by, most notice little."""
    found: dict[str, float] = defaultdict(float)
    for tests in lines.values():
        for test in tests:
            found[test] += 1 / len(tests)
    return found


def run(mutant: Mutant, tests: list[str], seconds: float) -> bool:
    """Whether the tests notice it; one with which they take far longer is noticed, too."""
    text = (PACKAGE / f"{mutant.module}.py").read_text("utf-8")
    child = os.fork()
    if child == 0:
        os.setsid()
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        try:
            import pytest

            swap(".".join((*PACKAGE.parts, *mutant.module.split("/"))), mutant.source(text))
            os._exit(any(pytest.main([*ARGUMENTS, *part]) for part in (tests[:FIRST], tests[FIRST:]) if part))
        except BaseException:
            os._exit(99)
    until = time.monotonic() + 30 + 10 * seconds
    ended, status = 0, 0
    while not ended and time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.02)
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)  # with the servers it started
    if not ended:
        os.waitpid(child, 0)
    return not ended or os.waitstatus_to_exitcode(status) != 0


def main() -> int:
    """Do it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, required=True, help="where what is known of the tests is kept")
    given = parser.parse_args()
    lines = cover(given.folder)
    takes: dict[str, float] = json.loads((given.folder / "seconds.json").read_text("utf-8"))
    warm_up()
    reasons = json.loads(Path("tests/survivors.json").read_text("utf-8"))
    counts: dict[str, list[int]] = {}
    unexplained = False
    for module in given.modules or MODULES:
        every, text = mutants(module), (PACKAGE / f"{module}.py").read_text("utf-8")
        drawn = random.Random(f"{given.seed} {module}").sample(every, min(given.sample or len(every), len(every)))
        left, rare = [], rarity(lines[module])
        for mutant in sorted(drawn, key=lambda one: one.line):
            places = statement(text, mutant.line)
            known = set().union(*(lines[module].get(line, ()) for line in places))
            if not known and not in_function(text, mutant.line):  # made when the module is loaded
                known = set().union(*lines[module].values())
            tests, total = [], 0.0
            for test in sorted(known, key=lambda test: -rare[test] / (0.1 + takes.get(test, 1.0))):
                total += takes.get(test, 1.0)
                if total > SECONDS:
                    break
                tests.append(test)
            if not tests or not run(mutant, tests, min(total, SECONDS)):
                left.append(mutant)
                reason = reasons.get(f"{module}: {mutant.told(text)}")
                unexplained |= reason is None
                print(
                    f"{module}:{mutant.line} [{len(tests)}] {mutant.told(text)}\n    {reason or 'NOBODY SAID WHY'}",
                    flush=True,
                )
        counts[module] = [len(every), len(drawn), len(left)]
        print(f"# {module}: {len(left)} of {len(drawn)} survived", flush=True)
    show(counts)
    return int(unexplained)


def warm_up() -> None:
    """Load what the tests load, once; nothing is run in this process, so that it can be forked."""
    import pytest

    with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
        pytest.main(["--collect-only", *ARGUMENTS, *(f"tests/{name}" for name in TESTS)])


def show(counts: dict[str, list[int]]) -> None:
    """Print the table."""
    from langchain_costguard.observe.tables import table
    from langchain_costguard.vocabulary.intervals import wilson

    def row(name: str, made: int, ran: int, left: int) -> list[str]:
        low, high = wilson(ran - left, ran)
        share = f"{(ran - left) / ran:.1%}" if ran else "-"
        return [name, str(made), str(ran), str(ran - left), str(left), share, f"{low:.1%} to {high:.1%}"]

    rows = [row(name, *count) for name, count in counts.items()]
    total = [sum(count[at] for count in counts.values()) for at in range(3)]
    print(
        table(["module", "mutants", "run", "noticed", "survived", "share", "95 %"], [*rows, row("all", *total)], left=1)
    )


if __name__ == "__main__":
    sys.exit(main())
