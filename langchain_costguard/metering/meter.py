"""The meter: admits a call against the budgets, and settles it. Knows nothing of LangChain's callbacks.

One call, top to bottom: ``admit`` it (estimate → hold → reserve, or a denial); enter it in the ``books``; count what
streams in; then ``settle`` it by the usage the provider reports, ``settle_partly`` by what was seen of a reply, or
``void`` it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from langchain_costguard import events
from langchain_costguard.metering.alerting import Alerting
from langchain_costguard.metering.amounts import amounts, cacheable, wait_of
from langchain_costguard.metering.aside import Aside
from langchain_costguard.metering.books import Books
from langchain_costguard.metering.budgets.ledger import INPUT, NONE, OUTPUT, SECONDS, USD, Amounts, Denial, Hold, Ledger
from langchain_costguard.metering.budgets.line import Lines
from langchain_costguard.metering.calls import OPEN, PROVISIONAL, Call, Stream
from langchain_costguard.metering.pricing.estimate import Estimator
from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.metering.pricing.rates import Rates
from langchain_costguard.metering.reckoning import NOTHING, Reckoning, guess, with_others
from langchain_costguard.metering.refusals import over_budget, store_down
from langchain_costguard.metering.stores.base import StoreError
from langchain_costguard.metering.telling import settled, voided
from langchain_costguard.metering.voice import Voice
from langchain_costguard.observe.tallies import Tallies
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import Usage

if TYPE_CHECKING:
    from langchain_costguard.vocabulary.errors import BudgetExceededError, StoreUnavailableError

EXTENSION = 256
"""Output tokens a stream asks for when its hold is used up."""
_LOOK_AGAIN = 8
"""Tokens between two exact counts at the least: a count takes as long as the text is."""
_MAX_PROVISIONAL = 1_000
"""Calls settled by estimate that may still be heard of."""
_MAX_SESSIONS = 10_000


def _of_tool(fee: int) -> Amounts:
    return (fee, 0, 0, 0, 0, 1, 0, 0)


class Meter:
    """Calls under way, and what becomes of them. One per guard; entered from many threads."""

    def __init__(
        self,
        ledger: Ledger,
        book: PriceBook,
        estimator: Estimator,
        *,
        voice: Voice,
        tallies: Tallies,
        lines: Lines,
        alerts: Sequence[float],
        floor: int,
        aside: Aside,
    ) -> None:
        self.ledger = ledger
        self.book = book
        self.estimator = estimator
        self.tallies = tallies
        self.floor = floor
        self.clock = voice.now
        self._voice = voice
        self.lines = lines
        self.books = Books(self._orphaned, self._expired, ledger.hold_seconds, aside)
        self.open_calls = self.books.open
        self.dearest: dict[str, int] = {}
        """What the dearest call of each session took so far (nano-USD): its charge, or what had to be held for it."""
        self._provisional: deque[Call] = deque()
        self._alerts = Alerting(voice, alerts, ledger.leases if ledger.leased else None)

    def use(self, ledger: Ledger, book: PriceBook, alerts: Sequence[float] | None) -> None:
        """Go on with another ledger of the same store, other prices and alerts, from the next call on."""
        self.ledger, self.book = ledger, book
        if alerts is not None:
            self._alerts.shares = alerts

    # Start

    def admit(self, call: Call, *, units: int | None = None, last: bool) -> Denial | None:
        """Reserve what a model call can cost at the most; the denial where it does not fit.

        With ``units`` the output ceiling is that many tokens, whatever the request says. A ``last`` call may have what
        budgets keep back.
        """
        if units is not None:
            call.ceiling = units
        bounds = (0, 0)
        if call.asked is None and units is None:
            bounds = (min(self.floor + call.thinks, call.ceiling), call.ceiling)
        fixed, per_unit = amounts(call, 0 if bounds[1] else call.ceiling)
        answer = self.reserve(call, fixed, per_unit, units=bounds, last=last)
        if isinstance(answer, Denial):
            return answer
        call.hold = answer
        if bounds[1]:
            call.ceiling = answer.units
        call.held = fixed[USD] + per_unit[USD] * answer.units
        return None

    def admit_tool(self, call: Call, fee: int, *, last: bool) -> Denial | None:
        """Reserve one tool call and its fee (nano-USD)."""
        call.held = fee
        answer = self.reserve(call, _of_tool(fee), last=last)
        if isinstance(answer, Denial):
            return answer
        call.hold = answer
        return None

    def step(self, call: Call) -> Denial | None:
        """Count one step: spent as it starts."""
        amounts, scope, now = (0, 0, 0, 0, 0, 0, 1, 0), call.scope, call.started
        answer = self.reserve(call, amounts)
        if isinstance(answer, Denial):
            return answer
        self._alerts.settle(self.ledger, scope, answer, amounts, now)
        return None

    def reserve(
        self,
        call: Call,
        fixed: Amounts,
        per_unit: Amounts = NONE,
        *,
        units: tuple[int, int] = (0, 0),
        last: bool = False,
    ) -> Hold | Denial:
        """Hold these amounts for a call, or say why not: in figures of holds that are exact."""
        ledger, facts = self.ledger, (call.scope, call.step_id, fixed, per_unit)
        answer = ledger.reserve(*facts, units=units, alone=call.alone, last=last, now=call.started)
        if isinstance(answer, Denial) and self.refine():
            answer = ledger.reserve(*facts, units=units, alone=call.alone, last=last, now=call.started)
        return answer

    def refine(self) -> bool:
        """Count exactly what was held by a bound on its length alone; whether there was any such call."""
        coarse = [call for call in list(self.open_calls.values()) if call.coarse is not None]
        for call in coarse:
            self.exactly(call)
        return bool(coarse)

    def exactly(self, call: Call) -> None:
        """Count what a call's input takes as exactly as can be, and hold no more than that."""
        coarse, call.coarse = call.coarse, None
        if coarse is None:
            return
        prompt, tools = coarse
        call.tokens, call.upper = self.estimator.estimate(call.ref, prompt, tools=tools)
        hold = call.hold
        if hold is not None:
            fixed, per_unit = amounts(call, 0 if call.asked is None else call.ceiling)
            if call.asked is None:
                fixed = [amount + each * call.ceiling for amount, each in zip(fixed, per_unit, strict=True)]
            call.held = fixed[USD]
            self.ledger.lower(hold, fixed, self.clock())

    # Refusals

    def over_budget(self, denial: Denial, what: str, scope: Scope, advice: str = "") -> BudgetExceededError:
        """The error of a denial, yet to be told."""
        now = self.clock()
        return over_budget(self.ledger.in_full(denial, now), what, scope, advice, wait_of(denial, now))

    def unavailable(self, error: StoreError) -> StoreUnavailableError:
        """The error where the store does not answer, yet to be told."""
        store = getattr(self.ledger.store, "primary", self.ledger.store)
        return store_down(type(store).__name__, str(error))

    # Under way

    def overflow(self, call: Call, stream: Stream) -> Denial | None:
        """Look whether a stream has used up its hold; the denial where it has, and no more can be had.

        Sets ``stream.check_at``, the tokens (counted cheaply and high) at which to look again.
        """
        hold = call.hold
        if hold is None or not hold.limits:
            stream.check_at = 2**62
            return None
        ceiling = call.ceiling * call.times
        if stream.at_most() < ceiling:
            stream.check_at = ceiling
            return None
        self.exactly(call)
        used = self.seen(call, stream)
        while used > ceiling:
            least, now = -(-(used - ceiling) // call.times), self.clock()
            more = max(-(-EXTENSION // call.times), least)
            denial = self.ledger.extend(hold, more, now)
            if denial is not None:
                more, denial = least, self.ledger.extend(hold, least, now)
                if denial is not None:
                    return denial
            call.held += hold.per_unit[USD] * more
            call.ceiling += more
            ceiling = call.ceiling * call.times
        stream.check_at = stream.at_most() + max(_LOOK_AGAIN, ceiling - used)
        return None

    def seen(self, call: Call, stream: Stream) -> int:
        """Output tokens received so far: by the tokenizer, and no fewer than the chunks, which hold one or more."""
        return max(stream.chunks, self.estimator.count_output(stream.text(), call.ref))

    # End

    def settle(self, call: Call, usage: Usage, reported: str | None, found: Reckoning = NOTHING) -> None:
        """Replace the hold by what the provider says was used; its word on the model and on the cost wins, too."""
        book, estimated = self.book, found.estimated
        self.exactly(call)
        ref = call.ref if reported is None else book.billed(call.ref, reported, call.started, found.provider)
        if ref is call.ref and usage.tier == call.asks.tier and usage.geo == call.asks.geo:
            rates = call.rates
        else:
            rates = book.quote(ref, call.started, usage.tier, usage.geo)
        priced = rates.charge(usage)
        usage, more, guessed = with_others(call, usage, book)
        priced, estimated = priced + more, estimated or guessed
        charge = priced if found.cost is None else found.cost
        saved = rates.saved_by_cache(usage) if usage.cache_read else 0
        source = "provider" if found.cost is not None else "estimated" if estimated else "priced"
        self._pay(
            call, usage, charge, saved,
            estimated=estimated, source=source, priced=priced, rates=rates, reported=reported,
        )  # fmt: skip
        if found.cost is not None:
            self.tallies.billed(call.scope, priced - found.cost)
        elif rates.estimated:
            self._voice.unpriced(call.scope, ref, rates.source, self.book)
        if charge > call.held:
            self.tallies.count(call.scope, (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, charge - call.held, 0))
            if self._voice.sinks:
                self._voice.emit(events.Overrun(self.clock(), call.scope, call.run_id, ref, call.held, charge))

    def hand_over(self, call: Call) -> None:
        """A model calls another one, whose call is paid: nothing is held for this one, which can yet be settled."""
        if call.inside is None:
            if call.hold is not None:
                self._release(call, NONE, self.clock())
            call.odd, call.inside = True, []

    def attempt(self, call: Call) -> None:
        """Release the hold of a request that was sent and is not billed: a model call it was all the same."""
        self.void(call, (0, 0, 0, 0, 1, 0, 0, 0), failed=True)

    def settle_partly(self, call: Call, output: int | None) -> None:
        """Settle a reply whose usage nobody said.

        With ``output`` (tokens seen): at the input estimate and that much output. With None: at the whole hold.
        """
        self.exactly(call)
        usage, charge = guess(call, output)
        self._pay(call, usage, charge, 0, estimated=True)
        if call.rates.estimated:
            self._voice.unpriced(call.scope, call.ref, call.rates.source, self.book)
        if self._voice.sinks:
            self._voice.emit(events.UsageMissing(self.clock(), call.scope, call.run_id, call.ref, charge))

    def settle_tool(self, call: Call, fee: int, *, failed: bool) -> None:
        """Settle a tool call at its fee (nano-USD)."""
        now, before = self.clock(), call.charged
        balances = self._release(call, _of_tool(fee), now)
        spent, calls = (fee, 1) if before is None else (fee - before[USD], 0)
        self.tallies.count(call.scope, (0, calls, 0, 0, 0, 0, 0, spent, 0, 0, 0, 0, 0))
        if self._voice.sinks:
            told = None if before is None else before[USD]
            seconds = now - call.started
            self._voice.emit(
                events.ToolSettled(
                    now, call.scope, call.run_id, call.name, fee, seconds, failed, call.parent, balances, told
                )
            )

    def hit(self, call: Call, usage: Usage | None) -> None:
        """A response cache answered: nothing was spent, and ``usage`` is what was saved."""
        saved = call.rates.charge(usage) if usage is not None else 0
        now = self.clock()
        self._release(call, NONE, now)
        self.tallies.count(call.scope, (0, 0, 0, 0, 0, 0, 0, 0, saved, 0, 0, 0, 0))
        if self._voice.sinks:
            used, seconds = usage or Usage(), now - call.started
            self._voice.emit(events.CacheHit(now, call.scope, call.run_id, call.ref, used, saved, call.parent, seconds))

    def void(self, call: Call, actual: Amounts = NONE, *, failed: bool = False) -> None:
        """Release the hold: no money was spent. A call that was made, and ``failed``, is told of."""
        now = self.clock()
        self._release(call, actual, now)
        if failed and self._voice.sinks:
            self._voice.emit(voided(call, now))

    def _orphaned(self, calls: Iterable[Call]) -> None:
        """The parent of these calls ended before them: settle them by estimate, until they are heard of."""
        for call in calls:
            if call.state == OPEN and call.hold is not None:
                self._orphan(call)

    def _orphan(self, call: Call) -> None:
        self._provisional.append(call)
        if len(self._provisional) > _MAX_PROVISIONAL:
            self.books.take(self._provisional.popleft().run_id)
        call.state, call.status = PROVISIONAL, "cancelled"
        if call.kind == "tool":
            self.settle_tool(call, call.held, failed=True)
            call.charged = _of_tool(call.held)
        else:
            seen = self.seen(call, call.stream) if call.stream else None
            self.exactly(call)
            usage, charge = guess(call, seen)
            call.charged = self._pay(call, usage, charge, 0, estimated=True)

    def _expired(self, call: Call) -> None:
        self.exactly(call)
        if call.state == OPEN and self._voice.sinks:
            self._voice.emit(events.HoldExpired(self.clock(), call.scope, call.run_id, call.name, call.held))

    def _pay(
        self,
        call: Call,
        usage: Usage,
        charge: int,
        saved: int,
        *,
        estimated: bool,
        source: str = "estimated",
        priced: int | None = None,
        rates: Rates | None = None,
        reported: str | None = None,
    ) -> Amounts:
        now, before = self.clock(), call.charged
        if call.around is not None and call.around.inside is not None:
            call.around.inside.append(usage)
        tokens, output = usage.input_tokens, usage.output_tokens
        actual = (charge, tokens + output, tokens, output, 1, 0, 0 if call.scope.step else 1, 0)
        balances = self._release(call, actual, now)
        session, dearest = call.scope.session, self.dearest
        took = call.held if call.held > charge and call.asked is not None and not call.strict else charge
        if took > dearest.get(session, 0):
            self.note_dearest(session, took)
        read, write, thought = usage.cache_read, usage.cache_write, usage.reasoning
        keepable = tokens if read else cacheable(call, tokens)
        if before is None:
            counts = (1, 0, tokens, read, write, output, thought, charge, saved, 0, int(estimated), 0, keepable)
        else:
            keepable -= cacheable(call, before[INPUT])
            tokens, output, spent = tokens - before[INPUT], output - before[OUTPUT], charge - before[USD]
            counts = (0, 0, tokens, read, write, output, thought, spent, saved, 0, int(estimated) - 1, 0, keepable)
        self.tallies.count(call.scope, counts)
        first = call.stream.first_at - call.started if call.stream else None
        if before is None:
            self.tallies.timed(call.scope, now - call.started, first)
        if self._voice.sinks:
            self._voice.emit(
                settled(
                    call, usage, now, charge, saved, source=source, priced=charge if priced is None else priced,
                    estimated=estimated, rates=rates, reported=reported, cacheable=keepable, balances=balances,
                )
            )  # fmt: skip
        return actual

    def _release(self, call: Call, actual: Amounts, now: float) -> tuple[events.Standing, ...]:
        """Settle the hold; returns its accounts as they stand then, where there is somebody to be told."""
        hold = call.hold
        if hold is None:
            return ()
        if call.charged is not None:
            actual = [new - old for new, old in zip(actual, call.charged, strict=True)]
        totals = self._alerts.settle(self.ledger, call.scope, hold, actual, now)
        self.wake(hold)
        if not self._voice.sinks:
            return ()
        standing = zip(hold.accounts, totals, strict=True)
        return tuple([(a.name, total, a.base) for a, total in standing if a.measure != SECONDS])

    def wake(self, hold: Hold) -> None:
        """Something settled: whoever waits for one of its accounts may try again."""
        if self.lines:
            self.lines.wake([account.name for account in hold.accounts])

    def note_dearest(self, session: str, took: int) -> None:
        """No call of the session took as much before."""
        self.dearest[session] = took
        if len(self.dearest) > _MAX_SESSIONS:
            self.dearest.pop(next(iter(self.dearest)), None)
