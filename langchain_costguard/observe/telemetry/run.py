"""A run between its beginning and its end, as spans know it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from langchain_costguard.observe.witness import Began
from langchain_costguard.vocabulary.scope import Scope


class Run:
    """A run that has begun: what it was given, and its span once there is one."""

    # fmt: off
    __slots__ = (
        "agent", "answered", "charge", "children", "error", "held", "kind", "name", "named", "parent", "ready", "run",
        "scope", "span", "theirs",
    )
    # fmt: on

    def __init__(self, kind: str, name: str, parent: UUID | None, run: Began | None) -> None:
        self.kind, self.name, self.parent, self.run = kind, name, parent, run
        self.agent = ""
        self.scope = Scope()
        self.span: Any = None
        self.held = self.charge = 0
        self.ready = False
        """The money is known."""
        self.answered = ""
        """Which model did, as its price was found; a reply's body may give a gateway's or a router's name for it."""
        self.theirs = False
        """Another instrumentation makes the span."""
        self.named = False
        """Of an agent or graph: it is known who is spending in it."""
        self.error = ""
        self.children: list[UUID] = []
