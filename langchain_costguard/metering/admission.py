"""Before a call: who is spending, on which model, how much at the most; whether it is halted, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

from langchain_costguard import events
from langchain_costguard.metering.brake import Brake
from langchain_costguard.metering.budgets.ledger import Denial
from langchain_costguard.metering.calls import Call, asked, listeners
from langchain_costguard.metering.deferrals import Deferrals
from langchain_costguard.metering.fees import Fees
from langchain_costguard.metering.lineage import Lineage, is_step, step_id
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.pricing.cache_writes import may_write_cache
from langchain_costguard.metering.quick import CEILINGS, Quick
from langchain_costguard.metering.refusals import affordable, unpriced
from langchain_costguard.metering.stores.base import StoreError
from langchain_costguard.metering.terms import TermsBook
from langchain_costguard.metering.voice import Voice
from langchain_costguard.vocabulary.money import Money, nano
from langchain_costguard.vocabulary.scope import Scope

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from langchain_costguard.vocabulary.errors import BudgetExceededError, CostGuardError

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


class Admission:
    """Lets calls start, or refuses them.

    Args:
        meter: Holds what a call may take.
        voice: Tells of what started and what was refused.
        brake: Says who is halted.
        lineage: Says whose run it is.
        fees: What tools cost.
        deferrals: Refused steps that steering answers.
        terms: What is known of models.
        quick: Lets plain calls in.
        key: By which calls of models that this guard wrapped are known.
    """

    def __init__(
        self,
        meter: Meter,
        *,
        voice: Voice,
        brake: Brake,
        lineage: Lineage,
        fees: Fees,
        deferrals: Deferrals,
        terms: TermsBook,
        quick: Quick,
        key: str,
    ) -> None:
        self._meter = meter
        self._voice = voice
        self._brake = brake
        self._lineage = lineage
        self._fees = fees
        self._deferrals = deferrals
        self._key = key
        self._terms = terms
        self._quick = quick

    # Model calls

    def start_model(
        self,
        run_id: UUID,
        parent: UUID | None,
        metadata: Mapping[str, Any],
        tags: Sequence[str] | None,
        params: Mapping[str, Any],
        prompt: Sequence[BaseMessage] | str,
    ) -> None:
        """Admit a model call; one of a wrapped model is prepared for its wrapper to admit.

        Raises:
            CostGuardError: it is refused.
        """
        books = self._meter.books
        if run_id.int in books.open:
            return
        if self._deferrals.pending:
            self._refuse_in_step(metadata)
        strict = metadata.get(STRICT) == self._key
        call = None
        if not strict and not last_call.get() and not (self._brake.armed and self._brake.pulled()):
            call = self._quick.start(run_id, parent, metadata, tags, params, prompt)
        if call is not None:
            books.enter(call)
        else:
            call = self.prepare(run_id, parent, metadata, tags, params, prompt)
            call.strict = strict
            if strict:
                started.set(call)
                books.enter(call)
            else:
                self._admit(call)
                self.begin(call)
        if listeners:
            asked(call, tags, books.open)

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
        meter, lineage = self._meter, self._lineage
        name = metadata.get("ls_model_name") or params.get("model") or params.get("model_name") or "unknown"
        terms = self._terms.of(metadata.get("ls_provider") or "", name)
        ref = terms.ref
        config = lineage.enclosing()
        trace = str(run_id) if parent is None and config is None else lineage.trace(run_id, parent, config)
        scope = lineage.scope(metadata, tags, config, trace, ref.name)
        call = Call(run_id, parent, "model", ref.name, scope, step_id(metadata, trace), self._voice.now())
        call.ref = ref
        call.alone = parent is None and (config is None or trace == str(run_id))
        if self._brake.armed and self._brake.pulled():
            self._brake.check_call(call)
        tier = "priority" if params.get("service_tier") == "priority" else None
        try:
            call.rates = meter.book.quote(ref, call.started, tier)
        except LookupError:
            raise self._voice.refused(call, unpriced(str(ref))) from None
        if isinstance(prompt, str):
            call.tokens, call.upper = meter.estimator.estimate_text(ref, prompt)
        else:
            call.tokens, call.upper = meter.estimator.estimate(
                ref,
                prompt,
                tools=params.get("tools") or params.get("functions"),
                response_format=params.get("response_format"),
            )
        times = params.get("n")
        if isinstance(times, int) and times > 1:
            call.times = times
        call.asked = _asked(metadata, params)
        call.ceiling = call.allowed = call.asked or terms.limit
        call.writes_cache = may_write_cache(prompt, params) if terms.asks else True
        return call

    def begin(self, call: Call) -> None:
        """Enter an admitted call into the books."""
        self._meter.books.enter(call)
        self.tell_start(call)

    def tell_start(self, call: Call) -> None:
        """Tell of a call that was admitted."""
        if self._voice.sinks:
            facts = (call.started, call.scope, call.run_id, call.name, call.kind, call.held, call.parent)
            self._voice.emit(events.CallStarted(*facts))

    def try_admit(self, call: Call, ceiling: int) -> Denial | None:
        """Try to hold a call with this output ceiling (tokens); the denial where it does not fit.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        call.started = self._voice.now()
        try:
            return self._meter.admit(call, units=ceiling, last=last_call.get())
        except StoreError as error:
            raise self._no_store(call, error) from error

    def _admit(self, call: Call) -> None:
        try:
            denial = self._meter.admit(call, last=last_call.get())
        except StoreError as error:
            raise self._no_store(call, error) from error
        if denial is not None:
            raise self._denied(call, denial, f"a call to {call.name}", self._advice(call, denial))

    def _advice(self, call: Call, denial: Denial) -> str:
        """What to do about a refusal that is due to the length a reply may have."""
        if call.asked is None or not self._meter.floor <= affordable(call, denial) < call.ceiling:
            return ""
        return (
            f"Its output may be {call.ceiling:,} tokens long: ask for less with max_tokens, "
            f"or use guard.wrap(model), which asks for what is affordable."
        )

    # Tool calls

    def start_tool(
        self,
        run_id: UUID,
        parent: UUID | None,
        name: str,
        arguments: Any,
        metadata: Mapping[str, Any],
        tags: Sequence[str] | None,
    ) -> None:
        """Admit a tool call and its fee.

        Raises:
            CostGuardError: it is refused.
        """
        if self._deferrals.pending:
            self._refuse_in_step(metadata)
        lineage, fees = self._lineage, self._fees
        config = lineage.enclosing()
        trace = lineage.trace(run_id, parent, config)
        scope = lineage.scope(metadata, tags, config, trace)
        call = Call(run_id, parent, "tool", name, scope, step_id(metadata, trace), self._voice.now())
        self._brake.check_call(call)
        call.alone = parent is None and trace == str(run_id)
        call.arguments = arguments
        fee = fees.before(name, arguments) or 0
        if fees.computed(name):
            fee = max(fee, 1)  # what is known only afterwards is settled where something was held
        try:
            denial = self._meter.admit_tool(call, fee, last=last_call.get())
        except StoreError as error:
            raise self._no_store(call, error) from error
        if denial is not None:
            raise self._denied(call, denial, f"tool {name}")
        lineage.remember(run_id, trace)
        self.begin(call)

    # Steps of a graph

    def start_step(self, run_id: UUID, metadata: Mapping[str, Any], scope: Scope, name: str) -> None:
        """Count a step.

        Raises:
            CostGuardError: it is refused.
        """
        call = Call(run_id, None, "step", name, scope, step_id(metadata, scope.trace), self._voice.now())
        try:
            denial = self._meter.step(call)
        except StoreError as error:
            raise self._no_store(call, error) from error
        if denial is not None:
            raise self._denied(call, denial, f"step {name}")

    def count_step(self, metadata: Mapping[str, Any], scope: Scope) -> CostGuardError | None:
        """Count a step that no callback saw start; the refusal where it does not fit."""
        path = metadata.get("langgraph_checkpoint_ns") or ""
        if not self._deferrals.first_seen(path):
            return None
        try:
            self.start_step(uuid4(), metadata, scope, scope.step)
        except RuntimeError as error:
            refusal = cast("CostGuardError", error)
            self._deferrals.keep(path, scope.trace, refusal)  # for the node's other flows
            return refusal
        return None

    def defer(self, metadata: Mapping[str, Any], tags: Sequence[str] | None, trace: str, error: BaseException) -> bool:
        """Whether a refused step is kept for the steering inside it."""
        if not is_step(tags) or not hasattr(error, "for_model"):
            return False
        path = metadata.get("langgraph_checkpoint_ns") or ""
        return self._deferrals.keep(path, trace, cast("CostGuardError", error))

    def _refuse_in_step(self, metadata: Mapping[str, Any]) -> None:
        """Raise what was kept for steering, where it did not come before this call."""
        error = self._deferrals.take(metadata.get("langgraph_checkpoint_ns") or "")
        if error is not None:
            raise error

    # Without a call

    def would_refuse(self, scope: Scope | None = None, usd: Money | None = None) -> BudgetExceededError | None:
        """Try whether a model call, in the next step, would fit; the refusal where not. Nothing is held or spent.

        Args:
            scope: Whose call. Default: that of the running code.
            usd: What it may cost. Default: as much as the dearest call of the session took, in this process.

        Raises:
            ValueError: ``usd`` is no amount.
            StoreUnavailableError: the store does not answer.
        """
        meter, config = self._meter, self._lineage.enclosing() or {}
        scope = scope or self._lineage.whose()
        most = meter.dearest.get(scope.session, 1) if usd is None else nano(usd, "usd")
        step = step_id(config.get("metadata") or {}, scope.trace)
        call = Call(uuid4(), None, "model", "model", scope, step, self._voice.now())
        try:
            answer = meter.reserve(call, (most, 1, 1, 1, 1, 0, 1, 0))
            if not isinstance(answer, Denial):
                call.hold = answer
                meter.void(call)
                return None
        except StoreError as error:
            raise self._no_store(call, error) from error
        return cast("BudgetExceededError", self._denied(call, answer, "the next model call"))

    def _denied(self, call: Call, denial: Denial, what: str, advice: str = "") -> CostGuardError:
        return self._voice.refused(call, self._meter.over_budget(denial, what, call.scope, advice))

    def _no_store(self, call: Call, error: StoreError) -> CostGuardError:
        return self._voice.refused(call, self._meter.unavailable(error))


def _asked(metadata: Mapping[str, Any], params: Mapping[str, Any]) -> int | None:
    """The most output tokens the request allows; the largest figure where several are given, for which of them is sent
    depends on the client: ``ChatOpenAI`` sends what is bound as ``max_completion_tokens`` and says so nowhere else, and
    over the Responses API sends the constructor's figure whatever ``max_tokens`` is bound."""
    asked = metadata.get("ls_max_tokens")
    figures = [asked] if isinstance(asked, int) and asked > 0 else []
    if not CEILINGS.isdisjoint(params):
        figures += [value for key in CEILINGS if isinstance(value := params.get(key), int) and value > 0]
    return max(figures, default=None)
