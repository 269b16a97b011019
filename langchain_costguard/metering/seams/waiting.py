"""Admission that may wait: for a wrapped model, where waiting is safe, until holds of other calls have settled.

Written once, as a generator that yields what it waits for; ``drive`` and ``adrive`` are its two worlds.
"""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Generator
from concurrent.futures import Future
from typing import TYPE_CHECKING

from langchain_costguard.metering.admission import Admission
from langchain_costguard.metering.amounts import affordable
from langchain_costguard.metering.aside import Aside
from langchain_costguard.metering.brake import Brake
from langchain_costguard.metering.budgets.line import Line, Lines, Ticket
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.voice import Voice

if TYPE_CHECKING:
    from langchain_costguard.metering.calls import Call

_POLL_SHARED = 0.05
_POLL_HERE = 0.5
"""Seconds between tries of the head of a line: other processes settle without telling us; here only expiry does. The
others in line look as rarely whether they were halted."""

Wait = tuple["Future[None]", float]
Admitting = Generator[Wait, None, None]


class Waiting:
    """Lets strict calls wait for their turn.

    Args:
        meter: Whose accounts are waited for.
        admission: Tries.
        brake: May halt what waits.
        voice: Tells of what was refused in the end.
        lines: The lines, by account.
        seconds: How long a call waits at the most.
    """

    def __init__(
        self, meter: Meter, *, admission: Admission, brake: Brake, voice: Voice, lines: Lines, seconds: float
    ) -> None:
        self._meter = meter
        self._admission = admission
        self._brake = brake
        self._voice = voice
        self._lines = lines
        self._seconds = seconds
        self._poll = _POLL_SHARED if meter.ledger.store.shared else _POLL_HERE

    def admit(self, call: Call, *, patient: bool = True) -> Admitting:
        """Admit ``call``, waiting for its turn while only holds stand in the way; lowers ``call.ceiling`` where money
        does.

        One that is not ``patient`` does not wait: it is part of a call whose own hold it would wait for.

        Raises:
            CostGuardError: it does not fit, or did not within the time.
        """
        if call.hold is not None:  # the callback did
            return
        deadline = time.monotonic() + (self._seconds if patient else 0)
        floor, ceiling = min(self._meter.floor + call.thinks, call.ceiling), call.ceiling
        place, waits = self._behind_others(call), True
        try:
            while True:
                if place is not None and waits:
                    line, ticket = place
                    left = deadline - time.monotonic()
                    yield ticket.turn, max(0.0, min(self._poll if line.leads(ticket) else _POLL_HERE, left))
                    self._brake.check_call(call)
                    if not line.leads(ticket) and left > 0:
                        continue
                    line.wait_again(ticket)
                waits = False  # who asks for less does so at once: it is still its turn, and nobody will call it
                denial = self._admission.try_admit(call, ceiling)
                if denial is None:
                    return
                within = affordable(call, denial)
                if within < floor or (denial.refusal.by_holds and time.monotonic() >= deadline):
                    if ceiling > floor:  # the refusal is told in figures of the least that would do
                        ceiling = floor
                        continue
                    raise self._voice.refused(
                        call, self._meter.over_budget(denial, f"a call to {call.name}", call.scope)
                    )
                if not denial.refusal.by_holds:
                    ceiling = min(ceiling - 1, within)
                    continue
                waits = True
                if place is None or self._lines.get(denial.account.name) is not place[0]:
                    self._leave(place)
                    place = self._lines.join(denial.account.name)
        finally:
            self._leave(place)

    def _behind_others(self, call: Call) -> tuple[Line, Ticket] | None:
        if not self._lines:
            return None
        for account in self._meter.ledger.accounts(call.scope, call.step_id, call.started):
            line = self._lines.get(account.name)
            if line is not None and len(line):
                return line, line.join()
        return None

    def _leave(self, place: tuple[Line, Ticket] | None) -> None:
        if place is not None:
            self._lines.leave(*place)


def drive(flow: Admitting) -> None:
    """Run an admission on this thread."""
    try:
        for turn, seconds in flow:
            concurrent.futures.wait([turn], timeout=seconds)
    finally:
        flow.close()


async def adrive(flow: Admitting, aside: Aside) -> None:
    """Run an admission on this event loop, without blocking it."""
    import asyncio  # where it is not loaded yet, nobody calls this

    try:
        while (wanted := await aside.run(next, flow, None)) is not None:
            turn, seconds = wanted
            await asyncio.wait([asyncio.wrap_future(turn)], timeout=seconds)
    finally:
        flow.close()
