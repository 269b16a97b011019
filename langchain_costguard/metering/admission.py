"""Before a call: who is spending, on which model, how much at the most; whether it is halted, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

from langchain_core.runnables.config import var_child_runnable_config

from langchain_costguard.events.metered import CallStarted
from langchain_costguard.metering.budgets.ledger import Denial
from langchain_costguard.metering.budgets.switch import KillSwitch
from langchain_costguard.metering.calls import Call, asked
from langchain_costguard.metering.deferrals import Deferrals
from langchain_costguard.metering.meter import (
    UNKNOWN_OUTPUT,
    affordable,
    asks_to_write_cache,
    may_write_cache,
    tool_fee,
)
from langchain_costguard.metering.pricing.estimate import Estimator, output_limit
from langchain_costguard.metering.refusals import halted, store_down, unpriced
from langchain_costguard.metering.stores.base import StoreError
from langchain_costguard.metering.voice import Voice
from langchain_costguard.vocabulary import scope as scopes
from langchain_costguard.vocabulary.money import Money, nano
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from langchain_costguard.vocabulary.errors import BudgetExceededError, CostGuardError

_KEPT_TRACES = 50_000
_KEPT_MODELS = 1_000
_CEILINGS = frozenset(
    ["max_completion_tokens", "max_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict"]
)
STRICT = "costguard_strict"
"""Metadata key by which a call of a wrapped model is known: its wrapper admits it, not the callback."""
started: ContextVar[Call | None] = ContextVar("costguard_started", default=None)
"""The wrapped model's call that was started last in this context, for the wrapper to take up."""
last_call: ContextVar[bool] = ContextVar("costguard_last_call", default=False)
"""Whether calls made in this context may have what budgets keep back."""


@contextmanager
def spending_reserve(on: bool = True) -> Iterator[None]:
    """Calls made in the block are judged by the whole of each cap, the ``reserve`` included."""
    token = last_call.set(on)
    try:
        yield
    finally:
        last_call.reset(token)


