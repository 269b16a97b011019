"""Handlers that need no config, through LangChain's configure hook: ``guard.watch()`` for the whole process, and a
guard that steers an agent, for what runs inside it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler


class _Slot:
    """What a configure hook reads its handler from: here the same in every thread and task.

    LangChain only ever calls ``get()`` on it, and adds what it returns unless that very object is attached already.
    https://github.com/langchain-ai/langchain/blob/master/libs/core/langchain_core/callbacks/manager.py (_configure)
    """

    def __init__(self) -> None:
        self.handler: BaseCallbackHandler | None = None

    def get(self) -> BaseCallbackHandler | None:
        return self.handler


_slots: list[_Slot] = []
_lock = threading.Lock()


RECALLED = "costguard_recalled"
"""The metadata of a run that a cache of ours answers: it costs nothing, and is not metered."""
OURS = uuid4().hex
"""Its value in this process: nobody's own metadata is mistaken for it."""

_attached: ContextVar[BaseCallbackHandler | None] = ContextVar("costguard_attached", default=None)
_hooked: list[object] = []


def _hook(variable: Any) -> None:
    """Have LangChain look there for a handler whenever it starts something.

    Its module brings ``langsmith`` along, a third of a second: only who attaches a guard this way needs it. LangChain
    imports it as late itself.
    https://github.com/langchain-ai/langchain/blob/master/libs/core/langchain_core/callbacks/manager.py (_configure)
    """
    if variable not in _hooked:
        from langchain_core.tracers.context import register_configure_hook

        register_configure_hook(variable, inheritable=True)
        _hooked.append(variable)


@contextmanager
def attached(handler: BaseCallbackHandler) -> Iterator[None]:
    """Attach ``handler`` to what LangChain starts in this context while the block runs."""
    _hook(_attached)
    token = _attached.set(handler)
    try:
        yield
    finally:
        _attached.reset(token)


def attached_here() -> BaseCallbackHandler | None:
    """The handler that is attached to this context."""
    return _attached.get()


class watching:
    """Attach ``handler`` to everything LangChain and LangGraph do in this process, from now on until ``stop()``, or to
    the end of the ``with`` block."""

    def __init__(self, handler: BaseCallbackHandler) -> None:
        self._handler = handler
        self._slot: _Slot | None = None
        self._start()

    def _start(self) -> None:
        with _lock:
            slot = next((slot for slot in _slots if slot.handler is None), None)
            if slot is None:
                # Hooks cannot be unregistered, so a slot is used again; there are as many as were ever used at once.
                slot = _Slot()
                _hook(slot)
                _slots.append(slot)
            slot.handler, self._slot = self._handler, slot

    def stop(self) -> None:
        """Watch no longer; again does nothing."""
        if self._slot is not None:
            self._slot.handler, self._slot = None, None

    def __enter__(self) -> Self:
        if self._slot is None:
            self._start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<watching with {self._handler!r}{'' if self._slot is not None else ', stopped'}>"
