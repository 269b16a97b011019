"""Past-tense facts the guard tells its sinks. Money is integer nano-USD; nothing here holds prompt text.

They are loaded when they are first asked for: a guard to which nobody listens needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_costguard.events.metered import (
        Alert,
        CacheHit,
        CallSettled,
        CallStarted,
        CallVoided,
        Event,
        HoldExpired,
        Overrun,
        Refused,
        Sink,
        StoreFailed,
        ToolSettled,
        Unpriced,
        UsageMissing,
    )
    from langchain_costguard.events.steered import (
        Approved,
        CircuitClosed,
        CircuitOpened,
        EndedEarly,
        Escalated,
        Granted,
        Interrupted,
        Killed,
        LastAnswer,
        LoopDetected,
        PromptBroken,
        PromptCacheFell,
        Recalled,
        Rejected,
        Repaired,
        Retried,
        Revived,
        Routed,
        ShortCircuited,
        Steered,
        Sufficed,
        Throttled,
        WouldRecall,
    )

__all__ = [
    "Alert",
    "Approved",
    "CacheHit",
    "CallSettled",
    "CallStarted",
    "CallVoided",
    "CircuitClosed",
    "CircuitOpened",
    "EndedEarly",
    "Escalated",
    "Event",
    "Granted",
    "HoldExpired",
    "Interrupted",
    "Killed",
    "LastAnswer",
    "LoopDetected",
    "Overrun",
    "PromptBroken",
    "PromptCacheFell",
    "Recalled",
    "Refused",
    "Rejected",
    "Repaired",
    "Retried",
    "Revived",
    "Routed",
    "ShortCircuited",
    "Sink",
    "Steered",
    "StoreFailed",
    "Sufficed",
    "Throttled",
    "ToolSettled",
    "Unpriced",
    "UsageMissing",
    "WouldRecall",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from langchain_costguard.events import metered, steered

    globals()[name] = found = getattr(metered, name, None) or getattr(steered, name)
    return found
