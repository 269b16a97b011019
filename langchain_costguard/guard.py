"""``CostGuard``: one object that meters what an agent does, and refuses what does not fit its budgets."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from weakref import WeakValueDictionary

from langchain_costguard.events.metered import Sink
from langchain_costguard.events.steered import Granted
from langchain_costguard.metering.budgets import alerts as thresholds
from langchain_costguard.metering.budgets import grants
from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.metering.budgets.headroom import Headroom
from langchain_costguard.metering.budgets.ledger import Account, Ledger
from langchain_costguard.metering.budgets.line import Line
from langchain_costguard.metering.budgets.switch import KillSwitch, halt, revive
from langchain_costguard.metering.deferrals import Deferrals
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.pricing.estimate import Estimator, TokenCounter
from langchain_costguard.metering.pricing.prices import Price, PriceBook
from langchain_costguard.metering.refusals import store_down
from langchain_costguard.metering.seams.callbacks import Handler
from langchain_costguard.metering.stores.base import Store, StoreError
from langchain_costguard.metering.stores.failover import FailoverStore
from langchain_costguard.metering.stores.memory import MemoryStore
from langchain_costguard.observe.report import Report
from langchain_costguard.vocabulary import scope as scopes
from langchain_costguard.vocabulary.money import Money, nano
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef

if TYPE_CHECKING:
    from langchain_costguard.vocabulary.errors import BudgetExceededError

T = TypeVar("T")
ToolPrice = Money | Callable[[str, Any, Any], Money]
"""A fee per call, or what computes it from the tool's name, its arguments and (None before the call) its output."""


