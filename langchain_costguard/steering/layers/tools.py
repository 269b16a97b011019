"""The policies of one tool call: leave from a person, its circuit, another try, and an answer where it is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_costguard.events.steered import Approved, EndedEarly, Rejected
from langchain_costguard.metering.seams.watching import attached
from langchain_costguard.steering.flow import Asking, Call, Flow, Run, adrive, drive
from langchain_costguard.steering.layers.approval import ask_first, given
from langchain_costguard.steering.layers.attempts import retrying, through
from langchain_costguard.steering.layers.circuits import Circuits
from langchain_costguard.steering.layers.ending import OnExceeded, granted
from langchain_costguard.steering.policies.retries import Retry
from langchain_costguard.steering.questions import Answer, about_tool, answered
from langchain_costguard.steering.sayings import tool_says
from langchain_costguard.steering.surroundings import Here
from langchain_costguard.vocabulary.errors import BudgetExceededError, CircuitOpenError, CostGuardError
from langchain_costguard.vocabulary.money import usd

if TYPE_CHECKING:
    from langchain_costguard.steering.steering import Steering

Approval = Collection[str] | Callable[[dict[str, Any], Decimal | None], Any]
"""Which tool calls a person has to allow: names (``"delete_*"`` matches many), or a predicate on the call (``name``,
``args``, ``id``) and its price in USD (None where it is not known)."""


def checked_approval(approval: Any) -> Approval | None:
    """The approval rule, if it is one.

    Raises:
        ValueError: it is neither names nor a callable.
    """
    if approval is None or callable(approval):
        return approval  # type: ignore[no-any-return]
    if isinstance(approval, str) or not all(isinstance(name, str) for name in approval):
        hint = 'names such as {"send_email", "delete_*"}, or a callable'
        raise ValueError(f"approve_tools: {approval!r} must be {hint}")
    return frozenset(approval)


def refusing(on_exceeded: OnExceeded, here: Here, ask: Asking, request: Any) -> Flow[Any]:
    """Answer a refused tool call in the tool's place, so that the agent can close its work."""
    error = here.refused_step()
    if error is None:
        try:
            return (yield from ask(request))
        except CostGuardError as refusal:
            error = refusal
    if on_exceeded == "interrupt":
        # Only what was refused as it started: a tool that calls a model of its own would run again from its beginning.
        while error.facts.get("kind") in ("tool", "step") and here.can_ask(error) and granted(here, error):
            try:
                return (yield from ask(request))
            except CostGuardError as refusal:
                error = refusal
    if on_exceeded == "raise":
        raise error
    here.tell(EndedEarly, str(error))
    measure = error.measure if isinstance(error, BudgetExceededError) else ""
    return tool_says(request.tool_call, error.for_model(), refused=type(error).__name__, measure=measure)


def approving(approval: Approval, here: Here, ask: Asking, request: Any) -> Flow[Any]:
    """Ask a person before a tool runs that needs leave."""
    call, before = request.tool_call, given.get()
    if not here.in_graph:
        if not (yield from _needs_leave(approval, here, call)):
            return (yield from ask(request))
        text = f"{call['name']} needs a person's approval, and nobody can be asked here. It was not run."
        here.tell(Rejected, "nobody could be asked", saved=_fee(here, call) or 0)
        return tool_says(call, text, rejected=True)
    answer = before[call["id"]] if call["id"] in before else (yield from leave(approval, here, call))
    if answer is None:
        return (yield from ask(request))
    if not answer.approve:
        here.tell(Rejected, answer.message or "a person said no", saved=_fee(here, call) or 0)
        why = f": {answer.message.rstrip('.')}." if answer.message else "."
        text = f"A person did not approve this call of {call['name']}{why} It was not run."
        return tool_says(call, text, rejected=True)
    here.tell(Approved, answer.message or "a person said yes")
    if answer.args is not None:
        request = request.override(tool_call={**call, "args": answer.args})
    return (yield from ask(request))


def leave(approval: Approval, here: Here, call: Any) -> Flow[Answer | None]:
    """What a person says of a tool call; None where it needs no leave."""
    if not (yield from _needs_leave(approval, here, call)):
        return None
    return answered(here, about_tool(call, _price(here, call), here.scope))


def _needs_leave(approval: Approval, here: Here, call: Any) -> Flow[bool]:
    if not callable(approval):
        return any(fnmatchcase(call["name"], name) for name in approval)
    return bool((yield Run(approval, (call, _price(here, call)))))


def _price(here: Here, call: Any) -> Decimal | None:
    fee = _fee(here, call)
    return None if fee is None else usd(fee)


def _fee(here: Here, call: Any) -> int | None:
    return here.guard.tool_fee(call["name"], call["args"])


def breaking_tool(circuits: Circuits, here: Here, ask: Asking, request: Any) -> Flow[Any]:
    """Leave a tool alone that fails again and again; the agent is told to try something else."""
    call = request.tool_call
    try:
        return (yield from through(circuits, here, ask, request, call["name"], partial(_fee, here, call)))
    except CircuitOpenError as error:
        if error.name != call["name"]:
            raise
        return tool_says(call, error.for_model(), circuit="open")


def retrying_tool(retry: Retry, here: Here, ask: Asking, request: Any) -> Flow[Any]:
    """Call a tool again that is safe to call again."""
    if not retry.retries_tool(request.tool_call["name"]):
        return (yield from ask(request))
    return (yield from retrying(retry, here, ask, request))


def steer_tool(steering: Steering, request: Any, handler: Callable[[Any], Any]) -> Any:
    """One tool call, steered; for ``wrap_tool_call`` of an agent's middleware and of a ``ToolNode``."""

    def call(wanted: Call) -> Any:
        with attached(steering.guard):
            return handler(wanted.request)

    return drive(steering.tool_flow(request), call)


async def asteer_tool(steering: Steering, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
    """One tool call, steered; for ``awrap_tool_call``."""

    async def call(wanted: Call) -> Any:
        with attached(steering.guard):
            return await handler(wanted.request)

    return await adrive(steering.tool_flow(request), call)


def ask_leave_first(node: Any, steering: Steering) -> Any:
    """The ``ToolNode``, asking for leave for all its calls before it makes any of them."""
    approval = steering.approve_tools
    return node if approval is None else ask_first(node, steering, partial(leave, approval))
