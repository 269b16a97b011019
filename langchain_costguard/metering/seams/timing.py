"""A wrapped model's call takes no more than the budgets leave: no longer than their seconds, no more output tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from langchain_costguard.metering.fates import Fate, fate

if TYPE_CHECKING:
    from langchain_costguard.metering.calls import Call
    from langchain_costguard.metering.seams.host import Host


class Overtime(BaseException):
    """The budgets' seconds are over while a call is under way. No client takes it for a failure to try again."""


@asynccontextmanager
async def in_time(guard: Host, call: Call) -> AsyncIterator[None]:
    """Cancel what is awaited in the block when the budgets' seconds are over."""
    left = guard.settlement.seconds_left(call)
    if left is None:
        yield
        return
    try:
        async with asyncio.timeout(left) as clock:
            yield
    except TimeoutError:
        if clock.expired():
            raise Overtime from None
        raise


def timed(guard: Host, model: Any, call: Call, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the request's own timeout lowered to what the budgets' seconds leave, where the client takes
    one: nothing else ends a call that blocks its thread."""
    left = guard.settlement.seconds_left(call)
    if left is None or not any(base.__name__ in _TAKE_TIMEOUT for base in type(model).__mro__):
        return kwargs
    own = next((kwargs[name] for name in ("timeout", "request_timeout") if kwargs.get(name) is not None), None)
    own = getattr(model, "request_timeout", getattr(model, "default_request_timeout", None)) if own is None else own
    if isinstance(own, int | float) and own <= left:
        return kwargs
    return {**kwargs, "timeout": max(left, _LEAST_TIMEOUT)}


def too_late(guard: Host, call: Call, error: BaseException) -> bool:
    """Whether a client gave up waiting because the budgets' seconds were over: its own timeout was lowered to them."""
    return isinstance(error, Exception) and fate(error) is Fate.UNKNOWN and guard.settlement.seconds_left(call) == 0


_TAKE_TIMEOUT = frozenset({"BaseChatOpenAI", "ChatAnthropic", "ChatGroq"})
"""Clients that hand a ``timeout`` of the call on to an SDK that knows it."""
_LEAST_TIMEOUT = 0.001
