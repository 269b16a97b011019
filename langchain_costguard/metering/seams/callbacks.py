"""The events LangChain fires, and what the guard does at each: the shell between the callbacks and the meter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from langchain_costguard.metering.admission import Admission
from langchain_costguard.metering.brake import Brake
from langchain_costguard.metering.calls import Stream, pieces
from langchain_costguard.metering.deferrals import Deferrals
from langchain_costguard.metering.lineage import Lineage, is_step
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.seams.watching import OURS, RECALLED
from langchain_costguard.metering.settlement import Settlement
from langchain_costguard.metering.voice import Voice

_NOTHING: Mapping[str, Any] = {}


class Callbacks(BaseCallbackHandler):
    """Turns LangChain's events into the verbs of admission and settlement. Sync and inline: an async handler cannot
    refuse anything under ``invoke``, and one that is not inline costs a thread hop an event.

    Args:
        meter: Has the calls under way.
        admission: Lets calls start.
        settlement: Pays them.
        voice: Keeps errors of ours from the caller.
        brake: Halts chains.
        lineage: Follows runs.
        deferrals: Refused steps that steering answers.
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
    ) -> None:
        super().__init__()
        self.meter = meter
        self.admission = admission
        self.settlement = settlement
        self.voice = voice
        self.brake = brake
        self.lineage = lineage
        self.deferrals = deferrals

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
                self.admission.start_model(run_id, parent_run_id, metadata, tags, _NOTHING, str(inputs))
        except BaseException as error:
            if self.admission.defer(metadata, tags, trace, error):
                return
            lineage.over(run_id)
            if self.voice.witnesses:
                self.voice.ended(run_id, None, error)
            raise

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle what is still open below this run."""
        self.voice.safely(self.settlement.run_over, run_id)
        if run_id.int in self.meter.open_calls:
            self.voice.safely(self.settlement.end_decision, run_id, outputs)
        if self.voice.witnesses:
            self.voice.ended(run_id, None, None)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle what is still open below this run."""
        self.voice.safely(self.settlement.run_over, run_id)
        if run_id.int in self.meter.open_calls:
            self.voice.safely(self.settlement.end_with_error, run_id, error, None)
        if self.voice.witnesses:
            self.voice.ended(run_id, None, error)

    # Models

    def on_chat_model_start(
        self,
        serialized: Any,
        messages: list[list[Any]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Admit a chat model's call, or refuse it before it is made."""
        if metadata and metadata.get(RECALLED) == OURS:
            return
        params = kwargs.get("invocation_params") or _NOTHING
        prompt = messages[0] if messages else []
        if self.voice.witnesses:
            self._began_model(run_id, parent_run_id, prompt, params, metadata or _NOTHING)
        self.admission.start_model(run_id, parent_run_id, metadata or {}, tags, params, prompt)

    def on_llm_start(
        self,
        serialized: Any,
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Admit a text model's call, or refuse it before it is made."""
        params, prompt = kwargs.get("invocation_params") or _NOTHING, "\n".join(prompts)
        if self.voice.witnesses:
            self._began_model(run_id, parent_run_id, prompt, params, metadata or _NOTHING)
        self.admission.start_model(run_id, parent_run_id, metadata or {}, tags, params, prompt)

    def _began_model(
        self, run_id: UUID, parent: UUID | None, prompt: Any, params: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        name = metadata.get("ls_model_name") or params.get("model") or ""
        self.voice.began("model", run_id, parent, name, prompt, params, metadata)

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
        """Count a streamed chunk; stop the stream when its hold is used up."""
        call = self.meter.open_calls.get(run_id.int)
        if call is None or call.strict:
            return
        stream = call.stream
        if stream is None:
            stream = call.stream = Stream(self.voice.now(), 1)
        if chunk is not None:
            if chunk is stream.last_chunk:  # the guard is attached twice
                return
            stream.last_chunk = chunk
        text = token if token.__class__ is str and token else pieces(token, chunk)
        if text:
            self.settlement.feed(call, stream, text)

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
            self.settlement.feed(call, stream, text)

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

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle a call that broke off by what came of it."""
        self.voice.safely(self.settlement.end_with_error, run_id, error, kwargs.get("response"))
        if self.voice.witnesses:
            self.voice.ended(run_id, kwargs.get("response"), error)

    # Tools

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
            self.admission.start_tool(run_id, parent_run_id, name, arguments, metadata or {}, tags)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle a tool's fee."""
        self.voice.safely(self.settlement.end_tool, run_id, output, failed=False)
        if self.voice.witnesses:
            self.voice.ended(run_id, output, None)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle a tool's fee: it ran, even though it failed."""
        self.voice.safely(self.settlement.end_tool, run_id, None, failed=True)
        if self.voice.witnesses:
            self.voice.ended(run_id, None, error)


def _event_text(event: Any) -> str:
    delta = event.get("delta") if isinstance(event, dict) else None
    if not isinstance(delta, dict):
        return ""
    return "".join(str(delta[key]) for key in ("text", "reasoning", "args") if isinstance(delta.get(key), str))
