"""An agent's last tool calls and what came of them, read from its messages; and the nudge among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple, cast, get_args

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_costguard.steering.policies.likeness import same

NUDGE = (
    "You appear to be repeating the same action without progress. "
    "Stop and reconsider your approach."
)  # fmt: skip
"""What a stuck agent is told first."""

_MESSAGES_A_CALL = 10
_AS_BEFORE = 2

Mark = Literal["poll", "handoff", "note"]
"""What a tool says it is, so that its calls are no evidence of a loop: see ``marked``."""


class Step(NamedTuple):
    """One tool call and what came of it.

    ``arguments`` are a mapping as in ``tool_call["args"]``, or a text; ``result`` is None where it is not known, and
    ``failed`` is what a ToolMessage's status ``error`` says.
    """

    name: str
    arguments: Any
    result: str | None = None
    failed: bool = False


def recent(messages: Sequence[BaseMessage], window: int) -> list[Step]:
    """The last ``window`` tool calls that have a result, oldest first; those since the user's own last message.

    Walks back from the end, over ten messages a call at most. A call without a result is left out, for it may be
    under way; an invalid one is a failure, for it was never made.

    What another agent of the graph said (a message with a name and without calls) is a step as well: it is what
    happened between two hand-offs.

    Evidence counts afresh from our last nudge, so that an agent that heeds it is left alone; but where the newest
    call and another one since were made before the nudge already, the calls before it are back: going on as before is
    evidence enough, and one more of the same is not.
    """
    steps: list[Step] = []
    fresh: int | None = None
    results: list[ToolMessage] = []
    for message in islice(reversed(messages), _MESSAGES_A_CALL * window):
        if isinstance(message, ToolMessage):
            results.append(message)
        elif isinstance(message, AIMessage):
            steps += reversed(_made(message, results) or _said(message))
            if nudged(message):
                fresh = len(steps) if fresh is None else fresh
        elif _is_nudge(message):
            fresh = len(steps) if fresh is None else fresh
        elif isinstance(message, HumanMessage):
            break
        if len(steps) >= window:
            break
    del steps[window:]
    if fresh is not None and not _goes_on(steps[:fresh], steps[fresh:]):
        del steps[fresh:]
    return steps[::-1]


def _goes_on(since: Sequence[Step], before: Sequence[Step]) -> bool:
    """Whether the newest of the calls since (newest first) and another were made before."""
    old = [any(_repeats(step, other) for other in before) for step in since]
    return old[:1] == [True] and sum(old) >= _AS_BEFORE


def marked(tools: Sequence[Any]) -> dict[str, Mark]:
    """What tools say they are, by name: ``tool.metadata = {"costguard": "poll"}``, or ``"handoff"``, ``"note"``."""
    marks: dict[str, Mark] = {}
    for tool in tools:
        metadata, name = getattr(tool, "metadata", None), getattr(tool, "name", None)
        mark = metadata.get("costguard") if isinstance(metadata, Mapping) else None
        if isinstance(name, str) and mark in get_args(Mark):
            marks[name] = cast("Mark", mark)
    return marks


def nudges(messages: Sequence[BaseMessage]) -> int:
    """How many nudges there have been since the user's own last message."""
    count = 0
    for message in reversed(messages):
        if _is_nudge(message) or nudged(message):
            count += 1
        elif isinstance(message, HumanMessage):
            break
    return count


def nudged(message: BaseMessage) -> str:
    """What a model was told as it gave this reply, beside its last result; empty where nothing."""
    facts = message.additional_kwargs.get("costguard") if isinstance(message, AIMessage) else None
    return str(facts.get("nudge") or "") if isinstance(facts, dict) else ""


def _is_nudge(message: BaseMessage) -> bool:
    ours = message.additional_kwargs.get("costguard") == "loop"
    return ours and isinstance(message, (HumanMessage, SystemMessage))


def _made(message: AIMessage, results: list[ToolMessage]) -> list[Step]:
    """The calls of one message, in their order; takes their results from ``results`` (newest first)."""
    steps = []
    for call in message.tool_calls:
        result = _take(call.get("id"), results)
        if result is not None:
            steps.append(Step(call["name"], call["args"], _text(result.content), result.status == "error"))
    for invalid in message.invalid_tool_calls:
        result = _take(invalid.get("id"), results)
        said = str(invalid.get("error") or "") if result is None else _text(result.content)
        steps.append(Step(invalid.get("name") or "", invalid.get("args") or "", said, True))
    return steps


def _said(message: AIMessage) -> list[Step]:
    if not message.name or message.tool_calls or not (text := _text(message.content).strip()):
        return []
    return [Step(message.name, {}, text)]


def _take(call_id: str | None, results: list[ToolMessage]) -> ToolMessage | None:
    """The oldest result for this id; for a call without one, the oldest result without one."""
    for i in range(len(results) - 1, -1, -1):
        if (results[i].tool_call_id or "") == (call_id or ""):
            return results.pop(i)
    return None


def _text(content: str | list[str | dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(block if isinstance(block, str) else _block(block) for block in content)


def _block(block: Mapping[str, Any]) -> str:
    text = block.get("text")
    if isinstance(text, str):
        return text
    return f"{block.get('type')} {_mark(block)}"


def _mark(value: Any) -> int:
    """A number that tells one image or file from another; cheap, for Python keeps the hash of a text."""
    if isinstance(value, Mapping):
        return hash(tuple((key, _mark(inner)) for key, inner in value.items()))
    return hash(value) if isinstance(value, (str, bytes, int, float)) else hash(str(value))


def _repeats(one: Step, other: Step) -> bool:
    return one.name == other.name and same(one.arguments, other.arguments)
