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
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID, uuid4

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import add_usage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult

from langchain_costguard.metering.admission import STRICT, started
from langchain_costguard.metering.calls import Call, Stream, pieces
from langchain_costguard.metering.seams.waiting import adrive, drive

if TYPE_CHECKING:
    from langchain_costguard.metering.seams.host import Host

T = TypeVar("T")
_Messages = list[BaseMessage]
_INTERRUPTED = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
_CEILINGS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_tokens_to_sample")
"""In this order: ``ChatOpenAI``'s own ``max_completion_tokens`` wins over a ``max_tokens`` of the call in the Responses
API (``_construct_responses_api_payload``)."""
_CEILING_FIELDS = ("num_predict",)
"""Ceilings that a model reads from its field alone; as an argument of the call it would reach the client."""

_GUARD = "_costguard"
"""Where in a wrapped model's ``__dict__`` its guard is: pydantic copies it along, and shows and writes no such name."""

_inside: ContextVar[tuple[Any, UUID] | None] = ContextVar("costguard_inside", default=None)
"""The model and run whose call is under way here: a model whose ``_generate`` calls its own ``_stream`` (or the other
way round) is admitted once, at the outer one. Another wrapped model that it calls is admitted as ever."""


def wrap(guard: Host, model: T) -> T:
    """A guarded copy of a chat model or of ``Embeddings``.

    Raises:
        ValueError: ``model`` is neither.
    """
    if isinstance(model, BaseChatModel):
        metadata = {**(model.metadata or {}), STRICT: guard.key}
        copy = model.model_copy(update={"callbacks": _with(guard, model.callbacks), "metadata": metadata})
        # Pydantic's __setattr__ knows fields only; the layout of both classes is the same.
        object.__setattr__(copy, "__class__", _guarded(type(model)))
        copy.__dict__[_GUARD] = guard
        return cast("T", copy)
    if isinstance(model, Embeddings):
        from langchain_costguard.metering.seams.embeddings import GuardedEmbeddings

        return cast("T", GuardedEmbeddings(guard, model))
    hint = "wrap the model itself, before bind() and the like" if hasattr(model, "bound") else "attach it as a callback"
    raise ValueError(f"wrap: {model!r} is neither a chat model nor Embeddings; {hint}")


def _with(guard: Host, callbacks: Any) -> Any:
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        manager.add_handler(cast("BaseCallbackHandler", guard))
        return manager
    return [*(handler for handler in callbacks or () if handler is not guard), guard]


def unwrapped(model: Any) -> Any:
    """The model as it was before it was wrapped."""
    guard, callbacks = model.__dict__[_GUARD], model.callbacks
    if isinstance(callbacks, BaseCallbackManager):
        callbacks = callbacks.copy()
        callbacks.remove_handler(guard)
    else:
        callbacks = [handler for handler in callbacks or () if handler is not guard] or None
    metadata = {key: value for key, value in (model.metadata or {}).items() if key != STRICT} or None
    copy = model.model_copy(update={"callbacks": callbacks, "metadata": metadata})
    object.__setattr__(copy, "__class__", type(model).__bases__[1])
    del copy.__dict__[_GUARD]
    return copy


@cache
def _guarded(cls: type[BaseChatModel]) -> type[BaseChatModel]:
    """A subclass that admits each call. It overrides only what ``cls`` does: a ``_stream`` of our own on a model that
    has none would make LangChain believe that it streams."""
    if issubclass(cls, _Guarded):
        return cls
    names = {"_generate": _generate, "_agenerate": _agenerate, "_stream": _stream, "_astream": _astream}
    methods: dict[str, Any] = {
        name: make(_calling(getattr(cls, name)))
        for name, make in names.items()
        if getattr(cls, name, None) is not getattr(BaseChatModel, name)
    }
    namespace = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__, **methods}
    guarded = type(cls)(cls.__name__, (_Guarded, cls), namespace)  # type: ignore[misc]
    return cast("type[BaseChatModel]", guarded)


