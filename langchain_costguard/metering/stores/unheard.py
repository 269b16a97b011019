"""Reservations whose answer nobody heard: asked for once more by the same name, until it is known, and given back.

A server carries out a name once, and says again what it said then: so no hold of a call that was refused for want of
an answer stands in anybody's way.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from langchain_costguard.metering.stores.base import Claim, Grant, Refusal, StoreError
from langchain_costguard.observe.background import Writer

Make = Callable[[str, Sequence[Claim], tuple[int, int], int, float], Grant | Refusal]
Settle = Callable[[Sequence[Claim], Sequence[int], Sequence[int], int, float], list[int]]


class _Asked(NamedTuple):
    name: str
    claims: Sequence[Claim]
    units: tuple[int, int]
    until: int
    now: float
    at: float


class Unheard:
    """Gives back what was reserved unheard, behind the calls.

    Args:
        make: Reserves, once for each name.
        settle: As ``Store.settle``, of accounts that do not repeat.
    """

    def __init__(self, make: Make, settle: Settle) -> None:
        self._make = make
        self._settle = settle
        # What is not given back when the process ends is a hold that expires.
        self._writer: Writer[_Asked] = Writer(self._give_back, name="holds", lost=lambda _: None)

    @contextmanager
    def named(self, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float) -> Iterator[str]:
        """A name that no reservation has, to make this one by; where nothing is heard of it, it is given back."""
        name = os.urandom(12).hex()
        try:
            yield name
        except BaseException:
            self._writer.put(_Asked(name, claims, units, until, now, time.monotonic()))
            raise

    def flush(self, seconds: float) -> None:
        """Give back what is left."""
        if len(self._writer):
            self._writer.flush(seconds)

    def _give_back(self, asked: list[_Asked]) -> None:
        try:
            while asked:
                name, claims, units, until, then, at = asked[0]
                now = then + time.monotonic() - at
                answer = self._make(name, claims, units, until, now) if now < until else None
                del asked[0]
                if isinstance(answer, Grant):
                    self._return(claims, answer.units, until, now)
        except StoreError:
            if self._writer.seconds_left < math.inf:  # the process is ending, and need not wait for this
                asked.clear()
            else:  # the error may be of its accounts alone, and last: it keeps nobody waiting
                self._writer.put(asked.pop(0))
            raise

    def _return(self, claims: Sequence[Claim], units: int, until: int, now: float) -> None:
        held = [0 if claim.clock else claim.fixed + claim.per_unit * units for claim in claims]
        # Nobody knows whether one that fails was carried out: asked for again, it might give back another's hold.
        with suppress(StoreError):
            self._settle(claims, held, [0] * len(claims), until, now)
