"""A person's leave for a tool call: which calls need it, and what is done with the answer."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextvars import ContextVar
from dataclasses import replace
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

from langchain_core.messages import ToolMessage
from langgraph.types import Command

from langchain_costguard.events.steered import Approved, Rejected
from langchain_costguard.steering.flow import Asking, Flow, Run
from langchain_costguard.steering.questions import Answer, about_tool, answered
from langchain_costguard.steering.requests import with_note
from langchain_costguard.steering.sayings import changed, tool_says
from langchain_costguard.steering.surroundings import Here
from langchain_costguard.vocabulary.checks import listed
from langchain_costguard.vocabulary.money import usd

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
    listed("approve_tools", approval, 'names such as {"send_email", "delete_*"}, or a callable')
    return frozenset(approval)


Given = dict[str, "Answer | None"]
"""By the id of a tool call, what a person said of it; None where it needs no leave."""
given: ContextVar[Given] = ContextVar("costguard_leave", default={})  # noqa: B039 - never changed


def approving(approval: Approval, here: Here, ask: Asking, request: Any) -> Flow[Any]:
    """Ask a person before a tool runs that needs leave."""
    call, before = request.tool_call, given.get()
    if not here.in_graph:
        if not (yield from _needs_leave(approval, here, call)):
            return (yield from ask(request))
        text = f"{call['name']} needs a person's approval, and nobody can be asked here. It was not run."
        here.tell(Rejected, "nobody could be asked", saved=fee_of(here, call) or 0)
        return tool_says(call, text, rejected=True)
    answer = before[call["id"]] if call["id"] in before else (yield from asked_leave(approval, here, call))
    if answer is None:
        return (yield from ask(request))
    if not answer.approve:
        here.tell(Rejected, answer.message or "a person said no", saved=fee_of(here, call) or 0)
        why = f": {answer.message.rstrip('.')}." if answer.message else "."
        text = f"A person did not approve this call of {call['name']}{why} It was not run."
        return tool_says(call, text, rejected=True)
    here.tell(Approved, answer.message or "a person said yes")
    if answer.args is None or answer.args == call["args"]:
        return (yield from ask(request))
    result = yield from ask(request.override(tool_call={**call, "args": answer.args}))
    return _with_note(result, changed(call["name"], answer.args), {"changed": answer.args})


def _with_note(result: Any, text: str, facts: dict[str, Any]) -> Any:
    """A tool's result with a note for the model: the call in the history is the one it made, not the one that ran."""
    if isinstance(result, Command):
        update = result.update
        if not isinstance(update, dict) or not isinstance(update.get("messages"), list):
            return result
        messages = [_with_note(m, text, facts) if isinstance(m, ToolMessage) else m for m in update["messages"]]
        return replace(result, update={**update, "messages": messages})
    if not isinstance(result, ToolMessage):
        return result
    return with_note(result, text, first=True, **facts)


def asked_leave(approval: Approval, here: Here, call: Any) -> Flow[Answer | None]:
    """What a person says of a tool call, which is asked once; None where it needs no leave."""
    if here.leave is not None and here.leave[0] == call["id"]:
        return here.leave[1]  # type: ignore[no-any-return]
    if not (yield from _needs_leave(approval, here, call)):
        return None
    answer = answered(here, about_tool(call, _price(here, call), here.scope))
    here.leave = call["id"], answer
    return answer


def _needs_leave(approval: Approval, here: Here, call: Any) -> Flow[bool]:
    if not callable(approval):
        return any(fnmatchcase(call["name"], name) for name in approval)
    return bool((yield Run(approval, (call, _price(here, call)))))


def _price(here: Here, call: Any) -> Decimal | None:
    fee = fee_of(here, call)
    return None if fee is None else usd(fee)


def fee_of(here: Here, call: Any) -> int | None:
    """What a tool call costs (nano-USD), as far as is known before it."""
    return here.guard.tool_fee(call["name"], call["args"])
