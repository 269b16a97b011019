"""After a call, and while its reply streams in: what was received is counted, and what was used is paid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_costguard import events
from langchain_costguard.metering.brake import Brake
from langchain_costguard.metering.budgets.accounts import FOREVER
from langchain_costguard.metering.calls import Batch, Call, Stream
from langchain_costguard.metering.fates import Fate, fate, status_of
from langchain_costguard.metering.fees import Fees
from langchain_costguard.metering.lineage import Lineage
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.pricing.plain import plain_usage
from langchain_costguard.metering.pricing.reading import is_cache_hit, usage_of
from langchain_costguard.metering.quick import Quick
from langchain_costguard.metering.reckoning import NOTHING, Reckoning, reckon, text_of
from langchain_costguard.metering.refusals import out_of_time
from langchain_costguard.metering.stores.base import StoreError
from langchain_costguard.metering.voice import Voice
from langchain_costguard.vocabulary.usage import Usage

if TYPE_CHECKING:
    from langchain_costguard.vocabulary.errors import CostGuardError

_STREAM_CHECK = 0.25
"""Seconds between looks at the kill switch and the clock while a stream runs."""
_paid: ContextVar[list[str] | None] = ContextVar("costguard_paid", default=None)


@contextmanager
def noting(paid: list[str]) -> Iterator[None]:
    """Note in ``paid``, cleared first, the models that answer and the tools that run in the block, in its threads and
    tasks too: what would be paid again if the block were run again."""
    paid.clear()
    token = _paid.set(paid)
    try:
        yield
    finally:
        _paid.reset(token)


class Settlement:
    """Settles calls, and stops streams that have used up their hold.

    Args:
        meter: Pays.
        voice: Tells of streams that were stopped.
        brake: Says who is halted, also in the middle of a stream.
        lineage: Is told which runs are over.
        quick: Settles plain replies.
        fees: What tools have cost.
        trusted: Hosts whose stated cost is believed, besides those of providers that bill in their replies.
    """

    def __init__(
        self,
        meter: Meter,
        *,
        voice: Voice,
        brake: Brake,
        lineage: Lineage,
        fees: Fees,
        quick: Quick,
        trusted: frozenset[str] = frozenset(),
    ) -> None:
        self._meter = meter
        self._voice = voice
        self._brake = brake
        self._lineage = lineage
        self._fees = fees
        self._quick = quick
        self._trusted = trusted

    def feed(self, call: Call, stream: Stream, text: str) -> None:
        """Count a piece of a reply; raise where the stream must stop here."""
        stream.parts.append(text)
        stream.chunks = chunks = stream.chunks + 1
        stream.chars = chars = stream.chars + len(text)
        if chars >= stream.check_at or chunks >= stream.check_at:
            self._check_hold(call, stream)
        now = self._voice.now()
        if now >= stream.next_check:
            stream.next_check = now + _STREAM_CHECK
            if call.hold is not None and now >= call.hold.deadline:
                stream.stopped = True
                raise self.out_of_time(call)
            self._brake.check_call(call, midway=True)

    def looks(self, stream: Stream | None, size: int) -> bool:
        """Whether ``feed`` of so many characters more would look at the hold, or at a switch that may have to wait."""
        if stream is None or max(stream.chars + size, stream.chunks + 1) >= stream.check_at:
            return True
        return self._voice.now() >= stream.next_check and self._brake.waits()

    def not_made(self, run_id: UUID) -> None:
        """A call that was let in was cancelled before it was made."""
        call = self._meter.books.take(run_id)
        if call is not None:
            self._voice.safely(self._meter.void, call)

    def seconds_left(self, call: Call) -> float | None:
        """Seconds that the budgets leave to a call under way; None where none of them limits time."""
        if call.hold is None or call.hold.deadline == FOREVER:
            return None
        return max(0.0, call.hold.deadline - self._voice.now())

    def out_of_time(self, call: Call) -> CostGuardError:
        """The error that stops a call whose time is over, told."""
        now = self._voice.now()
        clock = self._meter.ledger.shortest(call.scope, call.step_id, now, alone=call.alone)
        error = out_of_time(clock, f"more of a reply of {call.name}", call.scope)
        return self._voice.refused(call, error, midway=True)

    def cut_short(self, call: Call, *, stopped: bool = False) -> None:
        """Settle a call that was cancelled under way, or ``stopped`` by us: what was seen of its reply, or all that was
        held for it."""
        call.status = "stopped" if stopped else "cancelled"
        stream = call.stream
        self._meter.settle_partly(
            call, self._meter.seen(call, stream) if stream is not None and stream.chunks else None
        )

    def end_model(self, call: Call, response: Any) -> None:
        """Settle a model call by its reply."""
        call.status = "ok"
        paid = _paid.get()
        if paid is not None and not is_cache_hit(response):
            paid.append(call.name)
        stream = call.stream
        plain = None if call.odd or (stream is not None and stream.repeats) else plain_usage(response)
        if plain is not None:
            given, made, reported = plain
            if self._quick.end(call, given, made, reported):
                return
            if call.rates.estimated:  # a model around another one, of whose provider only a closer look tells
                self._end_closely(call, response)
            else:
                self._meter.settle(call, Usage(given, made), reported)
        elif is_cache_hit(response):
            self._meter.hit(call, usage_of(response))
        else:
            self._end_closely(call, response)

    def _end_closely(self, call: Call, response: Any) -> None:
        """Settle by a reply that must be looked at closely."""
        found = self._reckon(call, response)
        if call.inside and (_retold(found.usage, call.inside) or (found.usage is None and call.rates.estimated)):
            self._meter.void(call)  # those are paid: this is a model around them
        elif found.usage is not None:
            if call.batch is not None:
                _gather(call, call.batch)
            self._meter.settle(call, found.usage, found.model, found)
        elif call.batch is not None and call.batch.told:
            self._meter.settle(call, Usage(), None)
        else:
            self._meter.settle_partly(call, self._unstated_output(call, response))

    def _reckon(self, call: Call, response: Any) -> Reckoning:
        self._meter.exactly(call)  # a reply that tells nothing, or nothing that can be, is filled in from its request
        return reckon(call, response, self._trusted, lambda text: self._meter.estimator.count_output(text, call.ref))

    def fail_model(self, call: Call, error: BaseException, response: Any) -> None:
        """Settle a model call that ended in an error by what came of it."""
        found = self._reckon(call, response) if response is not None else NOTHING
        stream, what = call.stream, fate(error)
        call.status = "stopped" if stream is not None and stream.stopped else "failed"
        usage = found.usage
        if usage is not None:
            found = found._replace(estimated=stream is None or not stream.stopped)
            self._meter.settle(call, usage, found.model, found)
        elif stream is not None and stream.chunks:
            self._meter.settle_partly(call, self._meter.seen(call, stream))
        elif what is Fate.UNSENT:
            self._meter.void(call, failed=True)
        elif what is Fate.UNBILLED:
            self._meter.attempt(call)
        else:
            self._meter.settle_partly(call, None if what is Fate.UNKNOWN else 0)
        if not isinstance(error, GeneratorExit) and not hasattr(error, "for_model"):
            self._tell_failure(call, error, what)

    def _tell_failure(self, call: Call, error: BaseException, what: Fate) -> None:
        """Count a call that failed, and tell of it."""
        voice, now = self._voice, self._voice.now()
        self._meter.tallies.failed(call.scope)
        if voice.sinks:
            name, status, took = type(error).__name__, status_of(error), now - call.started
            voice.emit(events.CallFailed(now, call.scope, call.run_id, call.ref, what.value, name, status, took))

    def end_with_error(self, run_id: UUID, error: BaseException, response: Any) -> None:
        """Settle a run that ended in an error, if it is a model call under way."""
        call = self._meter.books.take(run_id)
        if call is not None:
            self.fail_model(call, error, response)

    def end_decision(self, run_id: UUID, outputs: Any) -> None:
        """Settle a router model's run, which LangChain tells of as a chain."""
        call = self._meter.books.take(run_id)
        if call is None:
            return
        usage = usage_of(outputs) or _decision_usage(outputs)
        if usage is None:
            self._meter.settle_partly(call, None)
        else:
            self._meter.settle(call, usage, None)

    def end_tool(self, run_id: UUID, output: Any, *, failed: bool) -> None:
        """Settle a tool call; its own runs are over."""
        self.run_over(run_id)
        call = self._meter.books.take(run_id)
        if call is None:
            return
        paid = _paid.get()
        if paid is not None:
            paid.append(call.name)
        seconds = self._voice.now() - call.started
        fee = self._fees.after(call.name, call.arguments, output, seconds, failed=failed)
        self._meter.settle_tool(call, call.held if fee is None else fee, failed=failed)

    def paused(self, run_id: UUID) -> None:
        """A tool call has to ask somebody, and is made again with the answer."""
        self.run_over(run_id)
        self.not_made(run_id)

    def run_over(self, run_id: UUID) -> None:
        """A run ended: what is still open below it is settled by estimate, and a trace that is over is forgotten."""
        trace = self._lineage.over(run_id)
        self._meter.books.parent_over(run_id)
        if self._meter.ledger.by_trace and trace == str(run_id):
            self._meter.ledger.forget(trace)

    def _check_hold(self, call: Call, stream: Stream) -> None:
        try:
            denial = self._meter.overflow(call, stream)
        except StoreError as error:
            stream.stopped = True
            raise self._voice.refused(call, self._meter.unavailable(error)) from error
        if denial is not None:
            refusal = self._meter.over_budget(denial, f"more of a reply of {call.name}", call.scope)
            raise self._stopped(call, stream, refusal)

    def _stopped(self, call: Call, stream: Stream, error: CostGuardError) -> CostGuardError:
        stream.stopped = True
        return self._voice.refused(call, error, midway=True)

    def _unstated_output(self, call: Call, response: Any) -> int | None:
        """Output tokens of a reply without usage, counted from its text, where the hold would say nothing: no maximum
        was asked for, so all that the budgets afforded is held."""
        if call.asked is not None:
            return None
        if call.stream is not None:
            return self._meter.seen(call, call.stream)
        text = text_of(call, response)
        return self._meter.estimator.count_output(text, call.ref) if text else None


def _retold(usage: Usage | None, inside: list[Usage]) -> bool:
    """Whether a usage is that of calls made inside, told once more by the model around them."""
    if usage is None:
        return False
    counts = [(each.input_tokens, each.output_tokens) for each in inside]
    total = (sum(given for given, _ in counts), sum(made for _, made in counts))
    return (usage.input_tokens, usage.output_tokens) in (*counts, total)


def _gather(call: Call, batch: Batch) -> None:
    """The reply to one prompt has brought the usage of all that went out with it: so are their holds."""
    batch.told = True
    for other in batch.calls:
        if other is not call:
            call.held, other.held = call.held + other.held, 0


def _decision_usage(outputs: Any) -> Usage | None:
    """What a router model's answer says of itself: ``DecisionResponse.usage``."""
    said = getattr(outputs, "usage", None)
    asked, answered = getattr(said, "input_tokens", None), getattr(said, "output_tokens", None)
    return Usage(asked, answered) if isinstance(asked, int) and isinstance(answered, int) else None
