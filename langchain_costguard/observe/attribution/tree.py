"""Feature → session → agent → step → call: money and tokens, rolled up."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_costguard.observe.tables import block
from langchain_costguard.vocabulary.money import show_all, usd
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import Usage

LEVELS = ("feature", "session", "agent", "step")
Leaf = tuple[Scope, str, int, Usage, int]
"""Who, the call's name, how many calls, what they used, and what was paid (nano-USD)."""


@dataclass(slots=True)
class Node:
    """One branch: what everything below it cost."""

    level: str
    name: str
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    spent: int = 0
    below: dict[str, Node] = field(default_factory=dict)


class Tree:
    """Where money went, level by level; ``str()`` draws it, Jupyter shows it to open and close.

    Attributes:
        root: Everything.
    """

    def __init__(self, leaves: Iterable[Leaf], levels: Sequence[str] = LEVELS) -> None:
        unknown = [level for level in levels if level not in Scope._fields]
        if unknown:
            raise ValueError(f"levels: {unknown[0]!r} is not one of {', '.join(Scope._fields)}")
        self.levels = tuple(levels)
        self.root = Node("all", "all")
        for scope, name, calls, usage, spent in leaves:
            path = [(level, getattr(scope, level) or "-") for level in self.levels]
            node = self.root
            _add(node, calls, usage, spent)
            for level, part in [*path, ("call", name)]:
                node = node.below.setdefault(part, Node(level, part))
                _add(node, calls, usage, spent)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary a branch, from the top: ``depth``, ``level``, ``name``, counts, and ``usd`` as a Decimal."""
        return [
            {
                "depth": depth,
                "level": node.level,
                "name": node.name,
                "calls": node.calls,
                "input_tokens": node.input_tokens,
                "output_tokens": node.output_tokens,
                "usd": usd(node.spent),
            }
            for depth, node, _ in _walk(self.root)
        ]

    def __str__(self) -> str:
        rows = list(_walk(self.root))
        money = show_all([node.spent for _, node, _ in rows])
        names = [f"{line}{node.name}" for _, node, line in rows]
        width = max(map(len, names))
        return "\n".join(
            f"{name.ljust(width)}  {amount.rjust(max(map(len, money)))}  "
            f"{node.calls:,} call{'' if node.calls == 1 else 's'}, {node.input_tokens:,} in, {node.output_tokens:,} out"
            for name, amount, (_, node, _) in zip(names, money, rows, strict=True)
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        money = dict(zip(map(id, _nodes(self.root)), show_all([n.spent for n in _nodes(self.root)]), strict=True))

        def draw(node: Node) -> str:
            text = f"{html.escape(node.name)} <b>{money[id(node)]}</b> ({node.calls:,} calls)"
            if not node.below:
                return f"<li>{text}</li>"
            inner = "".join(map(draw, _ranked(node)))
            return f"<li><details open><summary>{text}</summary><ul>{inner}</ul></details></li>"

        return block(f"<ul>{draw(self.root)}</ul>")


def _add(node: Node, calls: int, usage: Usage, spent: int) -> None:
    node.calls += calls
    node.input_tokens += usage.input_tokens
    node.output_tokens += usage.output_tokens
    node.spent += spent


def _ranked(node: Node) -> list[Node]:
    return sorted(node.below.values(), key=lambda below: (-below.spent, below.name))


def _nodes(node: Node) -> list[Node]:
    return [found for _, found, _ in _walk(node)]


def _walk(node: Node, depth: int = 0, line: str = "", ahead: str = "") -> Iterable[tuple[int, Node, str]]:
    yield depth, node, line
    below = _ranked(node)
    for n, child in enumerate(below):
        last = n == len(below) - 1
        yield from _walk(child, depth + 1, f"{ahead}{'└─ ' if last else '├─ '}", f"{ahead}{'   ' if last else '│  '}")
