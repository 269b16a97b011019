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


Standing = tuple[str, int, int]
"""An account's name in the store, what is spent of it, and the budget's cap, in the account's own unit. Of time nothing
is spent: ``headroom()`` says what is left of it."""


@dataclass(frozen=True, slots=True)
class CallStarted(Event):
    """A model or tool call was admitted; ``held`` is reserved for it."""

    run_id: UUID
    name: str
    kind: str
    held: int
    parent: UUID | None = None


@dataclass(frozen=True, slots=True)
class CallSettled(Event):
    """A model call was paid. ``estimated`` is true where the provider did not say what it used.

    A call whose end was not heard of is settled by estimate; when it is heard of after all, it is told of again, with
    what was told before in ``charged_before`` and ``usage_before``: what a sink adds up is the difference.
    """

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
    parent: UUID | None = None
    requested: str = ""
    """The model's name as the request gives it; ``model`` is the same with its provider."""
    answered: str = ""
    """The model's name as the provider reports it, where it does: the price is that of this one."""
    rated: str = ""
    """Where the price is from, in words."""
    status: str = "ok"
    """``ok``, ``failed``, ``stopped`` (by the guard, midway) or ``cancelled`` (its end was not heard of)."""
    cacheable: int = 0
    """Input tokens that could have come from the provider's cache: they are many enough, and cheaper there."""
    balances: tuple[Standing, ...] = ()
    charged_before: int | None = None
    usage_before: Usage | None = None


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
    parent: UUID | None = None
    balances: tuple[Standing, ...] = ()
    charged_before: int | None = None
    """What was told before of the same call, which was then not heard of: what a sink adds up is the difference."""


@dataclass(frozen=True, slots=True)
class CallVoided(Event):
    """A call that had started failed, and is not billed: its hold is free."""

    run_id: UUID
    name: str
    kind: str
    held: int
    seconds: float
    parent: UUID | None = None


@dataclass(frozen=True, slots=True)
class CacheHit(Event):
    """LangChain's cache answered: ``saved`` is what the call would have cost."""

    run_id: UUID
    model: ModelRef
    usage: Usage
    saved: int
    parent: UUID | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """A start was refused, or (``midway``) a stream was stopped; ``error`` names the class, ``message`` says why."""

    run_id: UUID | None
    kind: str
    name: str
    error: str
    message: str
    midway: bool = False
    parent: UUID | None = None
    budget: str = ""
    measure: str = ""
    account: str = ""
    asked: int = 0
    """What it would have taken, in the unit of the account: nano-USD, milliseconds, or a count."""
    left: int = 0
    """What was left, in the same unit."""


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
