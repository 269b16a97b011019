"""``guard.wrap(model)``: the same model, of the same class, admitted at the very call to its provider.

A wrapped model keeps its class (as a subclass), name, parameters and tracing. It carries the guard as a callback, for
lineage and scope, and a metadata key by which the callback knows to leave admission to the wrapper.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from contextvars import ContextVar
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID, uuid4

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.runnables import Runnable, RunnableBinding

from langchain_costguard.metering.admission import STRICT, started
from langchain_costguard.metering.calls import Call
from langchain_costguard.metering.runs import show
from langchain_costguard.metering.seams.clamping import ITSELF, clamped, kept_by
from langchain_costguard.metering.seams.overheard import Heard, listening
from langchain_costguard.metering.seams.reply import Reply
from langchain_costguard.metering.seams.timing import Overtime, in_time, timed, too_late
from langchain_costguard.metering.seams.waiting import adrive, drive
from langchain_costguard.vocabulary.checks import kind

if TYPE_CHECKING:
    from langchain_costguard.metering.seams.host import Host

T = TypeVar("T")
_Messages = list[BaseMessage]
_INTERRUPTED = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
_GUARD = "_costguard"
"""Where in a wrapped model's ``__dict__`` its guard is: pydantic copies it along, and shows and writes no such name."""


_inside: ContextVar[tuple[Any, UUID, Heard] | None] = ContextVar("costguard_inside", default=None)
"""The model and run whose call is under way here, and what was heard of its bill: a model whose ``_generate`` calls its
own ``_stream`` (or the other way round) is admitted once, at the outer one. Another wrapped model that it calls is
admitted as ever."""


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
        kept_by(copy, model)
        return cast("T", copy)
    if isinstance(model, Embeddings):
        from langchain_costguard.metering.seams.embeddings import GuardedEmbeddings

        return cast("T", GuardedEmbeddings(guard, model))
    if isinstance(model, RunnableBinding) and isinstance(model.bound, BaseChatModel):
        return cast("T", model.model_copy(update={"bound": wrap(guard, model.bound)}))
    raise ValueError(f"wrap: {kind(model)} is neither a chat model nor Embeddings; {_instead(model)}")


def _instead(model: Any) -> str:
    if isinstance(model, str):
        return f"make the model first: guard.wrap(init_chat_model({model!r}))"
    if isinstance(model, type):
        return "make one of the class first"
    if isinstance(model, Runnable):
        return "wrap the model in it, or pass config={'callbacks': [guard]} to what is called"
    return "pass config={'callbacks': [guard]} to what is called"


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
    del copy.__dict__[_GUARD], copy.__dict__[ITSELF]
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
    methods.update(listening(cls, _heard))
    namespace = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__, **methods}
    guarded = type(cls)(cls.__name__, (_Guarded, cls), namespace)  # type: ignore[misc]
    return cast("type[BaseChatModel]", guarded)


def _heard() -> Heard | None:
    inside = _inside.get()
    return None if inside is None else inside[2]


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
            model, kwargs = clamped(self, call, timed(guard, self, call, kwargs))
            heard: Heard = {}
            with _entered(model, call, guard, heard):
                result = original(model, messages, stop=stop, run_manager=run_manager, **kwargs)
            _done(guard, call, result, heard)
            return result

    return _generate


