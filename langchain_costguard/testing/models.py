"""A chat model without a provider: answers at once, says what it used."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, PrivateAttr

from langchain_costguard.testing.replies import Output, Reply


class _Counter:
    """Numbers from 0 up, each given once whatever the threads."""

    def __init__(self) -> None:
        self.value = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        with self._lock:
            self.value += 1
            return self.value - 1


class ScriptedChatModel(BaseChatModel):
    """A chat model that gives ``replies`` in order (the last repeats) without latency, sync and async.

    >>> model = ScriptedChatModel(replies=["Hello there"], usage=(10, 2))
    >>> model.invoke("Hi").usage_metadata["input_tokens"]
    10

    It reports itself as ``provider`` and ``model``, so that it has a price. Of a ``Reply`` it heeds the text, tool
    calls, chunks and token counts, as the fake provider does; ``max_tokens`` cuts its output.
    """

    replies: Sequence[Reply | str] = Field(default=("Hello from the scripted model.",), min_length=1)
    usage: tuple[int, int | None] = (10, None)
    """Input and output tokens of a call where the reply does not say; None counts the pieces."""
    provider: str = "openai"
    model: str = "gpt-4o"
    max_tokens: int | None = None

    _counter: _Counter = PrivateAttr(default_factory=_Counter)

    @property
    def calls(self) -> int:
        """How often it was called (copies of the model count together)."""
        return self._counter.value

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = self.provider
        params["ls_model_name"] = kwargs.get("model", self.model)
        if ceiling := kwargs.get("max_tokens", self.max_tokens):
            params["ls_max_tokens"] = ceiling
        return params

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the model; the script alone decides which are called."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        number, output = self._next_output(kwargs)
        message = AIMessage(
            content=output.text,
            tool_calls=[
                {"name": name, "args": _arguments(written), "id": f"call_{number}_{i}", "type": "tool_call"}
                for i, (name, written) in enumerate(output.calls)
            ],
            usage_metadata=self._usage_of(output),
            response_metadata=self._ending(output, kwargs),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages, stop, None, **kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self._chunks(kwargs):
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._chunks(kwargs):
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _next_output(self, kwargs: dict[str, Any]) -> tuple[int, Output]:
        number = self._counter.next()
        given = self.replies[min(number, len(self.replies) - 1)]
        reply = Reply(given) if isinstance(given, str) else given
        if reply.output_tokens is None and self.usage[1] is not None:
            reply = replace(reply, output_tokens=self.usage[1])
        return number, Output.of(reply, kwargs.get("max_tokens", self.max_tokens))

    def _usage_of(self, output: Output) -> UsageMetadata:
        given = output.reply.input_tokens
        used = self.usage[0] if given is None else given
        return UsageMetadata(input_tokens=used, output_tokens=output.tokens, total_tokens=used + output.tokens)

    def _ending(self, output: Output, kwargs: dict[str, Any]) -> dict[str, Any]:
        reason = "length" if output.cut else "tool_calls" if output.calls else "stop"
        model = output.reply.model or kwargs.get("model", self.model)
        return {
            "model_name": model,
            "model_provider": self.provider,
            "finish_reason": output.reply.finish_reason or reason,
        }

    def _chunks(self, kwargs: dict[str, Any]) -> Iterator[ChatGenerationChunk]:
        """One chunk a piece, then one that ends the message and tells the usage."""
        number, output = self._next_output(kwargs)
        for piece in output.pieces:
            if piece.call is None:
                yield ChatGenerationChunk(message=AIMessageChunk(content=piece.text))
                continue
            name = output.name_of(piece.call) if piece.opens else None
            call = f"call_{number}_{piece.call}" if piece.opens else None
            part = tool_call_chunk(name=name, args=piece.text, id=call, index=piece.call)
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[part]))
        last = AIMessageChunk(
            content="",
            usage_metadata=self._usage_of(output),
            response_metadata=self._ending(output, kwargs),
            chunk_position="last",
        )
        yield ChatGenerationChunk(message=last)


def _arguments(written: str) -> dict[str, Any]:
    try:
        found = json.loads(written)
    except ValueError:  # cut off by max_tokens
        return {}
    return found if isinstance(found, dict) else {}
