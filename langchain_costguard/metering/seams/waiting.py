"""Admission that may wait: for a wrapped model, where waiting is safe, until holds of other calls have settled.

Written once, as a generator that yields what it waits for; ``drive`` and ``adrive`` are its two worlds.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Generator
from concurrent.futures import Future
from typing import TYPE_CHECKING

from langchain_costguard.metering.budgets.line import Line, Ticket
from langchain_costguard.metering.meter import affordable

if TYPE_CHECKING:
    from langchain_costguard.guard import CostGuard
    from langchain_costguard.metering.calls import Call

_POLL_SHARED = 0.05
_POLL_HERE = 0.5
"""Seconds between tries of the head of a line: other processes settle without telling us; here only expiry does. The
others in line look as rarely whether they were halted."""

Wait = tuple["Future[None]", float]
Admission = Generator[Wait, None, None]


def admission(guard: CostGuard, call: Call, *, patient: bool = True) -> Admission:
    """Admit ``call``, waiting for its turn while only holds stand in the way; lowers ``call.ceiling`` where money does.

    One that is not ``patient`` does not wait: it is part of a call whose own hold it would wait for.

    Raises:
        CostGuardError: it does not fit, or did not within ``guard.wait`` seconds.
    """
    if call.hold is not None:  # the callback did
        return
    deadline = time.monotonic() + (guard.wait if patient else 0)
    poll = _POLL_SHARED if guard.store.shared else _POLL_HERE
    floor, ceiling = min(guard.floor, call.ceiling), call.ceiling
    place = _behind_others(guard, call)
    try:
        while True:
            if place is not None:
                left = deadline - time.monotonic()
                yield place[1].turn, max(0.0, min(poll if place[0].leads(place[1]) else _POLL_HERE, left))
                guard.check_halt(call)
                if not place[0].leads(place[1]) and left > 0:
                    continue
                place[0].wait_again(place[1])
            denial = guard.try_admit(call, ceiling)
            if denial is None:
                return
            within = affordable(call, denial)
            if within < floor or (denial.refusal.by_holds and time.monotonic() >= deadline):
                if ceiling > floor:  # the refusal is told in figures of the least that would do
                    ceiling = floor
                    continue
                raise guard.refused(call, guard.over_budget(denial, f"a call to {call.name}", call.scope))
            if not denial.refusal.by_holds:
                ceiling = min(ceiling - 1, within)
            elif place is None or guard.lines.get(denial.account.name) is not place[0]:
                _leave(guard, place)
                place = _join(guard, denial.account.name)
    finally:
        _leave(guard, place)


def drive(flow: Admission) -> None:
    """Run an admission on this thread."""
    try:
        for turn, seconds in flow:
            concurrent.futures.wait([turn], timeout=seconds)
    finally:
        flow.close()


async def adrive(flow: Admission) -> None:
    """Run an admission on this event loop, without blocking it."""
    try:
        for turn, seconds in flow:
            await asyncio.wait([asyncio.wrap_future(turn)], timeout=seconds)
    finally:
        flow.close()


def _behind_others(guard: CostGuard, call: Call) -> tuple[Line, Ticket] | None:
    if not guard.lines:
        return None
    for account in guard.meter.ledger.accounts(call.scope, call.step_id, call.started):
        line = guard.lines.get(account.name)
        if line is not None and len(line):
            return line, line.join()
    return None


def _join(guard: CostGuard, account: str) -> tuple[Line, Ticket]:
    with guard.lines_lock:
        line = guard.lines.setdefault(account, Line(account))
        return line, line.join()


def _leave(guard: CostGuard, place: tuple[Line, Ticket] | None) -> None:
    if place is None:
        return
    line, ticket = place
    with guard.lines_lock:
        line.leave(ticket)
        if not len(line) and guard.lines.get(line.account) is line:
            del guard.lines[line.account]
