"""Flows: a policy of steering, written once as a generator, and the drivers that run it in either world.

A flow yields what it wants done (``Call``, ``Run``, ``Sleep``), is sent what came of it, and returns its reply, in the
manner of httpx' ``auth_flow``. Policies nest by ``yield from``: each is given ``ask``, the flow of all that is inside.

The drivers are the one place that knows which exceptions a policy may see: not an interrupt of the host's, which is on
its way to the graph, and not a cancellation. Those close the flow and go on.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

from langgraph.errors import GraphBubbleUp

from langchain_costguard.metering.aside import Aside
from langchain_costguard.vocabulary.errors import CostGuardError

R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Call(NamedTuple):
    """Make this request of the model, the tool or the node; ``last`` may spend a budget's reserve.

    ``facts`` are metadata of the model's run, for whoever traces it.
    """

    request: Any
    last: bool = False
    facts: Mapping[str, Any] = {}


class Run(NamedTuple):
    """Call a user's function, which may be slow or (in the async world) a coroutine function.

    ``afunction`` is called instead in the async world, where there is one.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    afunction: Callable[..., Awaitable[Any]] | None = None


class Sleep(NamedTuple):
    """Wait so many seconds."""

    seconds: float


class Ended(NamedTuple):
    """A flow is over, and has returned this."""

    value: Any


Wanted = Call | Run | Sleep
Flow = Generator[Wanted, Any, R]
Asking = Callable[[Any], Flow[Any]]
"""The inside of a policy: the flow that answers a request."""


def passes(error: BaseException) -> bool:
    """Whether an exception is the host's business: no policy sees it. Nor does a generator take a ``StopIteration``."""
    return (
        not isinstance(error, Exception)
        or isinstance(error, (StopIteration, StopAsyncIteration))
        or (isinstance(error, GraphBubbleUp) and not isinstance(error, CostGuardError))
    )


def drive(flow: Flow[R], call: Callable[[Call], Any]) -> R:
    """Run a flow on this thread."""
    step: Callable[[], Wanted] = partial(next, flow)
    try:
        while True:
            try:
                wanted = step()
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            try:
                answer = call(wanted) if isinstance(wanted, Call) else perform(wanted)
            except BaseException as error:
                if passes(error):
                    raise
                step = partial(flow.throw, error)
            else:
                step = partial(flow.send, answer)
    finally:
        flow.close()


async def adrive(flow: Flow[R], call: Callable[[Call], Awaitable[Any]], aside: Aside) -> R:
    """Run a flow on this event loop, without blocking it: what happens in it between what it wants may have to wait
    for a store, and is done aside."""
    try:
        wanted = await astep(aside, flow.send, None)
        while not isinstance(wanted, Ended):
            try:
                answer = await call(wanted) if isinstance(wanted, Call) else await aperform(wanted)
            except BaseException as error:
                if passes(error):
                    raise
                wanted = await astep(aside, flow.throw, error)
            else:
                wanted = await astep(aside, flow.send, answer)
        return wanted.value  # type: ignore[no-any-return]
    finally:
        leave(flow, aside)


def leave(flow: Flow[Any], aside: Aside) -> None:
    """Close a flow that may not have ended."""
    if inspect.getgeneratorstate(flow) != inspect.GEN_CLOSED:
        aside.later(flow.close)


async def astep(aside: Aside, verb: Callable[[Any], Wanted], value: Any) -> Wanted | Ended:
    """Let a flow go on to what it wants next, or to its end."""
    return await aside.run(_step, verb, value)


def _step(verb: Callable[[Any], Wanted], value: Any) -> Wanted | Ended:
    try:
        return verb(value)
    except StopIteration as done:  # cannot be raised across threads
        return Ended(done.value)


def no_calls(wanted: Call) -> Any:
    """For the drivers of flows that make no calls."""
    raise AssertionError(wanted)


def perform(wanted: Run | Sleep) -> Any:
    """Do what a flow wants besides calls, on this thread."""
    if isinstance(wanted, Sleep):
        return time.sleep(wanted.seconds)
    answer = wanted.function(*wanted.args)
    if inspect.iscoroutine(answer):
        answer.close()
        raise TypeError(f"{wanted.function!r} is a coroutine function: run the agent with ainvoke or astream")
    return answer


def quick(function: F) -> F:
    """Mark a function that is not worth a thread: it neither waits nor computes for long."""
    function.quick = True  # type: ignore[attr-defined]
    return function


async def aperform(wanted: Run | Sleep) -> Any:
    """Do what a flow wants besides calls; what is neither quick nor a coroutine function runs on a thread."""
    if isinstance(wanted, Sleep):
        return await asyncio.sleep(wanted.seconds)
    if wanted.afunction is not None:
        return await wanted.afunction(*wanted.args)
    function = wanted.function
    if getattr(function, "quick", False):
        return function(*wanted.args)
    call = getattr(function, "__call__", None)  # noqa: B004 - an object's own may be the coroutine function
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
        return await function(*wanted.args)
    answer = await asyncio.to_thread(function, *wanted.args)
    return await answer if inspect.isawaitable(answer) else answer
