"""What may have to wait (for a store, a file, a server) is done aside, on a thread, so that no event loop stands still.

Threads of our own: the default executor of a loop has six of them on two cores, and the host's work waits there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future, ThreadPoolExecutor

P = ParamSpec("P")
T = TypeVar("T")

_trying: ContextVar[bool] = ContextVar("costguard_trying", default=False)


class WouldWait(BaseException):
    """What was tried at once would have to wait."""


def may_wait() -> None:
    """What follows may have to wait.

    Raises:
        WouldWait: it is being tried at once; nothing has been changed.
    """
    if _trying.get():
        raise WouldWait


def decided() -> None:
    """What was tried at once is done: what comes of it may wait."""
    if _trying.get():
        _trying.set(False)


THREADS = 128
"""At most, per process; stores do together what that many ask for at once."""
_MISSING = object()


class Aside:
    """Does things on a thread where they may have to wait, and on the spot where they do not.

    Args:
        waits: Whether they may have to wait at any time: for a store that is not in this process.
        due: Says whether they may have to now, for something else; None where there is nothing else.
        leased: Whether they seldom have to: what they ask for is at hand most often.
    """

    def __init__(self, *, waits: bool, due: Callable[[], bool] | None = None, leased: bool = False) -> None:
        self._lasting = waits
        self._leased = leased
        self._due = due
        self._preparing = False

    @property
    def waits(self) -> bool:
        """Whether something may have to wait now."""
        return self._lasting or self._preparing or (self._due is not None and self._due())

    def never(self, *, ends: bool) -> bool:
        """Whether nothing will have to wait from now on; where a call ``ends``, nothing else is ever due."""
        return not self._lasting and (ends or self._due is None) and not self._preparing

    def at_once(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Do it on the spot if it need not wait; false, with nothing changed, where it has to, or most often has."""
        if not self._leased or self._preparing or (self._due is not None and self._due()):
            return False
        token = _trying.set(True)
        try:
            function(*args, **kwargs)
        except WouldWait:
            return False
        finally:
            _trying.reset(token)
        return True

    def prepare(self, function: Callable[[], object]) -> None:
        """Do on a thread what has to be read from files before the first call; until then calls may have to wait."""
        self._preparing = True

        def run() -> None:
            try:
                function()
            finally:
                self._preparing = False

        _submit(run)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``function(*args, **kwargs)``; what it sets in the context is set for the caller.

        A caller that is cancelled learns of it when the function is over: nothing goes on behind its back.
        """
        if not self.waits:
            return function(*args, **kwargs)
        import asyncio  # not light; whoever awaits has it

        context = copy_context()
        done = asyncio.wrap_future(_submit(context.run, partial(function, *args, **kwargs)))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await _over(done)
            raise
        finally:
            _adopt(context)

    def later(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """The same without waiting for it, on an event loop; at once on a thread that may wait."""
        if self.waits and _on_a_loop():
            _submit(copy_context().run, partial(function, *args, **kwargs))
        else:
            function(*args, **kwargs)


def _on_a_loop() -> bool:
    from asyncio import _get_running_loop

    return _get_running_loop() is not None


async def _over(done: asyncio.Future[T]) -> None:
    import asyncio

    while not done.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([done])
    done.exception()  # it has been looked at


def _adopt(context: Context) -> None:
    """What was set on the thread is set here. A token is good in the context alone in which it was made: nobody who
    may be run aside keeps one for later."""
    for variable, value in context.items():
        if variable.get(_MISSING) is not value:
            variable.set(value)


_pool: ThreadPoolExecutor | None = None
_pid = 0


def _submit(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    global _pool, _pid
    from concurrent.futures import Future, ThreadPoolExecutor

    if _pool is None or _pid != os.getpid():  # a forked child has none of its parent's threads
        _pool, _pid = ThreadPoolExecutor(THREADS, thread_name_prefix="costguard-aside"), os.getpid()
    try:
        return _pool.submit(function, *args, **kwargs)
    except RuntimeError:  # the interpreter is ending: there is nobody any more who could be kept waiting
        done: Future[T] = Future()
        try:
            done.set_result(function(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done
