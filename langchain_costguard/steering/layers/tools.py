"""The policies of one tool call: an answer where it is refused, its circuit, another try."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from langchain_costguard.events.steered import EndedEarly
from langchain_costguard.steering.flow import Asking, Flow
from langchain_costguard.steering.layers.approval import fee_of
from langchain_costguard.steering.layers.attempts import retrying, through
from langchain_costguard.steering.layers.circuits import Circuits
from langchain_costguard.steering.layers.ending import OnExceeded, attempted, granted
from langchain_costguard.steering.policies.answers import answered_with, raised_by_tool
from langchain_costguard.steering.policies.kinds import ErrorKind, classify
from langchain_costguard.steering.policies.retries import Retry
from langchain_costguard.steering.sayings import tool_failed, tool_says
from langchain_costguard.steering.surroundings import Here
from langchain_costguard.vocabulary.errors import BudgetExceededError, CircuitOpenError, CostGuardError


def refusing(on_exceeded: OnExceeded, here: Here, ask: Asking, request: Any) -> Flow[Any]:
    """Answer a refused tool call in the tool's place, so that the agent can close its work."""
    outcome, error = yield from attempted(here, ask, request)
    # Only what was refused as it started: a tool that calls a model of its own would run again from its beginning.
    while (
        on_exceeded == "interrupt"
        and error is not None
        and error.facts.get("kind") in ("tool", "step")
        and here.can_ask(error)
        and granted(here, error)
    ):
        outcome, error = yield from attempted(here, ask, request)
    if error is None:
        return outcome
    if on_exceeded == "raise":
        raise error
    here.tell(EndedEarly, str(error))
    measure = error.measure if isinstance(error, BudgetExceededError) else ""
    return tool_says(request.tool_call, error.for_model(), refused=type(error).__name__, measure=measure)


def breaking_tool(circuits: Circuits, here: Here, ask: Asking, request: Any) -> Flow[Any]:
    """Leave a tool alone that fails again and again; the agent is told to try something else."""
    call = request.tool_call
    try:
        return (yield from through(circuits, here, ask, request, call["name"], partial(fee_of, here, call)))
    except CircuitOpenError as error:
        if error.name != call["name"]:
            raise
        return tool_says(call, error.for_model(), circuit="open")


class _AnsweredError(ConnectionError):
    """A failure that waiting cures, which came back as the tool's answer."""


def retrying_tool(retry: Retry, here: Here, ask: Asking, request: Any) -> Flow[Any]:
    """Call a tool again that is safe to call again, whether its failure is raised or comes back as a message."""
    if not retry.retries_tool(request.tool_call["name"]):
        return (yield from ask(request))
    answer: Any = None

    def asking(request: Any) -> Flow[Any]:
        nonlocal answer
        answer = yield from ask(request)
        kind = answered_with(answer)
        if kind is not None and kind.backs_off:
            raise _AnsweredError(str(answer.text)[:200])
        return answer

    retry = replace(retry, classify=partial(raised_by_tool, retry.classify))
    try:
        return (yield from retrying(retry, here, asking, request))
    except _AnsweredError:
        return answer


def telling(retry: Retry | None, here: Here, ask: Asking, request: Any) -> Flow[Any]:
    """Answer a tool's failure in its place where it may pass, or where the agent can mend its call. What a person has
    to see to is raised: missing credentials, a quota used up, and what is not understood."""
    try:
        return (yield from ask(request))
    except CostGuardError:
        raise
    except Exception as error:
        kind = raised_by_tool(retry.classify if retry is not None else classify, error)
        if not (kind.backs_off or kind is ErrorKind.VALIDATION):
            raise
        call = request.tool_call
        return tool_says(call, tool_failed(call["name"], error, passing=kind.backs_off), failed=str(kind))
