"""The outermost policy of a model call: a refusal leads to an answer, a question to a person, or the exception."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from langchain_costguard.events.steered import EndedEarly, LastAnswer
from langchain_costguard.steering.flow import Asking, Call, Flow
from langchain_costguard.steering.questions import about_budget, answered, suggested
from langchain_costguard.steering.requests import Reply, without_calls, without_tools
from langchain_costguard.steering.sayings import LAST_ANSWER, LAST_STEP, MARK, farewell, have_so_far, spoken
from langchain_costguard.steering.surroundings import Here
from langchain_costguard.vocabulary.errors import BudgetExceededError, CostGuardError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import BaseMessage

OnExceeded = Literal["end", "raise", "interrupt"]
FINAL = ("tool_calls", "steps")
"""Measures of which, once they refused a tool, no other tool can have any."""


def ending(on_exceeded: OnExceeded, here: Here, ask: Asking, request: Any) -> Flow[Reply]:
    """Answer what is refused.

    Before the last step of a budget's ``steps``, and once a budget allows no further tool, the model is asked to answer
    with what it has. A refusal that leaves a budget's ``reserve`` is answered from it. Else ``on_exceeded`` decides.
    """
    reply: Reply
    error = here.refused_step()
    if error is None:
        asks = on_exceeded == "interrupt" and here.in_graph  # a person may give it more steps: it need not close yet
        last = (None if asks else _last_step(here)) or _no_more_tools(request)
        if last:
            here.tell(LastAnswer, last.why)
            request = without_tools(request, last.tell)
        try:
            reply = yield from ask(request)
        except CostGuardError as refusal:
            error = refusal
        else:
            return _answered(reply, have_so_far(last.why, request.messages)) if last else reply
    if on_exceeded == "interrupt":
        while here.can_ask(error) and granted(here, error):
            reply, again = yield from attempted(here, ask, request)
            if again is None:
                return reply
            error = again
    if error.facts.get("reserve"):
        final = yield from _from_reserve(here, request, error)
        if final is not None:
            return final
    if on_exceeded == "raise":
        raise error
    return ended(here, error, request.messages)


def attempted(here: Here, ask: Asking, request: Any) -> Flow[tuple[Any, CostGuardError | None]]:
    """What came of it, or why it was refused: the step, or what was asked for in it."""
    error = here.refused_step()
    if error is None:
        try:
            return (yield from ask(request)), None
        except CostGuardError as refusal:
            error = refusal
    return None, error


def granted(here: Here, error: CostGuardError) -> bool:
    """Ask a person whether the budget may be exceeded, and record the grant; false where it may not.

    An answer is applied once, also where several flows of one node ask about the same budget, or the node starts again:
    whoever finds it applied looks whether it has made room, and asks anew where it has not.
    """
    assert isinstance(error, BudgetExceededError)
    problem = ""
    while True:
        answer = answered(here, about_budget(error, here.scope), problem)
        if not answer.approve:
            return False
        nothing = answer.amounts and all(_nothing(amount) for amount in answer.amounts.values())
        if not nothing:  # else it was granted from elsewhere
            amounts = answer.amounts or {error.measure: suggested(error)}
            try:
                here.guard.grant(error, key=f"{here.path}#{here.asked}", **amounts)
            except ValueError as wrong:
                problem = str(wrong)
                continue
        here.step_again()
        return True


def _nothing(amount: Any) -> bool:
    try:
        return Decimal(str(amount)) == 0
    except InvalidOperation:
        return False


def ended(here: Here, error: CostGuardError, messages: Sequence[BaseMessage]) -> Reply:
    """End the run with a reply that says why."""
    facts: dict[str, Any] = {"ended": type(error).__name__}
    if isinstance(error, BudgetExceededError):
        facts |= {"budget": error.budget, "measure": error.measure, "scope": error.scope}
    asked = error.facts.get("asked") if facts.get("measure") == "usd" else 0
    here.tell(EndedEarly, str(error), saved=asked or 0)
    return Reply(spoken(farewell(error, messages), **facts), ended=True)


def _from_reserve(here: Here, request: Any, error: CostGuardError) -> Flow[Reply | None]:
    """The last answer, paid from what the budget kept back; None where that does not suffice either."""
    why = LAST_ANSWER.format(why=error.for_model().split(" Do not try again", 1)[0])
    here.tell(LastAnswer, str(error))
    try:
        reply: Reply = yield Call(without_tools(request, why), last=True)
    except CostGuardError:
        return None
    return _answered(reply, farewell(error, request.messages))


def _answered(reply: Reply, text: str) -> Reply:
    """The last answer, without the tools it calls regardless; ``text`` where it says nothing else."""
    reply = without_calls(reply)
    message = reply.message
    if reply.altered and message is not None and not message.tool_calls and not str(message.text).strip():
        reply.message = message.model_copy(update={"content": text})
    return reply


class _Last(NamedTuple):
    """Why this call must be the last one: for people, and what the model is told."""

    why: str
    tell: str


def _last_step(here: Here) -> _Last | None:
    """Whether a tool and a look at its result would take more steps than are left."""
    if not here.guard.meter.ledger.counts_steps:
        return None
    rows = [row for row in here.headroom.rows if row.measure == "steps"]
    tightest = min(rows, key=lambda row: row.left, default=None)
    if tightest is None or tightest.left >= 2:
        return None
    steps = f"{tightest.cap:,}"
    return _Last(f"I could not finish within {steps} steps", LAST_STEP.format(steps=steps))


def _no_more_tools(request: Any) -> _Last | None:
    """Whether a budget refused the tools that were called last, as it will any other."""
    for message in reversed(request.messages):
        if message.type != "tool":
            break
        facts = message.additional_kwargs.get(MARK)
        if isinstance(facts, dict) and facts.get("measure") in FINAL:
            told = LAST_ANSWER.format(why="the budget for them is used up.")
            return _Last("I could not finish: the budget for tools is used up", told)
    return None
