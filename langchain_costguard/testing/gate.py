"""A gate that holds the fake provider's answers until a test lets them go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable


class Gate(threading.Event):
    """A ``threading.Event`` that requests on the provider's loop can wait for.

    ``set()`` lets go all that wait now or later; ``set()`` then ``clear()`` lets go exactly those that wait now.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open = asyncio.Event()

    def set(self) -> None:
        """Let everything go."""
        super().set()
        self._tell(self._open.set)

    def clear(self) -> None:
        """Hold what comes from now on."""
        super().clear()
        self._tell(self._open.clear)

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Bind it to the loop whose requests wait (None: to none); called by the provider."""
        self._loop, self._open = loop, asyncio.Event()
        if self.is_set():
            self._open.set()

    async def passed(self) -> None:
        """Wait, on the provider's loop, until the gate is open."""
        await self._open.wait()

    def _tell(self, change: Callable[[], None]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(change)
