"""What steering did: each a subclass of ``Steered``, by whose name the report counts it."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_costguard.events.metered import Event


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
    by: str = ""


@dataclass(frozen=True, slots=True)
class Killed(Steered):
    """An operator stopped the agent ``name``, or all agents."""

    by: str = ""


@dataclass(frozen=True, slots=True)
class Revived(Steered):
    """An operator took a stop back."""

    by: str = ""


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


@dataclass(frozen=True, slots=True)
class PromptCacheFell(Steered):
    """Of the prompts that a feature sends to the model ``name``, far less comes from the provider's cache than did.

    ``before`` and ``now`` are shares of their tokens, over the feature's last 20 calls.
    """

    before: float = 0.0
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class PromptBroken(Steered):
    """Something changes in a prompt to the model ``name``, and keeps what follows it out of the provider's cache.

    ``kind`` is what it is (``timestamp``, ``tool order``), ``where`` the message, ``start`` and ``end`` its characters;
    ``tokens`` are lost each time, and ``per_day`` (nano-USD, None where no price is known) is what that costs.
    """

    kind: str = ""
    where: str = ""
    start: int = 0
    end: int = 0
    tokens: int = 0
    per_day: int | None = None


@dataclass(frozen=True, slots=True)
class ContextWarning(Steered):
    """A thread's prompt passed a level of its window (a share, or ``level`` tokens): once per thread and level."""

    tokens: int = 0
    level: float = 0.0
    window: int | None = None


@dataclass(frozen=True, slots=True)
class ContextTrimmed(Steered):
    """A prompt went out shorter than its thread; ``saved`` is what that call took less for it, all told.

    ``kept`` tokens were sent and ``cut`` were not; ``paid`` (nano-USD, and already taken off ``saved``) is for writing
    again what the provider's cache had, where the old part of the prompt changed (``broke``).
    """

    kept: int = 0
    cut: int = 0
    paid: int = 0
    broke: bool = False


@dataclass(frozen=True, slots=True)
class ContextCompacted(Steered):
    """A thread's older history was replaced by a summary, from this call on; what that saves is told call by call.

    Attributes:
        before, after: Tokens of the prompt.
        rewritten: Tokens that had to be written to the provider's cache again.
        cost: Nano-USD: the rewriting, the summary, and what is expected to be fetched again.
        expected_calls: Calls that are expected to come, by what followed the compactions before.
        expected_saving: Nano-USD over those calls, less ``cost``.
        break_even: Calls after which it has paid for itself; infinite where reading is free.
        summary: ``digest`` or ``model``.
        forced: Whether the window left no choice.
    """

    before: int = 0
    after: int = 0
    rewritten: int = 0
    cost: int = 0
    expected_calls: float = 0.0
    expected_saving: int = 0
    break_even: float = 0.0
    summary: str = "digest"
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Refetched(Steered):
    """A model asked for the whole of a result that had been cut; ``tokens`` are those it was given."""

    tokens: int = 0
