"""Caching in a hand-written graph: a node around the node that calls the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableBinding, RunnableConfig
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from langchain_costguard.metering.settings import check_guard
from langchain_costguard.steering.flow import Call, Flow, adrive, drive
from langchain_costguard.steering.layers.caches import Cache, Caches
from langchain_costguard.steering.layers.recalling import caching
from langchain_costguard.steering.layers.stand_in import StandIn
from langchain_costguard.steering.requests import Reply, name_of
from langchain_costguard.steering.seams.states import messages_of, node_reply
from langchain_costguard.steering.surroundings import Here, paying

if TYPE_CHECKING:
    from langchain_costguard.guard import CostGuard

_Callable: Any = ToolNode.__bases__[0]
"""See ``install``."""


class CacheNode(_Callable):  # type: ignore[misc]
    """``CacheNode(guard, cache, call_model, model=model)``: a node that answers from memory, or runs the node it is
    given and remembers the reply.

    Only what a node returns as one reply and nothing else is remembered, ``{"messages": [reply]}``; and that not where
    it had to ``interrupt`` for it.

    Args:
        guard: Whose scopes tell users apart, and whose report tells of hits.
        cache: As in ``steer``.
        node: A function of the state, or a runnable.
        model: The model the node calls, with its tools bound if it has any: by it questions are told apart.
        version: What else the answer depends on, such as the node's own instructions: a text to be changed when they
            are, or a function of the state.
        messages_key: The state's key of the messages.

    Raises:
        ValueError: names the argument.
    """

    def __init__(
        self,
        guard: CostGuard,
        cache: Cache | Sequence[Cache],
        node: Any,
        *,
        model: Any,
        version: str | Callable[[Any], str] = "",
        messages_key: str = "messages",
    ) -> None:
        bound = model.bound if isinstance(model, RunnableBinding) else model
        if not isinstance(bound, BaseChatModel):
            raise ValueError(f"model: {model!r} must be the chat model that the node calls")
        try:
            inner: Any = StateGraph(MessagesState).add_node("node", node).nodes["node"].runnable  # as a graph would
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"node: {node!r} is none: {error}") from None
        settings = dict(model.kwargs) if isinstance(model, RunnableBinding) else {}
        request = partial(_Request, key=messages_key, model=bound, settings=settings)
        check_guard(guard)
        self.guard = guard
        self.caches = Caches(cache)

        def call(config: RunnableConfig, wanted: Call) -> Reply:
            with paying(guard, wanted):
                asked: _Request = wanted.request
                if isinstance(asked.model, StandIn):
                    return Reply(asked.model.invoke(asked.messages, config))
                return _only(inner.invoke(asked.state, config), messages_key, config)

        async def acall(config: RunnableConfig, wanted: Call) -> Reply:
            with paying(guard, wanted):
                asked: _Request = wanted.request
                if isinstance(asked.model, StandIn):
                    return Reply(await asked.model.ainvoke(asked.messages, config))
                return _only(await inner.ainvoke(asked.state, config), messages_key, config)

        def flow(state: Any) -> Flow[Reply]:
            said = version(state) if callable(version) else version
            return _flow(self.caches, guard, request(state, salt=said, messages=messages_of(state, messages_key)))

        def run(state: Any, config: RunnableConfig) -> Any:
            return _update(drive(flow(state), partial(call, config)), state, messages_key)

        async def arun(state: Any, config: RunnableConfig) -> Any:
            return _update(await adrive(flow(state), partial(acall, config), guard.aside), state, messages_key)

        super().__init__(run, arun, name=getattr(inner, "name", None) or "cache", trace=False)


@dataclass(frozen=True, slots=True)
class _Request:
    """A node's input as a request to the model it is known to call."""

    state: Any
    key: str
    model: Any
    settings: Mapping[str, Any]
    salt: str
    messages: list[Any] = field(default_factory=list)
    tool_choice: Any = None

    def override(self, **changes: Any) -> _Request:
        return replace(self, **changes)


def _flow(caches: Caches, guard: CostGuard, request: _Request) -> Flow[Reply]:
    here = Here(guard, name_of(request.model))

    def ask(wanted: Any) -> Flow[Reply]:
        reply: Reply = yield Call(wanted)
        return reply

    return caching(caches, here, ask, request)


def _only(update: Any, key: str, config: RunnableConfig) -> Reply:
    """The reply in what the node returned, if there is nothing else in it to be remembered, and no person has answered
    the node: that answer is none to the next run, which is to ask again."""
    reply = node_reply(update, key)
    whole = update if not isinstance(update, Mapping) else update.get(key) if len(update) == 1 else None
    messages = whole if isinstance(whole, list) else [whole]
    alone = len(messages) == 1 and isinstance(messages[0], AIMessage)
    answers = getattr((config.get("configurable") or {}).get("__pregel_scratchpad"), "resume", None)
    return reply if alone and not answers else Reply(None, raw=update)


def _update(reply: Reply, state: Any, key: str) -> Any:
    if reply.raw is not None or reply.message is None:
        return reply.raw
    return [reply.message] if isinstance(state, (list, tuple)) else {key: [reply.message]}
