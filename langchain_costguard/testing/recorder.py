"""A sink that remembers."""

from __future__ import annotations

from typing import TypeVar

E = TypeVar("E")


class Recorder:
    """A sink that keeps every event it is given, in order: ``CostGuard(..., sinks=[recorder])``."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def __call__(self, event: object) -> None:
        """Remember an event."""
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one type, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def clear(self) -> None:
        """Forget everything."""
        self.events.clear()
