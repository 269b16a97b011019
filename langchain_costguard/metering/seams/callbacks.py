"""The events LangChain fires, and what the guard does at each: the shell between the callbacks and the meter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID
from weakref import WeakSet

from langchain_core.callbacks import BaseCallbackHandler

from langchain_costguard.metering.admission import Admission
from langchain_costguard.metering.aside import Aside
from langchain_costguard.metering.brake import Brake
from langchain_costguard.metering.calls import Stream, pieces
from langchain_costguard.metering.deferrals import Deferrals
from langchain_costguard.metering.lineage import Lineage, is_step
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.runs import show
from langchain_costguard.metering.seams.both_ways import event
from langchain_costguard.metering.seams.watching import OURS, RECALLED
from langchain_costguard.metering.settlement import Settlement
from langchain_costguard.metering.voice import Voice

_NOTHING: Mapping[str, Any] = {}
_all: WeakSet[Callbacks] = WeakSet()
"""The guards of this process: several may see one call."""


def _start_waits(self: Callbacks, *_: Any, tags: list[str] | None = None, run_type: str = "", **__: Any) -> bool:
    if run_type == "llm" or self.brake.waits():
        return True
    return self.meter.ledger.counts_steps and is_step(tags)


def _call_waits(self: Callbacks, *_: Any, run_id: UUID, metadata: Mapping[str, Any] | None = None, **__: Any) -> bool:
    return run_id.int not in self.meter.open_calls and (metadata or _NOTHING).get(RECALLED) != OURS


def _end_waits(self: Callbacks, *_: Any, run_id: UUID, **__: Any) -> bool:
    books, ledger = self.meter.books, self.meter.ledger
    call = books.open.get(run_id.int)
    if ledger.by_trace or call is None or call.charged is not None or run_id.int in books.parents:
        return ledger.by_trace or books.concerns(run_id)
    return call.hold is None or not ledger.settles_here(call.hold)


def _piece_waits(self: Callbacks, token: Any, *, chunk: Any = None, run_id: UUID, **_: Any) -> bool:
    call = self.meter.open_calls.get(run_id.int)
    if call is None or call.strict or (call.stream is not None and chunk is call.stream.last_chunk is not None):
        return False
    return self.settlement.looks(call.stream, len(token) if token.__class__ is str and token else len(str(token)))


def _event_waits(self: Callbacks, event: Any, *, run_id: UUID, **_: Any) -> bool:
    call = self.meter.open_calls.get(run_id.int)
    return call is not None and not call.strict and self.settlement.looks(call.stream, len(_event_text(event)))


class _OfAGuard:
    """What a guard does not ignore. Of the class it says what is wrong: ``callbacks=[CostGuard]`` would be ignored."""

    def __get__(self, guard: object, cls: type) -> bool:
        if guard is None:
            raise AttributeError(f"{cls.__name__} is a class: make a guard of it, and pass that: callbacks=[guard]")
        return False


class OfAManager:
    """What only a manager of callbacks has: says what is wrong where a guard is taken for one."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, guard: object, cls: type) -> Any:
        remedy = "callbacks are a list: config={'callbacks': [guard]}"
        raise AttributeError(f"'{cls.__name__}' object has no attribute {self._name!r}; {remedy}")


