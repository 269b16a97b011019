"""``CostGuard``: one object that meters what an agent does, and refuses what does not fit its budgets."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from weakref import WeakValueDictionary

from langchain_costguard.metering.admission import Admission
from langchain_costguard.metering.brake import Brake
from langchain_costguard.metering.budgets import alerts as thresholds
from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.metering.budgets.ledger import Ledger
from langchain_costguard.metering.budgets.line import Lines
from langchain_costguard.metering.budgets.switch import KillSwitch
from langchain_costguard.metering.config.arguments import configured
from langchain_costguard.metering.deferrals import Deferrals
from langchain_costguard.metering.desk import asked_for, show
from langchain_costguard.metering.fees import Fees, ToolPrice
from langchain_costguard.metering.lineage import Lineage
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.pricing.estimate import Estimator, TokenCounter
from langchain_costguard.metering.pricing.prices import Price, PriceBook
from langchain_costguard.metering.quick import Quick
from langchain_costguard.metering.seams.callbacks import Callbacks
from langchain_costguard.metering.seams.waiting import Waiting
from langchain_costguard.metering.settings import Settings, check_budgets, check_fees
from langchain_costguard.metering.settlement import Settlement
from langchain_costguard.metering.stores.base import Store, StoreError
from langchain_costguard.metering.stores.memory import MemoryStore
from langchain_costguard.metering.terms import TermsBook
from langchain_costguard.metering.voice import Voice
from langchain_costguard.observe.tallies import Tallies
from langchain_costguard.vocabulary import scope as scopes
from langchain_costguard.vocabulary.money import Money
from langchain_costguard.vocabulary.scope import Scope

if TYPE_CHECKING:
    from langchain_costguard.events.metered import Sink
    from langchain_costguard.events.steered import Steered
    from langchain_costguard.metering.budgets.headroom import Headroom
    from langchain_costguard.observe.log.sink import SpendLog
    from langchain_costguard.observe.notify import Notify
    from langchain_costguard.observe.report import Report
    from langchain_costguard.observe.telemetry import Telemetry
    from langchain_costguard.vocabulary.errors import BudgetExceededError, CostGuardError

T = TypeVar("T")


class CostGuard(Callbacks):
    """Meters every chain, tool and model event, and refuses what does not fit the budgets before it is spent.

    Attach it to any Runnable (``config={"callbacks": [guard]}``), to a graph
    (``graph.with_config(callbacks=[guard])``), to everything in a block (``with guard.watch():``) or to one model
    (``guard.wrap(model)``). It may be attached more than once, and used from any number of threads and event loops.

    Args:
        budgets: What may be spent, all of them together. None meters only.
        store: Where balances are kept: ``MemoryStore()`` (the default), ``SQLiteStore(path)``, ``RedisStore(url)``.
        prices: Your own prices by model name; they win over the public table.
        tool_prices: Fees by tool name, in USD a call: ``{"web_search": "0.01"}``, or a callable.
        unpriced: What a model of unknown price costs: ``"estimate"`` (as the dearest known of its provider),
            ``"refuse"``, or ``"free"``.
        assume_output_tokens: For requests that state no maximum: the least output (tokens) that must be affordable.
        session: The session of calls that name none. Default: one of its own for this guard.
        switch: The kill switch. Default: the store's, where the store is shared; ``guard.kill()`` works either way.
        sinks: Callables that receive every event.
        alerts: Shares of a cap at which an ``Alert`` is emitted, once.
        on_store_failure: While the store does not answer: ``"refuse"`` calls, or count ``"local"``-ly in this process.
        hold_seconds: How long a hold lasts that nobody settles, because its process died or its call was cancelled.
        wait: Seconds ``guard.wrap(model)`` waits for holds of other calls to settle before it refuses.
        token_counter: Your own counter of input tokens; it is believed as it is.
        log: The spend log: a path, a URL as of a store, or a ``SpendLog``. Default: ``COSTGUARD_LOG``, or none.
        config: A file of budgets and of these arguments, followed while the program runs. A budget given here takes the
            place of one of its label there. Default: ``COSTGUARD_CONFIG``, or none.
        telemetry: Spans and metrics of every call: ``Telemetry()`` (``langchain_costguard.observe.telemetry``).
            Default: what ``COSTGUARD_OTEL``, ``COSTGUARD_OTLP`` and ``COSTGUARD_PROMETHEUS`` ask for, or none.
        notify: Who is told of which alert: ``Notify({0.7: Slack(url)})`` (``langchain_costguard.observe.notify``).
        clock: Epoch seconds; a test passes its own.

    Raises:
        ValueError: names the field and the value.
    """

    log: SpendLog | None = None

    @configured
    def __init__(
        self,
        *budgets: Budget,
        store: Store | None = None,
        prices: Mapping[str, Price] | None = None,
        tool_prices: Mapping[str, ToolPrice] | None = None,
        unpriced: Literal["estimate", "refuse", "free"] = "estimate",
        assume_output_tokens: int = 256,
        session: str | None = None,
        switch: KillSwitch | None = None,
        sinks: Sequence[Sink] = (),
        alerts: Sequence[float] = thresholds.DEFAULT_THRESHOLDS,
        on_store_failure: Literal["refuse", "local"] = "refuse",
        hold_seconds: float = 600.0,
        wait: float = 10.0,
        token_counter: TokenCounter | None = None,
        log: str | Path | SpendLog | None = None,
        config: str | Path | None = None,
        telemetry: Telemetry | None = None,
        notify: Notify | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # Takes most of a second without a graph: now rather than at a refusal.
        from langchain_costguard.vocabulary import errors  # noqa: F401

        budgets = (*budgets, *_extra_budgets)
        Settings(
            budgets=budgets, store=store, tool_prices=tool_prices or {}, assume_output_tokens=assume_output_tokens,
            session=session, switch=switch, sinks=sinks, on_store_failure=on_store_failure, hold_seconds=hold_seconds,
            wait=wait, token_counter=token_counter, clock=clock,
        )  # fmt: skip
        self.key = uuid.uuid4().hex
        _here[self.key] = self
        tallies, self.lines = Tallies(), Lines()
        given = [*sinks, *asked_for(telemetry, notify), *_extra_sinks]
        voice = Voice(given, tallies, clock, on_store_failure)
        inner = store if store is not None and not _extra_budgets else MemoryStore()  # a drill books nothing
        self.store = _failing_over(inner, on_store_failure, voice) if inner.shared else inner
        # While the store does not answer, the last answer stands; on calls the store's own policy then decides.
        shared_switch = KillSwitch(inner, keep=86_400, on_failure="allow") if inner.shared else None
        brake = Brake(switch or shared_switch, self.store, voice)
        lineage = Lineage(session or f"session-{uuid.uuid4().hex[:12]}")
        fees, deferrals = Fees(tool_prices or {}, voice), Deferrals()
        self.estimator = Estimator(token_counter)
        self.estimator.warm()  # begins to load the vocabulary, on a thread: not at the first call, inside a loop
        meter = Meter(
            Ledger(budgets, self.store, hold_seconds=hold_seconds),
            PriceBook(prices, unpriced=unpriced),
            self.estimator,
            voice=voice, tallies=tallies, lines=self.lines,
            alerts=thresholds.checked(alerts if notify is None else [*alerts, *notify.shares]),
            floor=assume_output_tokens,
        )  # fmt: skip
        terms = TermsBook()
        quick = Quick(meter, terms=terms, voice=voice, lineage=lineage)
        admission = Admission(
            meter, voice=voice, brake=brake, lineage=lineage, fees=fees, deferrals=deferrals, terms=terms, quick=quick,
            key=self.key,
        )  # fmt: skip
        settlement = Settlement(meter, voice=voice, brake=brake, lineage=lineage, fees=fees, quick=quick)
        self.fees, self.quick = fees, quick
        if log is not None and not _extra_budgets:
            from langchain_costguard.observe.log.sink import SpendLog

            self.log = SpendLog.of(log)
            voice.add(self.log)
        self.waiting = Waiting(
            meter, admission=admission, brake=brake, voice=voice, lines=self.lines, seconds=float(wait)
        )
        super().__init__(
            meter, admission=admission, settlement=settlement, voice=voice, brake=brake, lineage=lineage,
            deferrals=deferrals,
        )  # fmt: skip
        show(voice.sinks, meter)

    @classmethod
    def from_file(cls, path: str | Path, *budgets: Budget, **arguments: Any) -> CostGuard:
        """A guard of a ``costguard.toml`` and of what is given besides, which wins. A ``ValueError`` names the line."""
        return cls(*budgets, config=path, **arguments)

    def change(
        self,
        budgets: Sequence[Budget],
        *,
        prices: Mapping[str, Price] | None = None,
        tool_prices: Mapping[str, ToolPrice] | None = None,
        alerts: Sequence[float] | None = None,
    ) -> None:
        """Put other budgets (and prices, fees, alerts) in the place of those there are, for calls that start from then
        on, whole or not at all. Balances stay with the store: a budget of the same label goes on from them.

        Raises:
            ValueError: names the field and the value.
        """
        check_budgets(budgets)
        check_fees(tool_prices or {})
        meter = self.meter
        ledger, shares = meter.ledger.with_budgets(budgets), None if alerts is None else thresholds.checked(alerts)
        book = meter.book if prices is None else PriceBook(prices, unpriced=meter.book.unpriced)
        if tool_prices is not None:
            self.fees.change(tool_prices)
        meter.use(ledger, book, shares)
        self.quick.renew()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a guard is the guard: it is what is spent, and there is one of it."""
        return _same, (self.key,)

    # What a user calls

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets, in the order given."""
        return self.meter.ledger.budgets

    def report(self) -> Report:
        """Who spent what in this process, as a table by any dimension: ``guard.report().by("agent", "model")``."""
        return self.meter.tallies.report()

    def headroom(self, scope: Scope | None = None) -> Headroom:
        """What ``scope`` (default: that of the running code) may still spend; empty where the store does not answer."""
        from langchain_costguard.metering.budgets.headroom import Headroom

        self.meter.refine()
        now = self.now()
        watch = self.meter.ledger.watch(self.whose() if scope is None else scope, now)
        try:
            return watch.headroom(self.store.read(watch.names, now=now) if watch.names else (), now)
        except StoreError:
            return Headroom()

    def grant(
        self,
        what: BudgetExceededError | Budget | str,
        *,
        usd: Money | None = None,
        tokens: int | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        model_calls: int | None = None,
        tool_calls: int | None = None,
        steps: int | None = None,
        seconds: float | None = None,
        scope: Scope | None = None,
        key: str | None = None,
        why: str = "granted by a person",
    ) -> bool:
        """Give a budget more, in every process that shares the store; nothing already paid is paid again.

        Of a budget with a ``window`` it is the window of today, and what is granted ends with it. While the store does
        not answer, a grant without a key is kept and reaches it when it is back.

        Args:
            what: The refusal, for the budget and scope that refused; or a budget, or its label.
            usd, tokens, input_tokens, output_tokens, model_calls, tool_calls, steps, seconds: How much, of what the
                budget caps. Counts and seconds may be written as text.
            scope: Whose account, of a budget. Default: that of the running code.
            key: Names this grant: applied again, by whoever shares the store, it does nothing (for 400 days).
            why: One sentence for the event and the report's reader.

        Returns:
            True, or False where a grant with this key had been applied.

        Raises:
            ValueError: an amount, budget or scope that cannot be; a budget per call, step or trace.
            StoreUnavailableError: the store does not answer.
        """
        from langchain_costguard.events.steered import Granted
        from langchain_costguard.metering.budgets import grants

        given = {
            "usd": usd, "tokens": tokens, "input_tokens": input_tokens, "output_tokens": output_tokens,
            "model_calls": model_calls, "tool_calls": tool_calls, "steps": steps, "seconds": seconds,
        }  # fmt: skip
        amounts, here, now = grants.amounts_of(given), scope or self.whose(), self.now()
        label, account = grants.granted_to(what, scope)
        gifts = grants.gifts(self.meter.ledger, label, account, here, amounts, now)
        try:
            if not grants.give(self.store, gifts, key=key, now=now):
                return False
        except StoreError as error:
            raise self.meter.unavailable(error) from error
        for (measure, amount), (claim, _) in zip(amounts.items(), gifts, strict=True):
            self.tell(Granted(now, here, label, why, 0, label, measure, claim.account, amount))
        self.lines.wake([claim.account for claim, _ in gifts])
        return True

    @contextmanager
    def scope(self, **tags: str) -> Iterator[None]:
        """Tag everything inside: ``user``, ``feature``, ``task``, ``session``, ``agent``. Blocks nest.

        Raises:
            ValueError: an unknown tag, or an empty value.
        """
        token = scopes.ambient.set({**scopes.ambient.get(), **scopes.checked(tags)})
        try:
            yield
        finally:
            scopes.ambient.reset(token)

    def watch(self) -> AbstractContextManager[None]:
        """Attach to everything LangChain and LangGraph do in this process while the block runs; no code change."""
        from langchain_costguard.metering.seams.watching import watching

        return watching(self)

    def wrap(self, model: T) -> T:
        """A copy of a chat model (or ``Embeddings``) that this guard admits call by call, strictly.

        The copy keeps its class. It is admitted after LangChain's cache, waits for holds to settle, lowers
        ``max_tokens`` to what the budgets afford, and settles what is cancelled.

        Raises:
            ValueError: ``model`` is neither.
        """
        from langchain_costguard.metering.seams.wrapping import wrap

        return wrap(self, model)

    def kill(self, agent: str | None = None, reason: str = "stopped by an operator") -> None:
        """Stop ``agent``, or all: here at once, and in every process that shares the store within 5 s."""
        if agent == "":
            raise ValueError("agent: '' names nobody; give a name, or None for all")
        self.brake.kill(agent, reason)

    def revive(self, agent: str | None = None) -> None:
        """Take a ``kill`` back."""
        self.brake.revive(agent)

    def add_sink(self, sink: Sink) -> None:
        """Send every event from now on to ``sink``, too; and what else it can see (``observe.witness``)."""
        self.voice.add(sink)
        show([sink], self.meter)

    # What steering calls

    def now(self) -> float:
        """Epoch seconds."""
        return self.voice.now()

    @property
    def session(self) -> str:
        """The session of calls that name none."""
        return self.lineage.session

    def whose(self, config: Mapping[str, Any] | None = None) -> Scope:
        """Who is spending here: the scope that a call made now (with this ``config``) would have, but for its model."""
        return self.lineage.whose(config)

    def would_refuse(self, scope: Scope | None = None, usd: Money | None = None) -> BudgetExceededError | None:
        """Try whether a model call, in the next step, would fit; see ``Admission.would_refuse``."""
        return self.admission.would_refuse(scope, usd)

    def count_step(self, metadata: Mapping[str, Any], scope: Scope) -> CostGuardError | None:
        """Count a step that no callback saw start; the refusal where it does not fit."""
        return self.admission.count_step(metadata, scope)

    def tool_fee(self, tool: str, arguments: Any) -> int | None:
        """What a tool call costs (nano-USD), as far as is known before it."""
        return self.fees.before(tool, arguments)

    def tell(self, event: Steered) -> None:
        """Count what steering did, for the report, and tell the sinks of it."""
        self.voice.tell(event)

    def say_once(self, text: str, error: BaseException | None = None) -> None:
        """Warn in the log of something in the user's set-up, once."""
        self.voice.say_once(text, error)


