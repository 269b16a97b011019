"""The ``costguard`` command. Each command is loaded when it is called, so that ``--help`` is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

BAD_INPUT = 2
"""Exit status when the command cannot do what it was asked: one line on stderr says why."""
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    import click

    from langchain_costguard.cli.app import app

    words = sys.argv[1:] if argv is None else list(argv)
    try:
        status = app.main(words, prog_name="costguard", standalone_mode=False)
    except click.UsageError as error:
        more = f" (see {error.ctx.command_path} --help)" if error.ctx is not None else ""
        return _complain(f"{error.format_message().rstrip('.')}{more}", words)
    except (click.ClickException, ValueError) as error:
        return _complain(str(error), words)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:  # `costguard status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        from langchain_costguard.vocabulary.urls import reason

        return _complain(f"{reason(error)}{f': {error.filename}' if error.filename else ''}", words)
    return status if isinstance(status, int) else 0


def _complain(text: str, words: Sequence[str]) -> int:
    """Say in one line what is wrong, without the passwords of what was written."""
    from langchain_costguard.vocabulary.urls import told

    for word in words:
        if "@" in word or "://" in word:
            text = told(text, word)
    print("costguard:", " ".join(text.split()), file=sys.stderr)
    return BAD_INPUT
