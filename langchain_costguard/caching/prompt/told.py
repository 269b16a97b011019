"""What the prompt cache tells the guard's sinks. No prompt text."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_costguard.events import Steered


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
