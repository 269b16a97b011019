"""What a trial tells its parent: one JSON line a fact, written at once, so that a killed trial has still told it."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

GUARD, CALL, NODE, WIRE, END, LISTEN, CHILD = "guard", "call", "node", "wire", "end", "listen", "child"
REFUSED, MISSED, SEEN, STRICT = "refused", "missed", "seen", "strict"


@dataclass(frozen=True, slots=True)
class Record:
    """One fact.

    Attributes:
        what: ``guard`` (the program made one), ``call`` (a model or tool call), ``node`` (of a graph), ``wire`` (a
            connection), ``listen`` (it is a server), ``child`` (Python was started past our eyes), ``end``.
        stage: the trial: ``model``, ``text``, ``tool`` or ``tools``.
        kind: ``model``, ``tool``, ``embeddings`` or ``sdk``.
        state: of a call: ``refused`` by a guard of the program, ``missed`` or ``seen`` by it, or ``strict`` (left to
            the wrapper of ``guard.wrap``); of a node, whether a guard hears of all in it.
        site: ``file:line`` in the program; empty where no frame of it is on the stack.
        name: the model or tool.
        where: the agent and graph node, in words.
        facts: the rest.
        child: whether it was in a process that the program started.
    """

    what: str
    stage: str
    kind: str = ""
    state: str = ""
    site: str = ""
    name: str = ""
    where: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    child: bool = False


class Log:
    """Writes records to a file, each fact once."""

    def __init__(self, path: str, stage: str, *, child: bool = False) -> None:
        self.stage = stage
        self._child = child
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the process lives
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self.refusals = 0

    def write(self, what: str, **facts: Any) -> None:
        """Write a record, unless the very same was written before."""
        line = json.dumps(asdict(Record(what, self.stage, **facts, child=self._child)))
        with self._lock:
            if line not in self._said:
                self._said.add(line)
                self._file.write(line + "\n")
                self._file.flush()


def read(path: Path) -> list[Record]:
    """The records of a file; a line that was cut off is left out."""
    records = []
    for line in path.read_text("utf-8").splitlines():
        try:
            records.append(Record(**json.loads(line)))
        except ValueError:
            continue
    return records
