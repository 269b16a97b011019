"""Attempts at one call: when to wait before it, when to make it again, and when not to make it for a while."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from langchain_costguard.events.steered import CircuitClosed, CircuitOpened, Retried, ShortCircuited, Throttled
from langchain_costguard.steering.flow import Asking, Flow, Sleep
from langchain_costguard.steering.layers.circuits import Circuits, unavailable
from langchain_costguard.steering.policies.retries import Retry, advice, retry_after
from langchain_costguard.vocabulary.errors import CircuitOpenError

if TYPE_CHECKING:
    from langchain_costguard.steering.layers.spending_rate import Rate
    from langchain_costguard.steering.policies.pace import Pace
    from langchain_costguard.steering.surroundings import Here


def retrying(retry: Retry, here: Here, ask: Asking, request: Any) -> Flow[Any]:
    """Make the call again where its failure is of a class that waiting cures, within the ``seconds`` of its budgets."""
    attempt = 1
    failure: Exception | None = None
    while True:
        try:
            return (yield from ask(request))
        except Exception as error:
            if failure is not None and isinstance(error, CircuitOpenError):
                raise error from failure  # which opened the circuit, and is not ours to hide
            failure = error
            if here.out or getattr(request, "paid", None):  # a node that runs again pays again what was paid in it
                raise
            kind = retry.classify(error)
            after = retry_after(error, now=here.guard.now())
            seconds = retry.wait(kind, attempt, after=after, jitter=random.random())
            if seconds is None:
                _note(error, advice(kind))
                raise
            if seconds >= here.guard.headroom(here.scope).seconds_left:
                _note(error, f"It was not tried again, for in {seconds:.1f} s the time of a budget is over.")
                raise
            why = f"{type(error).__name__} ({kind}) on attempt {attempt} of {retry.attempts}"
            here.tell(Retried, why, kind=str(kind), attempt=attempt, seconds=seconds)
        yield Sleep(seconds)
        attempt += 1


def _note(error: BaseException, text: str) -> None:
    if text and text not in getattr(error, "__notes__", ()):
        error.add_note(text)


def breaking(circuits: Circuits, here: Here, ask: Asking, request: Any) -> Flow[Any]:
    """Leave a model alone that fails again and again."""
    return (yield from through(circuits, here, ask, request, here.name))


def through(
    circuits: Circuits, here: Here, ask: Asking, request: Any, name: str, saved: Callable[[], int | None] | None = None
) -> Flow[Any]:
    """Make a call through its circuit.

    Raises:
        CircuitOpenError: it is open.
    """
    entry = circuits.admit(name)
    if entry.seconds > 0:
        text = unavailable(name, entry.seconds)
        why = f"the circuit is open for {entry.seconds:.0f} s more"
        here.tell(ShortCircuited, why, name=name, saved=(saved() if saved else 0) or 0)
        raise CircuitOpenError(text, name=name, seconds=entry.seconds)
    try:
        answer = yield from ask(request)
    except GeneratorExit:
        circuits.abandon(name, entry)
        raise
    except Exception as error:
        record(circuits, here, name, entry, error)
        raise
    record(circuits, here, name, entry, answer)
    return answer


def record(circuits: Circuits, here: Here, name: str, entry: Any, outcome: Any) -> None:
    """Count how a call ended, and tell where that opened or closed its circuit."""
    change = circuits.record(name, entry, outcome)
    if change == "opened":
        breaker = circuits.breaker
        why = f"{breaker.failures} failures in a row: not called for {breaker.open_seconds:g} s"
        here.tell(CircuitOpened, why, name=name)
    elif change == "closed":
        here.tell(CircuitClosed, "a probe succeeded", name=name)


def throttling(pace: Pace, rate: Rate | None, here: Here, ask: Asking, request: Any) -> Flow[Any]:
    """Delay a call near a limit or above a rate. A wait takes half of a budget's ``seconds`` at the most: the rest is
    for work."""
    seconds, why = 0.0, ""
    if pace.throttle_at is not None:
        share = here.headroom.share
        seconds, why = pace.near(share), f"{share:.0%} of a budget is used"
    if rate is not None and pace.nano_per_minute is not None and rate.total() >= pace.nano_per_minute:
        above = pace.above(rate.charges(), here.guard.now())
        if above > seconds:
            seconds, why = above, "spending is above its rate per minute"
    if seconds > 0:
        seconds = min(seconds, here.headroom.seconds_left / 2)
        here.tell(Throttled, why, seconds=seconds)
        yield Sleep(seconds)
    return (yield from ask(request))
