"""Before a call: who is spending, on which model, how much at the most; whether it is halted, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, cast
from uuid import UUID, uuid4

from langchain_costguard import events
from langchain_costguard.metering.amounts import affordable
from langchain_costguard.metering.brake import Brake
from langchain_costguard.metering.budgets.ledger import Denial
from langchain_costguard.metering.calls import Call, asked, listeners
from langchain_costguard.metering.deferrals import Deferrals
from langchain_costguard.metering.fees import Fees
from langchain_costguard.metering.frames import is_running
from langchain_costguard.metering.lineage import Lineage, is_step, step_id
from langchain_costguard.metering.measures import measure
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.quick import Quick
from langchain_costguard.metering.refusals import unpriced, untagged
from langchain_costguard.metering.stores.base import StoreError
from langchain_costguard.metering.terms import Terms, TermsBook
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
_open: ContextVar[tuple[int, Any] | None] = ContextVar("costguard_open", default=None)
"""The run of the model call that was started last in this context, and of those that it was made in."""
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
        require: Tags that every model call must have; ``untagged`` says what becomes of one without.
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
        require: Sequence[str] = (),
        untagged: Literal["refuse", "warn"] = "refuse",
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
        self._require = tuple(require)
        self._untagged = untagged

    # Model calls

    def start_model(
        self,
        run_id: UUID,
        parent: UUID | None,
        metadata: Mapping[str, Any],
        tags: Sequence[str] | None,
        params: Mapping[str, Any],
        prompt: Sequence[BaseMessage] | str,
        client: Any,
        batch: int,
    ) -> None:
        """Admit a model call; one of a wrapped model is prepared for its wrapper to admit.

        ``client`` is the model in LangChain's serialized form, ``batch`` how many prompts go out in one request.

        Raises:
            CostGuardError: it is refused.
        """
        books = self._meter.books
        if run_id.int in books.open:
            return
        if self._deferrals.pending:
            self._refuse_in_step(metadata)
        strict = metadata.get(STRICT) == self._key
        around = call = None
        if books.open:
            around = self._around(run_id, parent)
            if around is not None:
                self._meter.hand_over(around)
        if (
            not strict
            and not self._require
            and not last_call.get()
            and not (self._brake.armed and self._brake.pulled())
        ):
            call = self._quick.start(run_id, parent, metadata, tags, params, prompt, client)
        if call is not None:
            if around is not None:
                call.odd, call.around = True, around
            books.enter(call)
        else:
            call = self.prepare(run_id, parent, metadata, tags, params, prompt, client)
            call.strict, call.around, call.text = strict, around, isinstance(prompt, str)
            if batch > 1:
                books.batch(call, params, batch)
            if strict:
                started.set(call)
                books.enter(call)
            else:
                self._admit(call)
                self.begin(call)
        if around is None:
            _open.set((run_id.int, None))
        if listeners:
            asked(call, tags, books.open)

    def _around(self, run_id: UUID, parent: UUID | None) -> Call | None:
        """The model call that this one is made in: a model that asks another one tells that one's usage as its own."""
        books = self._meter.open_calls
        if parent is not None and (found := books.get(parent.int)) is not None:
            return found if found.kind == "model" else None
        chain = _open.get()
        while chain is not None and chain[0] not in books:
            chain = chain[1]
        if chain is None or not is_running(books[chain[0]].run_id):
            return None
        _open.set((run_id.int, chain))
        return books[chain[0]]

    def prepare(
        self,
        run_id: UUID,
        parent: UUID | None,
        metadata: Mapping[str, Any],
        tags: Sequence[str] | None,
        params: Mapping[str, Any],
        prompt: Sequence[BaseMessage] | str,
        client: Any = None,
    ) -> Call:
        """Everything about a model call that is known before it: who, which model, how much at the most.

        Raises:
            CostGuardError: the kill switch is on, or the model has no price and may have none.
        """
        lineage = self._lineage
        name = metadata.get("ls_model_name") or params.get("model") or params.get("model_name") or "unknown"
        now = self._voice.now()
        terms = self._terms.of(metadata.get("ls_provider") or "", name, client, now)
        ref = terms.ref
        config = lineage.enclosing()
        trace = str(run_id) if parent is None and config is None else lineage.trace(run_id, parent, config)
        scope = lineage.scope(metadata, tags, config, trace, ref.name)
        call = Call(run_id, parent, "model", ref.name, scope, step_id(metadata, trace), now)
        call.ref = ref
        call.url = terms.url
        call.alone = parent is None and (config is None or trace == str(run_id)) and scope.trace == trace
        if self._brake.armed and self._brake.pulled():
            self._brake.check_call(call)
        if self._require:
            self._check_tags(call)
        self._measured(call, terms, metadata, params, prompt)
        return call

    def foresee(
        self, metadata: Mapping[str, Any], params: Mapping[str, Any], prompt: Sequence[BaseMessage] | str, client: Any
    ) -> Call:
        """A call that is not made: which model, how much at the most.

        Raises:
            UnpricedModelError: the model has no price, and may have none.
        """
        now = self._voice.now()
        terms = self._terms.of(
            metadata.get("ls_provider") or "", metadata.get("ls_model_name") or "unknown", client, now
        )
        call = Call(uuid4(), None, "model", terms.ref.name, self._lineage.whose(), "", now)
        call.ref, call.url = terms.ref, terms.url
        self._measured(call, terms, metadata, params, prompt)
        return call

    def _measured(
        self,
        call: Call,
        terms: Terms,
        metadata: Mapping[str, Any],
        params: Mapping[str, Any],
        prompt: Sequence[BaseMessage] | str,
    ) -> None:
        try:
            measure(call, terms, metadata, params, prompt, self._meter)
        except LookupError:
            near = self._meter.book.near(terms.ref)
            raise self._voice.refused(call, unpriced(str(terms.ref), near)) from None

    def _check_tags(self, call: Call) -> None:
        """Refuse a call that does not say who spends, or tell of it once."""
        absent = [name for name in self._require if not getattr(call.scope, name)]
        if not absent:
            return
        error = untagged(f"a call to {call.name}", absent)
        if self._untagged == "refuse":
            raise self._voice.refused(call, error)
        self._voice.say_once(str(error))

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
        if call.asked is None:
            return f"{self._meter.floor:,} output tokens are assumed, as no most is stated: set max_tokens."
        if not self._meter.floor <= affordable(call, denial) < call.ceiling:
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

    def count_step(self, metadata: Mapping[str, Any], scope: Scope, *, again: bool = False) -> CostGuardError | None:
        """Count a step that no callback saw start, or ``again`` one that was refused; the refusal where it does not
        fit. Each flow of the node asks for it, and it is counted once."""
        path = metadata.get("langgraph_checkpoint_ns") or ""
        if not (self._deferrals.clear(path) if again else self._deferrals.first_seen(path)):
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
