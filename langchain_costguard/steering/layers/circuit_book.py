"""What a store keeps of shared circuits, and how each of their changes is made by one worker only."""

from __future__ import annotations

from math import ceil
from typing import Literal, NamedTuple

from langchain_costguard.metering.budgets.budget import quoted
from langchain_costguard.metering.stores.base import MAX_AMOUNT, Claim, Refusal, Store


class State(NamedTuple):
    """A circuit as the store has it; ``since`` is the epoch second it opened, 0 where it is closed."""

    generation: int
    failures: int
    since: float


class Book:
    """Circuits as accounts of a store. Nothing of them is a budget's measure, so no report lists them.

    ``generation`` counts the changes of a circuit, one that closes as well as one that opens: it is open where the
    number is odd (opened again by a failed probe: two more). A claim of no units on it, with the number itself for a
    cap, fits only while it is still that number: so each change is made once, however many workers see its cause. The
    other accounts are of one generation, and are never set back: ``failures`` in a row, ``since`` when it is open, the
    ``probe``, and who is ``leaving`` it.
    """

    _CHANGING = 10
    """Seconds after which a worker that died between the two steps of a change no longer stands in its way."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def look(self, name: str, known: int, now: float) -> State:
        """The state; one round trip where the generation is the one known, else two."""
        for _ in range(4):
            accounts = [self._account(name, what) for what in ("generation", f"{known}|failures", f"{known}|since")]
            generation, failures, since = self._store.read(accounts, now=now)
            if generation.spent == known:
                break
            known = generation.spent
        return State(known, failures.spent, since.spent / 1000)

    def failed(self, name: str, generation: int, now: float) -> int:
        """Count a failure; the number of them in a row."""
        claim = self._claim(name, f"{generation}|failures")
        return self._store.settle([claim], [0], [1], until=ceil(now), now=now)[0]

    def forgive(self, name: str, generation: int, failures: int, now: float) -> None:
        """After a success: so many failures are not counted any more."""
        claim = self._claim(name, f"{generation}|failures")
        (total,) = self._store.settle([claim], [0], [-failures], until=ceil(now), now=now)
        if total < 0:  # another worker forgave the same ones
            self._store.settle([claim], [0], [min(-total, failures)], until=ceil(now), now=now)

    def probe(self, name: str, generation: int, until: int, now: float) -> Literal["granted", "taken", "moved"]:
        """Ask to be the one that makes the probe, until then (epoch seconds)."""
        claims = [self._still(name, generation), self._claim(name, f"{generation}|probe", cap=1, fixed=1)]
        answer = self._store.reserve(claims, units=(0, 0), until=until, now=now)
        if isinstance(answer, Refusal):
            return "taken" if answer.index else "moved"
        return "granted"

    def give_back(self, name: str, generation: int, until: int, now: float) -> None:
        """The probe was not made: another may be."""
        self._store.settle([self._claim(name, f"{generation}|probe", cap=1)], [1], [0], until=until, now=now)

    def move(self, name: str, generation: int, steps: int, now: float) -> float | None:
        """Change the state; epoch seconds since when it is the new one, or None where another worker changes it."""
        until, new = ceil(now) + self._CHANGING, generation + steps
        claims = [self._still(name, generation), self._claim(name, f"{generation}|leaving", cap=1, fixed=1)]
        clocks = [self._claim(name, f"{new}|since")._replace(clock=True)] if new % 2 else []
        answer = self._store.reserve([*claims, *clocks], units=(0, 0), until=until, now=now)
        if isinstance(answer, Refusal):
            return None
        self._store.settle(claims, [0, 1], [steps, 0], until=until, now=now)
        return answer.started[0] / 1000 if clocks else now

    def _still(self, name: str, generation: int) -> Claim:
        # By the unit, of which none is asked for: a claim of a fixed 0 asks for nothing, and fits whatever was spent.
        # Kept far longer than what belongs to a generation, whose number must not come again while that is there.
        return self._claim(name, "generation", cap=generation)._replace(per_unit=1, ttl=400 * 86_400)

    def _claim(self, name: str, what: str, *, cap: int = MAX_AMOUNT, fixed: int = 0) -> Claim:
        return Claim(self._account(name, what), cap, fixed, ttl=2 * 86_400)

    def _account(self, name: str, what: str) -> str:
        return f"circuits|{self._prefix}|{quoted(name)}|{what}"
