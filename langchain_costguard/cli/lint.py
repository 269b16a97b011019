"""``costguard lint-prompts``: what keeps recorded prompts out of the provider's cache, and what that costs."""

from __future__ import annotations

import argparse
from pathlib import Path

from langchain_costguard.caching.prompt.linter import lint
from langchain_costguard.caching.prompt.records import read_lines
from langchain_costguard.cli.skipped import tell_skipped


def lint_prompts(options: argparse.Namespace) -> int:
    """Print what was found; returns the exit status: 1 where something was."""
    try:
        lines = Path(options.records).read_text("utf-8-sig", errors="replace").split("\n")
    except OSError as error:
        raise ValueError(f"{options.records}: {error.strerror or error}") from None
    records, skipped = read_lines(lines)
    tell_skipped(skipped)
    if not records:
        raise ValueError(f'{options.records}: no records; a line is a request: {{"model": ..., "messages": [...]}}')
    found = lint(records, skipped)
    print(found)
    return 1 if found else 0
