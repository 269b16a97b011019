"""The events LangChain fires, and what the meter does at each: the shell between the callbacks and the meter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables.config import var_child_runnable_config

from . import scope as scopes
from .budgets.ledger import Denial
from .budgets.switch import KillSwitch
from .calls import Call, Stream, pieces
from .events import CallStarted, Event, Refused, Sink, StoreFailed
from .failures import Fate, fate
from .meter import UNKNOWN_OUTPUT, Meter, asks_to_write_cache, may_write_cache, tool_fee
from .money import nano
from .pricing.estimate import Estimator, output_limit
from .pricing.plain import plain_usage
from .pricing.reading import is_cache_hit, reported_model, usage_of
from .refusals import halted, over_budget, store_down, unpriced
from .scope import Scope
from .stores.base import StoreError
from .usage import ModelRef

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from .errors import CostGuardError

log = logging.getLogger("langchain_costguard")
_NOTHING: Mapping[str, Any] = {}
_STREAM_CHECK = 0.25
"""Seconds between looks at the kill switch and the clock while a stream runs."""
_KEPT_TRACES = 50_000
_KEPT_MODELS = 1_000

_CEILINGS = frozenset(
    ["max_completion_tokens", "max_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict"]
)
STRICT = "costguard_strict"
"""Metadata key by which a call of a wrapped model is known: its wrapper admits it, not the callback."""
started: ContextVar[Call | None] = ContextVar("costguard_started", default=None)
"""The wrapped model's call that was started last in this context, for the wrapper to take up."""
_REFUSED = (0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0)


