"""The circuit breaker's rules: closed, open, half-open."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from langchain_core.exceptions import ContextOverflowError, OutputParserException
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.errors import GraphInterrupt

from langchain_costguard.steering.policies.breaker import Breaker, Circuit, Pass, admit, default_is_failure, record
from langchain_costguard.vocabulary.errors import AgentHaltedError

BREAKER = Breaker(failures=3, open_seconds=60)
NOW = 1_000_000.0


def told(circuit: Circuit, *results: bool | None, now: float = NOW) -> tuple[Circuit, list[str]]:
    """One call after the other, each with its result."""
    changes = []
    for worked in results:
        circuit, leave = admit(circuit, BREAKER, now)
        assert leave.seconds == 0
        circuit, change = record(circuit, BREAKER, leave, worked, now)
        changes.append(change)
    return circuit, changes


OPEN = told(Circuit(), False, False, False)[0]


def test_the_last_of_the_failures_in_a_row_opens_it() -> None:
    circuit, changes = told(Circuit(), False, False, False)
    assert changes == ["", "", "opened"]
    assert admit(circuit, BREAKER, NOW + 20)[1].seconds == 40


def test_a_success_between_them_starts_the_count_again() -> None:
    assert told(Circuit(), False, False, True, False, False)[1] == [""] * 5


def test_what_says_nothing_of_the_service_neither_counts_nor_resets() -> None:
    assert told(Circuit(), False, None, False, None, False)[1][-1] == "opened"


def test_after_the_open_seconds_one_probe_is_let_through() -> None:
    assert admit(OPEN, BREAKER, NOW + 59.9)[1].seconds == pytest.approx(0.1)
    circuit, probe = admit(OPEN, BREAKER, NOW + 60)
    assert (probe.seconds, probe.probe) == (0, True)
    circuit, other = admit(circuit, BREAKER, NOW + 61)
    assert other.seconds == 59


def test_a_probe_that_succeeds_closes_it() -> None:
    circuit, changes = told(OPEN, True, now=NOW + 60)
    assert changes == ["closed"]
    assert told(circuit, False, False, False, now=NOW + 61)[1] == ["", "", "opened"]


def test_a_probe_that_fails_opens_it_again_for_as_long() -> None:
    circuit, changes = told(OPEN, False, now=NOW + 60)
    assert changes == ["opened"]
    assert admit(circuit, BREAKER, NOW + 61)[1].seconds == 59


def test_a_probe_that_was_not_made_leaves_room_for_another_at_once() -> None:
    circuit, changes = told(OPEN, None, True, now=NOW + 60)
    assert changes == ["", "closed"]
    assert circuit.until is None


def test_a_probe_that_never_reports_back_is_given_up_and_its_late_word_is_not_heard() -> None:
    circuit, lost = admit(OPEN, BREAKER, NOW + 60)
    circuit, second = admit(circuit, BREAKER, NOW + 120)
    assert second.probe
    assert record(circuit, BREAKER, lost, True, NOW + 121) == (circuit, "")
    assert record(circuit, BREAKER, second, True, NOW + 122)[1] == "closed"


@pytest.mark.parametrize("worked", [True, False])
def test_calls_begun_before_it_opened_change_nothing_when_they_end(worked: bool) -> None:
    _, begun = admit(Circuit(), BREAKER, NOW)
    assert record(OPEN, BREAKER, begun, worked, NOW + 30) == (OPEN, "")
    half_open, _ = admit(OPEN, BREAKER, NOW + 60)
    assert record(half_open, BREAKER, begun, worked, NOW + 61) == (half_open, "")
    closed, _ = told(OPEN, True, now=NOW + 62)
    assert record(closed, BREAKER, begun, worked, NOW + 63) == (closed, "")


def test_a_call_that_was_not_let_through_counts_nowhere() -> None:
    circuit, refused = admit(OPEN, BREAKER, NOW + 1)
    assert record(circuit, BREAKER, refused, False, NOW + 1) == (circuit, "")


def test_a_clock_put_back_by_an_hour_keeps_nobody_waiting_for_it() -> None:
    assert admit(OPEN, BREAKER, NOW - 3600)[1].seconds == 60


class Circuits(RuleBasedStateMachine):
    """A circuit against what people say of it."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit, self.now = Circuit(), NOW
        self.under_way: list[tuple[Pass, int]] = []
        self.changes = 0
        self.in_a_row = 0
        self.opened_at: float | None = None

    @rule()
    def call(self) -> None:
        before = self.circuit
        self.circuit, leave = admit(before, BREAKER, self.now)
        if self.opened_at is None:
            assert leave.seconds == 0
            assert not leave.probe
        elif self.now < self.opened_at + 60:
            assert leave.seconds == pytest.approx(self.opened_at + 60 - self.now)
        else:
            out = [p for p, at in self.under_way if p.probe and at == self.changes and self.now < p.probe_until]
            assert (leave.seconds > 0) == bool(out)
            assert leave.probe == (not out)
        if leave.seconds == 0:
            if leave.probe:  # those before are given up
                self.under_way = [(p, -1 if p.probe else at) for p, at in self.under_way]
            self.under_way.append((leave, self.changes))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), worked=st.sampled_from([True, False, None]))
    def end(self, data: Any, worked: bool | None) -> None:
        leave, at = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        before = self.circuit
        self.circuit, change = record(before, BREAKER, leave, worked, self.now)
        if at != self.changes:
            assert (self.circuit, change) == (before, "")
        elif leave.probe:
            assert change == {True: "closed", False: "opened", None: ""}[worked]
        else:
            self.in_a_row = {True: 0, False: self.in_a_row + 1, None: self.in_a_row}[worked]
            assert change == ("opened" if self.in_a_row == 3 else "")
        if change:
            self.changes, self.in_a_row = self.changes + 1, 0
            self.opened_at = self.now if change == "opened" else None

    @rule(seconds=st.sampled_from([0.5, 20.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def open_or_not(self) -> None:
        assert (self.circuit.until is None) == (self.opened_at is None)


TestAnyOrderOfCalls = Circuits.TestCase
TestAnyOrderOfCalls.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# What counts as a failure

OUTCOMES: dict[str, tuple[Any, bool]] = {
    "an exception": (RuntimeError("down"), True),
    "an error nobody knows the class of": (LookupError("x"), True),
    "a time-out": (TimeoutError(), True),
    "a tool message with the status error": (ToolMessage("no", tool_call_id="1", status="error"), True),
    "a tool message": (ToolMessage("yes", tool_call_id="1"), False),
    "a reply of a model": (AIMessage("yes"), False),
    "a plain value": ("yes", False),
    "a refusal of the guard": (AgentHaltedError("halt", reason="r", agent=""), False),
    "an interrupt of the graph": (GraphInterrupt(), False),
    "arguments that do not fit": (OutputParserException("no JSON"), False),
    "a request that is too long": (ContextOverflowError("too long"), False),
    "a cancelled call": (asyncio.CancelledError(), False),
    "the end of the program": (KeyboardInterrupt(), False),
}


@pytest.mark.parametrize("what", OUTCOMES)
def test_what_counts_as_a_failure(what: str) -> None:
    outcome, failure = OUTCOMES[what]
    assert default_is_failure(outcome) is failure
    expected = False if failure else None if isinstance(outcome, BaseException) else True
    assert Breaker().worked(outcome) is expected


def test_what_counts_as_a_failure_can_be_said() -> None:
    breaker = Breaker(is_failure=lambda outcome: outcome == "no")
    assert breaker.worked("no") is False
    assert breaker.worked("yes") is True
    assert breaker.worked(RuntimeError()) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"failures": 0},
        {"failures": True},
        {"failures": 2.0},
        {"open_seconds": 0},
        {"open_seconds": float("nan")},
        {"open_seconds": "60"},
        {"shared": 1},
        {"is_failure": "no"},
    ],
)
def test_a_value_that_makes_no_sense_is_named(wrong: dict[str, Any]) -> None:
    ((field, value),) = wrong.items()
    with pytest.raises(ValueError, match=field) as caught:
        Breaker(**wrong)
    assert repr(value) in str(caught.value)


def test_the_defaults_are_five_failures_and_a_minute_in_this_process() -> None:
    breaker = Breaker()
    assert (breaker.failures, breaker.open_seconds, breaker.shared) == (5, 60.0, False)
