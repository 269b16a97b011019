"""Refused steps of steered graphs, kept until the policy inside the node takes them up.

A budget's ``steps`` and the kill switch refuse as a node starts, where no policy can answer: the exception would end
the graph. In a graph that is steered the refusal is kept instead: steering takes it up as the node's model or tool flow
begins, and ends the run with a reply. Whatever else would start a paid call in that node first, is refused with it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_costguard.vocabulary.errors import CostGuardError

_MOST = 8
"""Steps in a row that may be kept without anything taking them up; then a graph is refused as any other."""
_KEPT = 1_000
_TASK = re.compile(r":[0-9a-f-]{32,36}")


class Deferrals:
    """The refused steps of one guard, by the checkpoint path of the node's task."""

    def __init__(self) -> None:
        self.pending: dict[str, tuple[CostGuardError, str]] = {}
        self._graphs: set[str] = set()
        self._in_row: dict[str, int] = {}
        self._seen: dict[str, None] = {}

    def steer(self, path: str) -> None:
        """The node of this path (``model:<task>``), and the graph it is in, answer refusals themselves."""
        if len(self._graphs) < _KEPT:
            self._graphs.add(_graph(path))

    def keep(self, path: str, trace: str, error: CostGuardError) -> bool:
        """Keep a refusal for the node's own policy; false where there is none to take it up."""
        if not self._graphs or _graph(path) not in self._graphs:
            return False
        run = f"{trace}/{path.rpartition('|')[0]}"
        count = self._in_row.get(run, 0)
        if count >= _MOST:
            return False
        if len(self._in_row) > _KEPT:
            self._in_row.clear()
        if len(self.pending) > _KEPT:
            self.pending.clear()
        self._in_row[run] = count + 1
        self.pending[path] = error, run
        return True

    def take(self, path: str) -> CostGuardError | None:
        """The refusal kept for this node. It stays: a node may call several tools."""
        found = self.pending.get(path)
        if found is None:
            return None
        self._in_row.pop(found[1], None)
        return found[0]

    def first_seen(self, path: str) -> bool:
        """Whether this node's execution is told of for the first time: a node of tools has a flow for each."""
        if path in self._seen:
            return False
        self._seen[path] = None
        if len(self._seen) > _KEPT:
            del self._seen[next(iter(self._seen))]
        return True

    def clear(self, path: str) -> bool:
        """The node may go on after all, or starts again; says whether it was refused."""
        return self.pending.pop(path, None) is not None


def _graph(path: str) -> str:
    """What stays the same from run to run: ``research:<uuid>|model:<uuid>`` is of the graph ``research``."""
    return _TASK.sub("", path.rpartition("|")[0])
