"""Why a prompt goes where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a prompt goes where it goes: the score, the threshold, and what each word or trait of the prompt added.

    The parts add up to the score. There are none where no prompt goes elsewhere.
    """

    model: str
    score: float
    threshold: float
    parts: Mapping[str, float]

    def __str__(self) -> str:
        if not self.parts:
            return f"{self.model}: no other model is as good for less, whatever is asked"
        side = "at or above" if self.score >= self.threshold else "below"
        head = f"{self.model}: the strong model is expected to be {self.score:+.3f} better, {side} {self.threshold:.3f}"
        most = sorted(self.parts.items(), key=lambda part: -abs(part[1]))
        told, rest = most[:10], most[10:]
        if rest:
            told.append((f"(the other {len(rest)})", sum(value for _, value in rest)))
        return "\n".join([head, *(f"  {value:+.4f}  {name}" for name, value in told)])
