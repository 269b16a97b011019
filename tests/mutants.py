"""Mutants of the meter's core: cosmic-ray's operators make them, forks of one warm process run them.

``python tests/mutants.py --folder F [--sample N] [--seed S] [MODULE...]``, in the root of a tree. Without ``--sample``
every mutant is run; with it, ``N`` of each module, drawn at random, and the share that the tests noticed has a 95 %
interval (Wilson).

cosmic-ray itself writes each mutant to the file and starts the tests anew, which takes this suite half a day. Here a
fork puts the mutant's code into the functions that are loaded, and runs the tests that come by its statement (coverage
knows), those first that leave the beaten track through the module, until one fails or ``--seconds`` of them are over.
A failure counts if the test fails once more with the mutant and passes without: what is told is rather too low.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

from tests.mutants_forks import Forks
from tests.mutants_swap import in_function, statement

PACKAGE = Path("langchain_costguard/metering")
MODULES = (
    *(f"budgets/{name}" for name in ("accounts", "alerts", "budget", "grants", "halts", "headroom", "holds")),
    *(f"budgets/{name}" for name in ("ledger", "line", "lines")),
    *(f"stores/{name}" for name in ("account", "database", "failover", "memory", "mirror", "outbox", "page", "redis")),
    *(f"stores/{name}" for name in ("remembered", "repeats", "spool", "sqlite", "together", "unheard")),
    *("pricing/rates", "admission", "brake", "fees", "meter", "quick", "reckoning", "settlement", "seams/wrapping"),
)
DECISIVE = (
    *("stores/account", "pricing/rates", "budgets/ledger", "budgets/alerts", "fees", "settlement", "admission"),
)
"""What counts the money: a sample has twice as many of each of them."""
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
    *("test_leases.py", "test_slips.py", "test_unsaid.py", "test_written_by_0_1.py"),
)
LEFT_OUT = "postgres or cluster or valkey or process or worker or fork or few_steps or thousand"
"""Of those: other processes see no mutant, and other servers say the same again."""
GUARDS = {
    "strict=True": "strict=False",  # of ``zip``: what it would refuse is a slip of ours, and happens nowhere
    "slots=True": "slots=False",  # a cost
    "if TYPE_CHECKING:": "if not TYPE_CHECKING:",  # imports for the types alone
}
"""Changes by which nothing happens otherwise: no mutants are made of them."""
ARGUMENTS = ["-n0", "-q", "-p", "no:cacheprovider"]


class Mutant(NamedTuple):
    """One change: which operator made it, and which of its places in the module it is."""

    module: str
    operator: str
    occurrence: int
    line: int

    def source(self, text: str) -> str:
        """The module with it."""
        return _mutated(text, self.operator, self.occurrence)

    def counts(self) -> bool:
        """Whether it is Python at all (the star before keywords is no product), and anything happens otherwise."""
        text = (PACKAGE / f"{self.module}.py").read_text("utf-8")
        try:
            compile(self.source(text), self.module, "exec")
        except SyntaxError:
            return False
        old, _, new = self.told(text).partition(" -> ")
        return not any(old.replace(what, other) == new for what, other in GUARDS.items())

    def told(self, text: str) -> str:
        """What it changes, as ``what stands there -> what stands there then``."""
        pairs = zip(text.splitlines(), self.source(text).splitlines(), strict=False)
        return next((f"{old.strip()} -> {new.strip()}" for old, new in pairs if old != new), "")


@cache
def _mutated(text: str, operator: str, occurrence: int) -> str:
    made: str = mutate_code(text, get_operator(f"core/{operator}")(), occurrence)
    return made


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
    """Which tests come by which lines, and how long each takes: found out once, and kept in the folder."""
    from coverage import CoverageData

    kept = folder / "lines.json"
    if not kept.exists():
        options = ["-p", "tests.mutants_cover", *(f"tests/{name}" for name in TESTS), "-k", f"not ({LEFT_OUT})"]
        env = {**os.environ, "MUTANTS": str(folder), "PYTHONPATH": os.getcwd()}
        command = [sys.executable, "-m", "pytest", *ARGUMENTS, *options]
        ended = subprocess.run(command, check=False, env=env, stdout=sys.stderr)
        if ended.returncode not in (0, 1):  # a test that fails on this machine notices no mutant
            raise SystemExit(f"mutants: pytest ended with {ended.returncode}")
        found = CoverageData(str(folder / "coverage"))
        found.read()
        paths = {module: str((PACKAGE / f"{module}.py").resolve()) for module in MODULES}
        kept.write_text(json.dumps({module: found.contexts_by_lineno(path) for module, path in paths.items()}), "utf-8")
    lines: dict[str, dict[str, list[str]]] = json.loads(kept.read_text("utf-8"))
    return {
        module: {int(line): {test for test in tests if test} for line, tests in each.items()}
        for module, each in lines.items()
    }


def rarity(lines: dict[int, set[str]]) -> dict[str, float]:
    """How far each test leaves the beaten track through a module: of lines that all come by, most notice little."""
    found: dict[str, float] = defaultdict(float)
    for tests in lines.values():
        for test in tests:
            found[test] += 1 / len(tests)
    return found


def chosen(mutant: Mutant, text: str, lines: dict[int, set[str]], takes: dict[str, float], seconds: float) -> list[str]:
    """The tests that come by it, the likeliest first, as many as the time is enough for."""
    known = set().union(*(lines.get(line, ()) for line in statement(text, mutant.line)))
    if not known and not in_function(text, mutant.line):  # made when the module is loaded
        known = set().union(*lines.values())
    cost = {test: takes.get(test, 1.0) + ("redis" in test) for test in known}  # each fork starts a server of its own
    rare, tests, total = rarity(lines), [], 0.0
    for test in sorted(known, key=lambda test: (-rare[test] / (0.1 + cost[test]), test)):
        total += cost[test]
        if total > seconds:
            break
        tests.append(test)
    return tests


def work(forks: Forks, drawn: list[Mutant], known: dict[str, dict[int, set[str]]], said: Path, seconds: float) -> None:
    """Run some mutants, and write of each which test notices it."""
    with said.open("a", encoding="utf-8") as file:
        for mutant in drawn:
            text = (PACKAGE / f"{mutant.module}.py").read_text("utf-8")
            tests = [t for t in chosen(mutant, text, known[mutant.module], forks.takes, seconds) if t in forks.items]
            name = ".".join((*PACKAGE.parts, *mutant.module.split("/")))
            found = forks.noticed_by(name, mutant.source(text), text, tests)
            file.write(json.dumps([*mutant, mutant.told(text), len(tests), found]) + "\n")
            file.flush()


def run(
    drawn: list[Mutant], known: dict[str, dict[int, set[str]]], folder: Path, jobs: int, seconds: float
) -> list[list[Any]]:
    """Run them in forks of one process that has loaded all there is, several at once."""
    import pytest

    parts = [folder / f"said{number}" for number in range(jobs)]

    def job(forks: Forks) -> None:
        forks.takes = json.loads((folder / "seconds.json").read_text("utf-8"))
        workers = []
        for number, part in enumerate(parts):
            part.unlink(missing_ok=True)
            workers.append(os.fork())
            if workers[-1] == 0:
                status = 1
                with contextlib.suppress(KeyboardInterrupt):
                    work(forks, drawn[number::jobs], known, part, seconds)
                    status = 0
                os._exit(status)
        ends = [os.waitpid(worker, 0)[1] for worker in workers]
        if any(ends):
            raise RuntimeError("a worker of the mutants ended early")

    pytest.main([*ARGUMENTS, "-s", *(f"tests/{name}" for name in TESTS)], plugins=[Forks(job, folder)])
    return sorted(json.loads(line) for part in parts for line in part.read_text("utf-8").splitlines())


def main() -> int:
    """Do it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="of tests that each mutant may take")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, required=True, help="where what is known of the tests is kept")
    given = parser.parse_args()
    known = cover(given.folder)
    every = {module: mutants(module) for module in given.modules or MODULES}
    drawn = []
    for module, found in every.items():
        wanted = min(given.sample * (2 if module in DECISIVE else 1) if given.sample else len(found), len(found))
        chance = random.Random(f"{given.seed} {module}")
        drawn += islice(filter(Mutant.counts, chance.sample(found, len(found))), wanted)
    random.Random(given.seed).shuffle(drawn)  # so that a run that is broken off is a sample, too
    results = run(drawn, known, given.folder, given.jobs, given.seconds)
    reasons = {
        mutant: reason
        for reason, mutants in json.loads(Path("tests/survivors.json").read_text("utf-8")).items()
        for mutant in mutants
    }
    counts = {module: [len(found), 0, 0, 0] for module, found in every.items()}
    for module, operator, occurrence, line, told, tests, by in results:
        reason = reasons.get(f"{module}: {told}")
        counts[module] = [
            n + more for n, more in zip(counts[module], (0, 1, by is None, by is None and bool(reason)), strict=True)
        ]
        if by is None:
            print(f"{module}:{line} {operator} {occurrence} [{tests} tests] {told}\n    {reason or 'NOBODY SAID WHY'}")
    show(counts)
    return int(any(left > explained for _, _, left, explained in counts.values()))


def show(counts: dict[str, list[int]]) -> None:
    """Print the table."""
    from langchain_costguard.observe.tables import table
    from langchain_costguard.vocabulary.intervals import wilson

    def row(name: str, made: int, ran: int, left: int, same: int) -> list[str]:
        low, high = wilson(ran - left, ran)
        share = f"{(ran - left) / ran:.1%}" if ran else "-"
        return [name, *map(str, (made, ran, ran - left, left, same)), share, f"{low:.1%} to {high:.1%}"]

    head = ["module", "mutants", "run", "noticed", "survived", "with a reason", "share", "95 %"]
    total = [sum(count[at] for count in counts.values()) for at in range(4)]
    print(table(head, [*(row(name, *count) for name, count in counts.items()), row("all", *total)], left=1))


if __name__ == "__main__":
    sys.exit(main())
