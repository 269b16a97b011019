"""After a call, and while its reply streams in: what was received is counted, and what was used is paid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_costguard.metering.brake import Brake
from langchain_costguard.metering.calls import Call, Stream
from langchain_costguard.metering.fates import Fate, fate
from langchain_costguard.metering.fees import Fees
from langchain_costguard.metering.lineage import Lineage
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.pricing.plain import plain_usage
from langchain_costguard.metering.pricing.reading import is_cache_hit, reported_model, usage_of
from langchain_costguard.metering.quick import Quick
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
    """

    def __init__(self, meter: Meter, *, voice: Voice, brake: Brake, lineage: Lineage, fees: Fees, quick: Quick) -> None:
        self._meter = meter
        self._voice = voice
        self._brake = brake
        self._lineage = lineage
        self._fees = fees
        self._quick = quick

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
                clock = self._meter.ledger.shortest(call.scope, call.step_id, now, alone=call.alone)
                raise self._stopped(call, stream, out_of_time(clock, f"more of a reply of {call.name}", call.scope))
            self._brake.check_call(call, midway=True)

    def end_model(self, call: Call, response: Any) -> None:
        """Settle a model call by its reply."""
        call.status = "ok"
        paid = _paid.get()
        if paid is not None and not is_cache_hit(response):
            paid.append(call.name)
        plain = plain_usage(response)
        if plain is not None:
            given, made, reported = plain
            if not self._quick.end(call, given, made, reported):
                self._meter.settle(call, Usage(given, made), reported)
            return
        usage = usage_of(response)
        if is_cache_hit(response):
            self._meter.hit(call, usage)
        elif usage is not None:
            self._meter.settle(call, usage, reported_model(response))
        else:
            self._meter.settle_partly(call, self._unstated_output(call, response))

    def fail_model(self, call: Call, error: BaseException, response: Any) -> None:
        """Settle a model call that ended in an error by what came of it."""
        usage = usage_of(response) if response is not None else None
        stream = call.stream
        call.status = "stopped" if stream is not None and stream.stopped else "failed"
        if usage is not None:
            self._meter.settle(call, usage, reported_model(response), estimated=stream is None or not stream.stopped)
        elif stream is not None and stream.chunks:
            self._meter.settle_partly(call, self._meter.seen(call, stream))
        else:
            what = fate(error)
            if what is Fate.UNBILLED:
                self._meter.void(call, failed=True)
            else:
                self._meter.settle_partly(call, None if what is Fate.UNKNOWN else 0)

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
        fee = None if failed else self._fees.after(call.name, call.arguments, output)
        self._meter.settle_tool(call, call.held if fee is None else fee, failed=failed)

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
        generations = getattr(response, "generations", None) or [[]]
        text = "".join(getattr(g, "text", "") or "" for g in generations[0])
        return self._meter.estimator.count_output(text, call.ref) if text else None


def _decision_usage(outputs: Any) -> Usage | None:
    """What a router model's answer says of itself: ``DecisionResponse.usage``."""
    said = getattr(outputs, "usage", None)
    asked, answered = getattr(said, "input_tokens", None), getattr(said, "output_tokens", None)
    return Usage(asked, answered) if isinstance(asked, int) and isinstance(answered, int) else None
