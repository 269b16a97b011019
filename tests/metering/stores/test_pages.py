"""The short way, figure by figure: where it just grants, where it stands aside, and what it leaves in the accounts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from langchain_costguard.metering.stores import Balance, Claim, MemoryStore
from langchain_costguard.metering.stores.page import ROOMY, Page

NAMES = ("usd", "tokens", "calls", "shared usd")
MEASURES = (0, 1, 3, 0)
CAPS = (2_000, 900, 60, 1_500)
NOW, UNTIL = 100.0, 160
CLOCKS = {"first": 50_000, "last": 90_000}


def bound(store: MemoryStore) -> Page:
    """A page of four amounts, of which two are of one measure, and two clocks that began at 90 and 100."""
    for name, at in (("last", 90.0), ("first", NOW)):
        store.reserve([Claim(name, CLOCKS[name], 0, clock=True, ttl=900)], units=(0, 0), until=UNTIL, now=at)
    store.settle([Claim(n, c, 0, ttl=900) for n, c in zip(NAMES, CAPS, strict=True)], [0] * 4, [17, 19, 2, 5],
                 until=UNTIL, now=NOW)  # fmt: skip
    store.reserve([Claim("tokens", 900, 31, ttl=900)], units=(0, 0), until=UNTIL - 5, now=NOW)
    accounts: list[Any] = [(n, m, n, c, False) for n, m, c in zip(NAMES, MEASURES, CAPS, strict=True)]
    clocks: list[Any] = [(name, 7, name, cap, True) for name, cap in CLOCKS.items()]
    assert store.bind([*accounts, ("?", 0, "unknown", 1, False)]) is None
    page = store.bind([*clocks[:1], *accounts, *clocks[1:]])
    assert page is not None
    assert (page.accounts, page.generation) == ([*NAMES], 0)
    return page


def balances(store: MemoryStore, now: float = NOW) -> list[tuple[int, int]]:
    return [balance[:2] for balance in store.read(NAMES, now=now)]


# Room: 1,495 of money (the tightest of two), 850 of tokens, 58 of calls.
ROOM = {0: 1_495, 1: 850, 3: 58}
TAKES: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, int], int | None]] = [
    ((1_495, 850, 0, 58), (0, 0, 0, 0), (0, 0), 0),
    ((1_496, 850, 0, 58), (0, 0, 0, 0), (0, 0), None),
    ((1_495, 851, 0, 58), (0, 0, 0, 0), (0, 0), None),
    ((1_495, 850, 0, 59), (0, 0, 0, 0), (0, 9), None),
    ((1_475, 850, 9_999, 0), (4, 0, 9, 0), (5, 5), 5),
    ((1_476, 850, 0, 0), (4, 0, 0, 0), (5, 9), None),
    ((1_476, 850, 0, 0), (4, 0, 0, 0), (2, 9), 4),
    ((0, 0, 0, 0), (7, 3, 0, 0), (1, 999), 213),
    ((0, 1, 0, 0), (7, 3, 0, 0), (283, 999), None),
    ((5, 1, 0, 0), (1, 3, 0, 2), (1, 999), 29),
]  # fmt: skip


@pytest.mark.parametrize(("fixed", "per_unit", "units", "granted"), TAKES)
def test_a_page_grants_what_the_tightest_account_affords_or_stands_aside(
    fixed: tuple[int, ...], per_unit: tuple[int, ...], units: tuple[int, int], granted: int | None
) -> None:
    store = MemoryStore()
    page = bound(store)
    taken = store.take(page, fixed, per_unit, units, UNTIL, NOW)
    before = [(17, 0), (19, 31), (2, 0), (5, 0)]
    if granted is None:
        assert taken is None
        assert balances(store) == before
        return
    assert taken == (granted, 150.0, [])
    amounts = [a + b * granted for a, b in zip(fixed, per_unit, strict=True)]
    assert balances(store) == [(s, h + amounts[m]) for (s, h), m in zip(before, MEASURES, strict=True)]
    spent = [3, 5, 8, 13]
    totals = [s + spent[m] for (s, _), m in zip(before, MEASURES, strict=True)]
    assert store.give(page, amounts, spent, UNTIL, NOW) == totals
    assert balances(store) == [(total, h) for total, (_, h) in zip(totals, before, strict=True)]
    again = store.take(page, [ROOM.get(m, 0) - spent[m] for m in range(4)], (0, 0, 0, 0), (0, 0), UNTIL + 9, NOW)
    assert again == (0, 150.0, [])
    assert store.give(page, [ROOM.get(m, 0) - spent[m] for m in range(4)], [0] * 4, UNTIL + 9, UNTIL + 9.0) == totals
    assert balances(store, UNTIL + 8.0) == [(t, ROOM[m] - spent[m]) for t, m in zip(totals, MEASURES, strict=True)]
    assert store._accounts["calls"].touched == store._accounts["first"].touched == UNTIL + 9.0


@pytest.mark.parametrize("way", ["take", "take_coarsely"])
def test_what_is_held_by_length_needs_room_for_many_times_as_much_of_money_and_tokens_alone(way: str) -> None:
    for amounts, fits in (
        ((1_495 // ROOMY, 850 // ROOMY, 0, 58), True), ((1_495 // ROOMY + 1, 0, 0, 0), False),
        ((0, 850 // ROOMY + 1, 0, 0), False), ((0, 0, 9_999, 58), True), ((0, 0, 0, 59), False),
    ):  # fmt: skip
        store = MemoryStore()
        page = bound(store)
        if way == "take":
            taken = store.take(page, amounts, (0, 0, 0, 0), (0, 0), UNTIL, NOW, coarse=True) is not None
        else:
            taken = store.take_coarsely(page, amounts, UNTIL, NOW)
        assert taken is fits
        held = [amounts[m] * fits for m in MEASURES]
        assert [h for _, h in balances(store)] == [h + 31 * (n == "tokens") for h, n in zip(held, NAMES, strict=True)]
    exact = MemoryStore()
    exact.settle([Claim("usd", ROOMY * 5, 0)], [0], [0], until=UNTIL, now=NOW)
    money = exact.bind([("usd", 0, "usd", ROOMY * 5, False)])
    assert money is not None
    assert [exact.take_coarsely(money, (n,), UNTIL, NOW) for n in (6, 5, 0)] == [False, True, True]
    tokens = exact.bind([("usd", 2, "usd", ROOMY * 6, False)])  # input tokens
    assert tokens is not None
    assert [exact.take_coarsely(tokens, (0, 0, n), UNTIL, NOW) for n in (6, 5)] == [False, True]


@pytest.mark.parametrize(
    ("at", "opened"), [(149.999, True), (150.0, False), (154.999, False)]
)  # the first clock runs out at 150
def test_a_page_stands_aside_from_when_a_clock_has_run_out(at: float, opened: bool) -> None:
    store = MemoryStore()
    page = bound(store)
    assert (store.take(page, (1, 1, 1, 1), (0, 0, 0, 0), (0, 0), 900, at) is not None) is opened
    assert store.take_coarsely(page, (1, 1, 1, 1), 900, at) is opened


def test_a_page_stands_aside_from_when_a_hold_expires() -> None:
    for until, at, opened in ((140, 139.9, True), (140, 140.0, False), (130, 129.0, True), (130, 130.0, False)):
        store = MemoryStore()
        page = bound(store)
        assert store.take(page, (1, 0, 0, 0), (0, 0, 0, 0), (0, 0), until, NOW) is not None
        assert store.take_coarsely(page, (1, 0, 0, 0), 149, at) is opened
    store = MemoryStore()
    page = bound(store)
    store.reserve([Claim("calls", 60, 1, ttl=900)], units=(0, 0), until=120, now=NOW)
    assert store.take_coarsely(page, (1, 0, 0, 0), 149, 119.9)
    store.read(["usd"], now=NOW)
    assert not store.take_coarsely(page, (1, 0, 0, 0), 149, 120.0)


def brief(name: str, measure: int, cap: int, reserve: int = 0) -> Any:
    return SimpleNamespace(name=name, measure=measure, cap=cap, reserve=reserve, ttl=600)


BRIEFS: list[tuple[Any, tuple[int, int], bool, tuple[int, int], int | None]] = [
    (brief("b", 0, 100, 10), (90, 0), False, (0, 0), 0),
    (brief("b", 0, 100, 10), (91, 0), False, (0, 0), None),
    (brief("b", 0, 100, 10), (81, 3), False, (3, 9), 3),
    (brief("b", 0, 100, 10), (82, 3), False, (3, 9), None),
    (brief("b", 0, 100, 10), (82, 3), False, (0, 9), 2),
    (brief("b", 0, 100, 10), (90, 3), False, (0, 9), 0),
    (brief("b", 0, 100, 10), (91, 3), False, (0, 9), None),
    (brief("b", 0, 1_000, 40), (960 // ROOMY, 0), True, (0, 0), 0),
    (brief("b", 0, 999, 40), (960 // ROOMY, 0), True, (0, 0), None),
    (brief("b", 3, 5, 1), (4, 0), True, (0, 0), 0),
    (brief("b", 3, 5, 1), (5, 0), True, (0, 0), None),
]


@pytest.mark.parametrize(("account", "asked", "coarse", "units", "granted"), BRIEFS)
def test_a_brief_account_begins_with_what_it_holds_and_is_judged_by_what_it_has(
    account: Any, asked: tuple[int, int], coarse: bool, units: tuple[int, int], granted: int | None
) -> None:
    for spent, held in ((0, 0), (7, 0), (0, 9), (7, 9)):
        store = MemoryStore()
        page = bound(store)
        wide = SimpleNamespace(**{**vars(account), "cap": account.cap + spent + held})
        if spent or held:
            before = Claim("b", wide.cap, held, ttl=600)
            store.reserve([before], units=(0, 0), until=UNTIL + 1, now=NOW)
            store.settle([before], [0], [spent], until=UNTIL + 1, now=NOW)
        fixed, rate = ([number if m == account.measure else 0 for m in range(4)] for number in asked)
        taken = store.take(page, fixed, rate, units, UNTIL, NOW + 1, [wide], coarse=coarse)
        if granted is None:
            assert taken is None
            assert store.read(["b"], now=NOW)[0][:2] == (spent, held)
            assert ("b" in dict(store.scan(now=NOW))) is bool(spent or held)
            continue
        assert taken is not None
        amount = asked[0] + asked[1] * granted
        assert taken[:2] == (granted, 150.0)
        assert store.read(["b"], now=NOW) == [Balance(spent, held + amount, wide.cap)]
        state = store._accounts["b"]
        assert (state.touched, state.claim and state.claim.ttl) == (NOW + 1, 600)
        assert state.claim is not None
        assert state.claim.reserve == (account.reserve if not (spent or held) else 0)
        amounts = [amount if m == account.measure else 0 for m in range(4)]
        actual = [3 if m == account.measure else 0 for m in range(4)]
        late = amount == 4  # after its end nothing is released
        totals = store.give(page, amounts, actual, UNTIL, UNTIL if late else UNTIL - 1.0, taken[2])
        assert totals is not None
        assert totals[-1] == spent + 3
        assert store.read(["b"], now=NOW)[0][:2] == (spent + 3, held + amount * late)
        assert state.touched == (UNTIL if late else UNTIL - 1.0)


def test_a_brief_account_on_which_something_has_expired_or_that_is_on_a_page_goes_the_long_way() -> None:
    store = MemoryStore()
    page = bound(store)
    none: Any = (0, 0, 0, 0)
    store.reserve([Claim("b", 100, 5, ttl=600)], units=(0, 0), until=120, now=NOW)
    for name, at, taken in (("b", 119.9, True), ("b", 120.0, False), ("usd", NOW, False), ("new", NOW, True)):
        assert (store.take(page, none, none, (0, 0), UNTIL, at, [brief(name, 0, 100)]) is not None) is taken


def test_no_more_is_released_than_is_held_and_accounts_on_an_open_page_stay() -> None:
    store, claim = MemoryStore(), Claim("old", 100, 5, ttl=10)
    assert not store.shared
    store.reserve([claim], units=(0, 0), until=UNTIL, now=NOW)
    store.settle([claim], [5], [3], until=UNTIL, now=NOW)
    page = store.bind([("old", 0, "old", 100, False)])
    assert page is not None
    assert store.give(page, (9,), (1,), UNTIL, NOW) == [4]
    assert store.read(["old"], now=NOW) == [Balance(4, 0, 100)]
    assert store.take(page, (2,), (0,), (0, 0), 130, NOW + 10, [brief("new", 0, 50)]) is not None
    assert dict(store.scan(now=NOW)) == {"old": Balance(4, 2, 100), "new": Balance(0, 2, 50)}
    store.flag("halt:a", "stay")
    store.flag("halt:b", "go")
    store.flag("halt:b", None)
    assert store.flags() == {"halt:a": "stay"}
    assert store.settle([Claim("t", 9, 0, clock=True), Claim("u", 9, 0)], [0, 0], [1, 2], until=UNTIL, now=NOW) == [
        0,
        2,
    ]
    assert store.read(["t", "u"], now=NOW) == [Balance(0, 0), Balance(2, 0, 9)]


def test_accounts_that_are_dropped_take_their_page_with_them_and_others_do_not() -> None:
    store = MemoryStore()
    assert repr(store) == "MemoryStore(0 accounts)"
    store.settle([Claim("free", 9, 0, ttl=600)], [0], [1], until=UNTIL, now=NOW)
    assert repr(store) == "MemoryStore(1 account)"
    page, none = bound(store), (0, 0, 0, 0)
    assert repr(store) == "MemoryStore(7 accounts)"
    assert store.take(page, (1, 1, 0, 1), none, (0, 0), UNTIL, NOW) is not None
    store.forget(["free", "nobody"])
    assert store.take(page, (1, 1, 0, 1), none, (0, 0), UNTIL, NOW) is not None
    store.forget(["calls"])
    assert balances(store) == [(17, 2), (19, 33), (0, 0), (5, 2)]
    assert store.take(page, (1, 1, 0, 1), none, (0, 0), UNTIL, NOW) is None
    assert store.take_coarsely(page, none, UNTIL, NOW) is False
    assert store.give(page, none, none, UNTIL, NOW) is None


@pytest.mark.parametrize(("after", "kept"), [(9.999, True), (10.0, False)])
def test_accounts_are_dropped_in_the_second_in_which_they_have_been_idle_for_their_time(
    after: float, kept: bool
) -> None:
    for bind in (False, True):
        store, claim = MemoryStore(), Claim("old", 100, 0, ttl=10)
        store.settle([claim], [0], [1], until=UNTIL, now=NOW)
        page = store.bind([("old", 0, "old", 100, False)]) if bind else None
        if page is not None:
            assert store.take(page, (0,), (0,), (0, 0), 130, NOW) is not None
            assert store.give(page, (0,), (1,), 130, NOW) == [2]
        store.settle([Claim("new", 9, 0)], [0], [1], until=UNTIL, now=NOW + after)
        assert dict(store.scan(now=NOW)).keys() == ({"old", "new"} if kept else {"new"})
        if page is not None:
            assert (store.take(page, (0,), (0,), (0, 0), 130, NOW) is not None) is kept
            store.settle([claim], [0], [5], until=UNTIL, now=NOW)
            assert store.read(["old"], now=NOW)[0].spent == (7 if kept else 5)
