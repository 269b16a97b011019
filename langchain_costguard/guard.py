"""``CostGuard``: one object that meters what an agent does, and refuses what does not fit its budgets."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast
from weakref import WeakValueDictionary

from langchain_costguard.metering import drill
from langchain_costguard.metering.admission import Admission
from langchain_costguard.metering.aside import Aside
from langchain_costguard.metering.brake import Brake
from langchain_costguard.metering.budgets import alerts as thresholds
from langchain_costguard.metering.budgets.budget import MEASURES, Budget
from langchain_costguard.metering.budgets.ledger import Ledger
from langchain_costguard.metering.budgets.line import Lines
from langchain_costguard.metering.budgets.switch import KillSwitch
from langchain_costguard.metering.config.arguments import configured
from langchain_costguard.metering.config.changing import Changing
from langchain_costguard.metering.deferrals import Deferrals
from langchain_costguard.metering.desk import asked_for, kept_by, looked_by, show
from langchain_costguard.metering.fees import Fees, ToolPrice
from langchain_costguard.metering.lineage import Lineage
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.pricing.estimate import Estimator, TokenCounter
from langchain_costguard.metering.pricing.prices import Price, PriceBook, is_warm, warm
from langchain_costguard.metering.pricing.sellers import hosts
from langchain_costguard.metering.quick import Quick
from langchain_costguard.metering.seams.callbacks import OfAManager
from langchain_costguard.metering.seams.steerable import Steerable
from langchain_costguard.metering.seams.waiting import Waiting
from langchain_costguard.metering.settings import Settings, check_scope, failing_over, warn_of_loss
from langchain_costguard.metering.settlement import Settlement
from langchain_costguard.metering.stores.base import Store, StoreError
from langchain_costguard.metering.stores.memory import MemoryStore
from langchain_costguard.metering.terms import TermsBook
from langchain_costguard.metering.unused import expect
from langchain_costguard.metering.voice import Voice
from langchain_costguard.observe.tallies import Tallies
from langchain_costguard.observe.tightest import tightest
from langchain_costguard.vocabulary import scope as scopes
from langchain_costguard.vocabulary.checks import called
from langchain_costguard.vocabulary.money import Money
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.slips import forgiving

if TYPE_CHECKING:
    from langchain_costguard.events.metered import Sink
    from langchain_costguard.metering.budgets.headroom import Headroom
    from langchain_costguard.metering.quotes import Quote
    from langchain_costguard.metering.seams.watching import watching
    from langchain_costguard.observe.bars import Bar
    from langchain_costguard.observe.log.sink import SpendLog
    from langchain_costguard.observe.notify import Notify
    from langchain_costguard.observe.report import Report
    from langchain_costguard.observe.telemetry import Telemetry
    from langchain_costguard.vocabulary.errors import BudgetExceededError

log = logging.getLogger("langchain_costguard")
T = TypeVar("T")


@forgiving(
    budgets="CostGuard(*budgets)",
    budget="CostGuard(Budget(...))",
    **dict.fromkeys(("usd", "max_usd", "dollars", "limit"), "CostGuard(Budget(usd='0.50'))"),
    **{name: f"CostGuard(Budget({name}=...))" for name in (*MEASURES[1:], "per", "window", "only")},
    user="with guard.scope(user=...):",
)
class CostGuard(Steerable, Changing):
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
        on_forgotten: Where a store has forgotten what was spent (emptied, evicted, restarted): ``"restore"`` what this
            process knows, or ``"refuse"`` its further calls until a person has looked. It is an event and an error.
        hold_seconds: How long a hold lasts that nobody settles, because its process died or its call was cancelled.
        wait: Seconds ``guard.wrap(model)`` waits for holds of other calls to settle before it refuses.
        spool: A folder in which settlements that could not be delivered are kept, for this process or the next one
            with the same store to deliver, once. Default: those that cannot be delivered by its end are lost, and said.
        token_counter: Your own counter of input tokens; it is believed as it is.
        aliases: What a gateway's own names stand for: ``{"cheap": "openai:gpt-4o-mini"}``.
        local: Servers of your own, whose models cost nothing by the token: ``["http://gpu-1:8000"]``.
        trust_cost_from: Gateways whose stated cost is the bill, as OpenRouter's own is: ``["http://litellm:4000"]``.
        require: Tags without which no model call is made; ``untagged="warn"`` lets it through, and says so once.
        counters: Your own by model, as ``{"claude-*": AnthropicCounter(m)}``: names or patterns; the first that fits.
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
        on_forgotten: Literal["restore", "refuse"] = "restore",
        hold_seconds: float = 600.0,
        wait: float = 10.0,
        spool: str | os.PathLike[str] | None = None,
        token_counter: TokenCounter | None = None,
        aliases: Mapping[str, str] | None = None,
        local: Sequence[str] = (),
        trust_cost_from: Sequence[str] = (),
        require: Sequence[str] = (),
        untagged: Literal["refuse", "warn"] = "refuse",
        counters: Mapping[str, TokenCounter] | None = None,
        log: str | Path | SpendLog | None = None,
        config: str | Path | None = None,
        telemetry: Telemetry | None = None,
        notify: Notify | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # Its errors take most of a second without a graph: now rather than at a refusal.
        from langchain_costguard.metering.seams.quiet import quiet_refusals

        trial, given = drill.current(), budgets
        budgets = (*budgets, *trial.budgets)
        Settings(
            budgets=budgets, store=store, tool_prices=tool_prices or {}, assume_output_tokens=assume_output_tokens,
            session=session, switch=switch, sinks=sinks, on_store_failure=on_store_failure, on_forgotten=on_forgotten,
            hold_seconds=hold_seconds, wait=wait, token_counter=token_counter, counters=counters, clock=clock,
            require=require, untagged=untagged,
        )  # fmt: skip
        quiet_refusals()
        self.key, self.since = uuid.uuid4().hex, clock()
        _here[self.key] = self
        tallies, self.lines = Tallies(), Lines()
        voice = Voice([*sinks, *asked_for(telemetry, notify), *trial.sinks], tallies, clock, on_store_failure)
        inner = store if store is not None and not trial.budgets else MemoryStore()  # a drill books nothing
        self.store = failing_over(
            inner, on_store_failure, failed=voice.store_failed, spool=spool, hold_seconds=hold_seconds,
            clock=time.monotonic if clock is time.time else clock, forgotten=on_forgotten,
        )  # fmt: skip
        # While the store does not answer, the last answer stands; on calls the store's own policy then decides.
        shared_switch = KillSwitch(inner, keep=86_400, on_failure="allow") if inner.shared else None
        brake = Brake(switch or shared_switch, self.store, voice)
        lineage = Lineage(session or f"session-{uuid.uuid4().hex[:12]}")
        fees, deferrals = Fees(tool_prices or {}, voice), Deferrals()
        self.estimator = Estimator(token_counter, counters)
        self.estimator.warm()  # begins to load the vocabulary, on a thread: not at the first call, inside a loop
        ledger = Ledger(budgets, self.store, hold_seconds=hold_seconds)
        self.aside = Aside(waits=self.store.shared, due=brake.due, leased=ledger.leased)
        meter = Meter(
            ledger,
            PriceBook(prices, unpriced=unpriced, aliases=aliases),
            self.estimator,
            voice=voice, tallies=tallies, lines=self.lines,
            alerts=sorted({*thresholds.checked(alerts), *(() if notify is None else notify.shares)}),
            floor=assume_output_tokens, aside=self.aside,
        )  # fmt: skip
        terms = TermsBook(meter.book, hosts("local", local))
        quick = Quick(meter, terms=terms, voice=voice, lineage=lineage)
        admission = Admission(
            meter, voice=voice, brake=brake, lineage=lineage, fees=fees, deferrals=deferrals, terms=terms, quick=quick,
            key=self.key, require=require, untagged=untagged,
        )  # fmt: skip
        settlement = Settlement(
            meter, voice=voice, brake=brake, lineage=lineage, fees=fees, quick=quick,
            trusted=hosts("trust_cost_from", trust_cost_from),
        )  # fmt: skip
        self.fees, self.quick = fees, quick
        if log is not None and not trial.budgets:
            from langchain_costguard.observe.log.sink import SpendLog

            self.log = SpendLog.of(log, looked_by(sinks))
            voice.add(self.log)
        self.waiting = Waiting(
            meter, admission=admission, brake=brake, voice=voice, lines=self.lines, seconds=float(wait)
        )
        super().__init__(
            meter, admission=admission, settlement=settlement, voice=voice, brake=brake, lineage=lineage,
            deferrals=deferrals, aside=self.aside,
        )  # fmt: skip
        show(voice.sinks, meter, self.log)
        if not is_warm():
            self.aside.prepare(warm)
        if not trial.budgets:
            warn_of_loss(given, inner)
            expect(self, given, tallies)

    def __repr__(self) -> str:
        store = type(getattr(self.store, "primary", self.store)).__name__
        budgets = f"{len(self.budgets)} budget{'' if len(self.budgets) == 1 else 's'}"
        tight = tightest(self.budgets, self.meter.tallies.report().rows)
        return f"CostGuard({budgets}, {store}{f', tightest: {tight}' if tight else ''})"

    def _repr_html_(self) -> str:
        return self.report()._repr_html_()

    # ``callbacks=guard``: LangChain takes what is no list for a manager, and asks it for these.
    parent_run_id = handlers = inheritable_handlers = add_handler = copy = cast("Any", OfAManager())

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
        return self.meter.tallies.report(self._standing).asking(lambda rows: kept_by(self, self.since, rows))

    def _standing(self) -> list[Bar]:
        from langchain_costguard.metering.budgets.standing import standing

        return standing(self.budgets, self.meter.tallies.report().rows, self.headroom)

    def headroom(self, scope: Scope | None = None) -> Headroom:
        """What ``scope`` (default: that of the running code) may still spend; empty where the store does not answer."""
        from langchain_costguard.metering.budgets.headroom import Headroom

        check_scope(scope)
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
        from langchain_costguard.metering.granting import Granting

        given = {
            "usd": usd, "tokens": tokens, "input_tokens": input_tokens, "output_tokens": output_tokens,
            "model_calls": model_calls, "tool_calls": tool_calls, "steps": steps, "seconds": seconds,
        }  # fmt: skip
        granting = Granting(self.meter, voice=self.voice, lineage=self.lineage, lines=self.lines)
        return granting.give(what, given, scope=scope, key=key, why=why)

    def scope(self, **tags: str) -> scopes.Within:
        """Tag everything inside: ``user``, ``feature``, ``task``, ``session``, ``agent``, ``trace``. Blocks nest.

        A block may be around what a generator yields, such as a streamed answer: whoever takes it up, in whatever
        thread or task, and wherever it is closed.

        Raises:
            ValueError: an unknown tag, or an empty value.
        """
        return scopes.Within(tags)

    def estimate(
        self, model: Any, messages: Any, *, tools: Sequence[Any] = (), output_tokens: int = 256, **settings: Any
    ) -> Quote:
        """What a call would cost, before it is made: ``least``, ``expected`` and ``most`` in USD. Nothing is held.

        ``model`` is a chat model, also with tools bound, or a name (``"openai:gpt-4o-mini"``); ``output_tokens`` the
        answer that is expected; ``settings`` what else the request would ask for (``max_tokens``, ``n``).

        Raises:
            UnpricedModelError: the model has no price, and ``unpriced="refuse"``.
        """
        from langchain_costguard.metering.quotes import quote

        return quote(self.admission, model, messages, tools, output_tokens, settings)

    def watch(self) -> watching:
        """Attach to everything LangChain and LangGraph do in this process while the block runs; no code change.

        Without ``with``: from now on, until ``stop()`` of what is returned.
        """
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
        """Stop ``agent``, or all: here at once, and in every process that shares the store within 5 s.

        It takes effect whatever the name; one that this guard has not seen is warned of, for it may be mistyped.
        """
        self.brake.kill(agent, reason)
        seen = {str(row["agent"]) for row in self.report().by("agent").to_dicts() if row["agent"]} if agent else set()
        if agent and seen and agent not in seen:
            from langchain_costguard.metering.budgets.halts import near

            log.warning("kill: no agent of the name %r has been seen here%s", agent, near(agent, seen))

    def revive(self, agent: str | None = None) -> None:
        """Take a ``kill`` back."""
        self.brake.revive(agent)

    def close(self, timeout: float = 2.0) -> bool:
        """Deliver what waits for the store and the log, ``timeout`` seconds at most; whether all of it was. The guard
        goes on working: a settlement that fails after this is lost, or with a ``spool`` kept."""
        store: Any = self.store
        written = self.log is None or self.log.flush(timeout)
        return (bool(store.close(timeout)) if store.shared else True) and written

    def add_sink(self, sink: Sink) -> None:
        """Send every event from now on to ``sink``, too; and what else it can see (``observe.witness``). One that
        cannot be called, or is a coroutine function, is a ``ValueError``."""
        called("sink", sink)
        self.voice.add(sink)
        show([sink], self.meter, self.log)


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
