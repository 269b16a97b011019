"""Runs a notebook's cells in one kernel, in their order: ``python -m langchain_costguard.cli.inside.notebook FILE``.

What a cell prints is printed; the file stays as it is. The first error ends the run, as it ends a script.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from langchain_costguard.vocabulary import errors


class _Client(NotebookClient):
    """Prints what cells say, as they say it."""

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        content = msg.get("content", {})
        kind = msg.get("msg_type")
        if kind == "stream":
            target = sys.stderr if content["name"] == "stderr" else sys.stdout
            print(content["text"], end="", file=target, flush=True)
        elif kind in ("execute_result", "display_data") and "text/plain" in content.get("data", {}):
            print(content["data"]["text/plain"], flush=True)
        return super().process_message(msg, cell, cell_index)


def main(path: str) -> int:
    """Run it; returns the exit status."""
    book = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    folder = os.path.dirname(os.path.abspath(path))
    client = _Client(book, timeout=None, resources={"metadata": {"path": folder}}, record_timing=False)
    try:
        client.execute()
    except CellExecutionError as error:
        kind = getattr(errors, error.ename, None)
        if isinstance(kind, type) and issubclass(kind, errors.CostGuardError):
            sys.last_value = errors.CostGuardError(error.evalue)  # as after any error that nobody caught
        else:
            print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
