"""What providers accept as a history: which call has its answer, and whose turn it is.

The rules are of the form in which a history leaves the client classes, which merge neighbours of one role, move system
messages to the front and translate ids where their provider asks for it; what they do not mend is refused.

- OpenAI, both APIs: https://platform.openai.com/docs/guides/function-calling
- Anthropic: https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/implement-tool-use
- Gemini: https://ai.google.dev/gemini-api/docs/function-calling
- Mistral: https://github.com/mistralai/mistral-common/blob/main/src/mistral_common/protocol/instruct/validator.py
- Bedrock: https://docs.aws.amazon.com/bedrock/latest/userguide/tool-use-inference-call.html
- Cohere: https://docs.cohere.com/v2/docs/tool-use-overview
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

_CALLS = ("tool_use", "tool_call", "function_call", "invalid_tool_call")


@dataclass(frozen=True, slots=True)
class Rules:
    """What one provider asks of a history besides that each call has its answer."""

    system_first: bool = False
    """System messages come before all others."""
    starts_with_user: bool = False
    ends_with_user: bool = False
    """The last message is the user's or a tool's: an answer cannot be begun for the model."""
    user_after_tool: bool = True
    """A user may speak before the model has seen a tool's result."""
    system_after_ai: bool = True
    """A system message may come after one of the model's."""
    empty: bool = True
    """A message may say nothing and call nothing."""
    reasoning_leads: bool = False
    """Reasoning is followed by what it led to."""


DIALECTS: Mapping[str, Rules] = {
    "openai": Rules(),
    "openai-responses": Rules(reasoning_leads=True),
    "anthropic": Rules(system_first=True, starts_with_user=True, ends_with_user=True, empty=False),
    "gemini": Rules(system_first=True, starts_with_user=True, ends_with_user=True, empty=False),
    "mistral": Rules(
        starts_with_user=True, ends_with_user=True, user_after_tool=False, system_after_ai=False, empty=False
    ),
    "bedrock": Rules(system_first=True, starts_with_user=True, ends_with_user=True, empty=False),
    "cohere": Rules(ends_with_user=True, empty=False),
}
"""The providers' rules by name."""


class Fault(NamedTuple):
    """What is wrong with a history: at which message (by index), and why."""

    at: int
    why: str


def faults(messages: Sequence[BaseMessage], dialect: str | None = None, *, whole: bool = True) -> list[Fault]:
    """What a provider would refuse in a history; None asks for what is right at all of them.

    ``whole=False`` is for one that goes on: a conversation as it is kept, which may end with the model's answer.

    Raises:
        ValueError: names the dialect that is not known.
    """
    if dialect is not None and dialect not in DIALECTS:
        raise ValueError(f"dialect: {dialect!r} is not one of {', '.join(DIALECTS)}")
    found = [*_pairs(messages)]
    for rules in DIALECTS.values() if dialect is None else [DIALECTS[dialect]]:
        found += _turns(messages, rules, whole=whole)
    return sorted(set(found))


def calls_in(message: BaseMessage) -> list[str]:
    """The ids of the calls that a message asks to be answered, in the provider's own blocks, too. What a provider runs
    by itself (a web search of its own) needs no answer."""
    if not isinstance(message, AIMessage):
        return []
    blocks = message.content if isinstance(message.content, list) else []
    ids: list[Any] = [call.get("id") for call in (*message.tool_calls, *message.invalid_tool_calls)]
    ids += [
        block.get("call_id") or block.get("id")
        for block in blocks
        if isinstance(block, dict) and block.get("type") in _CALLS
    ]
    return list(dict.fromkeys(str(each) for each in ids if each))


def says_nothing(message: BaseMessage) -> bool:
    """Whether a message has neither text nor anything else in it."""
    if calls_in(message) or (isinstance(message, AIMessage) and (message.tool_calls or message.invalid_tool_calls)):
        return False
    content = message.content
    if isinstance(content, str):
        return not content.strip()
    return all(
        not (block if isinstance(block, str) else block.get("text", "")).strip()
        for block in content
        if isinstance(block, str) or block.get("type") == "text"
    ) and all(isinstance(block, str) or block.get("type") == "text" for block in content)


def _pairs(messages: Sequence[BaseMessage]) -> Iterator[Fault]:
    """Each call is answered once, right after the message that makes it, before anybody else speaks."""
    open_: dict[str, int] = {}
    answered: set[str] = set()
    for i, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            id_ = message.tool_call_id
            if id_ in open_:
                answered.add(id_)
                del open_[id_]
            else:
                why = "is answered twice" if id_ in answered else "was not called before"
                yield Fault(i, f"a tool's answer to {id_!r}, which {why}")
            continue
        yield from (Fault(at, f"the call {id_!r} has no answer before message {i}") for id_, at in open_.items())
        open_, answered = dict.fromkeys(calls_in(message), i), set()
        if isinstance(message, AIMessage) and any(not call.get("id") for call in message.tool_calls):
            yield Fault(i, "a call without an id cannot be answered")
    yield from (Fault(at, f"the call {id_!r} has no answer") for id_, at in open_.items())


def _turns(messages: Sequence[BaseMessage], rules: Rules, *, whole: bool) -> Iterator[Fault]:
    kinds = [_kind(message) for message in messages]
    speakers = [(i, kind) for i, kind in enumerate(kinds) if kind != "system"]
    if rules.starts_with_user and speakers and speakers[0][1] != "user":
        yield Fault(speakers[0][0], "the conversation must begin with the user's message")
    if rules.ends_with_user and whole and speakers and speakers[-1][1] == "ai":
        yield Fault(speakers[-1][0], "the last message must be the user's or a tool's")
    for i, (kind, message) in enumerate(zip(kinds, messages, strict=True)):
        before = kinds[i - 1] if i else ""
        if kind == "system" and rules.system_first and any(other != "system" for other in kinds[:i]):
            yield Fault(i, "a system message must come first")
        if kind == "system" and not rules.system_after_ai and before == "ai":
            yield Fault(i, "a system message may not follow one of the model's")
        if kind in ("user", "system") and before == "tool" and not rules.user_after_tool:
            yield Fault(i, "after a tool's answer it is the model's turn")
        # A tool may return nothing: the clients send that.
        if not rules.empty and kind != "tool" and says_nothing(message):
            yield Fault(i, "the message is empty")
        if rules.reasoning_leads and kind == "ai" and _only_reasons(message):
            yield Fault(i, "reasoning without what it led to")


def _kind(message: BaseMessage) -> str:
    names = {"human": "user", "HumanMessageChunk": "user", "AIMessageChunk": "ai", "SystemMessageChunk": "system"}
    if message.type == "chat":
        role = str(getattr(message, "role", "user"))
        return {"assistant": "ai", "developer": "system"}.get(role, role)
    return names.get(message.type, message.type)


def _only_reasons(message: BaseMessage) -> bool:
    blocks = message.content if isinstance(message.content, list) else []
    kinds = [block.get("type") for block in blocks if isinstance(block, dict)]
    return bool(kinds) and all(kind == "reasoning" for kind in kinds) and not calls_in(message)
