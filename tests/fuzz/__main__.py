"""``python -m tests.fuzz``: odd arguments and command lines, in an empty folder; exits 1 where one ends badly."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile

from tests.fuzz import arguments, commands


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--arguments", type=int, default=10_000)
    parser.add_argument("--commands", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    given = parser.parse_args()
    print(f"seed {given.seed}: {given.arguments:,} arguments, {given.commands:,} command lines", flush=True)
    seen: dict[tuple[str, str, str], list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, field, value, fault in arguments.faults(given.arguments, random.Random(given.seed)):
            seen.setdefault((name, field, fault[:60]), []).append(f"{value}: {fault}")
        for line, fault in commands.faults(given.commands, random.Random(given.seed)):
            seen.setdefault(("costguard", line.split(" ")[0], fault[:60]), []).append(f"{line}: {fault}")
        os.chdir("/")
    for (name, field, _), found in seen.items():
        print(f"{name}({field}=) x{len(found)}: {found[0]}")
    print(f"{sum(map(len, seen.values()))} ended badly, in {len(seen)} ways")
    return bool(seen)


if __name__ == "__main__":
    sys.exit(main())
