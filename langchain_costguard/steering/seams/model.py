"""The seam in a chain: a chat model of the same class, each of whose calls runs through the policies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import RunnableBinding

from langchain_costguard.steering.flow import Call, Ended, adrive, aperform, astep, drive, leave, passes, perform
from langchain_costguard.steering.requests import ChatRequest, Reply, name_of
from langchain_costguard.steering.sayings import MARK
from langchain_costguard.steering.seams.held import held_back, watched
from langchain_costguard.steering.steering import Steering
from langchain_costguard.steering.surroundings import Here, paying
from langchain_costguard.steering.translation.formats import PARSED

_STEERING = "_costguard_steering"
"""Where in a steered model's ``__dict__`` its steering is; see ``strict._GUARD``."""
_inside: ContextVar[Any] = ContextVar("costguard_inside_steered", default=None)
"""The model whose call is under way here: one that cannot stream calls its own ``invoke``, which is steered already."""


class SteeredModel:
    """``SteeredModel(model, steer(guard, retry=Retry()))``: the model, steered and metered by the guard.

    It keeps its class, name and parameters: ``bind_tools``, ``with_structured_output`` and whatever else builds on it
    go on as before. ``invoke``, ``ainvoke``, ``stream``, ``astream`` and what comes down to them (``batch``, chains,
    ``astream_events``) are steered; each attempt is a run of its own, admitted by the budgets. ``generate`` and
    ``stream_events(version="v3")`` are metered and held to the budgets, no more.

    A stream is tried again only before its first piece is out, so arguments of a tool that do not parse are repaired
    only with ``invoke``, or where there are guardrails: with those it is held back until it has passed, also from those
    who stream the graph around it. Other callbacks see each attempt as it comes.

    Args:
        model: A chat model, or one with something bound to it.
        steering: What ``steer()`` returns.

    Raises:
        ValueError: names the argument.
    """

    def __new__(cls, model: Any, steering: Steering) -> Any:
        """Return a copy of the model."""
        from langchain_costguard.guard import CostGuard

        for name, given in (("model", model), ("steering", steering)):
            if isinstance(given, CostGuard):
                raise ValueError(f"{name}: {given!r} is a guard; write SteeredModel(model, steer(guard))")
        if isinstance(model, Steering):
            raise ValueError(f"model: {model!r} comes second; write SteeredModel(model, steer(guard))")
        if not isinstance(steering, Steering):
            raise ValueError(f"steering: {steering!r} is not what steer() returns")
        if isinstance(model, RunnableBinding):
            return model.model_copy(update={"bound": SteeredModel(model.bound, steering)})
        if not isinstance(model, BaseChatModel):
            raise ValueError(f"model: {model!r} is no chat model; steer the model, and pipe it into the rest")
        strict = steering.strict(model)
        copy = strict.model_copy()
        object.__setattr__(copy, "__class__", _steered(cast("Any", type(strict))))
        copy.__dict__[_STEERING] = steering
        return copy


@cache
def _steered(cls: type[BaseChatModel]) -> type[BaseChatModel]:
    if issubclass(cls, _Steered):
        return cls
    namespace = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    steered = type(cls)(cls.__name__, (_Steered, SteeredModel, cls), namespace)  # type: ignore[misc]
    return cast("type[BaseChatModel]", steered)