class Callbacks(BaseCallbackHandler):
    """Turns LangChain's events into the verbs of admission and settlement. Inline: a handler that is not costs a thread
    hop an event, loses what it sets in the context, and is left out where another one is inline. Each event is plain
    for managers that call it, and a coroutine for those that await it, where it may have to wait: see ``event``.

    Args:
        meter: Has the calls under way.
        admission: Lets calls start.
        settlement: Pays them.
        voice: Keeps errors of ours from the caller.
        brake: Halts chains.
        lineage: Follows runs.
        deferrals: Refused steps that steering answers.
        aside: Where to wait, for managers on an event loop.
    """

    raise_error = True
    run_inline = True

    def __init__(
        self,
        meter: Meter,
        *,
        admission: Admission,
        settlement: Settlement,
        voice: Voice,
        brake: Brake,
        lineage: Lineage,
        deferrals: Deferrals,
        aside: Aside,
    ) -> None:
        super().__init__()
        self.meter = meter
        self.admission = admission
        self.settlement = settlement
        self.voice = voice
        self.brake = brake
        self.lineage = lineage
        self.deferrals = deferrals
        self.aside = aside
        _all.add(self)
        # LangChain asks before each event: an attribute of its own is found sooner than the class's.
        self.__dict__.update(ignore_llm=False, ignore_chat_model=False, ignore_chain=False)

    ignore_llm = ignore_chat_model = ignore_chain = cast("Any", _OfAGuard())

    @property
    def ignore_retriever(self) -> bool:
        """Retrievers cost nothing that LangChain tells of."""
        return True

    @property
    def ignore_retry(self) -> bool:
        """Each attempt is a run of its own."""
        return True

    @property
    def ignore_custom_event(self) -> bool:
        """Not ours."""
        return True

    # Chains

    @event(_start_waits)
    def on_chain_start(
        self,
        serialized: Any,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Follow the run's lineage; refuse when halted, and count a graph's steps."""
        lineage, brake, metadata = self.lineage, self.brake, metadata or {}
        if self.voice.witnesses:
            self.voice.began("chain", run_id, parent_run_id, kwargs.get("name") or "", None, _NOTHING, metadata)
        config = lineage.enclosing()
        trace = lineage.trace(run_id, parent_run_id, config)
        lineage.remember(run_id, trace)
        if self.deferrals.pending and is_step(tags):  # it starts again, or may go on after all
            self.deferrals.clear(metadata.get("langgraph_checkpoint_ns") or "")
        try:
            if brake.armed and brake.pulled():
                scope = lineage.scope(metadata, tags, config, trace)
                brake.check("chain", kwargs.get("name") or "", run_id, scope)
            if self.meter.ledger.counts_steps and is_step(tags):
                scope = lineage.scope(metadata, tags, config, trace)
                self.admission.start_step(run_id, metadata, scope, kwargs.get("name") or "")
            if kwargs.get("run_type") == "llm":
                # Router models ("decisions") report themselves as chains.
                # https://github.com/langchain-ai/langchain/blob/master/libs/partners/openai/langchain_openai/decisions/base.py
                self.admission.start_model(run_id, parent_run_id, metadata, tags, _NOTHING, str(inputs), None, 1)
        except BaseException as error:
            if self.admission.defer(metadata, tags, trace, error):
                return
            lineage.over(run_id)
            if self.voice.witnesses:
                self.voice.ended(run_id, None, error)
            raise

    @event(_end_waits)
    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle what is still open below this run."""
        self.voice.safely(self.settlement.run_over, run_id)
        if run_id.int in self.meter.open_calls:
            self.voice.safely(self.settlement.end_decision, run_id, outputs)
        if self.voice.witnesses:
            self.voice.ended(run_id, None, None)

    @event(_end_waits)
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle what is still open below this run."""
        self.voice.safely(self.settlement.run_over, run_id)
        if run_id.int in self.meter.open_calls:
            self.voice.safely(self.settlement.end_with_error, run_id, error, None)
        if self.voice.witnesses:
            self.voice.ended(run_id, None, error)

    # Models

    @event(_call_waits)
    def on_chat_model_start(
        self,
        serialized: Any,
        messages: list[list[Any]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        invocation_params: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Admit a chat model's call, or refuse it before it is made."""
        if not metadata:
            metadata = {}
        elif metadata.get(RECALLED) == OURS:
            return
        self._start_model(
            run_id,
            parent_run_id,
            metadata,
            tags,
            invocation_params or _NOTHING,
            messages[0] if messages else [],
            serialized,
        )

    @event(_call_waits)
    def on_llm_start(
        self,
        serialized: Any,
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        invocation_params: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Admit a text model's call, or refuse it before it is made."""
        self._start_model(
            run_id,
            parent_run_id,
            metadata or {},
            tags,
            invocation_params or _NOTHING,
            "\n".join(prompts),
            serialized,
            batch_size or 1,
        )

    def _start_model(
        self,
        run_id: UUID,
        parent: UUID | None,
        metadata: dict[str, Any],
        tags: list[str] | None,
        params: Mapping[str, Any],
        prompt: Any,
        serialized: Any,
        size: int = 1,
    ) -> None:
        witnessed = self.voice.witnesses
        if witnessed:
            name = metadata.get("ls_model_name") or params.get("model") or ""
            self.voice.began("model", run_id, parent, name, prompt, params, metadata)
        try:
            self.admission.start_model(run_id, parent, metadata, tags, params, prompt, serialized, size)
        except BaseException as error:
            self._not_made(run_id, error)
            raise
        if witnessed and (call := self.meter.open_calls.get(run_id.int)) is not None:
            self.voice.whose(run_id, call.scope)

    def _not_made(self, run_id: UUID, error: BaseException) -> None:
        """What is refused here is not made: LangChain tells no guard that let it in of its end."""
        for other in list(_all):
            if other is not self and run_id.int in other.meter.open_calls:
                other.settlement.not_made(run_id)
                if other.voice.witnesses:
                    other.voice.ended(run_id, None, error)

    @event(_piece_waits)
    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
        """Count a streamed chunk; stop the stream when its hold is used up."""
        call = self.meter.open_calls.get(run_id.int)
        if call is None or call.strict:
            return
        stream = call.stream
        if stream is None:
            stream = call.stream = Stream(self.voice.now(), 1)
            show()
        if chunk is not None:
            if chunk is stream.last_chunk:  # the guard is attached twice
                return
            stream.last_chunk = chunk
            message = getattr(chunk, "message", None)
            if message is not None and (usage := getattr(message, "usage_metadata", None)):
                stream.tell(usage)
        text = token if token.__class__ is str and token else pieces(token, chunk)
        if text:
            self.settlement.feed(call, stream, text)

    @event(_event_waits)
    def on_stream_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Count what protocol streams bring, for models that do not report their tokens one by one."""
        call = self.meter.open_calls.get(run_id.int)
        if call is None or call.strict or (call.stream is not None and call.stream.last_chunk is not None):
            return
        text = _event_text(event)
        if text:
            stream = call.stream
            if stream is None:
                stream = call.stream = Stream(self.voice.now(), 1)
                show()
            self.settlement.feed(call, stream, text)

    @event(_end_waits)
    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle by what the provider reports."""
        call = self.meter.books.take(run_id)
        if call is not None:
            try:
                self.settlement.end_model(call, response)
            except Exception as error:  # a paid reply is never lost to an error of ours
                self.voice.complain("settling a call", error)
        if self.voice.witnesses:
            self.voice.ended(run_id, response, None)

    @event(_end_waits)
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle a call that broke off by what came of it."""
        self.voice.safely(self.settlement.end_with_error, run_id, error, kwargs.get("response"))
        if self.voice.witnesses:
            self.voice.ended(run_id, kwargs.get("response"), error)

    # Tools

    @event(_call_waits)
    def on_tool_start(
        self,
        serialized: Any,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Admit a tool call, or refuse it before the tool runs."""
        if run_id.int not in self.meter.open_calls:
            name = kwargs.get("name") or (serialized or {}).get("name") or "tool"
            arguments = kwargs.get("inputs") or input_str
            if self.voice.witnesses:
                told = {"tool_call_id": kwargs.get("tool_call_id")}
                self.voice.began("tool", run_id, parent_run_id, name, arguments, told, metadata or _NOTHING)
            try:
                self.admission.start_tool(run_id, parent_run_id, name, arguments, metadata or {}, tags)
            except BaseException as error:
                self._not_made(run_id, error)
                raise

    @event(_end_waits)
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle a tool's fee."""
        self.voice.safely(self.settlement.end_tool, run_id, output, failed=False)
        if self.voice.witnesses:
            self.voice.ended(run_id, output, None)

    @event(_end_waits)
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle a tool's fee: it ran, even though it failed. One that paused its graph to ask runs anew then, and is
        paid as it ends."""
        if any(cls.__name__ == "GraphInterrupt" for cls in type(error).__mro__):
            self.voice.safely(self.settlement.paused, run_id)
        else:
            self.voice.safely(self.settlement.end_tool, run_id, None, failed=True)
        if self.voice.witnesses:
            self.voice.ended(run_id, None, error)


def _event_text(event: Any) -> str:
    delta = event.get("delta") if isinstance(event, dict) else None
    if not isinstance(delta, dict):
        return ""
    return "".join(str(delta[key]) for key in ("text", "reasoning", "args") if isinstance(delta.get(key), str))
