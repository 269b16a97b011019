"""What the guard says: events to its sinks, refusals to its callers, and of its own failures to the log, once each."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_costguard.events.metered import Event, Refused, Sink, StoreFailed
from langchain_costguard.events.steered import Steered
from langchain_costguard.metering.budgets.ledger import Denial
from langchain_costguard.metering.calls import Call
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.refusals import over_budget
from langchain_costguard.metering.stores.base import StoreError
from langchain_costguard.vocabulary.scope import Scope

if TYPE_CHECKING:
    from langchain_costguard.vocabulary.errors import BudgetExceededError, CostGuardError

log = logging.getLogger("langchain_costguard")
_REFUSED = (0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0)


class Voice:
    """Tells sinks, callers and the log. The state is the guard's."""

    meter: Meter
    sinks: list[Sink]
    _clock: Callable[[], float]
    _complained: set[str]
    _policy: str

    def now(self) -> float:
        """Epoch seconds."""
        return self._clock()

    def over_budget(self, denial: Denial, what: str, scope: Scope, advice: str = "") -> BudgetExceededError:
        """The error of a denial, yet to be told."""
        return over_budget(self.meter.ledger.in_full(denial, self._clock()), what, scope, advice)

    def refused(self, call: Call, error: CostGuardError) -> CostGuardError:
        """Count a refusal and tell of it; returns the error to raise."""
        return self._told(call.kind, call.name, call.run_id, call.scope, error)

    def _told(
        self, kind: str, name: str, run_id: UUID, scope: Scope, error: CostGuardError, *, midway: bool = False
    ) -> CostGuardError:
        error.facts.setdefault("kind", kind)
        self.meter.tallies.count(scope, _REFUSED)
        if self.sinks:
            text = str(error)
            self._emit(Refused(self._clock(), scope, run_id, kind, name, type(error).__name__, text, midway))
        return error

    def tell(self, event: Steered) -> None:
        """Count what steering did, for the report, and tell the sinks of it."""
        self.meter.tallies.act(event)
        if self.sinks:
            self._emit(event)

    def safely(self, end: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """A paid reply is never lost to an error of ours."""
        try:
            end(*args, **kwargs)
        except Exception as error:
            self._complain("settling a call", error)

    def say_once(self, text: str, error: BaseException | None = None) -> None:
        """Warn of something in the user's set-up; with an ``error``, which may be in other words each time, once of its
        kind."""
        kind = text if error is None else f"{text}: {type(error).__name__}"
        if kind not in self._complained:
            self._complained.add(kind)
            log.warning("%s (said once)", text if error is None else f"{kind}: {error}")

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
