"""Which of the host's own tests fail with a guard alone, and whether that is for a promise of ours.

    python -m tests.hosts.compare off.xml watch.xml steer.xml steer-once.xml

Each file is pytest's ``--junitxml`` of one run; beside it, ``steer.again.xml`` is that of those which failed, run once
more. Exits with 1 where a test fails that should not, or passes that is
listed as one that fails.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

PROMISES = Path(__file__).with_name("promises.txt")
MAY = {"watch": (), "steer": ("tool-hook", "retry", "repair"), "steer-once": ("tool-hook",)}
"""What each run may break."""


def outcomes(file: Path) -> tuple[set[str], set[str]]:
    """The tests that passed, and those that failed."""
    passed, failed = _read(file)
    again = file.with_suffix(".again.xml")
    mended = _read(again)[0] & failed if again.exists() else set()
    return passed | mended, failed - mended


def _read(file: Path) -> tuple[set[str], set[str]]:
    passed, failed = set[str](), set[str]()
    for case in ElementTree.parse(file).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        if any(case.find(kind) is not None for kind in ("failure", "error")):
            failed.add(name)
        elif case.find("skipped") is None:
            passed.add(name)
    return passed, failed


def listed() -> dict[str, str]:
    """The promise, by the part of a test's name."""
    lines = [line.split(maxsplit=1) for line in PROMISES.read_text("utf-8").splitlines() if line and line[0] != "#"]
    return {part: promise for promise, part in lines}


def main(files: list[Path]) -> int:
    """Compare, and tell."""
    plain, *others = files
    well, _ = outcomes(plain)
    promises, wrong = listed(), 0
    print(f"{plain.stem}: {len(well)} pass")
    for file in others:
        passed, failed = outcomes(file)
        broken = sorted(well & failed)
        allowed = {part for part, promise in promises.items() if promise in MAY[file.stem]}
        odd = [name for name in broken if not any(part in name for part in allowed)]
        kept = [part for part in allowed if not any(part in name for name in broken)]
        told = f"{len(well & passed)} pass, {len(broken) - len(odd)} fail for a promise, {len(odd)} without"
        print(f"{file.stem}: {told}")
        for name in odd:
            print(f"  fails: {name}")
        for part in kept:
            print(f"  listed, and does not fail: {part}")
        wrong += len(odd) + len(kept)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
