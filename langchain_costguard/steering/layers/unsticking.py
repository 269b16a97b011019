"""What is done about an agent that repeats itself: a ladder, whose rungs are counted in the messages themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from langchain_core.messages import BaseMessage, ToolMessage

from langchain_costguard.events.steered import EndedEarly, LoopDetected
from langchain_costguard.steering.flow import Asking, Flow
from langchain_costguard.steering.policies.loops import NUDGE, Loop, LoopDetector, marked, nudges, recent
from langchain_costguard.steering.policies.steps import nudged
from langchain_costguard.steering.questions import about_loop, answered
from langchain_costguard.steering.requests import Reply, noting, with_note
from langchain_costguard.steering.sayings import MARK, so_far, spoken
from langchain_costguard.steering.surroundings import Here
from langchain_costguard.vocabulary.errors import StuckLoopError

Rung = Literal["nudge", "interrupt", "end", "raise"]
RUNGS = ("nudge", "interrupt", "end", "raise")


def checked_ladder(ladder: Sequence[Rung]) -> tuple[Rung, ...]:
    """The ladder, if there is one to climb.

    Raises:
        ValueError: names the rung.
    """
    if not isinstance(ladder, (list, tuple)) or not ladder:
        raise ValueError(f"on_loop: {ladder!r} must be a sequence of {', '.join(RUNGS)}, such as ('nudge', 'end')")
    for rung in ladder:
        if rung not in RUNGS:
            raise ValueError(f"on_loop: {rung!r} is not one of {', '.join(RUNGS)}")
    return tuple(ladder)


def unsticking(detector: LoopDetector, ladder: Sequence[Rung], here: Here, ask: Asking, request: Any) -> Flow[Reply]:
    """Answer a loop with the next rung of the ladder; the last one stays.

    A nudge stands beside the last result, where every provider takes it; in the history the reply to it says that it
    was given, and there each later request has it again.
    """
    reply: Reply
    loop = found(detector, request.messages, getattr(request, "tools", None) or ())
    shown = with_nudges(request.messages)
    if shown is not request.messages:
        request = request.override(messages=shown)
    if loop is None:
        reply = yield from ask(request)
        return reply
    rung = ladder[min(nudges(request.messages), len(ladder) - 1)]
    if rung == "interrupt" and not here.in_graph:
        rung = "raise"
    message = resolve(loop, rung, here, request.messages)
    if isinstance(message, Reply):
        return message
    reply = yield from ask(request.override(messages=noting(request.messages, message, "loop")))
    if reply.message is None or reply.ended:
        return reply
    kwargs = {**reply.message.additional_kwargs, MARK: {"nudge": message}}
    return replace(reply, message=reply.message.model_copy(update={"additional_kwargs": kwargs}), altered=True)


def with_nudges(messages: Sequence[Any]) -> Sequence[Any]:
    """The messages with each nudge that was given where it was given; themselves where none was."""
    shown: list[Any] | None = None
    for i, message in enumerate(messages):
        if i and (text := nudged(message)) and isinstance(messages[i - 1], ToolMessage):
            shown = list(messages) if shown is None else shown
            shown[i - 1] = with_note(messages[i - 1], text)
    return messages if shown is None else shown


def found(detector: LoopDetector, messages: Sequence[BaseMessage], tools: Sequence[Any] = ()) -> Loop | None:
    """The loop that one of the newest tool calls completes: an agent may make several at once.

    ``tools`` may say of themselves that their calls are no evidence; see ``marked``.
    """
    steps = recent(messages, detector.window)
    marks, newest = marked(tools), 0
    for message in reversed(messages):
        if not isinstance(message, ToolMessage):
            break
        newest += 1
    for end in range(len(steps) - max(1, min(newest, len(steps))) + 1, len(steps) + 1):
        loop = detector.check(steps[:end], marks)
        if loop is not None:
            return loop
    return None


def resolve(loop: Loop, rung: Rung, here: Here, messages: Sequence[BaseMessage]) -> str | Reply:
    """Climb one rung: what the model is to be told next, or the reply that ends the run.

    Raises:
        StuckLoopError: the rung says so.
    """
    here.tell(LoopDetected, loop.why, name=loop.tool, kind=loop.kind, answer=rung)
    if rung == "raise":
        raise StuckLoopError(f"The agent is stuck: {loop.why}", tool=loop.tool, kind=loop.kind)
    if rung == "nudge":
        return NUDGE
    if rung == "interrupt":
        answer = answered(here, about_loop(loop.tool, loop.why, here.scope))
        if answer.approve:
            return answer.message or NUDGE
    here.tell(EndedEarly, loop.why, name=loop.tool)
    have = so_far(messages)
    text = f"I stopped, for I was repeating the same action without progress: {loop.why}."
    return Reply(spoken(text + (f"\n\nWhat I have so far:\n\n{have}" if have else ""), ended="loop"), ended=True)
