"""Questions to a person, and what an answer to one means. Plain values both ways: a checkpoint keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from langchain_costguard.metering.budgets.budget import MEASURES
from langchain_costguard.steering.surroundings import Here
from langchain_costguard.vocabulary.errors import BudgetExceededError
from langchain_costguard.vocabulary.money import usd
from langchain_costguard.vocabulary.scope import Scope

_ADD = {f"add_{measure}": measure for measure in MEASURES}


class Answer(NamedTuple):
    """What a person decided."""

    approve: bool
    amounts: dict[str, Any]
    """Of the measure's unit, by measure: what the budget is given on top."""
    message: str
    args: dict[str, Any] | None = None
    """Of a tool call: other arguments to call it with."""


def understood(answer: Any) -> Answer:
    """Read an answer: ``True``, ``False``, or ``{"approve": True, "add_usd": "1.00", "message": "..."}``.

    Raises:
        ValueError: says what in it is not understood.
    """
    if isinstance(answer, bool):
        return Answer(answer, {}, "")
    if not isinstance(answer, Mapping):
        raise ValueError(f'{answer!r} is no answer: resume with {{"approve": True}} or {{"approve": False}}')
    unknown = set(answer) - {"approve", "message", "args", *_ADD}
    if unknown:
        raise ValueError(f"{sorted(map(str, unknown))} is not understood: known are approve, message, args, add_usd, …")
    approve, args = answer.get("approve"), answer.get("args")
    if not isinstance(approve, bool):
        raise ValueError(f"approve: {approve!r} must be True or False")
    if args is not None and not isinstance(args, Mapping):
        raise ValueError(f"args: {args!r} must be the tool's arguments by name")
    amounts = {_ADD[key]: value for key, value in answer.items() if key in _ADD}
    return Answer(approve, amounts, str(answer.get("message") or ""), None if args is None else dict(args))


def about_budget(error: BudgetExceededError, scope: Scope) -> dict[str, Any]:
    """A question a UI can show. Amounts are texts in the measure's own unit: USD, seconds, or a count."""

    def shown(amount: Any) -> str | None:
        if amount is None:
            return None
        return str(usd(amount)) if error.measure == "usd" else str(Decimal(amount) / (1000 if timed else 1))

    timed = error.measure == "seconds"
    facts = error.facts
    return {
        "type": "costguard.budget",
        "message": str(error),
        "budget": error.budget,
        "measure": error.measure,
        "spent": shown(facts.get("spent")),
        "cap": shown(facts.get("cap")),
        "asked_for": shown(facts.get("asked")),
        "suggested": {f"add_{error.measure}": str(suggested(error))},
        "scope": named(scope),
        "answer": {"approve": True, f"add_{error.measure}": str(suggested(error))},
    }


def about_tool(call: Mapping[str, Any], price: Decimal | None, scope: Scope) -> dict[str, Any]:
    """A question about a tool call that somebody has to allow."""
    return {
        "type": "costguard.tool",
        "message": f"The agent wants to call {call['name']}.",
        "tool": call["name"],
        "args": dict(call["args"]),
        "tool_call_id": call["id"],
        "price_usd": None if price is None else str(price),
        "scope": named(scope),
        "answer": {"approve": True},
    }


def about_loop(tool: str, why: str, scope: Scope) -> dict[str, Any]:
    """A question about an agent that repeats itself."""
    return {
        "type": "costguard.loop",
        "message": f"The agent appears to be stuck: {why}",
        "tool": tool,
        "scope": named(scope),
        "answer": {"approve": True, "message": "what the agent should try instead"},
    }


def suggested(error: BudgetExceededError) -> Decimal:
    """What to add where a person names no amount: what is missing, or a fifth of the cap if that is more."""
    missing = error.needed - max(error.left, Decimal(0))
    cap = error.facts.get("cap")
    if cap is None:
        return missing
    whole = usd(cap) if error.measure == "usd" else Decimal(cap) / (1000 if error.measure == "seconds" else 1)
    share = whole / 5
    return max(missing, share) if error.measure in ("usd", "seconds") else max(missing, Decimal(-(-share // 1)))


def named(scope: Scope) -> dict[str, str]:
    """The dimensions of a scope that are known."""
    return {name: value for name, value in zip(Scope._fields, scope, strict=True) if value}


def answered(here: Here, question: dict[str, Any], problem: str = "") -> Answer:
    """Ask, and ask again where the answer is not understood; ``problem`` is what was wrong with the last one."""
    while True:
        answer = here.ask({**question, "error": problem} if problem else question)
        try:
            return understood(answer)
        except ValueError as error:
            problem = str(error)
