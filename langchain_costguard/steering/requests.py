"""What a policy asks and what it is answered, the same at each seam: in an agent, in a node, in a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.runnables import RunnableBinding
from langchain_core.runnables.config import ensure_config, merge_configs
from langchain_core.runnables.configurable import DynamicRunnable

from langchain_costguard.metering.pricing.reading import from_usage_metadata
from langchain_costguard.steering.sayings import MARK, told

if TYPE_CHECKING:
    from langchain_costguard.vocabulary.usage import Usage


class Request(Protocol):
    """A request to a model. LangChain's ``ModelRequest`` is one; ``ChatRequest`` and ``NodeRequest`` are ours."""

    messages: list[Any]

    def override(self, **changes: Any) -> Any:
        """The request with other fields; the one it is called on stays as it is."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request to a chat model outside an agent: ``settings`` are the arguments of the call."""

    model: Any
    messages: list[Any]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def override(self, **changes: Any) -> ChatRequest:
        """The request with other fields."""
        return replace(self, **changes)


@dataclass(slots=True)
class Reply:
    """The answer to a request: ``message`` is the model's, ``raw`` what the host's own handler returned.

    ``before`` are messages that go into the history in front of it; ``ended`` says that the run is to end here.
    """

    message: AIMessage | None
    raw: Any = None
    before: list[BaseMessage] = field(default_factory=list)
    ended: bool = False
    altered: bool = False
    """Whether ``message`` is another than the one in ``raw``."""
    answered: frozenset[str | None] = frozenset()
    """The ids of calls in ``message`` that ``raw`` has the answers to."""
    state: dict[str, Any] = field(default_factory=dict)
    """What the agent's state is to have besides, under private keys of ours."""


def without_tools(request: Any, text: str) -> Any:
    """The request with its tools taken away, and told why.

    A format that is called as a tool stays, and with it the host's own list of tools.

    Anthropic refuses a history with tool calls in it where no tools are given, and has a choice of none; Bedrock
    refuses it too and has none: its tools stay, and what is called regardless is dropped.
    https://docs.anthropic.com/en/api/errors
    """
    changes: dict[str, Any] = {"messages": noting(request.messages, text, "last")}
    kind = str(getattr(getattr(request, "model", None), "_llm_type", ""))
    if "bedrock" in kind:
        return request.override(**changes)
    called = type(getattr(request, "response_format", None)).__name__ == "ToolStrategy"
    choice = {"type": "none"} if "anthropic" in kind and not called else None
    if hasattr(request, "tools"):
        return request.override(**changes, tools=request.tools if choice else [], tool_choice=choice)
    settings = getattr(request, "settings", None)
    if settings:
        kept = {key: value for key, value in settings.items() if key not in ("tools", "tool_choice")}
        if choice and "tools" in settings:
            kept |= {"tools": settings["tools"], "tool_choice": choice}
        changes["settings"] = kept
    return request.override(**changes)


def noting(messages: Sequence[Any], text: str, what: str) -> list[Any]:
    """The messages, and something for the model to read last.

    After a tool's result it stands in that: Mistral has nobody speak between a result and the model's turn.
    """
    if not messages or not isinstance(messages[-1], ToolMessage):
        return [*messages, told(text, what)]
    return [*messages[:-1], with_note(messages[-1], text)]


def with_note(result: ToolMessage, text: str, *, first: bool = False, **facts: Any) -> ToolMessage:
    """A tool's result with a note for the model in it; ``facts`` for a program that reads it."""
    old = result.content
    note = {"type": "text", "text": text}
    content: Any = "\n\n".join((text, old) if first else (old, text)) if isinstance(old, str) else [*old, note]
    if first and not isinstance(old, str):
        content = [note, *old]
    known = result.additional_kwargs.get(MARK)
    marked = {**(known if isinstance(known, dict) else {}), **facts}
    kwargs = {**result.additional_kwargs, **({MARK: marked} if marked else {})}
    return result.model_copy(update={"content": content, "additional_kwargs": kwargs})


def without_calls(reply: Reply) -> Reply:
    """The reply with no tool called; but for what the host has answered already: a format that is called as a tool."""
    message = reply.message
    if message is None or not (message.tool_calls or message.invalid_tool_calls):
        return reply
    kept = [call for call in message.tool_calls if call["id"] in reply.answered]
    if len(kept) == len(message.tool_calls) and not message.invalid_tool_calls:
        return reply
    content = without_call_blocks(message.content, [call["id"] for call in kept])
    extra = {key: value for key, value in message.additional_kwargs.items() if key != "tool_calls"}
    changes = {"tool_calls": kept, "invalid_tool_calls": [], "content": content, "additional_kwargs": extra}
    return replace(reply, message=message.model_copy(update=changes), altered=True)


def without_call_blocks(content: Any, kept: Sequence[Any] = ()) -> Any:
    """A message's content without the provider's own blocks of tool calls, but for those ``kept`` (their ids). What was
    reasoned for nothing but a call goes with it: OpenAI takes no reasoning without what it led to."""
    if not isinstance(content, list):
        return content
    calls = [b for b in content if isinstance(b, dict) and b.get("type") in _CALLS]
    gone = [b for b in calls if not {b.get("id"), b.get("call_id")} & set(kept)]
    rest = [block for block in content if not any(block is each for each in gone)]
    if gone and all(isinstance(b, dict) and b.get("type") == "reasoning" for b in rest):
        return []
    return rest


_CALLS = ("tool_use", "tool_call", "function_call", "invalid_tool_call", "non_standard")


def noted(model: Any, facts: Mapping[str, Any]) -> Any:
    """The model, whose runs have these metadata, too."""
    if not facts:
        return model
    return model.model_copy(update={"metadata": {**(model.metadata or {}), **facts}})


def name_of(model: Any) -> str:
    """What a model is called in reports and circuits."""
    return str(getattr(model, "model_name", None) or getattr(model, "model", None) or type(model).__name__)


def last_ai(messages: Sequence[Any]) -> AIMessage | None:
    """The last message of the model's among these."""
    return next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)


def used_in(message: AIMessage | None) -> Usage | None:
    """The tokens of a reply; None where it does not say, or there is none."""
    return from_usage_metadata(message.usage_metadata) if message is not None and message.usage_metadata else None


def concrete(model: Any) -> tuple[BaseChatModel, Mapping[str, Any]] | None:
    """The chat model, and the arguments bound to it, as a call made here would have it; None where only the call itself
    can say: for a model made from its config (``init_chat_model(configurable_fields=...)``), with fallbacks or retries.
    """
    bound: dict[str, Any] = {}
    config = None
    while not isinstance(model, BaseChatModel):
        config = ensure_config() if config is None else config
        if isinstance(model, RunnableBinding):
            bound = {**model.kwargs, **bound}
            config = merge_configs(model.config, config)
            model = model.bound
        elif isinstance(model, DynamicRunnable):
            model, config = model.prepare(config)
        else:
            return None
    return model, bound
