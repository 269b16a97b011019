"""What the guard raises, and why nothing between it and the caller swallows it.

::

    CostGuardError
    ├─ BudgetExceededError     budget, measure, scope, needed, left, reserve
    ├─ AgentHaltedError        reason, agent            the kill switch
    ├─ UnpricedModelError      model                    only with unpriced="refuse"
    ├─ UntaggedError           missing                  only with require=(...)
    └─ StoreUnavailableError   store                    only with on_store_failure="refuse"
    CircuitOpenError           name, seconds            ordinary errors of steering: what surrounds
    StuckLoopError             tool, kind               the agent may handle them as any other
    ReplyRejectedError         why

The bases decide who lets a refusal through: ``GraphBubbleUp`` is never turned into a tool message, retried by a node's
``RetryPolicy`` or given to an error handler, and does not cancel siblings that were already paid for; ``ModelError``
is final for LangChain's retry middleware (``is_retryable`` is false); ``RuntimeError`` is not retried by the default
``RetryPolicy`` of any LangGraph version.

This module imports ``langgraph``, which takes most of a second in a process that has no graph: the package does so
when a guard is constructed, never when it is imported.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any

from langgraph.errors import GraphBubbleUp

try:  # langchain-core >= 1.6
    from langchain_core.exceptions import ModelError
except ImportError:  # pragma: no cover - older cores have no taxonomy; the other two bases do the work there

    class ModelError(Exception):  # type: ignore[no-redef]
        """Stands in for the taxonomy's root."""


class CostGuardError(GraphBubbleUp, ModelError, RuntimeError):
    """A refusal: final, and made before anything was spent."""

    is_retryable = False

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.facts)

    def _render_traceback_(self, *args: Any) -> list[str]:
        """What IPython shows of a refusal: what, where, and what may be done; there is no fault to be found in frames.

        https://github.com/ipython/ipython/blob/main/IPython/core/interactiveshell.py (showtraceback)
        """
        remedy = "guard.report() shows who spent what; guard.headroom() what is left."
        if "budget" in self.facts:
            remedy += " guard.grant(error, usd='...') gives more."
        return [f"{type(self).__name__}: {self}", f"  at {_place(self.__traceback__)}", f"  {remedy}"]

    def for_model(self) -> str:
        """One plain sentence that is safe to hand to the agent: no amounts of other scopes, no configuration."""
        return "This run was stopped by its cost guard. Do not try again; answer with what you have."


_MACHINERY = {"IPython", "ipykernel"}


def _place(traceback: TracebackType | None) -> str:
    """The line of the cell that was run: the outermost frame that is no machinery of IPython's."""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not _MACHINERY.intersection(Path(code.co_filename).parts):  # a cell's file is in a folder ipykernel_123
            return f"line {traceback.tb_lineno} of {code.co_name if code.co_name != '<module>' else 'the cell'}"
        traceback = traceback.tb_next
    return "the cell"


class BudgetExceededError(CostGuardError):
    """A budget cannot pay for the call.

    ``needed`` and ``left`` are in the measure's own unit: USD (``Decimal``) for ``usd``, seconds for ``seconds``,
    else a count. ``by_holds`` is true when only calls still under way stood in the way, ``reserve`` when the budget
    keeps something back for a last answer and some of it is left.

    ``retry_after`` is in how many seconds the same call may fit: the budget's window starts afresh, or calls under way
    have settled; None where waiting does not help.

    ``asked``, ``spent`` (less what was granted) and ``cap`` (where it refuses) are whole numbers in the unit of the
    store's ``account``: nano-USD, milliseconds, or a count. A budget that keeps no account has an empty one.
    """

    budget: str
    measure: str
    scope: str
    needed: Decimal
    left: Decimal
    by_holds: bool
    reserve: bool
    account: str
    asked: int
    spent: int
    cap: int

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.budget = facts["budget"]
        self.measure = facts["measure"]
        self.scope = facts["scope"]
        self.needed = facts["needed"]
        self.left = facts["left"]
        self.by_holds = facts["by_holds"]
        self.reserve = facts.get("reserve", False)
        self.account = facts.get("account", "")
        self.retry_after: float | None = facts.get("retry_after")
        self.asked, self.spent, self.cap = (facts.get(name, 0) for name in ("asked", "spent", "cap"))

    def for_model(self) -> str:
        """Say what ran out, so that the agent can close its work."""
        noun = _NOUNS.get(self.measure, self.measure)
        return f"The budget for {noun} is used up. Do not try again; answer with what you have so far."


class AgentHaltedError(CostGuardError):
    """The kill switch is on, for this ``agent`` or (``agent`` is empty) for all."""

    reason: str
    agent: str

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.reason = facts["reason"]
        self.agent = facts["agent"]

    def for_model(self) -> str:
        """Say that a person stopped the run."""
        return "This run was halted by an operator. Stop here and do not call any more tools."


class UnpricedModelError(CostGuardError):
    """Nobody knows what ``model`` costs, and the guard was told to refuse such calls."""

    model: str

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.model = facts["model"]


class UntaggedError(CostGuardError):
    """A call does not say who spends: ``missing`` are the tags that the guard was told to require."""

    missing: tuple[str, ...]

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.missing = tuple(facts["missing"])


class StoreUnavailableError(CostGuardError):
    """The ``store`` of balances did not answer in time, and the guard was told to refuse rather than guess."""

    store: str

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.store = facts["store"]


class SteeringError(RuntimeError):
    """An ordinary error, raised where there is no agent to tell. Its facts are its attributes."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts
        vars(self).update(facts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.facts)

    def for_model(self) -> str:
        """One plain sentence that is safe to hand to the agent."""
        return str(self)


class CircuitOpenError(SteeringError):
    """The tool or model ``name`` failed too often in a row: it is left alone for ``seconds`` more."""

    name: str
    seconds: float


class StuckLoopError(SteeringError):
    """The agent repeats itself: ``kind`` says how, ``tool`` with which tool."""

    tool: str
    kind: str


class ReplyRejectedError(SteeringError):
    """A guardrail stopped a reply; ``why`` is what it said."""

    why: str


_NOUNS = {
    "usd": "money",
    "tokens": "tokens",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "model_calls": "model calls",
    "tool_calls": "tool calls",
    "steps": "steps",
    "seconds": "time",
}


def _rebuild(cls: type[Any], message: str, facts: dict[str, Any]) -> Any:
    return cls(message, **facts)
