"""A remembered reply in the place of a model: whatever calls it gets the reply, whole or piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple
from uuid import uuid4

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config
from pydantic import ConfigDict

from langchain_costguard.caching.entry import Entry
from langchain_costguard.caching.replies import pieces
from langchain_costguard.metering.seams.watching import OURS, RECALLED
from langchain_costguard.vocabulary.money import usd

_NOTHING_SPENT: UsageMetadata = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


class Hit(NamedTuple):
    """A remembered answer that will do, and why."""

    entry: Entry
    message: AIMessage
    kind: str
    why: str
    score: float | None = None
    reasons: tuple[str, ...] = ()


def shown(hit: Hit) -> AIMessage:
    """The message under a new id, with what it saved instead of what it spent."""
    facts: dict[str, Any] = {"cache": hit.kind, "saved_usd": str(usd(hit.entry.cost)), "why": hit.why}
    if hit.message.usage_metadata:
        facts["saved_usage"] = dict(hit.message.usage_metadata)
    if hit.score is not None:
        facts |= {"score": hit.score, "reasons": list(hit.reasons)}
    message = hit.message  # made for this hit, and nobody else's
    message.id, message.usage_metadata = f"recalled-{uuid4()}", _NOTHING_SPENT.copy()
    message.response_metadata["costguard"] = facts
    return message


class StandIn(BaseChatModel):
    """A chat model that says one thing. The guard knows its runs, and meters none of them; tracers see them as runs.

    ``model_name`` and ``profile`` are those of the model it stands in for, by which the host decides how to read a
    structured reply.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    reply: AIMessage
    model_name: str = ""

    @classmethod
    def of(cls, model: Any, reply: AIMessage, name: str) -> StandIn:
        """In the place of this model."""
        changes = {"reply": reply, "model_name": name, "profile": getattr(model, "profile", None)}
        return _BLANK.model_copy(update=changes)  # validating a profile would take longer than all else about a hit

    @property
    def _llm_type(self) -> str:
        return "costguard-recalled"

    @property
    def _serialized(self) -> dict[str, Any]:  # LangChain's own would spell out the reply
        return {"lc": 1, "type": "not_implemented", "id": [*__name__.split("."), "StandIn"], "name": "StandIn"}

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "costguard", "ls_model_name": self.model_name, "ls_model_type": "chat"}

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """The reply is what it is."""
        return self

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> AIMessage:
        """The reply; a run is made of it only where somebody besides guards would see it."""
        return super().invoke(input, config, **kwargs) if _heard(config) else self.reply

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> AIMessage:
        """The same."""
        return await super().ainvoke(input, config, **kwargs) if _heard(config) else self.reply

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.reply)])

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return self._generate(messages)

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for piece in pieces(self.reply):
            chunk = ChatGenerationChunk(message=piece)
            if run_manager is not None:
                run_manager.on_llm_new_token(str(piece.text), chunk=chunk)
            yield chunk

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for piece in pieces(self.reply):
            chunk = ChatGenerationChunk(message=piece)
            if run_manager is not None:
                await run_manager.on_llm_new_token(str(piece.text), chunk=chunk)
            yield chunk


def _heard(config: Any) -> bool:
    """Whether anybody listens who is no guard: a tracer, a stream of messages."""
    handlers = get_callback_manager_for_config(ensure_config(config)).handlers
    return not all(hasattr(handler, "meter") for handler in handlers)


_BLANK = StandIn(reply=AIMessage(""), cache=False, metadata={RECALLED: OURS})
