"""Lines of a file that could not be read."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from langchain_costguard.cli.words import count

_TOLD = 10


def tell_skipped(lines: Sequence[str]) -> None:
    """Say on stderr which lines of a file were left out, and why: the first ten, and how many more."""
    for line in lines[:_TOLD]:
        print(f"costguard: skipped {line}", file=sys.stderr)
    if len(lines) > _TOLD:
        print(f"costguard: skipped {count(len(lines) - _TOLD, 'more line')}", file=sys.stderr)
