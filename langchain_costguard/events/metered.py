"""What the meter did: calls admitted, settled and refused, alerts, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef, Usage


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at ``at`` (epoch seconds), to whom."""

    at: float
    scope: Scope


@dataclass(frozen=True, slots=True)
class CallStarted(Event):
    """A model or tool call was admitted; ``held`` is reserved for it."""

    run_id: UUID
    name: str
    kind: str
    held: int


@dataclass(frozen=True, slots=True)
class CallSettled(Event):
    """A model call was paid. ``estimated`` is true where the provider did not say what it used."""

    run_id: UUID
    model: ModelRef
    usage: Usage
    charge: int
    held: int
    saved: int
    estimated: bool
    seconds: float
    first_token_seconds: float | None
    source: str = "priced"
    """Whose figure ``charge`` is: the ``provider``'s own bill, our price times its counts (``priced``), or counts of
    ours (``estimated``)."""
    priced: int | None = None
    """What our prices make of the usage (nano-USD), also where the provider's bill says otherwise."""


@dataclass(frozen=True, slots=True)
class CallFailed(Event):
    """A model call ended in an error, whose class ``error`` names. ``kind`` says what that costs: ``unsent`` and
    ``unbilled`` nothing, ``partly`` what was seen, ``unknown`` what was held. ``status`` is HTTP's, where there is one.
    """

    run_id: UUID
    model: ModelRef
    kind: str
    error: str
    status: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class ToolSettled(Event):
    """A tool call ended; ``charge`` is its fee."""

    run_id: UUID
    tool: str
    charge: int
    seconds: float
    failed: bool


@dataclass(frozen=True, slots=True)
class CacheHit(Event):
    """LangChain's cache answered: ``saved`` is what the call would have cost."""

    run_id: UUID
    model: ModelRef
    usage: Usage
    saved: int


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """A start was refused, or (``midway``) a stream was stopped; ``error`` names the class, ``message`` says why."""

    run_id: UUID | None
    kind: str
    name: str
    error: str
    message: str
    midway: bool = False


@dataclass(frozen=True, slots=True)
class Alert(Event):
    """A budget's total passed ``threshold`` (a share of its cap). Told once, by the worker whose charge passed it."""

    budget: str
    measure: str
    account: str
    threshold: float
    spent: int
    cap: int


@dataclass(frozen=True, slots=True)
class Overrun(Event):
    """A provider billed more than was held; ``charge`` is recorded in full and blocks the next start."""

    run_id: UUID
    model: ModelRef
    held: int
    charge: int


@dataclass(frozen=True, slots=True)
class Unpriced(Event):
    """Nobody knows the price of ``model``; ``source`` says what was assumed."""

    model: ModelRef
    source: str


@dataclass(frozen=True, slots=True)
class UsageMissing(Event):
    """A reply came without usage, and was settled at ``charge`` by estimate."""

    run_id: UUID
    model: ModelRef
    charge: int


@dataclass(frozen=True, slots=True)
class HoldExpired(Event):
    """A call was started and never heard of again: its hold ran out and is free."""

    run_id: UUID
    name: str
    held: int


@dataclass(frozen=True, slots=True)
class StoreFailed(Event):
    """The store of balances did not answer; ``policy`` says what was done instead."""

    message: str
    policy: str


Sink = Callable[[Event], None]
"""Receives every event, on the thread or event loop of the call: keep it short. One that fails is logged once."""
