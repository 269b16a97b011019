"""What was reserved unheard is asked for again by its name and given back, when the server answers again."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from langchain_costguard.metering.stores import Claim, Grant, Refusal, StoreError, unheard
from langchain_costguard.metering.stores.unheard import Unheard

CLAIMS = (Claim("all|usd", 1_000, 11, 3), Claim("all|seconds", 9_000, 5, clock=True), Claim("all|tokens", 900, 7))
NOW = 1_000.0


class Server:
    """It knows which names it has carried out, and may be away."""

    def __init__(self) -> None:
        self.away, self.settles = False, True
        self.asked: list[tuple[str, float]] = []
        self.given: list[tuple[Sequence[Claim], Any, Any, int, float]] = []
        self.refused: set[str] = set()
        self.corrupt: set[str] = set()

    def make(self, name: str, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float) -> Any:
        self.asked.append((name, now))
        assert (claims, units) == (CLAIMS, (1, 9))
        if self.away or name in self.corrupt:
            raise StoreError("no answer")
        return Refusal(0, 1, 2, 3, by_holds=False) if name in self.refused else Grant(4, (1,))

    def settle(self, claims: Sequence[Claim], held: Any, actual: Any, until: int, now: float) -> list[int]:
        self.given.append((claims, held, actual, until, now))
        if not self.settles:
            raise StoreError("no answer")
        return [0] * len(claims)


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch, no_more_threads: Callable[[str], None]) -> Any:
    """The clock by which it waits; nothing is done but by this thread."""
    no_more_threads("costguard-holds")
    made = SimpleNamespace(monotonic=lambda: made.at, at=64.0)
    monkeypatch.setattr(unheard, "time", made)
    return made


def ask(back: Unheard, until: int, error: BaseException | None) -> str:
    """Reserve, and hear nothing but perhaps an error; returns the name."""
    names = []
    try:
        with back.named(CLAIMS, (1, 9), until, NOW) as name:
            names.append(name)
            if error is not None:
                raise error
    except (StoreError, KeyboardInterrupt):
        pass
    assert re.fullmatch("[0-9a-f]{24}", names[0])
    return names[0]


def test_what_was_reserved_unheard_is_given_back_when_the_server_is_back(ticks: Any) -> None:
    server = Server()
    server.away = True
    back = Unheard(server.make, server.settle)
    ask(back, 2_000, None)  # it was answered
    errors = (StoreError("no answer"), KeyboardInterrupt(), StoreError("no answer"), StoreError("no answer"))
    names = [ask(back, until, error) for until, error in zip((1_900, 1_008, 1_009, 1_700), errors, strict=True)]
    server.refused.add(names[2])
    for passed in (1.0, 2.0):  # it is away for a while
        ticks.at += passed
        back._writer._deliver_some()
    assert ({now for _, now in server.asked}, len(back._writer)) == ({NOW + 1.0, NOW + 3.0}, 4)
    server.away, ticks.at = False, ticks.at + 5.0
    server.asked.clear()
    back.flush(1.0)
    now = NOW + 8.0  # in this second the hold of the second of them has ended by itself
    assert sorted(server.asked) == sorted((name, now) for name in (names[0], *names[2:]))
    given = [(CLAIMS, [23, 0, 19 - 12], [0, 0, 0], until, now) for until in (1_700, 1_900)]
    assert sorted(server.given, key=lambda one: one[3]) == given
    assert len(back._writer) == 0


def test_one_whose_error_lasts_keeps_nobody_behind_it_waiting(ticks: Any) -> None:
    server = Server()
    back = Unheard(server.make, server.settle)
    names = [ask(back, until, StoreError("no answer")) for until in (1_009, 1_900, 1_900)]
    server.corrupt.add(names[0])
    back._writer._deliver_some()
    back._writer._deliver_some()
    assert ([name for name, _ in server.asked[:3]], len(server.given), len(back._writer)) == (names, 2, 1)
    ticks.at += 9.0  # its hold has ended
    back.flush(1.0)
    assert len(back._writer) == 0


def test_where_giving_back_is_not_heard_of_either_it_is_not_done_again(ticks: Any) -> None:
    server = Server()
    server.settles = False
    back = Unheard(server.make, server.settle)
    ask(back, 1_900, StoreError("no answer"))
    back.flush(1.0)
    back.flush(1.0)
    assert (len(server.asked), len(server.given), len(back._writer)) == (1, 1, 0)


def test_at_its_end_a_process_does_not_wait_for_a_server_that_is_away(ticks: Any) -> None:
    server = Server()
    server.away = True
    back = Unheard(server.make, server.settle)
    for _ in range(3):
        ask(back, 1_900, StoreError("no answer"))
    assert back._writer.close(60)
    assert (len(server.asked), server.given) == (1, [])
