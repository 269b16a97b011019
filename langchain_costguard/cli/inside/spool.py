"""What the processes of a run tell: a JSON line a fact, written at once, so that a killed process has told it, too."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from langchain_costguard.events.metered import CacheHit, CallSettled, Event, Overrun, Refused, ToolSettled

_SPENT, _SAVED, _OVERRUN, _REFUSED = 7, 8, 11, 9
_WIDTH = 13


class Spool:
    """Appends to a file of its own for each process; a process made by fork writes to one of its own, too."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._file = -1
        self._pid = 0

    def tell(self, kind: str, **facts: Any) -> None:
        """Write one fact. What cannot be written is not told: nothing here may stop a program."""
        try:
            if self._pid != (pid := os.getpid()):
                path = os.path.join(self._folder, f"told-{pid}.jsonl")
                self._file, self._pid = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), pid
            os.write(self._file, (json.dumps({"kind": kind, **facts}) + "\n").encode())
        except OSError:
            pass

    def __call__(self, event: Event) -> None:
        """Write what a guard did; its sink."""
        if isinstance(event, Refused):
            facts = {"error": event.error, "of": event.kind, "name": event.name, "agent": event.scope.agent}
            self.tell("refused", message=event.message, **facts)
        if (changes := _changes(event)) is not None:
            self.tell("count", scope=list(event.scope), changes=changes)


def _changes(event: Event) -> list[int] | None:
    """What an event adds to the counts of a report's row."""
    row = [0] * _WIDTH
    if isinstance(event, CallSettled):
        used = event.usage
        tokens = (used.input_tokens, used.cache_read, used.cache_write, used.output_tokens, used.reasoning)
        return [1, 0, *tokens, event.charge, event.saved, 0, int(event.estimated), 0, 0]
    if isinstance(event, ToolSettled):
        row[1], row[_SPENT] = 1, event.charge
    elif isinstance(event, CacheHit):
        row[_SAVED] = event.saved
    elif isinstance(event, Refused):
        row[_REFUSED] = 1
    elif isinstance(event, Overrun):
        row[_OVERRUN] = event.charge - event.held
    else:
        return None
    return row


def told(folder: str) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """What each process told; a line that was cut off is left out."""
    for path in sorted(Path(folder).glob("told-*.jsonl")):
        facts = []
        for line in path.read_text("utf-8", "replace").splitlines():
            try:
                facts.append(json.loads(line))
            except ValueError:
                continue
        yield int(path.stem.partition("-")[2]), facts


def rows_of(facts: Sequence[dict[str, Any]]) -> list[tuple[list[str], list[int]]]:
    """The rows of one process's report: as it stood at its end, or else (it was killed) counted from what happened."""
    rows: list[tuple[list[str], list[int]]] = []
    counted: list[tuple[list[str], list[int]]] = []
    for fact in facts:
        if fact["kind"] == "begun":  # a program that replaces itself (os.exec) begins anew in the same process
            rows, counted = rows + counted, []
        elif fact["kind"] == "count":
            counted.append((fact["scope"], fact["changes"]))
        elif fact["kind"] == "rows":
            counted = [(scope, counts) for scope, counts in fact["rows"]]
    return rows + counted
