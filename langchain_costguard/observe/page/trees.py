"""A trace as a tree: agents, in them their steps, in those the calls and tool calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_costguard.observe.log.entry import COUNTS, KINDS, NAMES, REFUSED, TOOL, Entry

CHARGE, CALLS, INPUT, OUTPUT = (COUNTS.index(name) for name in ("charge", "calls", "input", "output"))


@dataclass(slots=True)
class Node:
    """An agent, a step, a call or a tool call, and what is inside it; money is nano-USD."""

    name: str
    kind: str
    spent: int = 0
    calls: int = 0
    note: str = ""
    inside: list[Node] = field(default_factory=list)

    def add(self, node: Node) -> None:
        """Put a node inside."""
        self.inside.append(node)
        self.spent += node.spent
        self.calls += node.calls

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name, "kind": self.kind, "spent": self.spent, "calls": self.calls, "note": self.note,
            "inside": [node.as_dict() for node in self.inside],
        }  # fmt: skip


def tree_of(trace: str, rows: Sequence[Entry]) -> Node:
    """The tree of a trace's rows, which come in time's order.

    A call inside a tool that is itself a row is inside it; the runs of chains between have no rows of their own, and
    are known by their agent and step.
    """
    runs = {row.run for row in rows}
    below: dict[Any, list[Entry]] = {}
    for row in rows:
        below.setdefault(row.parent if row.parent in runs and row.parent != row.run else None, []).append(row)
    root = Node(trace, "trace")
    agents: dict[str, dict[str, Node]] = {}
    for row in below.get(None, ()):
        steps = agents.setdefault(_name(row, "agent") or "no agent", {})
        step = _name(row, "step")
        steps.setdefault(step, Node(step or "no step", "step")).add(_leaf(row, below))
    for agent, steps in agents.items():
        node = Node(agent, "agent")
        for inner in steps.values():
            node.add(inner)
        root.add(node)
    return root


def _leaf(row: Entry, below: dict[Any, list[Entry]]) -> Node:
    name = _name(row, "name") if row.kind in (TOOL, REFUSED) else _name(row, "model")
    node = Node(
        name or "unknown",
        KINDS[row.kind],
        row.counts[CHARGE],
        0 if row.kind == REFUSED else row.counts[CALLS],
        _note(row),
    )
    for inner in below.get(row.run, ()) if row.run is not None else ():
        node.add(_leaf(inner, below))
    return node


def _note(row: Entry) -> str:
    status = _name(row, "status")
    if row.kind == REFUSED:
        return str(row.extra.get("budget") or status)
    said = [f"{row.counts[INPUT]:,} in, {row.counts[OUTPUT]:,} out"] if row.counts[INPUT] else []
    said += [f"{row.millis / 1000:,.1f} s"] if row.millis >= 50 else []
    return ", ".join([*said, *([status] if status != "ok" else [])])


def _name(row: Entry, column: str) -> str:
    return row.names[NAMES.index(column)]
