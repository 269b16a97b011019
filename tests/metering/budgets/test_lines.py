"""Who waits in line, and what an observer reads of the accounts."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from langchain_costguard.metering.budgets.headroom import Headroom, Room
from langchain_costguard.metering.budgets.line import Lines
from langchain_costguard.metering.budgets.lines import account_lines
from langchain_costguard.metering.stores import MAX_AMOUNT, Balance


def test_whoever_came_first_tries_first_and_the_next_one_when_it_leaves() -> None:
    lines = Lines()
    (line, first), (same, second), (_, third), (other, _) = (lines.join(account) for account in "aaab")
    assert same is line is not other
    assert (len(line), len(other), set(lines)) == (3, 1, {"a", "b"})
    assert [line.leads(ticket) for ticket in (first, second, third)] == [True, False, False]
    assert [ticket.turn.done() for ticket in (first, second, third)] == [True, False, False]
    line.wait_again(first)
    waiting = first.turn
    line.wait_again(first)
    assert first.turn is waiting
    assert not waiting.done()
    lines.wake(["nobody's", "b"])
    assert not waiting.done()
    lines.wake(["a"])
    assert waiting.done()
    assert not second.turn.done()
    lines.leave(line, second)  # it gave up
    assert line.leads(first)
    lines.leave(line, first)
    assert line.leads(third)
    assert third.turn.done()
    lines.leave(line, first)
    assert set(lines) == {"a", "b"}
    lines.leave(line, third)
    assert (set(lines), line.leads(third)) == ({"b"}, False)
    began, _ = lines.join("a")
    lines.leave(line, third)  # once more: the line that has begun since is another
    assert lines["a"] is began


def test_an_account_is_read_with_what_was_granted_and_clocks_and_notes_are_none() -> None:
    found = account_lines(
        [
            ("user|day|u%7C1|2026|usd", Balance(5, 2, 10)),
            ("granted:user|day|u%7C1|2026|usd", Balance(3, 1, MAX_AMOUNT)),
            ("my%20team|x|tokens", Balance(7, 0, 20)),
            ("all|output_tokens", Balance(-4, 0, 8)),
            ("granted:all|output_tokens", Balance(1, 0, MAX_AMOUNT)),
            ("all|seconds", Balance(1_000, 0, 5)),
            ("grant-key:|usd", Balance(1, 0, 1)),
            ("restoring|", Balance(1, 0, 1)),
            ("usd", Balance(1, 0, 1)),
        ]
    )
    assert [tuple(line) for line in found] == [
        ("user", "user|day|u%7C1|2026|usd", "usd", 8, 2, 13),
        ("my team", "my%20team|x|tokens", "tokens", 7, 0, 20),
        ("all", "all|output_tokens", "output_tokens", 0, 0, 9),
        ("usd", "usd", "usd", 1, 0, 1),
    ]


CENT = 10_000_000
ROOMS = (
    Room("user", "usd", 25 * CENT, 5 * CENT, 100 * CENT, 50 * CENT, 10 * CENT, "day", 120 * CENT),
    Room("all", "model_calls", 1_500, 3, 1_000, 0, 0, "", 1_000),
    Room("run", "seconds", 45_000, 0, 60_000, 15_000, 0, "", 60_000),
    Room("walk", "seconds", 90_000, 0, 60_000, 0, 0, "", 60_000),
)


def test_what_is_left_knows_holds_reserves_grants_and_lockouts() -> None:
    assert [(room.left, room.share) for room in ROOMS] == [
        (130 * CENT, 0.25 / 1.5), (-503, 1.5), (30_000, 0.6), (-30_000, 1.5),
    ]  # fmt: skip
    assert Headroom(ROOMS[:1]).share == 0.25 / 1.5
    assert Headroom(ROOMS).left("seconds") == -30_000
    assert [Headroom(ROOMS[:most]).seconds_left for most in (2, 3, 4)] == [float("inf"), 30.0, 0.0]
    with pytest.raises(FrozenInstanceError):
        Headroom(ROOMS).rows = ()  # type: ignore[misc]
    assert str(Headroom(ROOMS)) == (
        "budget  window  measure       spent    held    left     cap\n"
        "------  ------  -----------  ------  ------  ------  ------\n"
        "user    day     usd          $0.250  $0.050  $1.300  $1.500\n"
        "all     -       model_calls   1,500       3       0   1,000\n"
        "run     -       seconds      45.0 s       -  30.0 s  75.0 s\n"
        "walk    -       seconds      90.0 s       -   0.0 s  60.0 s"
    )
    assert [tuple(bar) for bar in Headroom(ROOMS).bars()] == [
        ("user", 0.25 / 1.5, 0.05 / 1.5, "$0.250 of $1.500, $0.050 held, $1.300 left"),
        ("all", 1.5, 0.003, "1,500 of 1,000 model calls, 3 held, 0 left"),
        ("run", 0.6, 0.0, "45.0 s of 75.0 s, 30.0 s left"),
        ("walk", 1.5, 0.0, "90.0 s of 60.0 s, 0.0 s left"),
    ]
