"""What the guard says: events to its sinks, refusals to its callers, and of its own failures to the log, once each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_costguard import events
from langchain_costguard.metering.budgets.accounts import Account
from langchain_costguard.metering.budgets.budget import MEASURES
from langchain_costguard.metering.calls import Call
from langchain_costguard.metering.refusals import no_price
from langchain_costguard.metering.stores.base import StoreError
from langchain_costguard.metering.telling import refused
from langchain_costguard.observe.tallies import Tallies
from langchain_costguard.observe.witness import Began, Witness
from langchain_costguard.vocabulary.scope import Scope

if TYPE_CHECKING:
    from langchain_costguard.events import Event, Sink, Steered
    from langchain_costguard.metering.pricing.prices import PriceBook
    from langchain_costguard.vocabulary.errors import CostGuardError
    from langchain_costguard.vocabulary.usage import ModelRef

log = logging.getLogger("langchain_costguard")
_REFUSED = (0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0)


class Voice:
    """Tells sinks, callers and the log, and counts what it tells.

    Args:
        sinks: What receives every event; more may be added to ``sinks`` at any time.
        tallies: Where refusals and acts of steering are counted.
        clock: Epoch seconds.
        policy: What is done while the store does not answer, for the event that says so.
    """

    def __init__(self, sinks: Iterable[Sink], tallies: Tallies, clock: Callable[[], float], policy: str) -> None:
        self.sinks: list[Sink] = []
        self.witnesses: list[Witness] = []
        for sink in sinks:
            self.add(sink)
        self.now = clock
        self._tallies = tallies
        self._policy = policy
        self._complained: set[str] = set()

    def alerts(self, scope: Scope, crossed: Iterable[tuple[Account, int, float]], now: float) -> None:
        """Tell of the thresholds that accounts crossed."""
        for account, total, threshold in crossed:
            measure, name = MEASURES[account.measure], account.name
            self.emit(events.Alert(now, scope, account.budget.label, measure, name, threshold, total, account.base))

    def add(self, sink: Sink) -> None:
        """Tell ``sink`` of every event from now on, and of runs where it is a witness of those."""
        seeing: Any = sink
        if isinstance(seeing, Witness):
            self.witnesses.append(seeing)
        self.sinks.append(sink)

    def began(self, *facts: Any) -> None:
        """Tell witnesses of a run that begins; ``facts`` are those of ``Began``."""
        run = Began(*facts)
        for witness in self.witnesses:
            self.safely(witness.began, run)

    def whose(self, run_id: UUID, scope: Scope) -> None:
        """Tell witnesses who is spending in a run."""
        for witness in self.witnesses:
            self.safely(witness.whose, run_id, scope)

    def ended(self, run_id: UUID, outcome: Any, error: BaseException | None) -> None:
        """Tell witnesses of a run that is over, and settled."""
        for witness in self.witnesses:
            self.safely(witness.ended, run_id, outcome, error)

    def beside(self, run_id: UUID, handlers: Sequence[Any]) -> None:
        """Tell witnesses who else is told of a run."""
        for witness in self.witnesses:
            self.safely(witness.beside, run_id, handlers)

    @contextmanager
    def within(self, kind: str, run_id: UUID | None, name: str) -> Iterator[None]:
        """Around the body of a run whose frame is ours, so that what it traces is below it."""
        with ExitStack() as frames:
            for witness in self.witnesses:
                frames.enter_context(witness.within(kind, run_id, name))
            yield

    def refused(self, call: Call, error: CostGuardError, *, midway: bool = False) -> CostGuardError:
        """Count a refusal and tell of it; returns the error to raise."""
        return self.refused_run(call.kind, call.name, call.run_id, call.scope, error, midway=midway, parent=call.parent)

    def refused_run(
        self,
        kind: str,
        name: str,
        run_id: UUID,
        scope: Scope,
        error: CostGuardError,
        *,
        midway: bool = False,
        parent: UUID | None = None,
    ) -> CostGuardError:
        """The same, of a run that never became a call."""
        error.facts.setdefault("kind", kind)
        self._tallies.count(scope, _REFUSED)
        if self.sinks:
            self.emit(refused(self.now(), scope, run_id, kind, name, error, midway=midway, parent=parent))
        return error

    def tell(self, event: Steered) -> None:
        """Count what steering did, for the report, and tell the sinks of it."""
        self._tallies.act(event)
        if self.sinks:
            self.emit(event)

    def emit(self, event: Event) -> None:
        """Give an event to every sink; one that fails is logged once, and cannot hurt the call."""
        for sink in self.sinks:
            try:
                sink(event)
            except Exception as error:
                self.complain(f"sink {getattr(sink, '__name__', type(sink).__name__)}", error)

    def safely(self, end: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """A paid reply is never lost to an error of ours."""
        try:
            end(*args, **kwargs)
        except Exception as error:
            self.complain("settling a call", error)

    def say_once(self, text: str, error: BaseException | None = None) -> None:
        """Warn of something in the user's set-up; with an ``error``, which may be in other words each time, once of its
        kind."""
        kind = text if error is None else f"{text}: {type(error).__name__}"
        if kind not in self._complained:
            self._complained.add(kind)
            log.warning("%s (said once)", text if error is None else f"{kind}: {error}")

    def unpriced(self, scope: Scope, model: ModelRef, source: str, book: PriceBook) -> None:
        """Nobody knows the price that was charged: counted, told, and said once aloud, with what to do about it."""
        if book.unpriced == "free":
            return
        self._tallies.unpriced(scope)
        if self.sinks:
            self.emit(events.Unpriced(self.now(), scope, model, source))
        if self.once(f"unpriced {model}"):
            self.say_once(f"{no_price(str(model), book.near(model))}; {source}")

    def once(self, what: str) -> bool:
        """Whether this is the first time that it is asked of ``what``."""
        if what in self._complained:
            return False
        self._complained.add(what)
        return True

    def complain(self, what: str, error: BaseException) -> None:
        """Log that something of ours failed, once of its kind."""
        kind = f"{what}: {type(error).__name__}"
        if kind not in self._complained:
            self._complained.add(kind)
            log.warning("%s failed: %s (said once)", what, error, exc_info=error)

    def store_failed(self, message: str) -> None:
        """The store of balances did not answer."""
        self.complain("the store of balances", StoreError(message))
        if self.sinks:
            self.emit(events.StoreFailed(self.now(), Scope(), message, self._policy))