def _agenerate(original: Any) -> Any:
    async def _agenerate(
        self: Any, messages: _Messages, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Any:
        if _is_inside(self, run_manager):
            return await original(self, messages, stop=stop, run_manager=run_manager, **kwargs)
        guard, call = await _acall(self, messages, run_manager, kwargs)
        async with _aadmitting(guard, call):
            await adrive(guard.waiting.admit(call, patient=_inside.get() is None), guard.aside)
        async with _asettling(guard, call):
            model, kwargs = clamped(self, call, kwargs)
            heard: Heard = {}
            async with in_time(guard, call):
                with _entered(model, call, guard, heard):
                    result = await original(model, messages, stop=stop, run_manager=run_manager, **kwargs)
            await guard.aside.run(_done, guard, call, result, heard)
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
        reply = Reply(guard, call)
        with _settling(guard, call, reply):
            model, kwargs = clamped(self, call, timed(guard, self, call, kwargs))
            with closing(original(model, messages, stop=stop, run_manager=run_manager, **kwargs)) as chunks:
                while True:
                    with _entered(
                        model, call, guard, reply.heard
                    ):  # not while the caller has the chunk: it may call the model
                        chunk = next(chunks, None)
                    if chunk is None:
                        break
                    reply.add(chunk)
                    show()
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
        guard, call = await _acall(self, messages, run_manager, kwargs)
        async with _aadmitting(guard, call):
            await adrive(guard.waiting.admit(call, patient=_inside.get() is None), guard.aside)
        reply = Reply(guard, call)
        async with _asettling(guard, call, reply):
            model, kwargs = clamped(self, call, kwargs)
            async with aclosing(original(model, messages, stop=stop, run_manager=run_manager, **kwargs)) as chunks:
                while True:
                    async with in_time(guard, call):
                        with _entered(model, call, guard, reply.heard):
                            chunk = await anext(chunks, None)
                    if chunk is None:
                        break
                    await reply.aadd(chunk)
                    show()
                    yield chunk
            await guard.aside.run(_done, guard, call, reply.result())

    return _astream


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
    client = getattr(model, "_serialized", None)
    call = guard.admission.prepare(run_id, None, metadata, model.tags, kwargs, messages, client)
    call.strict = True
    guard.meter.books.enter(call)
    return guard, call


async def _acall(model: Any, messages: _Messages, run_manager: Any, kwargs: Mapping[str, Any]) -> tuple[Host, Call]:
    guard: Host = model.__dict__[_GUARD]
    if run_manager is not None and run_manager.run_id.int in guard.meter.open_calls:
        return _call(model, messages, run_manager, kwargs)
    guard, call = await guard.aside.run(_call, model, messages, run_manager, kwargs)
    guard.meter.books.belongs_here(call)
    return guard, call


@contextmanager
def _entered(model: Any, call: Call, guard: Host, heard: Heard) -> Iterator[None]:
    token = _inside.set((model, call.run_id, heard))
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
        guard.settlement.not_made(call.run_id)
        raise
    if not told:
        guard.admission.tell_start(call)


@asynccontextmanager
async def _aadmitting(guard: Host, call: Call) -> AsyncIterator[None]:
    told = call.hold is not None
    try:
        yield
    except BaseException:
        guard.aside.later(guard.settlement.not_made, call.run_id)
        raise
    if not told:
        guard.admission.tell_start(call)


@contextmanager
def _settling(guard: Host, call: Call, reply: Reply | None = None) -> Iterator[None]:
    """Settle whatever happens: the reply, a break in the stream, an error, a cancelled task."""
    try:
        yield
    except BaseException as error:
        late = too_late(guard, call, error)
        _broke(guard, call, reply, Overtime() if late else error)
        if late:
            raise guard.settlement.out_of_time(call) from error
        raise


@asynccontextmanager
async def _asettling(guard: Host, call: Call, reply: Reply | None = None) -> AsyncIterator[None]:
    try:
        yield
    except Exception as error:
        await guard.aside.run(_broke, guard, call, reply, error)
        raise
    except Overtime as error:
        await guard.aside.run(_broke, guard, call, reply, error)
        raise guard.settlement.out_of_time(call) from error
    except BaseException as error:  # cancelled, or closed by the garbage collector: nothing can be waited for
        guard.aside.later(_broke, guard, call, reply, error)
        raise


def _broke(guard: Host, call: Call, reply: Reply | None, error: BaseException) -> None:
    if guard.meter.books.take(call.run_id) is None:
        return
    if isinstance(error, Overtime) or (reply is None and isinstance(error, _INTERRUPTED)):
        guard.voice.safely(guard.settlement.cut_short, call, stopped=isinstance(error, Overtime))
    else:
        seen = reply.result() if reply is not None and reply.usage else None
        guard.voice.safely(guard.settlement.fail_model, call, error, _as_llm_result(seen) if seen else None)


def _done(guard: Host, call: Call, result: ChatResult, heard: Heard | None = None) -> None:
    if guard.meter.books.take(call.run_id) is not None:
        guard.voice.safely(guard.settlement.end_model, call, _as_llm_result(result, heard))


def _as_llm_result(result: ChatResult, heard: Heard | None = None) -> LLMResult:
    output = result.llm_output
    return LLMResult(
        generations=[list(result.generations)], llm_output={**(output or {}), "usage": heard} if heard else output
    )