class Handler(BaseCallbackHandler):
    """Turns LangChain's events into the meter's verbs. Sync and inline: an async handler cannot refuse anything under
    ``invoke``, and one that is not inline costs a thread hop an event."""

    raise_error = True
    run_inline = True

    meter: Meter
    session: str
    sinks: list[Sink]
    estimator: Estimator
    _switch: KillSwitch | None
    _killed: dict[str, str]
    _tool_prices: Mapping[str, Any]
    _clock: Callable[[], float]
    _traces: dict[int, str]
    _models: dict[tuple[str, str], tuple[ModelRef, int, bool]]
    _complained: set[str]
    _policy: str

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
        trace = self._trace(run_id, parent_run_id, var_child_runnable_config.get())
        self._remember(run_id, trace)
        try:
            if self._killed or self._switch is not None:
                self._check_chain(kwargs.get("name") or "", run_id, metadata or {}, tags, trace)
            if self.meter.ledger.counts_steps and tags and any(tag.startswith("graph:step:") for tag in tags):
                self._step(run_id, metadata or {}, tags, trace, kwargs.get("name") or "")
            if kwargs.get("run_type") == "llm":
                # Router models ("decisions") report themselves as chains.
                # https://github.com/langchain-ai/langchain/blob/master/libs/partners/openai/langchain_openai/decisions/base.py
                self._start_model(run_id, parent_run_id, metadata or {}, tags, _NOTHING, str(inputs))
        except BaseException:
            self._traces.pop(run_id.int, None)
            raise

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle what is still open below this run."""
        self.safely(self._chain_over, run_id)
        if run_id.int in self.meter.open_calls:
            self.safely(self._end_decision, run_id, outputs)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle what is still open below this run."""
        self.safely(self._chain_over, run_id)
        if run_id.int in self.meter.open_calls:
            self.safely(self._end_with_error, run_id, error, None)

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
        params = kwargs.get("invocation_params") or _NOTHING
        prompt = messages[0] if messages else []
        self._start_model(run_id, parent_run_id, metadata or {}, tags, params, prompt)

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
        params = kwargs.get("invocation_params") or _NOTHING
        self._start_model(run_id, parent_run_id, metadata or {}, tags, params, "\n".join(prompts))

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
        """Count a streamed chunk; stop the stream when its hold is used up."""
        call = self.meter.open_calls.get(run_id.int)
        if call is None or call.strict:
            return
        stream = call.stream
        if stream is None:
            stream = call.stream = Stream(self._clock(), 1)
        if chunk is not None:
            if chunk is stream.last_chunk:  # the guard is attached twice
                return
            stream.last_chunk = chunk
        text = pieces(token, chunk)
        if text:
            self.feed(call, stream, text)

    def on_stream_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Count what protocol streams bring, for models that do not report their tokens one by one."""
        call = self.meter.open_calls.get(run_id.int)
        if call is None or call.strict or (call.stream is not None and call.stream.last_chunk is not None):
            return
        text = _event_text(event)
        if text:
            stream = call.stream
            if stream is None:
                stream = call.stream = Stream(self._clock(), 1)
            self.feed(call, stream, text)

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle by what the provider reports."""
        call = self.meter.take(run_id)
        if call is not None:
            self.safely(self.end_model, call, response)
            if call.parent is None and self.meter.ledger.by_trace:
                self.meter.ledger.forget(str(run_id))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle a call that broke off by what came of it."""
        self.safely(self._end_with_error, run_id, error, kwargs.get("response"))

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
        if run_id.int in self.meter.open_calls:
            return
        trace = self._trace(run_id, parent_run_id, var_child_runnable_config.get())
        self._remember(run_id, trace)
        name = kwargs.get("name") or (serialized or {}).get("name") or "tool"
        try:
            scope = self._scope(metadata or {}, tags, trace)
            self._check_halt("tool", name, run_id, scope)
            call = Call(run_id, parent_run_id, "tool", name, scope, _step_id(metadata or {}, trace), self._clock())
            call.alone = parent_run_id is None and trace == str(run_id)
            price = self._tool_prices.get(name)
            call.tool = (price, kwargs.get("inputs") or input_str)
            fee = (
                nano(tool_fee(price, name, call.tool[1]), f"tool_prices[{name!r}]", zero=True)
                if price is not None
                else 0
            )
            try:
                denial = self.meter.admit_tool(call, fee)
            except StoreError as error:
                raise self._no_store(call, error) from error
            if denial is not None:
                raise self.refused(call, over_budget(denial, f"tool {name}", scope))
        except BaseException:
            self._traces.pop(run_id.int, None)
            raise
        self.begin(call)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle a tool's fee."""
        self.safely(self._end_tool, run_id, output, failed=False)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Settle a tool's fee: it ran, even though it failed."""
        self.safely(self._end_tool, run_id, None, failed=True)

    # Below: what the events share

    def feed(self, call: Call, stream: Stream, text: str) -> None:
        """Count a piece of a reply; raise where the stream must stop here."""
        stream.add(text)
        if stream.chunks >= stream.check_at and self.meter.overflows(call, stream):
            raise self._stop(call, stream, "its hold is used up")
        now = self._clock()
        if now >= stream.next_check:
            stream.next_check = now + _STREAM_CHECK
            if call.hold is not None and now >= call.hold.deadline:
                raise self._stop(call, stream, "its time is over")
            if self._killed or self._switch is not None:
                self._check_halt("model", call.name, call.run_id, call.scope, midway=True)

    def end_model(self, call: Call, response: Any) -> None:
        """Settle a model call by its reply."""
        plain = plain_usage(response)
        if plain is not None:
            self.meter.settle(call, *plain)
            return
        usage = usage_of(response)
        if is_cache_hit(response):
            self.meter.hit(call, usage)
        elif usage is not None:
            self.meter.settle(call, usage, reported_model(response))
        else:
            self.meter.settle_partly(call, self._unstated_output(call, response))

    def fail_model(self, call: Call, error: BaseException, response: Any) -> None:
        """Settle a model call that ended in an error by what came of it."""
        usage = usage_of(response) if response is not None else None
        stream = call.stream
        if usage is not None:
            self.meter.settle(call, usage, reported_model(response), estimated=stream is None or not stream.stopped)
        elif stream is not None:
            self.meter.settle_partly(call, self.meter.seen(call, stream))
        else:
            what = fate(error)
            if what is Fate.UNBILLED:
                self.meter.void(call)
            else:
                self.meter.settle_partly(call, None if what is Fate.UNKNOWN else 0)

    def prepare(
        self,
        run_id: UUID,
        parent: UUID | None,
        metadata: Mapping[str, Any],
        tags: Sequence[str] | None,
        params: Mapping[str, Any],
        prompt: Sequence[BaseMessage] | str,
    ) -> Call:
        """Everything about a model call that is known before it: who, which model, how much at the most.

        Raises:
            CostGuardError: the kill switch is on, or the model has no price and may have none.
        """
        name = metadata.get("ls_model_name") or params.get("model") or params.get("model_name") or "unknown"
        ref, limit, asks = self._model(metadata.get("ls_provider") or "", name)
        config = var_child_runnable_config.get()
        trace = str(run_id) if parent is None and config is None else self._trace(run_id, parent, config)
        scope = scopes.resolve(metadata, tags, config, trace=trace, model=ref.name, session=self.session)
        call = Call(run_id, parent, "model", ref.name, scope, _step_id(metadata, trace), self._clock())
        call.ref = ref
        call.alone = parent is None and config is None
        if self._killed or (self._switch is not None and self._switch.halts()):
            self._check_halt("model", ref.name, run_id, scope)
        tier = "priority" if params.get("service_tier") == "priority" else None
        try:
            call.rates = self.meter.book.quote(ref, call.started, tier)
        except LookupError:
            raise self.refused(call, unpriced(str(ref))) from None
        if isinstance(prompt, str):
            call.tokens, call.upper = self.estimator.estimate_text(ref, prompt)
        else:
            call.tokens, call.upper = self.estimator.estimate(
                ref,
                prompt,
                tools=params.get("tools") or params.get("functions"),
                response_format=params.get("response_format"),
            )
        times = params.get("n")
        call.times = times if isinstance(times, int) and times > 1 else 1
        asked = metadata.get("ls_max_tokens") or (None if _CEILINGS.isdisjoint(params) else _asked(params))
        call.asked = asked if isinstance(asked, int) and asked > 0 else None
        call.ceiling = call.asked or limit
        call.writes_cache = may_write_cache(prompt, params) if asks else True
        return call

    def _model(self, provider: str, name: str) -> tuple[ModelRef, int, bool]:
        """The model, the most output tokens it can give as far as is known, and whether its prompt cache is written to
        on request only."""
        found = self._models.get((provider, name))
        if found is None:
            ref = ModelRef(provider, str(name))
            found = ref, output_limit(ref) or UNKNOWN_OUTPUT, asks_to_write_cache(ref)
            if len(self._models) > _KEPT_MODELS:
                self._models.clear()
            self._models[provider, name] = found
        return found

    def now(self) -> float:
        """Epoch seconds."""
        return self._clock()

    def try_admit(self, call: Call, ceiling: int) -> Denial | None:
        """Try to hold a call with this output ceiling (tokens); the denial where it does not fit."""
        call.started = self._clock()
        try:
            return self.meter.admit(call, units=ceiling)
        except StoreError as error:
            raise self._no_store(call, error) from error

    def check_halt(self, call: Call) -> None:
        """Raise if the kill switch is on for this call."""
        if self._killed or self._switch is not None:
            self._check_halt(call.kind, call.name, call.run_id, call.scope)

    def _start_model(
        self,
        run_id: UUID,
        parent: UUID | None,
        metadata: Mapping[str, Any],
        tags: Sequence[str] | None,
        params: Mapping[str, Any],
        prompt: Sequence[BaseMessage] | str,
    ) -> None:
        if run_id.int in self.meter.open_calls:
            return
        call = self.prepare(run_id, parent, metadata, tags, params, prompt)
        if metadata.get(STRICT) == self.session:
            call.strict = True
            started.set(call)
        else:
            self._admit(call)
        self.begin(call)

    def _admit(self, call: Call) -> None:
        try:
            denial = self.meter.admit(call)
        except StoreError as error:
            raise self._no_store(call, error) from error
        if denial is not None:
            raise self.refused(call, over_budget(denial, f"a call to {call.name}", call.scope))

    def _no_store(self, call: Call, error: StoreError) -> CostGuardError:
        store = getattr(self.meter.ledger.store, "primary", self.meter.ledger.store)
        return self.refused(call, store_down(type(store).__name__, str(error)))

    def begin(self, call: Call) -> None:
        """Enter an admitted call into the books."""
        self.meter.begin(call)
        if self.sinks:
            self._emit(CallStarted(call.started, call.scope, call.run_id, call.name, call.kind, call.held))

    def _end_with_error(self, run_id: UUID, error: BaseException, response: Any) -> None:
        call = self.meter.take(run_id)
        if call is not None:
            self.fail_model(call, error, response)
            if call.parent is None and self.meter.ledger.by_trace:
                self.meter.ledger.forget(str(run_id))

    def _end_decision(self, run_id: UUID, outputs: Any) -> None:
        call = self.meter.take(run_id)
        if call is None:
            return
        usage = usage_of(outputs)
        if usage is None:
            self.meter.settle_partly(call, None)
        else:
            self.meter.settle(call, usage, None)

    def _end_tool(self, run_id: UUID, output: Any, *, failed: bool) -> None:
        self._traces.pop(run_id.int, None)
        self.meter.orphan(run_id)
        call = self.meter.take(run_id)
        if call is None:
            return
        price, arguments = call.tool
        fee = call.held
        if callable(price) and not failed:
            try:
                fee = nano(tool_fee(price, call.name, arguments, output), f"tool_prices[{call.name!r}]", zero=True)
            except Exception as error:
                self._complain("tool price", error)
        self.meter.settle_tool(call, fee, failed=failed)

    def _unstated_output(self, call: Call, response: Any) -> int | None:
        """Output tokens of a reply without usage, counted from its text, where the hold would say nothing: no maximum
        was asked for, so all that the budgets afforded is held."""
        if call.asked is not None:
            return None
        if call.stream is not None:
            return self.meter.seen(call, call.stream)
        generations = getattr(response, "generations", None) or [[]]
        text = "".join(getattr(g, "text", "") or "" for g in generations[0])
        return self.estimator.count_output(text, call.ref) if text else None

    def _trace(self, run_id: UUID, parent: UUID | None, config: Mapping[str, Any] | None) -> str:
        if parent is None:
            # A child call that replaces `callbacks` has no parent, but still runs inside its node's context.
            manager = config.get("callbacks") if config else None
            parent = getattr(manager, "parent_run_id", None)
            if parent is None:
                return str(run_id)
        return self._traces.get(parent.int) or str(parent)

    def _scope(self, metadata: Mapping[str, Any], tags: Sequence[str] | None, trace: str) -> Scope:
        config = var_child_runnable_config.get()
        return scopes.resolve(metadata, tags, config, trace=trace, model="", session=self.session)

    def _step(
        self, run_id: UUID, metadata: Mapping[str, Any], tags: Sequence[str] | None, trace: str, name: str
    ) -> None:
        scope = self._scope(metadata, tags, trace)
        step_id, now = _step_id(metadata, trace), self._clock()
        call = Call(run_id, None, "step", name, scope, step_id, now)
        try:
            denial = self.meter.step(scope, step_id, now)
        except StoreError as error:
            raise self._no_store(call, error) from error
        if denial is not None:
            raise self.refused(call, over_budget(denial, f"step {name}", scope))

    def _check_chain(
        self, name: str, run_id: UUID, metadata: Mapping[str, Any], tags: Sequence[str] | None, trace: str
    ) -> None:
        if self._killed or (self._switch is not None and self._switch.halts()):
            self._check_halt("chain", name, run_id, self._scope(metadata, tags, trace))

    def _check_halt(self, kind: str, name: str, run_id: UUID, scope: Scope, *, midway: bool = False) -> None:
        found: tuple[str, str] | None = None
        if self._killed:
            agent = "*" if "*" in self._killed else scope.agent
            found = (agent, self._killed[agent]) if agent in self._killed else None
        if found is None and self._switch is not None:
            found = self._switch.reason(scope.agent)
        if found is not None:
            what = f"{kind} {name}".strip() if kind != "model" else f"a call to {name}"
            raise self._told(kind, name, run_id, scope, halted(what, *found), midway=midway)

    def _stop(self, call: Call, stream: Stream, why: str) -> CostGuardError:
        from .errors import BudgetExceededError

        stream.stopped = True
        hold = call.hold
        tightest = hold.accounts[0].budget if hold and hold.accounts else None
        name = tightest.label if tightest else "call"
        error = BudgetExceededError(
            f"Stopped a reply of {call.name} after {stream.chunks} chunks: {why} (budget {name!r}).",
            budget=name,
            measure="seconds" if "time" in why else "usd",
            scope="",
            needed=0,
            left=0,
            by_holds=False,
        )
        return self._told("model", call.name, call.run_id, call.scope, error, midway=True)

    def refused(self, call: Call, error: CostGuardError) -> CostGuardError:
        """Count a refusal and tell of it; returns the error to raise."""
        return self._told(call.kind, call.name, call.run_id, call.scope, error)

    def _told(
        self, kind: str, name: str, run_id: UUID, scope: Scope, error: CostGuardError, *, midway: bool = False
    ) -> CostGuardError:
        self.meter.tallies.count(scope, _REFUSED)
        if self.sinks:
            text = str(error)
            self._emit(Refused(self._clock(), scope, run_id, kind, name, type(error).__name__, text, midway))
        return error

    def _chain_over(self, run_id: UUID) -> None:
        trace = self._traces.pop(run_id.int, None)
        self.meter.orphan(run_id)
        if self.meter.ledger.by_trace and trace == str(run_id):
            self.meter.ledger.forget(trace)

    def _remember(self, run_id: UUID, trace: str) -> None:
        traces = self._traces
        traces[run_id.int] = trace
        if len(traces) > _KEPT_TRACES:  # runs that never ended
            for key in list(traces)[: _KEPT_TRACES // 2]:
                traces.pop(key, None)

    def safely(self, end: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """A paid reply is never lost to an error of ours."""
        try:
            end(*args, **kwargs)
        except Exception as error:
            self._complain("settling a call", error)

    def _complain(self, what: str, error: BaseException) -> None:
        kind = f"{what}: {type(error).__name__}"
        if kind not in self._complained:
            self._complained.add(kind)
            log.warning("%s failed: %s (said once)", what, error, exc_info=error)

    def _emit(self, event: Event) -> None:
        for sink in self.sinks:
            try:
                sink(event)
            except Exception as error:
                self._complain(f"sink {getattr(sink, '__name__', type(sink).__name__)}", error)

    def _store_failed(self, message: str) -> None:
        self._complain("the store of balances", StoreError(message))
        if self.sinks:
            self._emit(StoreFailed(self._clock(), Scope(), message, self._policy))


def _step_id(metadata: Mapping[str, Any], trace: str) -> str:
    """What tells one execution of a node from another: the checkpoint path holds the task's id. A retry of the node
    is the same step, and shares its budget."""
    path = metadata.get("langgraph_checkpoint_ns")
    return f"{trace}/{path}" if path else trace


def _asked(params: Mapping[str, Any]) -> int | None:
    for key in _CEILINGS:
        value = params.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _event_text(event: Any) -> str:
    delta = event.get("delta") if isinstance(event, dict) else None
    if not isinstance(delta, dict):
        return ""
    return "".join(str(delta[key]) for key in ("text", "reasoning", "args") if isinstance(delta.get(key), str))
