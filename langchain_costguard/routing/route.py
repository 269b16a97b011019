"""The seam of routing: what a router is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_costguard.metering.budgets.headroom import Headroom
from langchain_costguard.vocabulary.scope import Scope

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_OURS = "costguard"
"""What steering tells the model in the user's place has this key in ``additional_kwargs``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRequest:
    """A request that needs a model.

    ``messages`` are the whole conversation, the system message first. ``headroom`` reads what the budgets have left;
    it is asked only by routers that care. ``last_model`` answered last in this conversation; empty where none did.
    ``tags`` and ``metadata`` are those of the call. ``declines`` says of a chat model why it cannot take over what is
    bound to this request, such as a tool that only another provider runs; empty where it can.
    """

    messages: Sequence[BaseMessage]
    tools: Sequence[Any] = ()
    structured: bool = False
    scope: Scope = field(default_factory=Scope)
    headroom: Callable[[], Headroom | None] = lambda: None
    last_model: str = ""
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    declines: Callable[[Any], str] = lambda model: ""

    @property
    def prompt(self) -> str:
        """The text of the user's last message; of the last message, where the user said nothing."""
        for message in reversed(self.messages):
            if isinstance(message, HumanMessage) and _OURS not in message.additional_kwargs:
                return _text(message)
        return _text(self.messages[-1]) if self.messages else ""


def _text(message: BaseMessage) -> str:
    """As ``message.text``, which copies a long text twice."""
    return message.content if isinstance(message.content, str) else str(message.text)


@dataclass(frozen=True, slots=True)
class Route:
    """A choice: the model, why (one sentence), and how sure the router is, on its own scale.

    ``dearest`` is the candidate that would have cost most, by which the saving is told; None where there was no other.
    """

    model: str | BaseChatModel
    why: str
    score: float | None = None
    dearest: str | BaseChatModel | None = None


Router = Callable[[RouteRequest], Route]
"""Chooses the model for a request. It may have ``models``, all that it may choose, which are then checked up front;
``aroute``, a coroutine function that is awaited on an event loop instead of a call on a thread; and ``quick``, which is
true of one that is not worth a thread."""
