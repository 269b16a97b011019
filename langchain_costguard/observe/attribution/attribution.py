"""``Attribution``: keeps the calls of this process, as digests, for whoever asks why they cost what they did."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any
from uuid import UUID

from langchain_costguard.events.metered import CallSettled, Event, ToolSettled
from langchain_costguard.observe.attribution.basis import calls_of, forecast_of, handoffs_of, tree_of, why_of
from langchain_costguard.observe.attribution.calls import Paid
from langchain_costguard.observe.attribution.forecast import Forecast
from langchain_costguard.observe.attribution.handoffs import Handoffs
from langchain_costguard.observe.attribution.logged import row_of
from langchain_costguard.observe.attribution.sessions import Look, Sessions
from langchain_costguard.observe.attribution.summed import standing_of
from langchain_costguard.observe.attribution.tree import Tree
from langchain_costguard.observe.attribution.why import Why
from langchain_costguard.observe.witness import AccountLine, Began, Source
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef, Usage

_NONE = ModelRef("", "")


class Attribution:
    """A sink that remembers: ``told = Attribution(); CostGuard(sinks=[told])``; then ``print(told.why(session="s1"))``.

    Args:
        keep: Calls that are kept; beyond it the oldest are forgotten. A call with ten messages takes about 2 kB.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(self, *, keep: int = 10_000, clock: Callable[[], float] = time.time) -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ValueError(f"keep: {keep!r} must be a whole number above zero")
        self._keep, self._clock = keep, clock
        self._calls: OrderedDict[int, Paid] = OrderedDict()
        self._said: dict[int, Any] = {}
        self._looks: dict[int, Look] = {}
        self._sessions = Sessions()
        self._source: Source | None = None
        self._lock = threading.Lock()

    # What a user asks

    def tree(self, *levels: str, **where: str) -> Tree:
        """Feature → session → agent → step → call, or other levels; only of the calls that ``where`` names."""
        return tree_of(self, levels, where)

    def handoffs(self, **where: str) -> Handoffs:
        """What agents handed to one another, and the share of context that was sent again."""
        return handoffs_of(self, where)

    def why(self, **where: str) -> Why:
        """The parts of a bill, of those calls: ``why(session="s1")``."""
        return why_of(self, where)

    def forecast(self) -> Forecast:
        """When a budget ends at this rate, and what the month will have cost."""
        return forecast_of(self)

    def calls(self, **where: str) -> Sequence[Paid]:
        """The calls kept, in the order in which they were paid; only those of a user, session, agent and so on.

        Raises:
            ValueError: there is no such dimension.
        """
        return calls_of(self, where)

    # What these are made from

    def paid(self) -> Sequence[Paid]:
        """All calls kept."""
        with self._lock:
            return list(self._calls.values())

    def price(self, model: ModelRef, usage: Usage, at: float) -> int | None:
        """As the guard prices."""
        return self._source.price(model, usage, at) if self._source is not None else None

    def standing(self, now: float) -> tuple[Sequence[AccountLine], Mapping[str, float]]:
        """As the guard's store has it."""
        return standing_of(self._source, now)

    def now(self) -> float:
        """Epoch seconds."""
        return self._clock()

    def row(self, run_id: UUID) -> Mapping[str, Any]:
        """What a spend log keeps of this call, besides what events tell."""
        with self._lock:
            call = self._calls.get(run_id.int)
        return row_of(call, self._source) if call is not None else {}

    # A sink and a witness

    def bind(self, source: Source) -> None:
        """Know this guard's prices and accounts."""
        self._source = source

    def __call__(self, event: Event) -> None:
        """Keep what was paid."""
        if isinstance(event, CallSettled):
            model = replace(event.model, name=event.answered) if event.answered else event.model
            what = "model", model.name, model, event.usage
        elif isinstance(event, ToolSettled):
            what = "tool", event.tool, _NONE, Usage()
        else:
            return
        key = event.run_id.int
        with self._lock:
            known = self._calls.get(key)
            given = known.given if known is not None else None
            self._calls[key] = Paid(event.at, event.scope, *what, event.charge, event.seconds, given)
            if len(self._calls) > self._keep:
                self._calls.popitem(last=False)

    def began(self, run: Began) -> None:
        """Note what a model is given, until it is known whose call it is."""
        if run.kind == "model":
            self._said[run.run_id.int] = run.said
            if len(self._said) > self._keep:
                self._said.pop(next(iter(self._said)), None)

    def whose(self, run_id: UUID, scope: Scope) -> None:
        """Tell apart what it is given."""
        said = self._said.pop(run_id.int, None)
        if said is not None:
            self._looks[run_id.int] = self._sessions.look(scope, said)
            if len(self._looks) > self._keep:
                self._looks.pop(next(iter(self._looks)), None)

    def ended(self, run_id: UUID, outcome: Any, error: BaseException | None) -> None:
        """Note what it answered."""
        self._said.pop(run_id.int, None)
        look = self._looks.pop(run_id.int, None)
        with self._lock:
            call = self._calls.get(run_id.int)
            if call is not None and look is not None:
                given = self._sessions.answered(call.scope, look, outcome, call.usage.input_tokens)
                self._calls[run_id.int] = replace(call, given=given)

    def beside(self, run_id: UUID, handlers: Sequence[Any]) -> None:
        """Nobody else is asked."""

    def within(self, kind: str, run_id: UUID | None, name: str) -> AbstractContextManager[None]:
        """Nothing is traced here."""
        return nullcontext()
