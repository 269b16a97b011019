"""Each reply is looked at before it is acted on: what does not pass goes back to its model with the exact reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage, message_chunk_to_message
from langchain_core.messages.tool import tool_call

from langchain_costguard.caching.keepable import refused
from langchain_costguard.events.steered import EndedEarly, Repaired
from langchain_costguard.steering.flow import Asking, Flow, Run
from langchain_costguard.steering.layers.guardrails import Guardrail, Stop
from langchain_costguard.steering.policies.retries import ErrorKind
from langchain_costguard.steering.requests import Reply, noting, without_call_blocks
from langchain_costguard.steering.sayings import MARK, spoken, told
from langchain_costguard.steering.surroundings import Here
from langchain_costguard.vocabulary.errors import CostGuardError, ReplyRejectedError

if TYPE_CHECKING:
    from langchain_costguard.steering.layers.ending import OnExceeded

_SHOWN = 2_000
"""Characters of an error that go back to the model."""


def checking(
    guardrails: Sequence[Guardrail],
    repairs: int,
    classify: Callable[[BaseException], ErrorKind],
    on_rejected: OnExceeded,
    here: Here,
    ask: Asking,
    request: Any,
) -> Flow[Reply]:
    """Ask again, at most ``repairs`` times, with the reply and what is wrong with it; then give up on it.

    Wrong are: arguments of a tool that did not parse, what a guardrail objects to, and an exception of the class
    ``validation``. A reply whose arguments still do not parse goes to the host, and such an exception to the caller: it
    is theirs. One that a guardrail objects to does not. What the caller has seen of a stream already is theirs, too;
    and a refusal is not asked for again.
    """
    attempt, messages = 0, list(request.messages)
    while True:
        reply: Reply | None = None
        try:
            reply = yield from ask(request)
            problem, stop = yield from objection(guardrails, reply)
        except CostGuardError:
            raise
        except Exception as error:
            if reply is not None or here.out or attempt >= repairs or classify(error) is not ErrorKind.VALIDATION:
                raise
            if len(getattr(request, "paid", ())) > 1:  # a node that runs again pays more than this reply again
                raise
            answer, problem, stop = getattr(error, "ai_message", None), f"{type(error).__name__}: {error}", False
            if answer is not None and refused(answer):
                raise
        else:
            if not problem or here.out:
                return reply
            answer = reply.message
            if stop or attempt >= repairs:
                return _given_up(here, reply, problem, stop, guardrails, on_rejected)
        attempt += 1
        here.tell(Repaired, _kind_of(problem), attempt=attempt)
        messages = _returned(messages, answer, problem)
        request = request.override(messages=messages)


def objection(guardrails: Sequence[Guardrail], reply: Reply) -> Flow[tuple[str, bool]]:
    """What is wrong with a reply, and whether that is the end of it; an empty text where nothing is."""
    message = reply.message
    if message is None:
        return "", False
    if message.invalid_tool_calls:
        broken = message.invalid_tool_calls
        calls = "; ".join(f"{call.get('name')}: {call.get('error') or 'no valid JSON'}" for call in broken)
        return f"The arguments of a tool call did not parse. {calls}", False
    for guardrail in guardrails:
        verdict = yield Run(guardrail, (message,))
        if isinstance(verdict, Stop):
            return verdict.why, True
        if isinstance(verdict, str) and verdict:
            return verdict, False
        if verdict not in (None, True, ""):
            raise TypeError(f"guardrail {guardrail!r} said {verdict!r}: it may say None, a text, or Stop(why)")
    return "", False


def _given_up(
    here: Here, reply: Reply, problem: str, stop: bool, guardrails: Sequence[Guardrail], on_rejected: OnExceeded
) -> Reply:
    if not stop and reply.message is not None and reply.message.invalid_tool_calls:
        return reply
    if on_rejected == "raise":
        raise ReplyRejectedError(f"The reply was rejected: {problem}", why=problem)
    here.tell(EndedEarly, "a guardrail stopped a reply")
    return Reply(spoken(f"I stopped, for my reply did not pass a check: {problem}", ended="guardrail"), ended=True)


def _returned(messages: list[Any], answer: AIMessage | None, problem: str) -> list[Any]:
    """The messages with the reply and the objection, as any provider accepts them: each tool call with an answer."""
    text = f"Your reply cannot be used: {problem[:_SHOWN]}\nCorrect it and reply again."
    if answer is None:
        return noting(messages, text, "repair")
    answer = _resendable(answer)
    if not answer.tool_calls:
        said = bool(str(answer.text).strip())
        return [*messages, answer, told(text, "repair")] if said else noting(messages, text, "repair")
    return [
        *messages,
        answer,
        *(
            ToolMessage(
                "Not run." if i else text,
                tool_call_id=call["id"] or "",
                name=call["name"],
                status="error",
                additional_kwargs={MARK: {"repair": True}},
            )
            for i, call in enumerate(answer.tool_calls)
        ),
    ]


def _resendable(answer: AIMessage) -> AIMessage:
    """The reply without what providers refuse to see again: arguments that are no JSON, calls without an id."""
    if isinstance(answer, AIMessageChunk):
        answer = cast("AIMessage", message_chunk_to_message(answer))
    broken = answer.invalid_tool_calls
    calls = [*answer.tool_calls, *(tool_call(name=c.get("name") or "unknown", args={}, id=c.get("id")) for c in broken)]
    calls = [{**call, "id": call["id"] or f"call_{i}"} for i, call in enumerate(calls)]
    changes: dict[str, Any] = {"tool_calls": calls, "invalid_tool_calls": []}
    if broken:  # the provider's own form of the calls has the broken arguments, too; LangChain writes it anew
        changes["additional_kwargs"] = {k: v for k, v in answer.additional_kwargs.items() if k != "tool_calls"}
        changes["content"] = without_call_blocks(answer.content)
    return answer.model_copy(update=changes)


def _kind_of(problem: str) -> str:
    """An event's reason: what kind of objection, without what it quotes."""
    return problem.split(":", 1)[0].split(".", 1)[0][:80]