class Admission(Voice):
    """Lets calls start, or refuses them."""

    key: str
    """What this guard is known by in this process; a user's ``session`` may be that of several guards."""
    session: str
    floor: int
    estimator: Estimator
    _switch: KillSwitch | None
    _killed: dict[str, str]
    deferrals: Deferrals
    _tool_prices: Mapping[str, Any]
    _traces: dict[int, str]
    _models: dict[tuple[str, str], tuple[ModelRef, int, bool]]

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
        call.alone = parent is None and (config is None or trace == str(run_id))
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
        call.asked = _asked(metadata, params)
        call.ceiling = call.allowed = call.asked or limit
        call.writes_cache = may_write_cache(prompt, params) if asks else True
        return call

    def begin(self, call: Call) -> None:
        """Enter an admitted call into the books."""
        self.meter.books.enter(call)
        self.tell_start(call)

    def tell_start(self, call: Call) -> None:
        """Tell of a call that was admitted."""
        if self.sinks:
            self._emit(CallStarted(call.started, call.scope, call.run_id, call.name, call.kind, call.held))

    def try_admit(self, call: Call, ceiling: int) -> Denial | None:
        """Try to hold a call with this output ceiling (tokens); the denial where it does not fit."""
        call.started = self._clock()
        try:
            return self.meter.admit(call, units=ceiling, last=last_call.get())
        except StoreError as error:
            raise self._no_store(call, error) from error

    def check_halt(self, call: Call) -> None:
        """Raise if the kill switch is on for this call."""
        if self._killed or self._switch is not None:
            self._check_halt(call.kind, call.name, call.run_id, call.scope)

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
        if self.deferrals.pending:
            self._refuse_in_step(metadata)
        call = self.prepare(run_id, parent, metadata, tags, params, prompt)
        if metadata.get(STRICT) == self.key:
            call.strict = True
            started.set(call)
            self.meter.books.enter(call)
        else:
            self._admit(call)
            self.begin(call)
        asked(call, tags, self.meter.open_calls)

    def _admit(self, call: Call) -> None:
        try:
            denial = self.meter.admit(call, last=last_call.get())
        except StoreError as error:
            raise self._no_store(call, error) from error
        if denial is not None:
            raise self.refused(
                call, self.over_budget(denial, f"a call to {call.name}", call.scope, self._advice(call, denial))
            )

    def _advice(self, call: Call, denial: Denial) -> str:
        """What to do about a refusal that is due to the length a reply may have."""
        if call.asked is None or not self.floor <= affordable(call, denial) < call.ceiling:
            return ""
        return (
            f"Its output may be {call.ceiling:,} tokens long: ask for less with max_tokens, "
            f"or use guard.wrap(model), which asks for what is affordable."
        )

    def _start_tool(
        self,
        run_id: UUID,
        parent: UUID | None,
        name: str,
        arguments: Any,
        metadata: Mapping[str, Any],
        tags: Sequence[str] | None,
    ) -> None:
        if self.deferrals.pending:
            self._refuse_in_step(metadata)
        trace = self._trace(run_id, parent, var_child_runnable_config.get())
        scope = self._scope(metadata, tags, trace)
        if self._killed or self._switch is not None:
            self._check_halt("tool", name, run_id, scope)
        call = Call(run_id, parent, "tool", name, scope, _step_id(metadata, trace), self._clock())
        call.alone = parent is None and trace == str(run_id)
        price = self._tool_prices.get(name)
        call.tool = (price, arguments)
        fee = self._fee(price, name, arguments) or 0
        if callable(price):
            fee = max(fee, 1)  # what is known only afterwards is settled where something was held
        try:
            denial = self.meter.admit_tool(call, fee, last=last_call.get())
        except StoreError as error:
            raise self._no_store(call, error) from error
        if denial is not None:
            raise self.refused(call, self.over_budget(denial, f"tool {name}", scope))
        self._remember(run_id, trace)
        self.begin(call)

    def tool_fee(self, tool: str, arguments: Any) -> int | None:
        """What a tool call costs (nano-USD), as far as is known before it."""
        return self._fee(self._tool_prices.get(tool), tool, arguments)

    def _fee(self, price: Any, tool: str, arguments: Any, output: Any = None) -> int | None:
        """A tool's fee in nano-USD; None where its price is computed, and that fails: no reason to lose the tool."""
        if price is None:
            return 0
        try:
            return nano(tool_fee(price, tool, arguments, output), f"tool_prices[{tool!r}]", zero=True)
        except Exception as error:
            self._complain(f"tool_prices[{tool!r}]", error)
            return None

    def _no_store(self, call: Call, error: StoreError) -> CostGuardError:
        store = getattr(self.meter.ledger.store, "primary", self.meter.ledger.store)
        return self.refused(call, store_down(type(store).__name__, str(error)))

    def _step(self, run_id: UUID, metadata: Mapping[str, Any], scope: Scope, name: str) -> None:
        step_id, now = _step_id(metadata, scope.trace), self._clock()
        call = Call(run_id, None, "step", name, scope, step_id, now)
        try:
            denial = self.meter.step(scope, step_id, now)
        except StoreError as error:
            raise self._no_store(call, error) from error
        if denial is not None:
            raise self.refused(call, self.over_budget(denial, f"step {name}", scope))

    def _refuse_in_step(self, metadata: Mapping[str, Any]) -> None:
        """Raise what was kept for steering, where it did not come before this call."""
        error = self.deferrals.take(metadata.get("langgraph_checkpoint_ns") or "")
        if error is not None:
            raise error

    def _deferred(
        self, metadata: Mapping[str, Any], tags: Sequence[str] | None, trace: str, error: BaseException
    ) -> bool:
        """Whether a refused step is kept for the steering inside it."""
        if not is_step(tags) or not hasattr(error, "for_model"):
            return False
        return self.deferrals.keep(metadata.get("langgraph_checkpoint_ns") or "", trace, cast("CostGuardError", error))

    def _starts_again(self, metadata: Mapping[str, Any], tags: Sequence[str] | None) -> None:
        if is_step(tags):
            self.deferrals.clear(metadata.get("langgraph_checkpoint_ns") or "")

    def count_step(self, metadata: Mapping[str, Any], scope: Scope) -> CostGuardError | None:
        """Count a step that no callback saw start; the refusal where it does not fit."""
        path = metadata.get("langgraph_checkpoint_ns") or ""
        if not self.deferrals.first_seen(path):
            return None
        try:
            self._step(uuid4(), metadata, scope, scope.step)
        except RuntimeError as error:
            refusal = cast("CostGuardError", error)
            self.deferrals.keep(path, scope.trace, refusal)  # for the node's other flows
            return refusal
        return None

    def _check_chain(
        self, name: str, run_id: UUID, metadata: Mapping[str, Any], tags: Sequence[str] | None, trace: str
    ) -> None:
        if self._killed or (self._switch is not None and self._switch.halts()):
            self._check_halt("chain", name, run_id, self._scope(metadata, tags, trace))

    def _check_halt(self, kind: str, name: str, run_id: UUID, scope: Scope, *, midway: bool = False) -> None:
        found: tuple[str, str] | None = None
        if self._killed:
            killed = self._killed
            reason = killed.get("*")
            found = ("*", reason) if reason is not None else None
            if found is None and (reason := killed.get(scope.agent)) is not None:
                found = scope.agent, reason
        if found is None and self._switch is not None:
            found = self._switch.reason(scope.agent)
        if found is not None:
            what = f"{kind} {name}".strip() if kind != "model" else f"a call to {name}"
            raise self._told(kind, name, run_id, scope, halted(what, *found), midway=midway)

    def _trace(self, run_id: UUID, parent: UUID | None, config: Mapping[str, Any] | None) -> str:
        if parent is None:
            # A child call that replaces `callbacks` has no parent, but still runs inside its node's context.
            manager = config.get("callbacks") if config else None
            parent = getattr(manager, "parent_run_id", None)
            if parent is None:
                return str(run_id)
        return self._traces.get(parent.int) or str(parent)

    def whose(self, config: Mapping[str, Any] | None = None) -> Scope:
        """Who is spending here: the scope that a call made now (with this ``config``) would have, but for its model."""
        config = config or var_child_runnable_config.get()
        if config is None:
            return scopes.resolve({}, None, None, trace="", model="", session=self.session)
        manager = config.get("callbacks")
        parent = getattr(manager, "parent_run_id", None)
        trace = (self._traces.get(parent.int) or str(parent)) if parent is not None else ""
        metadata = {**(getattr(manager, "metadata", None) or {}), **(config.get("metadata") or {})}
        tags = [*(getattr(manager, "tags", None) or ()), *(config.get("tags") or ())]
        return scopes.resolve(metadata, tags, config, trace=trace, model="", session=self.session)

    def would_refuse(self, scope: Scope | None = None, usd: Money | None = None) -> BudgetExceededError | None:
        """Try whether a model call, in the next step, would fit; the refusal where not. Nothing is held or spent.

        Args:
            scope: Whose call. Default: that of the running code.
            usd: What it may cost. Default: as much as the dearest call of the session took, in this process.

        Raises:
            ValueError: ``usd`` is no amount.
            StoreUnavailableError: the store does not answer.
        """
        scope = scope or self.whose()
        most = self.meter.dearest.get(scope.session, 1) if usd is None else nano(usd, "usd")
        config = var_child_runnable_config.get() or {}
        step_id = _step_id(config.get("metadata") or {}, scope.trace)
        call = Call(uuid4(), None, "model", "model", scope, step_id, self._clock())
        try:
            answer = self.meter.ledger.reserve(scope, step_id, (most, 1, 1, 1, 1, 0, 1, 0), now=call.started)
            if not isinstance(answer, Denial):
                call.hold = answer
                self.meter.void(call)
                return None
        except StoreError as error:
            raise self._no_store(call, error) from error
        return cast("BudgetExceededError", self.refused(call, self.over_budget(answer, "the next model call", scope)))

    def _scope(self, metadata: Mapping[str, Any], tags: Sequence[str] | None, trace: str) -> Scope:
        config = var_child_runnable_config.get()
        return scopes.resolve(metadata, tags, config, trace=trace, model="", session=self.session)

    def _remember(self, run_id: UUID, trace: str) -> None:
        traces = self._traces
        traces[run_id.int] = trace
        if len(traces) > _KEPT_TRACES:  # runs that never ended
            for key in list(traces)[: _KEPT_TRACES // 2]:
                traces.pop(key, None)


def is_step(tags: Sequence[str] | None) -> bool:
    """Whether a chain's tags are those of a graph's node."""
    return bool(tags) and any(tag.startswith("graph:step:") for tag in tags or ())


def _step_id(metadata: Mapping[str, Any], trace: str) -> str:
    """What tells one execution of a node from another: the checkpoint path holds the task's id. A retry of the node
    is the same step, and shares its budget."""
    path = metadata.get("langgraph_checkpoint_ns")
    return f"{trace}/{path}" if path else trace


def _asked(metadata: Mapping[str, Any], params: Mapping[str, Any]) -> int | None:
    """The most output tokens the request allows; the largest figure where several are given, for which of them is sent
    depends on the client: ``ChatOpenAI`` sends what is bound as ``max_completion_tokens`` and says so nowhere else, and
    over the Responses API sends the constructor's figure whatever ``max_tokens`` is bound."""
    asked = metadata.get("ls_max_tokens")
    figures = [asked] if isinstance(asked, int) and asked > 0 else []
    if not _CEILINGS.isdisjoint(params):
        figures += [value for key in _CEILINGS if isinstance(value := params.get(key), int) and value > 0]
    return max(figures, default=None)
