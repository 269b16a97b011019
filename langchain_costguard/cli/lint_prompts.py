"""``costguard lint-prompts``: what keeps recorded prompts out of the provider's cache, and what that costs."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from langchain_costguard.caching.prompt.linter import lint
from langchain_costguard.caching.prompt.records import read_lines
from langchain_costguard.cli.skipped import tell_skipped
from langchain_costguard.vocabulary.urls import reason


@click.command()
@click.argument("records", metavar="RECORDS")
def command(records: str) -> int:
    """Find what keeps prompts from being read from the provider's cache.

    That is: timestamps, ids, names and unstable orders in front of text that many requests share. RECORDS is a file of
    JSON lines, a request each: {"at": ..., "feature": ..., "model": ..., "messages": [...], "tools": [...]}, in the
    shapes of OpenAI, Anthropic or LangChain. Bad lines are told and skipped.

    Exit status: 0 when nothing was found, 1 when something was, 2 when it could not be looked at.
    """
    try:
        lines = Path(records).read_text("utf-8-sig", errors="replace").split("\n")
    except OSError as error:
        raise ValueError(f"{records}: {reason(error)}") from None
    requests, skipped = read_lines(lines)
    tell_skipped(skipped)
    if not requests:
        raise ValueError(f'{records}: no records; a line is a request: {{"model": ..., "messages": [...]}}')
    found = lint(requests, skipped)
    print(found)
    return 1 if found else 0
