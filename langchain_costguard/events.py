"""Past-tense facts the guard tells its sinks. Money is integer nano-USD; nothing here holds prompt text."""

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


@dataclass(frozen=True, slots=True)
class Steered(Event):
    """A policy of steering did something. ``saved`` (nano-USD) is what did not have to be spent, where that is known.

    The subclass says what was done; ``guard.report()`` counts each by its name.
    """

    name: str
    """The tool, the model or the node it was about."""
    why: str
    """One sentence; no prompt text."""
    saved: int = 0


@dataclass(frozen=True, slots=True)
class CircuitOpened(Steered):
    """A tool or model failed too often in a row: it is left alone for a while."""


@dataclass(frozen=True, slots=True)
class CircuitClosed(Steered):
    """A probe succeeded: the tool or model is used again."""


@dataclass(frozen=True, slots=True)
class ShortCircuited(Steered):
    """A call was not made, for its circuit is open; ``saved`` is the tool's fee."""


@dataclass(frozen=True, slots=True)
class Retried(Steered):
    """A call failed and will be made again after ``seconds``; ``kind`` is its ``ErrorKind``."""

    kind: str = ""
    attempt: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Repaired(Steered):
    """A reply did not pass, and its model was told why and asked again."""

    attempt: int = 0


@dataclass(frozen=True, slots=True)
class LoopDetected(Steered):
    """An agent repeats itself; ``answer`` is what was done: ``nudge``, ``interrupt``, ``end`` or ``raise``."""

    kind: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Interrupted(Steered):
    """A run waits for a person: about a budget, a tool or a loop."""


@dataclass(frozen=True, slots=True)
class Granted(Steered):
    """A person gave a budget more: ``amount`` in the unit of its account (nano-USD, milliseconds, or a count)."""

    budget: str = ""
    measure: str = ""
    account: str = ""
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Approved(Steered):
    """A person let a tool call through."""


@dataclass(frozen=True, slots=True)
class Rejected(Steered):
    """A person did not let a tool call through; ``saved`` is the tool's fee."""


@dataclass(frozen=True, slots=True)
class Throttled(Steered):
    """A call was delayed by ``seconds``."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LastAnswer(Steered):
    """A budget (or its steps) is all but used up: the tools were taken away, and the model asked to answer now."""


@dataclass(frozen=True, slots=True)
class Routed(Steered):
    """A router chose the model ``name``; ``saved`` is what the dearest candidate would have taken more."""

    score: float | None = None


@dataclass(frozen=True, slots=True)
class Sufficed(Steered):
    """A cascade gave the answer of its cheaper model ``name``; ``saved`` is what the dearest would have taken for it,
    less what was spent on ``name``'s tries (below zero where it took more). ``score`` is how far it was trusted."""

    score: float | None = None


@dataclass(frozen=True, slots=True)
class Escalated(Steered):
    """A cascade did not trust its cheaper model ``name``, it failed, or it cannot do what is asked.

    ``saved`` is below 0: what its tries cost.
    """

    score: float | None = None


@dataclass(frozen=True, slots=True)
class Recalled(Steered):
    """A cache of ours answered instead of the model ``name``; ``saved`` is what the answer cost when it was made.

    ``kind`` is ``exact`` or ``semantic``; of the latter, ``score`` is the likeness to the question it was made for, and
    ``reasons`` are what spoke for and against it.
    """

    kind: str = ""
    score: float | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WouldRecall(Steered):
    """A semantic cache in shadow mode would have answered for ``name``, and did not."""

    score: float | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndedEarly(Steered):
    """A refusal or a guardrail ended the run, with a reply that says so; ``saved`` is what was asked for."""


Sink = Callable[[Event], None]
"""Receives every event, on the thread or event loop of the call: keep it short. One that fails is logged once."""
