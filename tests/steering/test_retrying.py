"""A failed call is made again by the class of its error, within the budgets; who keeps failing is left alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGenerationChunk
from langgraph.errors import GraphInterrupt

from langchain_costguard import AgentHaltedError, Budget, BudgetExceededError, CostGuard
from langchain_costguard.events import CircuitClosed, CircuitOpened, Retried, ShortCircuited, Throttled
from langchain_costguard.metering.stores import SQLiteStore
from langchain_costguard.steering import Breaker, CircuitOpenError, Retry, SteeredModel, steer
from langchain_costguard.steering.flow import Call, Sleep
from langchain_costguard.steering.requests import ChatRequest
from langchain_costguard.steering.requests import Reply as Answer
from langchain_costguard.testing import FakeProvider, ManualClock, Recorder, Reply, ScriptedChatModel
from tests.conftest import PRICES, Caller
from tests.test_wrap import ANTHROPIC, empty

QUICK = Retry(base=0.001, most=0.01)


class Failing(ScriptedChatModel):
    """A model that raises ``errors`` in order, the last again and again; a None is an answer."""

    errors: Any
    tries: list[int] = []  # noqa: RUF012 - pydantic copies it

    def _fail(self) -> None:
        self.tries.append(1)
        error = self.errors[min(len(self.tries), len(self.errors)) - 1]
        if error is not None:
            raise error

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        self._fail()
        return super()._generate(*args, **kwargs)

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        self._fail()
        yield from super()._stream(*args, **kwargs)

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        self._fail()
        for chunk in super()._stream(*args, **kwargs):
            yield chunk


def failing(*errors: Any) -> Failing:
    return Failing(errors=list(errors), tries=[])


def by_hand(steering: Any, model: Any, clock: ManualClock) -> list[float]:
    """Run a flow to its end, and only write down how long it would sleep."""
    request = ChatRequest(model, [HumanMessage("hi")])
    flow, slept = steering.model_flow(request, "gpt-4o"), []
    answer: Any = None
    try:
        wanted = next(flow)
        while True:
            try:
                if isinstance(wanted, Sleep):
                    slept.append(wanted.seconds)
                    clock.advance(wanted.seconds)
                    answer = None
                else:
                    assert isinstance(wanted, Call)
                    answer = Answer(steering.strict(model).invoke(wanted.request.messages))
            except Exception as error:
                wanted = flow.throw(error)
            else:
                wanted = flow.send(answer)
    except StopIteration:
        return slept


# By class


class Kind(NamedTuple):
    name: str
    reply: Reply
    requests: int
    advice: str = ""


LIMITED = Reply(status=429, retry_after=0.002)
KINDS = [
    Kind("rate limit", LIMITED, 4),
    Kind("rate limit, nothing said", Reply(status=429), 4),
    Kind("a wait longer than anybody waits", Reply(status=429, retry_after=60), 1),
    Kind("500", Reply(status=500), 4),
    Kind("503", Reply(status=503), 4),
    Kind("529", Reply(status=529), 4),
    Kind("408", Reply(status=408), 4),
    Kind("401", Reply(status=401), 1, "check the key"),
    Kind("403", Reply(status=403), 1, "check the key"),
    Kind("quota", Reply(status=429, code="insufficient_quota"), 1, "add credit"),
    Kind("context", Reply(status=400, code="context_length_exceeded"), 1, "drop or summarize old messages"),
    Kind("context in words", Reply(status=400, error="prompt is too long: 9 tokens > 8"), 1, "larger context window"),
    Kind("400", Reply(status=400), 1, "not tried again"),
    Kind("404", Reply(status=404), 1, "not tried again"),
]
SAID_BY_ANTHROPIC = ("rate limit", "529", "401", "context in words", "400")


TABLE = [pytest.param(kind, "openai", id=kind.name) for kind in KINDS] + [
    pytest.param(kind, "anthropic", id=f"{kind.name}, anthropic") for kind in KINDS if kind.name in SAID_BY_ANTHROPIC
]


@pytest.mark.parametrize(("kind", "dialect"), TABLE)
def test_a_failure_is_tried_again_by_its_class(kind: Kind, dialect: str, call: Caller) -> None:
    recorder = Recorder()
    with FakeProvider(kind.reply) as provider:
        guard = CostGuard(Budget(per="all", usd="1"), prices={**PRICES, **ANTHROPIC}, sinks=[recorder])
        model = SteeredModel(getattr(provider, dialect)(max_tokens=9), steer(guard, retry=QUICK))
        with pytest.raises(Exception) as caught:
            call(model, "hi")
        assert len(provider.requests) == kind.requests
    notes = "".join(getattr(caught.value, "__notes__", []))
    assert kind.advice in notes
    assert bool(notes) == bool(kind.advice)
    retried = recorder.of(Retried)
    assert [event.attempt for event in retried] == list(range(1, kind.requests))
    assert all(event.seconds >= (kind.reply.retry_after or 0) for event in retried)
    assert guard.report().total.spent == 0
    assert empty(guard)


def test_a_stream_that_fails_before_its_first_piece_is_tried_again(stream: Caller) -> None:
    with FakeProvider([LIMITED, Reply(status=503), "four little words here"]) as provider:
        guard = CostGuard(prices=PRICES)
        pieces = stream(SteeredModel(provider.openai(), steer(guard, retry=QUICK)), "hi")
        assert "".join(piece.text for piece in pieces) == "four little words here"
        assert len(provider.requests) == 3


def test_a_client_that_times_out_is_tried_again(call: Caller) -> None:
    with FakeProvider([Reply(delay=5), "fine"]) as provider:
        recorder = Recorder()
        guard = CostGuard(prices=PRICES, sinks=[recorder])
        model = SteeredModel(provider.openai(timeout=0.2), steer(guard, retry=QUICK))
        assert call(model, "hi").text == "fine"
        assert [event.kind for event in recorder.of(Retried)] == ["timeout"]


def test_an_error_nobody_knows_is_the_callers_at_once(call: Caller) -> None:
    error = ValueError("a bug")
    model = failing(error)
    with pytest.raises(ValueError, match="a bug") as caught:
        call(SteeredModel(model, steer(CostGuard(prices=PRICES), retry=QUICK)), "hi")
    assert caught.value is error
    assert len(model.tries) == 1


def test_without_retry_nothing_is_tried_again(call: Caller) -> None:
    model = failing(TimeoutError("late"))
    with pytest.raises(TimeoutError):
        call(SteeredModel(model, steer(CostGuard(prices=PRICES), retry=None)), "hi")
    assert len(model.tries) == 1


# How long


def test_the_waits_are_jittered_within_a_backoff_that_doubles() -> None:
    clock = ManualClock()
    guard = CostGuard(prices=PRICES, clock=clock)
    steering = steer(guard, retry=Retry(attempts=5, base=1, most=4))
    waits = [by_hand(steering, failing(*[ConnectionError("gone")] * 4, None), clock) for _ in range(20)]
    assert all(len(slept) == 4 for slept in waits)
    for attempt, most in enumerate((1, 2, 4, 4)):
        column = [slept[attempt] for slept in waits]
        assert all(0 <= seconds <= most for seconds in column)
        assert len(set(column)) == 20
        assert max(column) > most / 2


def test_all_the_waiting_is_within_the_seconds_of_a_budget() -> None:
    clock, recorder = ManualClock(), Recorder()
    guard = CostGuard(Budget(per="all", seconds=10), prices=PRICES, clock=clock, sinks=[recorder])
    began = clock()
    with pytest.raises(ConnectionError) as caught:
        by_hand(steer(guard, retry=Retry(attempts=100, base=2, most=4)), failing(ConnectionError("gone")), clock)
    assert "the time of a budget is over" in str(caught.value.__notes__)
    assert 0 < clock() - began < 10
    assert sum(event.seconds for event in recorder.of(Retried)) == pytest.approx(clock() - began)


# What it costs


@pytest.mark.parametrize("on_exceeded", ["end", "raise"])
def test_each_attempt_is_admitted(on_exceeded: Any, call: Caller) -> None:
    guard = CostGuard(Budget(per="all", model_calls=2), prices=PRICES)
    model = failing(TimeoutError("late"))
    steered = SteeredModel(model, steer(guard, retry=QUICK, on_exceeded=on_exceeded))
    if on_exceeded == "raise":
        with pytest.raises(BudgetExceededError):
            call(steered, "hi")
    else:
        assert call(steered, "hi").response_metadata["costguard"]["measure"] == "model_calls"
    assert len(model.tries) == 2
    assert empty(guard)


def test_refusals_are_never_tried_again(call: Caller, stream: Caller) -> None:
    for verb in (call, stream):
        recorder = Recorder()
        guard = CostGuard(Budget(per="all", usd="0.0000001"), prices=PRICES, sinks=[recorder])
        model = failing(None)
        steered = SteeredModel(model, steer(guard, retry=QUICK, on_exceeded="raise"))
        with pytest.raises(BudgetExceededError):
            verb(steered, "hi")
        guard.kill(reason="enough")
        with pytest.raises(AgentHaltedError) as caught:
            verb(steered, "hi")
        assert not getattr(caught.value, "__notes__", [])
        assert (model.tries, recorder.of(Retried)) == ([], [])


def test_an_interrupt_of_the_hosts_passes_untouched(call: Caller, stream: Caller) -> None:
    for verb in (call, stream):
        error = GraphInterrupt(())
        recorder = Recorder()
        guard = CostGuard(Budget(per="all", usd="1"), prices=PRICES, sinks=[recorder])
        model = failing(error)
        with pytest.raises(GraphInterrupt) as caught:
            verb(SteeredModel(model, steer(guard, retry=Retry(classify=lambda e: 1 / 0))), "hi")  # type: ignore[arg-type, return-value]
        assert caught.value is error
        assert len(model.tries) == 1
        assert empty(guard)


@pytest.mark.parametrize(("theirs", "warnings"), [(2, 1), (0, 0)])
def test_the_clients_own_retries_are_reported_once(
    theirs: int, warnings: int, call: Caller, provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "langchain_costguard"):
        guard = CostGuard(prices=PRICES)
        steering = steer(guard, retry=QUICK)
        for _ in range(2):
            call(SteeredModel(provider.openai(max_retries=theirs), steering), "hi")
    said = [record.getMessage() for record in caplog.records if "max_retries=0" in record.getMessage()]
    assert len(said) == warnings
    assert all("12 times" in text for text in said)


# Calls that are held back


def test_near_a_limit_a_call_is_delayed_by_how_full_it_is() -> None:
    clock, recorder = ManualClock(), Recorder()
    guard = CostGuard(Budget(per="all", model_calls=4), prices=PRICES, clock=clock, sinks=[recorder])
    steering = steer(guard, throttle_at=0.5)
    slept = [by_hand(steering, ScriptedChatModel(), clock) for _ in range(4)]
    assert slept == [[], [], [], [2.5]]
    (told,) = recorder.of(Throttled)
    assert (told.seconds, told.why) == (2.5, "75% of a budget is used")


def test_above_a_rate_a_call_waits_until_the_minute_has_room() -> None:
    clock = ManualClock()
    guard = CostGuard(prices=PRICES, clock=clock)
    steering = steer(guard, usd_per_minute="0.02")
    model = ScriptedChatModel(usage=(1_000, 1_000))  # $0.0125
    for expected in ([], [], [40.0]):
        assert by_hand(steering, model, clock) == expected
        clock.advance(10)


def test_a_delay_takes_at_most_half_of_the_time_that_is_left() -> None:
    clock = ManualClock()
    guard = CostGuard(Budget(per="all", seconds=10, model_calls=4), prices=PRICES, clock=clock)
    steering = steer(guard, throttle_at=0.1)
    by_hand(steering, ScriptedChatModel(), clock)
    clock.advance(8)
    assert by_hand(steering, ScriptedChatModel(), clock) == [1.0]


def test_a_chain_is_throttled_and_goes_on(call: Caller, stream: Caller) -> None:
    for verb in (call, stream):
        clock, recorder = ManualClock(), Recorder()
        guard = CostGuard(Budget(per="all", seconds=1000), prices=PRICES, clock=clock, sinks=[recorder])
        model = SteeredModel(ScriptedChatModel(), steer(guard, throttle_at=0.8))
        verb(model, "hi")
        clock.advance(800.4)
        verb(model, "hi")
        assert [event.seconds for event in recorder.of(Throttled)] == [pytest.approx(0.01)]
        assert guard.report().total.calls == 2


# A model that is left alone


def test_a_model_that_keeps_failing_is_left_alone_then_probed(call: Caller) -> None:
    clock, recorder = ManualClock(), Recorder()
    model = failing(*[ConnectionError("gone")] * 3, None)
    guard = CostGuard(Budget(per="all", usd="1"), prices=PRICES, clock=clock, sinks=[recorder])
    breaker = Breaker(failures=2, open_seconds=30)
    steered = SteeredModel(model, steer(guard, retry=None, model_breaker=breaker))
    for _ in range(2):
        with pytest.raises(ConnectionError):
            call(steered, "hi")
    with pytest.raises(CircuitOpenError, match="'gpt-4o' is not called for another 30 s") as caught:
        call(steered, "hi")
    assert (caught.value.name, caught.value.seconds) == ("gpt-4o", 30)
    assert len(model.tries) == 2
    clock.advance(30)
    with pytest.raises(ConnectionError):  # the probe failed: it is open again
        call(steered, "hi")
    with pytest.raises(CircuitOpenError):
        call(steered, "hi")
    clock.advance(30)
    assert call(steered, "hi").text
    assert call(steered, "hi").text
    assert [len(recorder.of(kind)) for kind in (CircuitOpened, ShortCircuited, CircuitClosed)] == [2, 2, 1]
    assert empty(guard)


def test_a_circuit_that_opens_between_two_attempts_hides_no_error(call: Caller) -> None:
    error = ConnectionError("gone")
    model = failing(error)
    steering = steer(CostGuard(prices=PRICES), retry=QUICK, model_breaker=Breaker(failures=2))
    with pytest.raises(CircuitOpenError) as caught:
        call(SteeredModel(model, steering), "hi")
    assert caught.value.__cause__ is error
    assert not getattr(caught.value, "__notes__", [])
    assert len(model.tries) == 2


def test_another_model_is_called_where_one_is_left_alone(call: Caller) -> None:
    steering = steer(CostGuard(prices=PRICES), retry=None, model_breaker=Breaker(failures=1))
    first = SteeredModel(failing(ConnectionError("gone")), steering)
    chain = first.with_fallbacks([SteeredModel(ScriptedChatModel(model="gpt-4o-mini", replies=["fine"]), steering)])
    assert [call(chain, "hi").text for _ in range(3)] == ["fine"] * 3


class BreaksMidway(ScriptedChatModel):
    """A model whose stream breaks after a word."""

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk(content="word "))
        raise ConnectionError("gone")

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        yield ChatGenerationChunk(message=AIMessageChunk(content="word "))
        raise ConnectionError("gone")


def test_a_stream_that_breaks_midway_counts_as_a_failure(stream: Caller) -> None:
    steered = SteeredModel(BreaksMidway(), steer(CostGuard(prices=PRICES), model_breaker=Breaker(failures=2)))
    for expected in (ConnectionError, ConnectionError, CircuitOpenError):
        with pytest.raises(expected):
            stream(steered, "hi")


def test_a_stream_the_consumer_leaves_counts_as_nothing(stream: Caller) -> None:
    steered = SteeredModel(
        ScriptedChatModel(replies=["a b c d"]), steer(CostGuard(prices=PRICES), model_breaker=Breaker(failures=1))
    )
    for _ in range(3):
        assert len(stream(steered, "hi", most=1)) == 1


def test_a_circuit_is_shared_by_the_guards_of_one_store(call: Caller, tmp_path: Path) -> None:
    clock, tried = ManualClock(), []
    for worker in range(2):
        guard = CostGuard(prices=PRICES, store=SQLiteStore(tmp_path / "costs.db"), clock=clock)
        model = failing(ConnectionError("gone"))
        steered = SteeredModel(
            model, steer(guard, retry=None, model_breaker=Breaker(failures=2, open_seconds=30, shared=True))
        )
        for _ in range(2):
            with pytest.raises(CircuitOpenError if worker else ConnectionError):
                call(steered, "hi")
        tried.append(len(model.tries))
    assert tried == [2, 0]


def test_no_model_has_a_circuit_unless_it_is_asked_for(call: Caller) -> None:
    model = failing(ConnectionError("gone"))
    steered = SteeredModel(model, steer(CostGuard(prices=PRICES), retry=None))
    for _ in range(7):
        with pytest.raises(ConnectionError):
            call(steered, "hi")
    assert len(model.tries) == 7
