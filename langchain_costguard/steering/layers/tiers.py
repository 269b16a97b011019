"""A cascade with its models at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from langgraph.constants import TAG_NOSTREAM

from langchain_costguard.routing.cascade import Cascade, Judge, Parses, Verifier
from langchain_costguard.steering.layers.fleet import Fleet
from langchain_costguard.steering.layers.guardrails import parses

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

    from langchain_costguard.guard import CostGuard
    from langchain_costguard.routing.runlog import RunLog
    from langchain_costguard.steering.policies.retries import Retry


class Tiers:
    """A cascade with its models at hand: names are resolved once, and one that cannot be had is told up front.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(
        self, cascade: Cascade, guard: CostGuard, runs: RunLog | None = None, retry: Retry | None = None
    ) -> None:
        if not isinstance(cascade, Cascade):
            raise ValueError(f"cascade: {cascade!r} is no Cascade, such as Cascade(tiers=[cheap, dear]), or None")
        self.cascade = cascade
        self.runs = runs
        self.fleet = Fleet(cascade.models, guard, retry)
        *cheap, self.last = (self.fleet.model(tier) for tier in cascade.tiers)
        confidence = cascade.confidence
        self.judges = bool(cheap) and confidence is not None
        """Whether replies are judged at all, or the first is given."""
        self.holds_streams = self.judges
        """Whether a reply is shown only once it is trusted."""
        self.cheap = [_unseen(model) for model in cheap] if self.holds_streams else cheap
        self.judge = _unseen(self.fleet.model(confidence.model)) if isinstance(confidence, Judge) else None
        self.check: Callable[[AIMessage], Any] = lambda reply: True
        if isinstance(confidence, Parses):
            self.check = parses(confidence.check) if hasattr(confidence.check, "invoke") else confidence.check
        elif isinstance(confidence, Verifier):
            self.check = confidence.check

    def leads_on(self, model: Any) -> bool:
        """Whether another tier is asked where this model fails."""
        return model is not self.last and any(model is other for other in self.cheap)


def _unseen(model: Any) -> Any:
    """The model, of which ``stream_mode="messages"`` shows no tokens: the reply that is given is shown whole."""
    return model.model_copy(update={"tags": [*(model.tags or ()), TAG_NOSTREAM]})
