"""Alerts and fees at their edges: each line told once, at the unit that reaches it; each fee by what was used."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool

from langchain_costguard import Budget, CostGuard, ToolFee
from langchain_costguard.events import Alert, ToolSettled
from langchain_costguard.metering.budgets.alerts import checked, line_at, passed
from langchain_costguard.testing import ManualClock, Recorder
from tests.conftest import Caller


@tool
def look_up(what: str) -> str:
    """Look up."""
    return what


@pytest.mark.parametrize(
    ("cap", "alerts", "told"),
    [
        (10, (0.5,), {5: 0.5}),
        (10, (0.7, 0.5), {5: 0.5, 7: 0.7}),
        (7, (0.5,), {4: 0.5}),
        (10, (0.11,), {2: 0.11}),
        (10, (1.0,), {10: 1.0}),
        (3, (0.1, 0.2, 0.9, 0.9), {1: 0.2, 3: 0.9}),
        (10, (), {}),
    ],
)
def test_an_alert_is_told_by_the_call_that_reaches_its_line(
    cap: int, alerts: tuple[float, ...], told: dict[int, float], recorder: Recorder, call: Caller
) -> None:
    guard = CostGuard(Budget(per="all", tool_calls=cap), alerts=alerts, sinks=[recorder])
    found: dict[int, float] = {}
    for number in range(1, cap + 1):
        call(look_up, {"what": "x"}, {"callbacks": [guard]})
        for alert in recorder.of(Alert):
            assert (alert.spent, alert.cap) == (number, cap)
            found[number] = alert.threshold
        recorder.events.clear()
    assert found == told


def test_a_line_lies_at_the_first_whole_unit_of_its_share() -> None:
    assert [line_at(share, 10) for share in (0.1, 0.11, 0.5, 1.0, 1.1, 1.2)] == [1, 2, 5, 10, 11, 12]
    assert passed(4, 5, 10, (0.5,)) == [0.5]
    assert passed(5, 6, 10, (0.5,)) == []
    assert passed(3, 4, 10, (0.5,)) == []
    assert passed(0, 12, 10, (0.1, 0.5, 1.2, 1.3)) == [0.1, 0.5, 1.2]


@pytest.mark.parametrize(
    ("share", "said"),
    [
        *(
            (share, "must be a share of the cap above zero")
            for share in (0, -0.1, 101, True, "0.7", None, float("nan"))
        ),
        (10, "is 1000 % of the cap; write 0.1 for 10 %"),
        (70, "is 7000 % of the cap; write 0.7 for 70 %"),
        (100, "is 10000 % of the cap; write 1 for 100 %"),
    ],
)
def test_a_share_that_is_none_is_named(share: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"alerts: {share!r}.* {said}"):
        checked([0.5, share])


def test_shares_are_sorted_and_said_once() -> None:
    assert checked([1.2, 0.7, 9.99, 0.7]) == (0.7, 1.2, 9.99)
    assert checked(()) == ()
    for wrong in ("0.7", 0.7, None):
        with pytest.raises(ValueError, match=r"alerts: .* must be a list of shares"):
            checked(wrong)


@pytest.mark.parametrize(
    ("fee", "output", "seconds", "usd"),
    [
        (ToolFee(call="0.10"), "abc", 9, "0.10"),
        (ToolFee(call="0.10", unit="0.01"), None, 0, "0.10"),
        (ToolFee(call="0.10", unit="0.01"), "", 0, "0.10"),
        (ToolFee(call="0.10", unit="0.01"), "abc", 0, "0.13"),
        (ToolFee(call="0.10", unit="0.01"), 7, 0, "0.11"),
        (ToolFee(unit="0.01"), ["a", "b"], 0, "0.02"),
        (ToolFee(unit="0.01"), ToolMessage("abcd", tool_call_id="1"), 0, "0.04"),
        (ToolFee(unit="0.01", units=lambda output: 2 * len(output)), "abc", 0, "0.06"),
        (ToolFee(unit="0.01", units=lambda output: 1 / 0), None, 0, "0"),
        (ToolFee(second="0.01"), "abc", 2.5, "0.025"),
        (ToolFee(second="0.01", seconds=30), "abc", 0, "0.30"),
        (ToolFee(second="0.01", seconds=30), "abc", 2, "0.02"),
        (ToolFee(second="1"), "abc", 0.0004, "0"),
        (ToolFee(second="1"), "abc", 0.0006, "0.001"),
    ],
)
def test_a_fee_is_for_the_call_its_seconds_and_its_units(fee: ToolFee, output: Any, seconds: float, usd: str) -> None:
    assert fee("look_up", {}, output, seconds) == Decimal(usd)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"call": -1}, "ToolFee.call"),
        ({"second": "x"}, "ToolFee.second"),
        ({"unit": -1}, "ToolFee.unit"),
        ({"seconds": -0.1}, "ToolFee.seconds: -0.1"),
        ({"seconds": True}, "ToolFee.seconds: True"),
        ({"seconds": "5"}, "ToolFee.seconds: '5'"),
    ],
)
def test_a_fee_that_is_none_names_its_field(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ToolFee(**wrong)
    ToolFee(call=0, second=0, unit=0, seconds=0)


def test_what_a_fee_does_not_say_costs_nothing_and_what_it_says_stays() -> None:
    assert ToolFee()("look_up", {}, "abc", 5) == 0
    assert ToolFee(second="0.01")("look_up", {}, "abc", 0) == ToolFee(second="0.01")("look_up", {}, "abc") == 0
    assert ToolFee(call="0.10", unit="0.01")("look_up", {}, "abc", 9) == Decimal("0.13")
    with pytest.raises(AttributeError):
        ToolFee().call = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        ToolFee("0.10")  # type: ignore[misc]


def broken(what: str) -> str:
    raise LookupError(what)


@pytest.mark.parametrize(
    ("price", "fails", "before", "after"),
    [
        ("0.02", False, 20_000_000, 20_000_000),
        ("0.02", True, 20_000_000, 20_000_000),
        (ToolFee(call="0.02", second="0.01"), False, 20_000_000, 50_000_000),
        (ToolFee(call="0.02", second="0.01"), True, 20_000_000, 50_000_000),
        (ToolFee(call="0.02", second="0.01", seconds=1), False, 30_000_000, 50_000_000),
        (lambda name, arguments, output: "0.02" if output is None else "0.07", False, 20_000_000, 70_000_000),
        (lambda name, arguments, output: "0.02" if output is None else "0.07", True, 20_000_000, 20_000_000),
        (lambda name, arguments, output: 0, False, 1, 0),
        (lambda name, arguments, output: 1 / 0, False, 1, 1),
        (None, False, 0, 0),
    ],
)
def test_a_fee_is_held_before_a_tool_runs_and_is_what_it_used_after(
    price: Any, fails: bool, before: int, after: int, recorder: Recorder, call: Caller
) -> None:
    clock = ManualClock()
    prices = {} if price is None else {"look_up": price}
    guard = CostGuard(Budget(per="all", usd="1"), tool_prices=prices, sinks=[recorder], clock=clock)
    held: list[int] = []

    @tool("look_up")
    def working(what: str) -> str:
        """Look up."""
        held.append(guard.store.read(["all|usd"], now=clock())[0].held)
        clock.advance(3)
        return broken(what) if fails else what

    def ask() -> None:
        call(working, {"what": "abc"}, {"callbacks": [guard]})

    if fails:
        with pytest.raises(LookupError):
            ask()
    else:
        ask()
    assert held == [before]
    assert [(event.charge, event.failed, event.seconds) for event in recorder.of(ToolSettled)] == [(after, fails, 3)]
    assert guard.report().total.spent == after
    assert guard.store.read(["all|usd"], now=clock())[0][:2] == (after, 0)


def test_what_failed_is_not_priced_anew_unless_its_time_is_what_costs(recorder: Recorder, call: Caller) -> None:
    asked: list[Any] = []

    def price(name: str, arguments: Any, output: Any) -> str:
        asked.append(output)
        return f"0.0{len(asked)}"

    @tool("look_up")
    def failing(what: str) -> str:
        """Look up."""
        return broken(what)

    guard = CostGuard(Budget(per="all", usd="1"), tool_prices={"look_up": price}, sinks=[recorder])
    for times in (1, 2):
        with pytest.raises(LookupError):
            call(failing, {"what": "abc"}, {"callbacks": [guard]})
        assert asked == [None] * times
    assert [event.charge for event in recorder.of(ToolSettled)] == [10_000_000, 20_000_000]