class CostGuard(Handler):
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
        clock: Epoch seconds; a test passes its own.

    Raises:
        ValueError: names the field and the value.
    """

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
        clock: Callable[[], float] = time.time,
    ) -> None:
        from langchain_costguard.vocabulary import errors  # noqa: F401 - takes most of a second without a graph: now rather than at a refusal

        super().__init__()
        budgets = (*budgets, *_extra_budgets)
        _check_budgets(budgets)
        _check_store(store)
        _check_whole("assume_output_tokens", assume_output_tokens)
        _check_seconds("hold_seconds", hold_seconds, least=1)
        _check_seconds("wait", wait, least=0)
        _check_kinds(session=session, switch=switch, sinks=sinks, token_counter=token_counter, clock=clock)
        if on_store_failure not in ("refuse", "local"):
            raise ValueError(f"on_store_failure: {on_store_failure!r} is not 'refuse' or 'local'")
        self.key = uuid.uuid4().hex
        _here[self.key] = self
        self.session = session or f"session-{uuid.uuid4().hex[:12]}"
        self.wait = float(wait)
        self.floor = assume_output_tokens
        self.sinks: list[Sink] = [*sinks, *_extra_sinks]
        self._complained: set[str] = set()
        self._policy = on_store_failure
        inner = store if store is not None and not _extra_budgets else MemoryStore()  # a drill books nothing
        self.store: Store = FailoverStore(inner, on_store_failure, self._store_failed) if inner.shared else inner
        # While the store does not answer, the last answer stands; on calls the store's own policy then decides.
        self._switch = switch or (KillSwitch(inner, keep=86_400, on_failure="allow") if inner.shared else None)
        self._killed: dict[str, str] = {}
        self.deferrals = Deferrals()
        self._tool_prices = _checked_fees(tool_prices or {})
        self.estimator = Estimator(token_counter)
        self.estimator.warm()  # begins to load the vocabulary, on a thread: not at the first call, inside a loop
        self._clock = clock
        self._traces: dict[int, str] = {}
        self._models: dict[tuple[str, str], tuple[ModelRef, int, bool]] = {}
        self.lines: dict[str, Line] = {}
        self.lines_lock = threading.Lock()
        self.meter = Meter(
            Ledger(budgets, self.store, hold_seconds=hold_seconds),
            PriceBook(prices, unpriced=unpriced),
            self.estimator,
            emit=self._emit if self.sinks else None,
            alerts=thresholds.checked(alerts),
            floor=self.floor,
            clock=clock,
            settled=self._settled,
        )

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
        now = self._clock()
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
        given = {
            "usd": usd, "tokens": tokens, "input_tokens": input_tokens, "output_tokens": output_tokens,
            "model_calls": model_calls, "tool_calls": tool_calls, "steps": steps, "seconds": seconds,
        }  # fmt: skip
        amounts, here, now = grants.amounts_of(given), scope or self.whose(), self._clock()
        label, account = _granted_to(what, scope)
        gifts = grants.gifts(self.meter.ledger, label, account, here, amounts, now)
        try:
            if not grants.give(self.store, gifts, key=key, now=now):
                return False
        except StoreError as error:
            raise store_down(type(getattr(self.store, "primary", self.store)).__name__, str(error)) from error
        for (measure, amount), (claim, _) in zip(amounts.items(), gifts, strict=True):
            self.tell(Granted(now, here, label, why, 0, label, measure, claim.account, amount))
        self._wake([claim.account for claim, _ in gifts])
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
        self._killed[agent or "*"] = reason
        if self.store.shared:
            halt(self.store, agent, reason)

    def revive(self, agent: str | None = None) -> None:
        """Take a ``kill`` back."""
        self._killed.pop(agent or "*", None)
        if self.store.shared:
            revive(self.store, agent)
        if self._switch is not None:
            self._switch.expire()

    def add_sink(self, sink: Sink) -> None:
        """Send every event from now on to ``sink``, too."""
        self.sinks.append(sink)
        self.meter.emit = self._emit

    def _settled(self, accounts: Sequence[Account]) -> None:
        """Something settled: whoever waits for one of these accounts may try again."""
        if self.lines:
            self._wake([account.name for account in accounts])

    def _wake(self, accounts: Sequence[str]) -> None:
        for account in accounts:
            line = self.lines.get(account)
            if line is not None:
                line.wake()


def _granted_to(what: Any, scope: Scope | None) -> tuple[str, str | None]:
    """The label of the budget that is given something, and, of a refusal, the account that refused."""
    if isinstance(what, (Budget, str)):
        return (what if isinstance(what, str) else what.label), None
    facts = getattr(what, "facts", {})
    if "budget" not in facts:
        raise ValueError(f"grant: {what!r} is no refusal by a budget, nor a budget or its label")
    if scope is not None:
        raise ValueError(f"scope: {scope!r} cannot be given with a refusal, which says whose account it is")
    return facts["budget"], facts.get("account", "")


def _check_budgets(budgets: Sequence[Any]) -> None:
    for budget in budgets:
        if not isinstance(budget, Budget):
            hint = "; pass each on its own: CostGuard(*budgets)" if isinstance(budget, (list, tuple)) else ""
            raise ValueError(f"budgets: {budget!r} is not a Budget{hint}")


def _check_store(store: Any) -> None:
    verbs = ("shared", "reserve", "settle", "read", "scan", "flags", "flag")
    if store is not None and (isinstance(store, type) or not all(hasattr(store, verb) for verb in verbs)):
        hint = "; langchain_costguard.stores.open_store(url) makes one of a URL" if isinstance(store, str) else ""
        raise ValueError(f"store: {store!r} is no store, such as MemoryStore() or SQLiteStore(path){hint}")


def _check_whole(field: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{field}: {value!r} must be a whole number above zero")


def _check_seconds(field: str, value: Any, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < 1e7:
        raise ValueError(f"{field}: {value!r} must be a number of seconds, {least} or more")


def _check_kinds(*, session: Any, switch: Any, sinks: Any, token_counter: Any, clock: Any) -> None:
    if session is not None and not isinstance(session, str):
        raise ValueError(f"session: {session!r} must be a text")
    if switch is not None and not isinstance(switch, KillSwitch):
        raise ValueError(f"switch: {switch!r} is no KillSwitch; KillSwitch(source) makes one")
    if callable(sinks) or not isinstance(sinks, Iterable) or not all(callable(sink) for sink in sinks):
        raise ValueError(f"sinks: {sinks!r} must be a list of callables")
    for field, value in (("token_counter", token_counter), ("clock", clock)):
        if not callable(value) and (value is not None or field == "clock"):
            raise ValueError(f"{field}: {value!r} must be callable")


def _checked_fees(fees: Mapping[str, ToolPrice]) -> dict[str, ToolPrice]:
    if not isinstance(fees, Mapping):
        raise ValueError(f'tool_prices: {fees!r} must be a mapping such as {{"web_search": "0.01"}}')
    for name, price in fees.items():
        if not callable(price):
            nano(price, f"tool_prices[{name!r}]", zero=True)
    return dict(fees)


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
