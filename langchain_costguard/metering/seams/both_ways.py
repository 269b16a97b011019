"""Events that are plain functions for the managers that call them, and coroutines for those that await them.

LangChain asks of each event whether it is a coroutine function. One that is cannot refuse anything under ``invoke``,
where what it raises is logged and swallowed; one that is not blocks the event loop under ``ainvoke``.
https://github.com/langchain-ai/langchain/blob/master/libs/core/langchain_core/callbacks/manager.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import update_wrapper
from inspect import CO_COROUTINE
from types import MethodType
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def event(waits: Callable[..., bool]) -> Callable[[F], F]:
    """An event that, fetched by a coroutine, is one itself, and is done aside when ``waits`` says that it may wait.

    ``waits`` is called as the event is.
    """

    def both(function: F) -> F:
        return cast("F", _Event(function, waits))

    return both


class _Event:
    def __init__(self, function: Callable[..., None], waits: Callable[..., bool]) -> None:
        starts = function.__name__.endswith("_start")
        self.__doc__ = function.__doc__

        async def awaited(handler: Any, *args: Any, **kwargs: Any) -> None:
            from asyncio import CancelledError

            if not waits(handler, *args, **kwargs):
                function(handler, *args, **kwargs)
                return
            if starts and not handler.voice.witnesses and handler.aside.at_once(function, handler, *args, **kwargs):
                return

            try:
                await handler.aside.run(function, handler, *args, **kwargs)
            except CancelledError:
                if starts:
                    handler.aside.later(handler.settlement.not_made, kwargs["run_id"])
                raise
            call = handler.meter.open_calls.get(kwargs["run_id"].int)
            if call is not None:  # on the thread there was no task that it could belong to
                handler.meter.books.belongs_here(call)

        self._awaited = update_wrapper(awaited, function)

        self._bind = function.__get__
        self._name = function.__name__
        self._ends = self._name.endswith(("_end", "_error"))

    def __get__(self, handler: Any, owner: type[Any]) -> Any:
        if handler is None:
            return self._bind(handler, owner)
        if handler.aside.never(ends=self._ends):  # from now on the handler's own attribute is found first
            bound = handler.__dict__[self._name] = self._bind(handler, owner)
            return bound
        if handler.aside.waits and sys._getframe(1).f_code.co_flags & CO_COROUTINE:
            return MethodType(self._awaited, handler)
        return self._bind(handler, owner)
