"""What steering says to people and to models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_costguard.vocabulary.errors import AgentHaltedError, BudgetExceededError, CostGuardError
from langchain_costguard.vocabulary.money import show_all

MARK = "costguard"
"""Key in ``additional_kwargs`` and ``response_metadata`` by which messages of ours are known."""
_EXCERPT = 600


def farewell(error: CostGuardError, messages: Sequence[BaseMessage]) -> str:
    """Why a run ends here, in the agent's own voice: which budget, how much was spent, what is missing."""
    text = f"I have to stop here. {error}"
    if isinstance(error, BudgetExceededError):
        if error.measure == "steps":
            return have_so_far(f"I could not finish within {_cap(error)} steps", messages)
        text = f"I have to stop here: {_money_left(error)}"
    elif isinstance(error, AgentHaltedError):
        text = f"I was stopped by an operator: {error.reason.rstrip('.')}."
    have = so_far(messages)
    return f"{text}\n\nWhat I have so far:\n\n{have}" if have else text


def have_so_far(why: str, messages: Sequence[BaseMessage]) -> str:
    """``I could not finish within 10 steps; here is what I have: ...``"""
    have = so_far(messages)
    return f"{why}; here is what I have:\n\n{have}" if have else f"{why}."


def _money_left(error: BudgetExceededError) -> str:
    """``the budget 'session' (session=s1) has spent $0.48 of $0.50, and the next call may take $0.05: ...``"""
    who = f" ({error.scope})" if error.scope != "all" else ""
    budget = f"the budget {error.budget!r}{who}"
    if error.measure == "seconds":
        return f"the time of {budget} is over."
    spent, cap, asked = (error.facts.get(key) for key in ("spent", "cap", "asked"))
    if spent is None or cap is None or asked is None:
        return f"{budget} is used up."
    unit = "" if error.measure == "usd" else " " + error.measure.replace("_", " ")
    money = error.measure == "usd"
    more = max(0, int((error.needed - error.left) * (10**9 if money else 1)))
    words = show_all([spent, cap, asked, more]) if money else [f"{n:,}" for n in (spent, cap, asked, more)]
    missing = f", and the next call may take {words[2]}{unit}: {words[3]}{unit} more would be needed"
    return f"{budget} has spent {words[0]} of {words[1]}{unit}{missing}."


def _cap(error: BudgetExceededError) -> str:
    cap = error.facts.get("cap")
    return f"{cap:,}" if isinstance(cap, int) else "the allowed"


def so_far(messages: Sequence[BaseMessage]) -> str:
    """The last thing the agent said since it was asked, or else the last result it got."""
    result = ""
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            text = str(message.text).strip()
            facts = message.response_metadata.get(MARK)
            if text and (facts is None or "cache" in facts):  # a remembered reply is the model's
                return _short(text)
        elif isinstance(message, ToolMessage):
            if not result and message.status != "error":
                result = str(message.text).strip()
        elif isinstance(message, HumanMessage) and MARK not in message.additional_kwargs:
            break
    return _short(result)


def _short(text: str) -> str:
    return text if len(text) <= _EXCERPT else text[:_EXCERPT].rstrip() + " …"


def spoken(text: str, **facts: Any) -> AIMessage:
    """A reply of ours, which no model was paid for; ``facts`` are plain values for a program to read."""
    return AIMessage(text, response_metadata={MARK: facts})


def told(text: str, what: str) -> HumanMessage:
    """Something we tell the model."""
    return HumanMessage(text, additional_kwargs={MARK: what})


def tool_says(call: Any, text: str, **facts: Any) -> ToolMessage:
    """An answer of ours in a tool's place, for the agent."""
    return ToolMessage(
        text, tool_call_id=call["id"] or "", name=call["name"], status="error", additional_kwargs={MARK: facts}
    )


def tool_failed(tool: str, error: Exception, *, passing: bool) -> str:
    """What an agent is told of a tool that failed."""
    said = f"{type(error).__name__}: {str(error)[:_EXCERPT]}".rstrip(": ")
    advice = (
        "It may work later: go on without it, or try another way." if passing else "Correct the call and try again."
    )
    return f"{tool} failed. {said}\n{advice}"


def changed(tool: str, arguments: Mapping[str, Any]) -> str:
    """What a model is told of a call that a person edited."""
    shown = json.dumps(arguments, ensure_ascii=False, default=str)
    return f"A person changed this call before it ran: {tool} was called with {shown}."


CHECKING = "Let me check whether I am getting anywhere."
LAST_ANSWER = (
    "You cannot call any more tools: {why} "
    "Answer now with what you have, and say plainly what you could not find out or do."
)
LAST_STEP = (
    "This is the last of your {steps} steps: you cannot call any more tools. Answer now with what you have. "
    'If you could not finish, begin with: "I could not finish within {steps} steps; here is what I have."'
)
