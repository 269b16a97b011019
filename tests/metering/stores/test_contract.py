"""What every store does, in one body of tests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from langchain_costguard.metering.stores import MAX_AMOUNT, Balance, Claim, Grant, Refusal, Store

NOW = 1_000_000.0
UNTIL = 1_000_060
NAMES = [
    "user=Zoë 🦊|usd",
    "with spaces and\ttabs",
    "{braces}{}",
    "two\nlines",
    "a=b=c d=e",
    "%s%d*?[x]\\",
    "'quoted\";--",
    "0",
    "x" * 2_000,
    "\x00\x01",
]


def amount(account: str, cap: int, fixed: int, per_unit: int = 0, ttl: int = 86_400, reserve: int = 0) -> Claim:
    return Claim(account, cap, fixed, per_unit, ttl=ttl, reserve=reserve)


def clock(account: str, cap: int) -> Claim:
    return Claim(account, cap, 0, clock=True)


def reserve(
    store: Store, *claims: Claim, units: tuple[int, int] = (0, 0), until: int = UNTIL, now: float = NOW
) -> Grant | Refusal:
    return store.reserve(claims, units=units, until=until, now=now)


def settle(store: Store, claim: Claim, held: int, actual: int, *, until: int = UNTIL, now: float = NOW) -> int:
    return store.settle([claim], [held], [actual], until=until, now=now)[0]


def balance(store: Store, account: str, now: float = NOW) -> Balance:
    return store.read([account], now=now)[0]


def test_a_reservation_is_held_on_every_account(store: Store) -> None:
    assert reserve(store, amount("a", 10, 3), amount("b", 20, 4)) == Grant(0)
    assert store.read(["a", "b"], now=NOW) == [Balance(0, 3, 10), Balance(0, 4, 20)]


def test_a_balance_says_what_is_left(store: Store) -> None:
    reserve(store, amount("a", 10, 3))
    settle(store, amount("a", 10, 0), 0, 9)
    assert balance(store, "a").left == -2


def test_one_account_that_is_full_refuses_the_whole_reservation(store: Store) -> None:
    reserve(store, amount("b", 5, 4))
    refusal = reserve(store, amount("a", 10, 3), amount("b", 5, 2), amount("c", 10, 1))
    assert refusal == Refusal(index=1, needed=2, spent=0, held=4, by_holds=True)
    assert store.read(["a", "b", "c"], now=NOW) == [Balance(0, 0), Balance(0, 4, 5), Balance(0, 0)]


def test_a_refusal_that_waiting_cannot_cure_is_told_before_one_that_it_might(store: Store) -> None:
    reserve(store, amount("held", 5, 5))
    settle(store, amount("spent", 5, 0), 0, 5)
    refusal = reserve(store, amount("held", 5, 1), amount("spent", 5, 1), amount("also", 0, 1))
    assert refusal == Refusal(index=1, needed=1, spent=5, held=0, by_holds=False)


def test_the_last_unit_of_a_budget_can_be_spent_and_no_more(store: Store) -> None:
    assert reserve(store, amount("a", 5, 5)) == Grant(0)
    assert reserve(store, amount("a", 5, 1)) == Refusal(0, 1, 0, 5, by_holds=True)
    assert settle(store, amount("a", 5, 5), 5, 5) == 5
    assert reserve(store, amount("a", 5, 1)) == Refusal(0, 1, 5, 0, by_holds=False)


def test_the_units_granted_are_what_the_tightest_budget_affords(store: Store) -> None:
    wide, tight, fixed = amount("wide", 1_000, 0, 1), amount("tight", 100, 10, 9), amount("fixed", 7, 7)
    assert reserve(store, wide, tight, fixed, units=(1, 50)) == Grant(10)
    assert [b.held for b in store.read(["wide", "tight", "fixed"], now=NOW)] == [10, 100, 7]


def test_no_more_units_are_granted_than_asked_for(store: Store) -> None:
    assert reserve(store, amount("a", 1_000, 0, 1), units=(1, 50)) == Grant(50)


def test_units_that_cost_nothing_are_all_granted(store: Store) -> None:
    assert reserve(store, amount("a", 10, 1), units=(3, 50)) == Grant(50)


def test_fewer_units_than_needed_are_refused(store: Store) -> None:
    refusal = reserve(store, amount("a", 100, 10, 9), units=(11, 50))
    assert refusal == Refusal(index=0, needed=109, spent=0, held=0, by_holds=False)
    assert balance(store, "a") == Balance(0, 0)


def test_units_may_shrink_to_none_where_none_are_needed(store: Store) -> None:
    assert reserve(store, amount("a", 10, 10, 9), units=(0, 50)) == Grant(0)


def test_a_clock_starts_with_the_first_reservation_and_refuses_when_it_has_run_out(store: Store) -> None:
    assert reserve(store, clock("t", 2_000), amount("a", 9, 1), now=NOW) == Grant(0, (1_000_000_000,))
    assert reserve(store, clock("t", 2_000), now=NOW + 1.5) == Grant(0, (1_000_000_000,))
    assert balance(store, "t").spent == 1_000_000_000
    refusal = reserve(store, clock("t", 2_000), amount("a", 9, 1), now=NOW + 2)
    assert refusal == Refusal(index=0, needed=0, spent=2_000, held=0, by_holds=False)
    assert balance(store, "a").held == 1


def test_a_refused_reservation_starts_no_clock(store: Store) -> None:
    assert isinstance(reserve(store, clock("t", 2_000), amount("a", 0, 1)), Refusal)
    assert reserve(store, clock("t", 2_000), now=NOW + 5) == Grant(0, (1_000_005_000,))


def test_a_clock_is_skipped_when_settling(store: Store) -> None:
    claims = [amount("a", 9, 2), clock("t", 9_000), amount("b", 9, 3)]
    reserve(store, *claims)
    assert store.settle(claims, [2, 0, 3], [1, 0, 4], until=UNTIL, now=NOW) == [1, 0, 4]
    assert balance(store, "t").spent == 1_000_000_000
    assert store.settle([clock("new", 1)], [0], [0], until=UNTIL, now=NOW) == [0]
    assert balance(store, "new") == Balance(0, 0)


def test_an_amount_moves_the_start_of_a_clock_that_has_started(store: Store) -> None:
    claims = [amount("a", 9, 2), clock("t", 2_000), amount("b", 9, 3)]
    reserve(store, *claims)
    assert isinstance(reserve(store, clock("t", 2_000), now=NOW + 3), Refusal)
    assert store.settle(claims, [2, 0, 3], [1, -5_000, 4], until=UNTIL, now=NOW + 3) == [1, 0, 4]
    assert balance(store, "t").spent == 1_000_005_000
    assert reserve(store, clock("t", 2_000), now=NOW + 3) == Grant(0, (1_000_005_000,))
    assert reserve(store, clock("t", 2_000), now=NOW + 6.999) == Grant(0, (1_000_005_000,))
    assert reserve(store, clock("t", 2_000), now=NOW + 7) == Refusal(0, 0, 2_000, 0, by_holds=False)
    assert store.settle([clock("t", 2_000)], [0], [1_000], until=UNTIL, now=NOW + 7) == [0]
    assert balance(store, "t").spent == 1_000_004_000
    assert "t" in dict(store.scan(now=NOW + 7))


def test_a_clock_that_has_not_started_is_not_moved(store: Store) -> None:
    assert store.settle([clock("t", 9)], [0], [-5_000], until=UNTIL, now=NOW) == [0]
    assert store.settle([amount("a", 9, 1), clock("t", 9)], [0, 0], [2, -5], until=UNTIL, now=NOW) == [2, 0]
    assert dict(store.scan(now=NOW)) == {"a": Balance(2, 0, 9)}
    assert reserve(store, clock("t", 9)) == Grant(0, (1_000_000_000,))


def test_settling_replaces_the_hold_by_what_was_spent(store: Store) -> None:
    reserve(store, amount("a", 10, 4))
    reserve(store, amount("a", 10, 5))
    assert settle(store, amount("a", 10, 4), 4, 3) == 3
    assert balance(store, "a") == Balance(3, 5, 10)


def test_settling_zero_gives_the_hold_back(store: Store) -> None:
    reserve(store, amount("a", 10, 10))
    assert settle(store, amount("a", 10, 10), 10, 0) == 0
    assert reserve(store, amount("a", 10, 10)) == Grant(0)


@pytest.mark.parametrize("cap", [10, MAX_AMOUNT])
def test_a_hold_lives_until_its_second_and_not_in_it(store: Store, cap: int) -> None:
    reserve(store, amount("a", cap, cap))
    assert balance(store, "a", UNTIL - 0.001).held == cap
    assert balance(store, "a", UNTIL).held == 0
    assert isinstance(reserve(store, amount("a", cap, 1), now=UNTIL - 0.001, until=UNTIL + 60), Refusal)
    assert reserve(store, amount("a", cap, cap), now=UNTIL, until=UNTIL + 60) == Grant(0)
    assert balance(store, "a", UNTIL).held == cap


def test_holds_of_several_seconds_expire_one_after_the_other(store: Store) -> None:
    for second, held in [(30, 1), (10, 2), (20, 4), (10, 8)]:
        reserve(store, amount("a", 100, held), until=int(NOW) + second)
    assert [balance(store, "a", NOW + t).held for t in (0, 10, 20, 30)] == [15, 5, 1, 0]
    assert settle(store, amount("a", 100, 4), 4, 4, until=int(NOW) + 20) == 4
    assert [balance(store, "a", NOW + t).held for t in (0, 10, 20, 30)] == [11, 1, 1, 0]
    assert settle(store, amount("a", 100, 2), 2, 0, until=int(NOW) + 10, now=NOW + 15) == 4
    assert balance(store, "a", NOW + 15) == Balance(4, 1, 100)


def test_a_settlement_after_its_hold_expired_takes_nothing_from_other_holds(store: Store) -> None:
    reserve(store, amount("a", 10, 4))
    reserve(store, amount("a", 10, 5), now=UNTIL, until=UNTIL + 60)
    assert settle(store, amount("a", 10, 4), 4, 3, now=UNTIL + 1) == 3
    assert balance(store, "a", UNTIL + 1) == Balance(3, 5, 10)


def test_a_settlement_never_releases_more_than_is_held(store: Store) -> None:
    reserve(store, amount("a", 10, 4))
    assert settle(store, amount("a", 10, 9), 9, 1) == 1
    assert balance(store, "a") == Balance(1, 0, 10)


def test_a_correction_may_be_negative(store: Store) -> None:
    assert settle(store, amount("a", 10, 0), 0, 8) == 8
    assert settle(store, amount("a", 10, 0), 0, -3) == 5
    assert reserve(store, amount("a", 10, 5)) == Grant(0)


def test_more_may_be_granted_than_was_spent(store: Store) -> None:
    reserve(store, amount("a", 10, 7))
    grant = [amount("a", 10, 0), amount("granted:a", MAX_AMOUNT, 0)]
    assert store.settle(grant, [0, 0], [-25, 25], until=UNTIL, now=NOW) == [-25, 25]
    assert store.read(["a", "granted:a"], now=NOW) == [Balance(-25, 7, 10), Balance(25, 0, MAX_AMOUNT)]
    assert reserve(store, amount("a", 10, 29)) == Refusal(0, 29, -25, 7, by_holds=True)
    assert reserve(store, amount("a", 10, 0, 3), units=(1, 50)) == Grant(9)
    assert settle(store, amount("a", 10, 34), 34, 5) == -20
    assert settle(store, amount("new", 10, 0), 0, -MAX_AMOUNT) == -MAX_AMOUNT
    assert reserve(store, amount("new", 10, 10)) == Grant(0)


def test_a_reserve_is_left_alone_by_whoever_says_so(store: Store) -> None:
    assert reserve(store, amount("a", 10, 9, reserve=2)) == Refusal(0, 9, 0, 0, by_holds=False)
    assert reserve(store, amount("a", 10, 1, 3, reserve=2), units=(1, 50)) == Grant(2)
    assert balance(store, "a") == Balance(0, 7, 10)
    assert reserve(store, amount("a", 10, 2, reserve=2)) == Refusal(0, 2, 0, 7, by_holds=True)
    assert reserve(store, amount("a", 10, 1, reserve=2), amount("a", 10, 1, reserve=1)) == Refusal(
        0, 2, 0, 7, by_holds=True
    )
    assert reserve(store, amount("a", 10, 3)) == Grant(0)
    assert settle(store, amount("a", 10, 10, reserve=2), 10, 8) == 8
    assert reserve(store, amount("a", 10, 0, reserve=2)) == Grant(0)
    assert reserve(store, amount("a", 10, 1, reserve=2)) == Refusal(0, 1, 8, 0, by_holds=False)
    assert reserve(store, amount("a", 10, 2)) == Grant(0)


def test_an_overrun_blocks_all_but_who_asks_for_nothing(store: Store) -> None:
    reserve(store, amount("a", 10, 10))
    assert reserve(store, amount("a", 10, 0)) == Grant(0)
    assert settle(store, amount("a", 10, 10), 10, 11) == 11
    assert reserve(store, amount("a", 10, 0)) == Grant(0)
    assert reserve(store, amount("a", 10, 1)) == Refusal(0, 1, 11, 0, by_holds=False)
    assert reserve(store, amount("a", 10, 0, 5), units=(0, 9)) == Refusal(0, 0, 11, 0, by_holds=False)
    assert reserve(store, amount("a", 10, 0, 5), units=(0, 0)) == Refusal(0, 0, 11, 0, by_holds=False)
    assert reserve(store, amount("a", 12, 1)) == Grant(0)


def test_an_account_that_appears_twice_is_counted_together(store: Store) -> None:
    twice = [amount("a", 10, 6), amount("b", 99, 1), amount("a", 9, 5)]
    assert reserve(store, *twice) == Refusal(index=2, needed=11, spent=0, held=0, by_holds=False)
    assert store.read(["a", "b"], now=NOW) == [Balance(0, 0), Balance(0, 0)]
    alike = [amount("b", 99, 1), amount("a", 10, 6), amount("a", 10, 5)]  # of equal caps the first one is named
    assert reserve(store, *alike) == Refusal(index=1, needed=11, spent=0, held=0, by_holds=False)
    assert reserve(store, amount("a", 10, 2, 1), amount("a", 10, 2, 2), units=(1, 9)) == Grant(2)
    assert balance(store, "a").held == 10
    claims = [amount("a", 10, 0), amount("b", 99, 0), amount("a", 10, 0)]
    assert store.settle(claims, [4, 0, 6], [3, 1, 4], until=UNTIL, now=NOW) == [7, 1, 7]
    assert balance(store, "a") == Balance(7, 0, 10)


def test_a_clock_that_appears_twice_is_told_twice(store: Store) -> None:
    start = 1_000_000_000
    assert reserve(store, clock("t", 9), clock("u", 9), clock("t", 9)) == Grant(0, (start, start, start))


def test_an_empty_reservation_is_granted(store: Store) -> None:
    assert reserve(store, units=(0, 7)) == Grant(7)
    assert store.settle([], [], [], until=UNTIL, now=NOW) == []
    assert store.read([], now=NOW) == []


def test_an_unknown_account_is_all_zeros(store: Store) -> None:
    reserve(store, amount("b", 9, 1))
    assert store.read(["a", "b", "c"], now=NOW) == [Balance(0, 0, 0), Balance(0, 1, 9), Balance(0, 0, 0)]


def test_a_scan_finds_every_account(store: Store) -> None:
    assert list(store.scan(now=NOW)) == []
    for i in range(0, 1_500, 50):
        reserve(store, *(amount(f"a{k}", 9, 1) for k in range(i, i + 50)))
    settle(store, amount("a7", 9, 1), 1, 4)
    found = list(store.scan(now=NOW))
    assert len(found) == 1_500
    assert dict(found) == {f"a{k}": Balance(4, 0, 9) if k == 7 else Balance(0, 1, 9) for k in range(1_500)}
    assert store.read([f"a{k}" for k in range(1_500)], now=UNTIL)[7:9] == [Balance(4, 0, 9), Balance(0, 0, 9)]


def test_flags_are_set_replaced_and_removed(store: Store) -> None:
    assert store.flags() == {}
    store.flag("all", "maintenance")
    store.flag("agent=Zoë", "zwölf\nlines")
    store.flag("all", "")
    assert store.flags() == {"all": "", "agent=Zoë": "zwölf\nlines"}
    store.flag("all", None)
    store.flag("never set", None)
    assert store.flags() == {"agent=Zoë": "zwölf\nlines"}


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_text_names_an_account(store: Store, name: str) -> None:
    assert reserve(store, amount(name, 10, 4), amount("other", 10, 1)) == Grant(0)
    assert settle(store, amount(name, 10, 4), 4, 3) == 3
    assert dict(store.scan(now=NOW)) == {name: Balance(3, 0, 10), "other": Balance(0, 1, 10)}


def test_amounts_are_exact_up_to_the_largest(store: Store) -> None:
    most = MAX_AMOUNT
    assert reserve(store, amount("a", most, most - 1)) == Grant(0)
    assert reserve(store, amount("a", most, 2)) == Refusal(0, 2, 0, most - 1, by_holds=True)
    assert reserve(store, amount("a", most, 1)) == Grant(0)
    assert settle(store, amount("a", most, most), most, most - 1) == most - 1
    assert balance(store, "a") == Balance(most - 1, 0, most)
    for price in (3, 7, 999_999_937):
        left = most - most % price - 1
        assert reserve(store, amount(f"p{price}", left, 0, price), units=(0, most)) == Grant(left // price)


def test_32_threads_are_admitted_exactly_as_often_as_there_is_room(store: Store) -> None:
    def spend(caller: int) -> int:
        admitted = 0
        for _ in range(12):
            claims = [amount("all", 1_000, 7), amount(f"user={caller % 4}", 300, 7)]
            if isinstance(reserve(store, *claims), Grant):
                admitted += 1
                store.settle(claims, [7, 7], [5, 5], until=UNTIL, now=NOW)
        return admitted

    with ThreadPoolExecutor(32) as threads:
        admitted = sum(threads.map(spend, range(32)))
    users = store.read([f"user={i}" for i in range(4)], now=NOW)
    assert balance(store, "all") == Balance(5 * admitted, 0, 1_000)
    assert sum(user.spent for user in users) == 5 * admitted
    assert 1_000 - 32 * 7 < 5 * admitted <= 1_000


def test_holds_that_are_never_settled_admit_exactly_what_the_cap_allows(store: Store) -> None:
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda _: reserve(store, amount("a", 1_001, 10)), range(320)))
    assert sum(isinstance(answer, Grant) for answer in answers) == 100


def test_an_account_is_remembered_for_its_ttl_and_forgotten_when_it_is_idle_for_longer(store: Store) -> None:
    for i in range(300):
        settle(store, amount(f"old{i}", 9, 0, ttl=100), 0, 1)
    reserve(store, amount("held", 9, 5, ttl=1), until=int(NOW) + 1_000)
    later = NOW + 99
    for i in range(300):
        settle(store, amount(f"young{i}", 9, 0, ttl=100), 0, 1, now=later)
    assert len(list(store.scan(now=later))) == 601
    later = NOW + 150
    for i in range(600):
        settle(store, amount(f"new{i}", 9, 0, ttl=100), 0, 1, now=later)
    names = {name for name, _ in store.scan(now=later)}
    assert not [name for name in names if name.startswith("old")]
    assert len(names) == 901
    assert balance(store, "held", later).held == 5


def test_memory_does_not_grow_with_the_accounts_that_come_and_go(store: Store) -> None:
    for i in range(3_000):
        settle(store, amount(f"session={i}", 9, 0, ttl=10), 0, 1, now=NOW + i)
    assert len(list(store.scan(now=NOW + 3_000))) < 100