class _Steered:
    """The public verbs of a chat model, around the flow. A call of the flow's goes to the class beneath."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not args:  # Python hands what `SteeredModel(...)` returned its arguments once more
            raise TypeError(f"{type(self).__name__}: a steered model is not built anew; build the model, then steer it")

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Any:
        steering = self.__dict__[_STEERING]
        return super().__deepcopy__({**(memo or {}), id(steering): steering})  # type: ignore[misc]

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a steered model does not pickle: pickle the model, and steer it where it is used")

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> AIMessage:
        beneath = super().invoke  # type: ignore[misc]
        if _inside.get() is self:
            return beneath(input, config, **kwargs)  # type: ignore[no-any-return]
        run = _Run(self, input, config, kwargs)

        def call(wanted: Call) -> Reply:
            verb, settings = run.target(wanted, "invoke", beneath)
            with run.calling(wanted):
                return _reply(verb(wanted.request.messages, run.config(wanted), **settings))

        return _message(drive(run.flow, call))

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> AIMessage:
        beneath = super().ainvoke  # type: ignore[misc]
        if _inside.get() is self:
            return await beneath(input, config, **kwargs)  # type: ignore[no-any-return]
        run = _Run(self, input, config, kwargs)

        async def call(wanted: Call) -> Reply:
            verb, settings = run.target(wanted, "ainvoke", beneath)
            with run.calling(wanted):
                return _reply(await verb(wanted.request.messages, run.config(wanted), **settings))

        return _message(await adrive(run.flow, call, run.steering.guard.aside))

    def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Iterator[AIMessageChunk]:
        beneath = super().stream  # type: ignore[misc]
        if _inside.get() is self:
            yield from beneath(input, config, **kwargs)
            return
        run = _Run(self, input, config, kwargs)
        done: Reply | None = None
        try:
            wanted = next(run.flow)
            while True:
                try:
                    if not isinstance(wanted, Call):
                        answer = perform(wanted)
                    else:
                        run.begin()
                        verb, settings = run.target(wanted, "stream", beneath)
                        with closing(verb(wanted.request.messages, run.config(wanted), **settings)) as pieces:
                            while True:
                                with run.calling(wanted):
                                    piece = next(pieces, None)
                                if piece is None:
                                    break
                                yield from run.shown(piece)
                        answer = run.reply()
                except BaseException as error:
                    if passes(error):
                        raise
                    wanted = run.flow.throw(error)
                else:
                    wanted = run.flow.send(answer)
        except StopIteration as stop:
            done = stop.value
        finally:
            run.flow.close()
        if done is not None:
            yield from run.rest(done)

    async def astream(self, input: Any, config: Any = None, **kwargs: Any) -> AsyncIterator[AIMessageChunk]:
        beneath = super().astream  # type: ignore[misc]
        if _inside.get() is self:
            async for piece in beneath(input, config, **kwargs):
                yield piece
            return
        run = _Run(self, input, config, kwargs)
        aside = run.steering.guard.aside
        try:
            wanted = await astep(aside, run.flow.send, None)
            while not isinstance(wanted, Ended):
                try:
                    if not isinstance(wanted, Call):
                        answer = await aperform(wanted)
                    else:
                        run.begin()
                        verb, settings = run.target(wanted, "astream", beneath)
                        async with aclosing(verb(wanted.request.messages, run.config(wanted), **settings)) as pieces:
                            while True:
                                with run.calling(wanted):
                                    piece = await anext(pieces, None)
                                if piece is None:
                                    break
                                for shown in run.shown(piece):
                                    yield shown
                        answer = run.reply()
                except BaseException as error:
                    if passes(error):
                        raise
                    wanted = await astep(aside, run.flow.throw, error)
                else:
                    wanted = await astep(aside, run.flow.send, answer)
        finally:
            leave(run.flow, aside)
        for piece in run.rest(wanted.value):
            yield piece


class _Run:
    """One call of a verb: its flow, and what of a streamed reply the caller was given or is still to be."""

    def __init__(self, model: Any, input: Any, config: Any, settings: Mapping[str, Any]) -> None:
        self.steering: Steering = model.__dict__[_STEERING]
        self._model = self._called = model
        self._config = config
        metadata = {**((config or {}).get("metadata") or {}), **(model.metadata or {})}
        tags = [*((config or {}).get("tags") or ()), *(model.tags or ())]
        self._here = Here(
            self.steering.guard,
            str(settings.get("model") or name_of(model)),
            {**(config or {}), "metadata": metadata, "tags": tags},
        )
        request = ChatRequest(model, _messages(model, input), settings)
        self.flow = self.steering.model_flow(request, here=self._here)
        self._hold = self.steering.holds_streams
        self._pieces: list[AIMessageChunk] = []
        self._apart = False

    def target(self, wanted: Call, verb: str, beneath: Any) -> tuple[Any, Mapping[str, Any]]:
        """What to call, and with which arguments: the class beneath, or the model that a policy chose instead."""
        request, hidden = wanted.request, self._hold and self._here.streamed
        if request.model is not self._model:
            model = self.steering.strict(request.model)
            return getattr(held_back(model) if hidden else model, verb), request.settings
        if hidden:
            self._called = held_back(self._model)
            return getattr(self._called, verb), request.settings
        return beneath, request.settings

    @contextmanager
    def calling(self, wanted: Call) -> Iterator[None]:
        """What surrounds the call to the class beneath."""
        token = _inside.set(self._called)
        try:
            with paying(self.steering.guard, wanted), nullcontext() if self._hold else watched(self._here):
                yield
        finally:
            _inside.reset(token)

    def config(self, wanted: Call) -> Any:
        """The config of the next attempt: a ``run_id`` is for the first one, for each is a run of its own."""
        config = self._config
        if config and "run_id" in config:
            self._config = {key: value for key, value in config.items() if key != "run_id"}
        if wanted.facts:
            config = {**(config or {}), "metadata": {**((config or {}).get("metadata") or {}), **wanted.facts}}
        return config

    def begin(self) -> None:
        """Another attempt to stream begins."""
        self._pieces = []
        self._apart = self._here.out

    def shown(self, piece: AIMessageChunk) -> list[AIMessageChunk]:
        """Take a piece; returns what the caller may see now."""
        self._pieces.append(piece)
        if self._hold:
            return []
        self._here.out = True
        if self._apart and str(piece.text):
            self._apart = False
            return [AIMessageChunk(content="\n\n"), piece]
        return [piece]

    def reply(self) -> Reply:
        """The whole reply, once its stream has ended."""
        total: Any = None
        for piece in self._pieces:
            total = piece if total is None else total + piece
        return Reply(total, raw=self._pieces)

    def rest(self, reply: Reply) -> list[AIMessageChunk]:
        """What the caller has not seen yet of the reply that the flow came to."""
        if self._hold and isinstance(reply.raw, list) and not reply.altered:
            return reply.raw
        if reply.raw is self._pieces and not reply.altered:
            return []
        message = reply.message
        if message is None:
            return []
        if self._here.out and not reply.ended:
            known = {key for piece in self._pieces for key in piece.additional_kwargs}
            beside = {key: value for key, value in message.additional_kwargs.items() if key in (MARK, PARSED)}
            more = {key: value for key, value in beside.items() if key not in known}
            return [AIMessageChunk(content="", id=message.id, additional_kwargs=more)] if more else []
        text = str(message.text)
        return [
            AIMessageChunk(
                content=f"\n\n{text}" if self._here.out else text,
                id=message.id,
                usage_metadata=message.usage_metadata,
                response_metadata=message.response_metadata,
                chunk_position="last",
            )
        ]


def _messages(model: Any, input: Any) -> list[Any]:
    if isinstance(input, list) and all(isinstance(message, BaseMessage) for message in input):
        return input[:]
    return model._convert_input(input).to_messages()  # type: ignore[no-any-return]


def _reply(message: AIMessage) -> Reply:
    return Reply(message, raw=message)


def _message(reply: Reply) -> AIMessage:
    assert reply.message is not None
    return reply.message