class _Guarded:
    """Marks a guarded class."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the plain model, where that can be, and a reference to the guard."""
        return wrap, (self.__dict__[_GUARD], unwrapped(self))


def _calling(original: Any) -> Any:
    """``original`` with a run manager only where it asks for one, as LangChain itself calls it."""
    if "run_manager" in signature(original).parameters:
        return original

    def calling(self: Any, messages: _Messages, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        return original(self, messages, stop=stop, **kwargs)

    return calling


def _generate(original: Any) -> Any:
    def _generate(self: Any, messages: _Messages, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        if _is_inside(self, run_manager):
            return original(self, messages, stop=stop, run_manager=run_manager, **kwargs)
        guard, call = _call(self, messages, run_manager, kwargs)
        with _admitting(guard, call):
            drive(guard.waiting.admit(call, patient=_inside.get() is None))
        with _settling(guard, call):
            model, kwargs = _clamped(self, call, kwargs)
            with _entered(model, call, guard):
                result = original(model, messages, stop=stop, run_manager=run_manager, **kwargs)
            _done(guard, call, result)
            return result

    return _generate


def _agenerate(original: Any) -> Any:
    async def _agenerate(
        self: Any, messages: _Messages, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Any:
        if _is_inside(self, run_manager):
            return await original(self, messages, stop=stop, run_manager=run_manager, **kwargs)
        guard, call = _call(self, messages, run_manager, kwargs)
        with _admitting(guard, call):
            await adrive(guard.waiting.admit(call, patient=_inside.get() is None))
        with _settling(guard, call):
            model, kwargs = _clamped(self, call, kwargs)
            with _entered(model, call, guard):
                result = await original(model, messages, stop=stop, run_manager=run_manager, **kwargs)
            _done(guard, call, result)
            return result

    return _agenerate


def _stream(original: Any) -> Any:
    def _stream(
        self: Any, messages: _Messages, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        if _is_inside(self, run_manager):
            yield from original(self, messages, stop=stop, run_manager=run_manager, **kwargs)
            return
        guard, call = _call(self, messages, run_manager, kwargs)
        with _admitting(guard, call):
            drive(guard.waiting.admit(call, patient=_inside.get() is None))
        reply = _Reply(guard, call)
        with _settling(guard, call, reply):
            model, kwargs = _clamped(self, call, kwargs)
            with closing(original(model, messages, stop=stop, run_manager=run_manager, **kwargs)) as chunks:
                while True:
                    with _entered(
                        model, call, guard
                    ):  # not while the caller has the chunk: it may call the model itself
                        chunk = next(chunks, None)
                    if chunk is None:
                        break
                    reply.add(chunk)
                    yield chunk
            _done(guard, call, reply.result())

    return _stream


def _astream(original: Any) -> Any:
    async def _astream(
        self: Any, messages: _Messages, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        if _is_inside(self, run_manager):
            async for chunk in original(self, messages, stop=stop, run_manager=run_manager, **kwargs):
                yield chunk
            return
        guard, call = _call(self, messages, run_manager, kwargs)
        with _admitting(guard, call):
            await adrive(guard.waiting.admit(call, patient=_inside.get() is None))
        reply = _Reply(guard, call)
        with _settling(guard, call, reply):
            model, kwargs = _clamped(self, call, kwargs)
            async with aclosing(original(model, messages, stop=stop, run_manager=run_manager, **kwargs)) as chunks:
                while True:
                    with _entered(model, call, guard):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        break
                    reply.add(chunk)
                    yield chunk
            _done(guard, call, reply.result())

    return _astream


class _Reply:
    """A streamed reply as it comes: counted chunk by chunk, its usage added up."""

    def __init__(self, guard: Host, call: Call) -> None:
        self.guard = guard
        self.call = call
        self.usage: Any = None
        self.metadata: dict[str, Any] = {}
        call.stream = Stream(guard.voice.now(), 1)

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
                stream.first_at = self.guard.voice.now()
            self.guard.settlement.feed(self.call, stream, text)

    def result(self) -> ChatResult:
        text = self.call.stream.text() if self.call.stream else ""
        message = AIMessage(content=text, usage_metadata=self.usage, response_metadata=self.metadata)
        return ChatResult(generations=[ChatGeneration(message=message)])


def _is_inside(model: Any, run_manager: Any) -> bool:
    inside = _inside.get()
    if inside is not None and inside[0] is model and (run_manager is None or run_manager.run_id == inside[1]):
        return True
    if run_manager is None:
        return False
    call = model.__dict__[_GUARD].meter.open_calls.get(run_manager.run_id.int)
    return call is not None and call.strict and call.hold is not None


def _call(model: Any, messages: _Messages, run_manager: Any, kwargs: Mapping[str, Any]) -> tuple[Host, Call]:
    """The call that the callback opened for this request; a new one where something calls the model directly."""
    guard: Host = model.__dict__[_GUARD]
    if guard.voice.witnesses and run_manager is not None:
        # What is told of the end reaches us before tracers that the enclosing run brought along: they may add to it.
        run_manager.handlers.sort(key=lambda handler: handler is not guard)
        guard.voice.beside(run_manager.run_id, run_manager.handlers)
    books = guard.meter.open_calls
    call = books.get(run_manager.run_id.int) if run_manager is not None else started.get()
    if call is not None and books.get(call.run_id.int) is call:
        started.set(None)
        call.strict = True  # a copy may have lost the mark; the callback has admitted its call already
        return guard, call
    metadata = {**(model.metadata or {}), **model._get_ls_params(**kwargs)}
    run_id = run_manager.run_id if run_manager is not None else uuid4()
    call = guard.admission.prepare(run_id, None, metadata, model.tags, kwargs, messages)
    call.strict = True
    guard.meter.books.enter(call)
    return guard, call


def _clamped(model: Any, call: Call, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model and its arguments with the output ceiling lowered to what was held, where there is one to lower."""
    if call.ceiling >= call.allowed:
        return model, kwargs
    fields = type(model).model_fields
    names = {*fields, *(field.alias for field in fields.values()), *kwargs}
    for name in _CEILING_FIELDS:
        if name in fields:
            return model.model_copy(update={name: call.ceiling}), kwargs
    name = next((name for name in _CEILINGS if name in names), "")
    if not name:
        return model, kwargs
    return model, {**{key: value for key, value in kwargs.items() if key not in _CEILINGS}, name: call.ceiling}


@contextmanager
def _entered(model: Any, call: Call, guard: Host) -> Iterator[None]:
    token = _inside.set((model, call.run_id))
    try:
        if guard.voice.witnesses:
            with guard.voice.within("model", call.run_id, call.name):
                yield
        else:
            yield
    finally:
        _inside.reset(token)


@contextmanager
def _admitting(guard: Host, call: Call) -> Iterator[None]:
    told = call.hold is not None
    try:
        yield
    except BaseException:
        if guard.meter.books.take(call.run_id) is not None and call.hold is not None:  # interrupted in between
            guard.voice.safely(guard.meter.void, call)
        raise
    if not told:
        guard.admission.tell_start(call)


@contextmanager
def _settling(guard: Host, call: Call, reply: _Reply | None = None) -> Iterator[None]:
    """Settle whatever happens: the reply, a break in the stream, an error, a cancelled task."""
    try:
        yield
    except BaseException as error:
        if guard.meter.books.take(call.run_id) is not None:
            if reply is None and isinstance(error, _INTERRUPTED):
                call.status = "cancelled"
                guard.voice.safely(guard.meter.settle_partly, call, None)
            else:
                seen = reply.result() if reply is not None and reply.usage else None
                guard.voice.safely(guard.settlement.fail_model, call, error, _as_llm_result(seen) if seen else None)
        raise


def _done(guard: Host, call: Call, result: ChatResult) -> None:
    if guard.meter.books.take(call.run_id) is not None:
        guard.voice.safely(guard.settlement.end_model, call, _as_llm_result(result))


def _as_llm_result(result: ChatResult) -> LLMResult:
    return LLMResult(generations=[list(result.generations)], llm_output=result.llm_output)
