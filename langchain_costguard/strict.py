"""``guard.wrap(model)``: the same model, of the same class, admitted at the very call to its provider.

A wrapped model keeps its class (as a subclass), name, parameters and tracing. It carries the guard as a callback, for
lineage and scope, and a metadata key by which the callback knows to leave admission to the wrapper.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import uuid4

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import add_usage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult

from .calls import Call, Stream, pieces
from .handler import STRICT, Handler, started
from .pricing.estimate import output_limit
from .waiting import admission, adrive, drive

if TYPE_CHECKING:
    from .guard import CostGuard

T = TypeVar("T")
_Messages = list[BaseMessage]
_INTERRUPTED = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
_CEILINGS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict")

_inside: ContextVar[bool] = ContextVar("costguard_inside", default=False)
"""A model whose ``_generate`` calls its own ``_stream`` (or the other way round) is admitted once, at the outer one."""


def wrap(guard: CostGuard, model: T) -> T:
    """A guarded copy of a chat model or of ``Embeddings``.

    Raises:
        ValueError: ``model`` is neither.
    """
    if isinstance(model, BaseChatModel):
        given = model.callbacks
        callbacks = list(given if isinstance(given, list) else given.handlers if given else [])
        metadata = {**(model.metadata or {}), STRICT: guard.session}
        copy = model.model_copy(update={"callbacks": [*callbacks, guard], "metadata": metadata})
        # Pydantic's __setattr__ knows fields only; the layout of both classes is the same.
        object.__setattr__(copy, "__class__", _guarded(type(model)))
        return cast("T", copy)
    if isinstance(model, Embeddings):
        from .embeddings import GuardedEmbeddings

        return cast("T", GuardedEmbeddings(guard, model))
    raise ValueError(f"wrap: {model!r} is neither a chat model nor Embeddings; attach the guard as a callback instead")


@cache
def _guarded(cls: type[BaseChatModel]) -> type[BaseChatModel]:
    """A subclass that admits each call. It overrides only what ``cls`` does: a ``_stream`` of our own on a model that
    has none would make LangChain believe that it streams."""
    if issubclass(cls, _Guarded):
        return cls
    names = {"_generate": _generate, "_agenerate": _agenerate, "_stream": _stream, "_astream": _astream}
    methods: dict[str, Any] = {
        name: make(getattr(cls, name))
        for name, make in names.items()
        if getattr(cls, name, None) is not getattr(BaseChatModel, name)
    }
    namespace = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__, **methods}
    guarded = type(cls)(cls.__name__, (_Guarded, cls), namespace)  # type: ignore[misc]
    return cast("type[BaseChatModel]", guarded)


class _Guarded:
    """Marks a guarded class."""


def _generate(original: Any) -> Any:
    def _generate(self: Any, messages: _Messages, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        if _inside.get():
            return original(self, messages, stop=stop, run_manager=run_manager, **kwargs)
        guard, call = _call(self, messages, run_manager, kwargs)
        with _admitting(guard, call):
            drive(admission(guard, call))
        with _settling(guard, call), _reentrant():
            result = original(self, messages, stop=stop, run_manager=run_manager, **_clamped(self, call, kwargs))
            _done(guard, call, result)
            return result

    return _generate


def _agenerate(original: Any) -> Any:
    async def _agenerate(
        self: Any, messages: _Messages, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Any:
        if _inside.get():
            return await original(self, messages, stop=stop, run_manager=run_manager, **kwargs)
        guard, call = _call(self, messages, run_manager, kwargs)
        with _admitting(guard, call):
            await adrive(admission(guard, call))
        with _settling(guard, call), _reentrant():
            clamped = _clamped(self, call, kwargs)
            result = await original(self, messages, stop=stop, run_manager=run_manager, **clamped)
            _done(guard, call, result)
            return result

    return _agenerate


def _stream(original: Any) -> Any:
    def _stream(
        self: Any, messages: _Messages, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        if _inside.get():
            yield from original(self, messages, stop=stop, run_manager=run_manager, **kwargs)
            return
        guard, call = _call(self, messages, run_manager, kwargs)
        with _admitting(guard, call):
            drive(admission(guard, call))
        reply = _Reply(guard, call)
        with _settling(guard, call, reply):
            chunks = original(self, messages, stop=stop, run_manager=run_manager, **_clamped(self, call, kwargs))
            with closing(chunks):
                for chunk in chunks:
                    reply.add(chunk)
                    yield chunk
            _done(guard, call, reply.result())

    return _stream


def _astream(original: Any) -> Any:
    async def _astream(
        self: Any, messages: _Messages, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        if _inside.get():
            async for chunk in original(self, messages, stop=stop, run_manager=run_manager, **kwargs):
                yield chunk
            return
        guard, call = _call(self, messages, run_manager, kwargs)
        with _admitting(guard, call):
            await adrive(admission(guard, call))
        reply = _Reply(guard, call)
        with _settling(guard, call, reply):
            chunks = original(self, messages, stop=stop, run_manager=run_manager, **_clamped(self, call, kwargs))
            async with aclosing(chunks):
                async for chunk in chunks:
                    reply.add(chunk)
                    yield chunk
            _done(guard, call, reply.result())

    return _astream


class _Reply:
    """A streamed reply as it comes: counted chunk by chunk, its usage added up."""

    def __init__(self, guard: CostGuard, call: Call) -> None:
        self.guard = guard
        self.call = call
        self.usage: Any = None
        self.metadata: dict[str, Any] = {}
        call.stream = Stream(guard.now(), 1)

    def add(self, chunk: ChatGenerationChunk) -> None:
        message = chunk.message
        stream = self.call.stream
        assert stream is not None
        usage = getattr(message, "usage_metadata", None)
        if usage:
            self.usage = add_usage(self.usage, usage)
        for facts in (chunk.generation_info, message.response_metadata):
            if facts:
                self.metadata.update(facts)
        text = pieces(message.content, chunk)
        if text:
            if not stream.chunks:
                stream.first_at = self.guard.now()
            self.guard.feed(self.call, stream, text)

    def result(self) -> ChatResult:
        text = self.call.stream.text() if self.call.stream else ""
        message = AIMessage(content=text, usage_metadata=self.usage, response_metadata=self.metadata)
        return ChatResult(generations=[ChatGeneration(message=message)])


def _call(model: Any, messages: _Messages, run_manager: Any, kwargs: Mapping[str, Any]) -> tuple[CostGuard, Call]:
    """The call that the callback opened for this request; a new one where something calls the model directly."""
    session = (model.metadata or {}).get(STRICT)
    guard: CostGuard = next(h for h in model.callbacks if isinstance(h, Handler) and h.session == session)  # type: ignore[assignment]
    call = guard.meter.open_calls.get(run_manager.run_id.int) if run_manager is not None else started.get()
    if call is not None and call.strict and call.hold is None and guard.meter.open_calls.get(call.run_id.int) is call:
        started.set(None)
        return guard, call
    metadata = {**(model.metadata or {}), **model._get_ls_params(**kwargs)}
    run_id = run_manager.run_id if run_manager is not None else uuid4()
    call = guard.prepare(run_id, None, metadata, model.tags, kwargs, messages)
    call.strict = True
    guard.begin(call)
    return guard, call


def _clamped(model: Any, call: Call, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The request with its output ceiling lowered to what was held, where the model has a parameter for it."""
    if call.asked is not None and call.ceiling >= call.asked:
        return kwargs
    if call.asked is None and call.ceiling >= (output_limit(call.ref) or call.ceiling + 1):
        return kwargs
    fields = type(model).model_fields
    for name in _CEILINGS:
        if name in kwargs or name in fields or any(field.alias == name for field in fields.values()):
            return {**{k: v for k, v in kwargs.items() if k not in _CEILINGS}, name: call.ceiling}
    return kwargs


@contextmanager
def _reentrant() -> Iterator[None]:
    token = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(token)


@contextmanager
def _admitting(guard: CostGuard, call: Call) -> Iterator[None]:
    try:
        yield
    except BaseException:
        guard.meter.take(call.run_id)
        raise


@contextmanager
def _settling(guard: CostGuard, call: Call, reply: _Reply | None = None) -> Iterator[None]:
    """Settle whatever happens: the reply, a break in the stream, an error, a cancelled task."""
    try:
        yield
    except BaseException as error:
        if guard.meter.take(call.run_id) is not None:
            if reply is None and isinstance(error, _INTERRUPTED):
                guard.safely(guard.meter.settle_partly, call, None)
            else:
                seen = reply.result() if reply is not None and reply.usage else None
                guard.safely(guard.fail_model, call, error, _as_llm_result(seen) if seen else None)
        raise


def _done(guard: CostGuard, call: Call, result: ChatResult) -> None:
    if guard.meter.take(call.run_id) is not None:
        guard.safely(guard.end_model, call, _as_llm_result(result))


def _as_llm_result(result: ChatResult) -> LLMResult:
    return LLMResult(generations=[list(result.generations)], llm_output=result.llm_output)
