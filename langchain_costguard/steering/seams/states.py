"""A node's state and its updates, of whatever shape a graph has them: what steering reads in them and adds to them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langgraph.types import Command
from pydantic import BaseModel

from langchain_costguard.steering.requests import Reply, last_ai, noting


@dataclass(frozen=True, slots=True)
class NodeRequest:
    """A node's input as a request to the model in it.

    ``replaces`` says that an update of the messages' key stands for all of them: its channel has no reducer.
    """

    state: Any
    key: str
    messages: list[Any]
    replaces: bool = False
    paid: list[str] = field(default_factory=list)
    """What was paid in the attempt under way: models that answered, tools that ran."""

    def override(self, **changes: Any) -> NodeRequest:
        """The request with other messages; a node's tools and model are its own."""
        messages = list(changes.get("messages", self.messages))
        state = with_messages(self.state, self.key, messages)
        if chosen := messages_of(self.state, _CHOSEN):
            state = with_messages(state, _CHOSEN, _changed(chosen, self.messages, messages))
        return dataclasses.replace(self, state=state, messages=messages)

    def whole_again(self, update: Any, shown: Sequence[Any]) -> Any:
        """The update of a node that returns all messages, and was shown others in the place of these: with these."""
        return _whole(update, self.key, shown, self.messages) if self.replaces else update


_CHOSEN = "llm_input_messages"
"""The key by which a ``pre_model_hook`` of ``create_react_agent`` gives the model other messages than the state's.
https://github.com/langchain-ai/langgraph/blob/main/libs/prebuilt/langgraph/prebuilt/chat_agent_executor.py"""


def _changed(chosen: Sequence[Any], old: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    """The messages that were chosen for the model, with what was changed of the state's and what came after them."""
    swapped = {_known(before): after for before, after in zip(old, new, strict=False) if before is not after}
    missing = set(swapped) - {_known(message) for message in chosen}
    shown = [swapped.get(_known(message), message) for message in chosen] + list(new[len(old) :])
    if old and _known(old[-1]) in missing:  # the hook left out, or made anew, what a note stands in
        text = str(swapped[_known(old[-1])].text)
        shown = noting(shown, text.removeprefix(str(old[-1].text)).strip(), "note")
    return shown


def _known(message: Any) -> Any:
    return getattr(message, "tool_call_id", None) or message.id or id(message)


def node_request(state: Any, key: str, *, replaces: bool = False) -> NodeRequest:
    """The request in a node's input."""
    return NodeRequest(state, key, messages_of(state, key), replaces)


def messages_of(state: Any, key: str) -> list[BaseMessage]:
    """The messages in a state: a mapping, an object with fields, or the list itself; none where it has no such key."""
    if isinstance(state, (list, tuple, BaseMessage)):
        found: Any = state
    elif isinstance(state, Mapping):
        found = state.get(key)
    else:
        found = getattr(state, key, None)
    if isinstance(found, BaseMessage):
        return [found]
    return [m for m in found if isinstance(m, BaseMessage)] if isinstance(found, (list, tuple)) else []


def with_messages(state: Any, key: str, messages: Sequence[Any]) -> Any:
    """The state with other messages; as it is where it has no such key."""
    if isinstance(state, (list, tuple, BaseMessage)):
        return list(messages)
    if isinstance(state, Mapping):
        return {**state, key: list(messages)} if key in state else state
    if not hasattr(state, key):
        return state
    if isinstance(state, BaseModel):
        return state.model_copy(update={key: list(messages)})
    changed = copy.copy(state)
    object.__setattr__(changed, key, list(messages))
    return changed


def node_reply(update: Any, key: str) -> Reply:
    """The reply in what a node returned."""
    found = [m for part in _parts(update) for m in messages_of(part, key)]
    return Reply(last_ai(found), raw=update)


def node_update(reply: Reply, request: NodeRequest) -> Any:
    """What the node returns for a reply."""
    key = request.key
    if reply.raw is None and reply.message is not None:
        messages = [*(request.messages if request.replaces else ()), *reply.before, reply.message]
        return messages if isinstance(request.state, (list, tuple)) else {key: messages}
    update = _restored(reply.raw, key, request.messages)
    if reply.altered and reply.message is not None:
        update = _replaced(update, key, reply.message)
    if not reply.before or request.replaces:  # a node that returns all messages has seen them with those of ours
        return update
    if isinstance(request.state, (list, tuple)):
        return [*reply.before, *messages_of(update, key)]
    return [Command(update={key: list(reply.before)}), *(update if _is_list(update) else [update])]


def _restored(update: Any, key: str, messages: Sequence[Any]) -> Any:
    """The update without our notes in the results that the node was shown, where it returns those, too."""
    if isinstance(update, Command):
        inner = _restored(_mapped(update.update), key, messages)
        return update if inner is _mapped(update.update) else dataclasses.replace(update, update=inner)
    if _is_list(update):
        return [_restored(part, key, messages) for part in update]
    known = {message.tool_call_id: message for message in messages if isinstance(message, ToolMessage)}
    found = messages_of(update, key)
    own = [known.get(m.tool_call_id, m) if isinstance(m, ToolMessage) else m for m in found]
    return update if all(a is b for a, b in zip(own, found, strict=True)) else with_messages(update, key, own)


def _whole(update: Any, key: str, shown: Sequence[Any], whole: Sequence[Any]) -> Any:
    """The update with the whole thread where it begins with what was shown; what a node makes of it else is its own."""
    if isinstance(update, Command):
        return dataclasses.replace(update, update=_whole(_mapped(update.update), key, shown, whole))
    if _is_list(update):
        return [_whole(part, key, shown, whole) for part in update]
    found = messages_of(update, key)
    if list(map(_known, found[: len(shown)])) != list(map(_known, shown)):
        return update
    return with_messages(update, key, [*whole, *found[len(shown) :]])


def _is_list(update: Any) -> bool:
    return isinstance(update, (list, tuple)) and any(isinstance(part, Command) for part in update)


def _parts(update: Any) -> list[Any]:
    if isinstance(update, Command):
        return [_mapped(update.update)]
    return [inner for part in update for inner in _parts(part)] if _is_list(update) else [update]


def _mapped(update: Any) -> Any:
    """A command's update, which may be pairs."""
    pairs = isinstance(update, (list, tuple)) and all(isinstance(p, tuple) and len(p) == 2 for p in update)
    return dict(update) if pairs else update


def _replaced(update: Any, key: str, message: AIMessage) -> Any:
    """The update with its last message of the model's replaced."""
    if isinstance(update, Command):
        return dataclasses.replace(update, update=_replaced(_mapped(update.update), key, message))
    if _is_list(update):
        parts = list(update)
        for i in reversed(range(len(parts))):
            if node_reply(parts[i], key).message is not None:
                parts[i] = _replaced(parts[i], key, message)
                break
        return parts
    messages = messages_of(update, key)
    old = last_ai(messages)
    return with_messages(update, key, [message if m is old else m for m in messages]) if old is not None else update