def _failing_over(store: Store, policy: Literal["refuse", "local"], voice: Voice) -> Store:
    from langchain_costguard.metering.stores.failover import FailoverStore

    return FailoverStore(store, policy, voice.store_failed)


_here: WeakValueDictionary[str, CostGuard] = WeakValueDictionary()
"""The guards of this process by their key, for what is pickled and comes back."""


def _same(key: str) -> CostGuard:
    """The guard that was pickled: in its own process, and in those forked from it."""
    try:
        return _here[key]
    except KeyError:
        raise ValueError(
            "a CostGuard cannot go to another process: construct one there with the same budgets, and a store to share"
        ) from None


_extra_budgets: tuple[Budget, ...] = ()
_extra_sinks: tuple[Sink, ...] = ()


@contextmanager
def drill(budgets: Sequence[Budget], sinks: Sequence[Sink]) -> Iterator[None]:
    """Give every guard constructed in the block these budgets and sinks, and with budgets a store of its own.

    ``costguard doctor`` uses it: nothing of a trial is booked in the user's store.
    """
    global _extra_budgets, _extra_sinks
    before = _extra_budgets, _extra_sinks
    _extra_budgets, _extra_sinks = tuple(budgets), tuple(sinks)
    try:
        yield
    finally:
        _extra_budgets, _extra_sinks = before
