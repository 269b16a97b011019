"""The ``costguard`` command. Each command imports what it needs when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

BAD_INPUT = 2
"""Exit status when the command cannot do what it was asked: one line on stderr says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    from langchain_costguard.cli.options import parse

    try:
        command, options = parse(sys.argv[1:] if argv is None else argv)
        return command(options)
    except ValueError as error:
        print(f"costguard: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `costguard status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
