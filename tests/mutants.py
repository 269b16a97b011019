"""Mutants of the meter's core, made and run by mutmut in a copy of the tree; the table says how many the tests noticed.

``python tests/mutants.py TREE [--sample N] [--seed S] [MODULE...]``: ``TREE`` is a copy that may be written in, a
``MODULE`` is named as in ``MODULES``. Without ``--sample``, every mutant is run; with it, ``N`` of each module, drawn
at random, and the share that was noticed is given with its 95 % interval (Wilson). Survivors are printed with what was
changed, or, where ``SURVIVORS`` knows them, with the reason why they may.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from langchain_costguard.observe.tables import table
from langchain_costguard.vocabulary.intervals import wilson

HERE = Path(__file__).parent
PACKAGE = "langchain_costguard/metering"
MODULES = (
    *(f"budgets/{name}" for name in ("accounts", "alerts", "budget", "grants", "halts", "headroom", "holds")),
    *(f"budgets/{name}" for name in ("ledger", "line", "lines")),
    *(f"stores/{name}" for name in ("account", "memory", "outbox", "page", "redis", "remembered", "repeats", "sqlite")),
    *("pricing/rates", "admission", "brake", "fees", "meter", "quick", "reckoning", "settlement", "seams/wrapping"),
)
TESTS = (
    *("metering", "test_bill.py", "test_counted_once.py", "test_grants.py", "test_guard.py", "test_headroom.py"),
    *("test_overshoot.py", "test_refusals.py", "test_report.py", "test_reserve.py", "test_scope.py", "test_serving.py"),
    *("test_store_failure.py", "test_stores_that_hold.py", "test_streams.py", "test_times.py", "test_wrap.py"),
)
LEFT_OUT = (
    "postgres or cluster or process or worker or bytecodes or fork or config or valkey or thousand or kill_switch"
)
"""Of those: other processes see no mutant, other servers say the same again, and a mutant's way in has bytecodes."""
SETTINGS = """[mutmut]
source_paths=
    langchain_costguard
only_mutate={modules}
also_copy={copied}
pytest_add_cli_args={arguments}
pytest_add_cli_args_test_selection={tests}
track_dependencies=false
"""
NOTICED = {1, 3, 24, -24, 36, 152, 255}
"""What a run of tests that noticed ends with; a mutant that never ends is noticed, too."""


class Calm(set[str]):
    """A set that may grow while it is walked: functions are also called by threads that go on after a test's end."""

    def __iter__(self) -> Iterator[str]:
        return iter(frozenset().union(self))


def pytest_configure() -> None:
    """As a plugin in mutmut's runs: what it notes the functions in that a test calls bears threads."""
    from mutmut.state import state

    state()._stats = Calm()


def settings(modules: list[str]) -> str:
    """What mutmut is asked to do."""
    lists = {
        "modules": [f"{PACKAGE}/{module}.py" for module in modules],
        "copied": ["langchain_costguard", "notebooks", "README.md", "LICENSE"],
        "arguments": ["-n0", "-p", "no:cacheprovider", "-p", "tests.mutants"],
        "tests": [*(f"tests/{name}" for name in TESTS), f"-k=not ({LEFT_OUT})"],
    }
    return SETTINGS.format(**{key: "".join(f"\n    {value}" for value in values) for key, values in lists.items()})


def mutmut(tree: Path, *words: str, quiet: bool = False) -> str:
    """Run it in the tree."""
    command = [str(Path(sys.executable).with_name("mutmut")), *words]
    kept = subprocess.PIPE if quiet else sys.stderr
    done = subprocess.run(command, cwd=tree, stdout=kept, stderr=kept, text=True, check=False)
    return done.stdout or ""


def mutants(tree: Path, module: str) -> dict[str, int | None]:
    """Its mutants, and how the tests of each ended."""
    made = json.loads((tree / "mutants" / PACKAGE / f"{module}.py.meta").read_text("utf-8"))
    found: dict[str, int | None] = made["exit_code_by_key"]
    return found


def run(tree: Path, modules: list[str], sample: int | None, seed: int) -> dict[str, list[str]]:
    """Make the mutants and run them; returns which were drawn, by module."""
    (tree / "setup.cfg").write_text(settings(modules), "utf-8")
    mutmut(tree, "print-time-estimates", quiet=True)
    if not (tree / "mutants" / PACKAGE).is_dir():
        mutmut(
            tree, "run", "--max-children", "1", "none of them", quiet=True
        )  # makes them, and says that there is none
    drawn = {}
    for module in modules:
        names = sorted(mutants(tree, module))
        drawn[module] = random.Random(f"{seed} {module}").sample(names, min(sample or len(names), len(names)))
    mutmut(tree, "run", "--max-children", os.environ.get("MUTANTS_AT_ONCE", "1"), *chain(*drawn.values()))
    return drawn


def report(tree: Path, drawn: dict[str, list[str]]) -> bool:
    """Print the table and the survivors; true where none is without a reason."""
    known = json.loads((HERE / "survivors.json").read_text("utf-8"))
    rows, survivors = [], []
    for module, names in drawn.items():
        ends = mutants(tree, module)
        left = [name for name in names if ends[name] not in NOTICED]
        survivors += left
        rows.append(_row(module, len(ends), len(names), len(left)))
    total = [sum(int(row[at]) for row in rows) for at in (1, 2, 4)]
    rows.append(_row("all", *total))
    print(table(["module", "mutants", "run", "noticed", "survived", "share", "95 %"], rows, left=1))
    unexplained = False
    for name in survivors:
        reason = next((why for part, why in known.items() if part in name), None)
        unexplained |= reason is None
        print(f"\n{name}: {reason or 'nobody has said why'}")
        if reason is None:
            print(mutmut(tree, "show", name, quiet=True))
    return not unexplained


def _row(name: str, made: int, ran: int, left: int) -> list[str]:
    low, high = wilson(ran - left, ran)
    share = f"{(ran - left) / ran:.1%}" if ran else "-"
    return [name, str(made), str(ran), str(ran - left), str(left), share, f"{low:.1%} to {high:.1%}"]


def main() -> int:
    """Do it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("modules", nargs="*", choices=[[], *MODULES], metavar="MODULE")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    drawn = run(given.tree, given.modules or list(MODULES), given.sample, given.seed)
    return 0 if report(given.tree, drawn) else 1


if __name__ == "__main__":
    sys.exit(main())
