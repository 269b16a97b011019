"""The short way through a store in this process does what the long way does, or stands aside."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_costguard.metering.stores.base import Claim, Grant
from langchain_costguard.metering.stores.memory import MemoryStore

CAPS = (1_000, 400, 60)
NAMES = ("money", "tokens", "calls")
CLOCK_CAP = 90_000

amounts = st.tuples(*(st.integers(0, 120) for _ in CAPS))
rates = st.tuples(*(st.integers(0, 3) for _ in CAPS))
calls = st.tuples(amounts, rates, st.integers(0, 40), st.integers(0, 60), amounts, st.integers(0, 12), st.booleans())


def claims(fixed: tuple[int, ...], rate: tuple[int, ...]) -> list[Claim]:
    """The call's claims for the long way, the clock last."""
    named = [Claim(n, c, f, r, ttl=10_000) for n, c, f, r in zip(NAMES, CAPS, fixed, rate, strict=True)]
    return [*named, Claim("clock", CLOCK_CAP, 0, clock=True, ttl=10_000)]


@settings(max_examples=200, deadline=None)
@given(st.lists(calls, max_size=25))
def test_the_short_way_grants_holds_and_settles_what_the_long_way_does(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    short, long = MemoryStore(), MemoryStore()
    first = claims((0, 0, 0), (0, 0, 0))
    for store in (short, long):
        store.reserve(first, units=(0, 0), until=60, now=0.0)
    names = [*((n, i, n, c, False) for i, (n, c) in enumerate(zip(NAMES, CAPS, strict=True)))]
    page = short.bind([*names, ("clock", 7, "clock", CLOCK_CAP, True)])
    assert page is not None
    now, used = 0.0, 0
    for fixed, rate, least, more, actual, passes, settled in steps:
        now += passes
        until, units = (int(now) // 10 + 3) * 10, (least, least + more)
        quick = short.take(page, fixed, rate, units, until, now)
        if quick is None:  # it stands aside: both go the long way, and nothing had changed
            assert short.read(NAMES, now=now) == long.read(NAMES, now=now)
            answer = short.reserve(claims(fixed, rate), units=units, until=until, now=now)
            assert answer == long.reserve(claims(fixed, rate), units=units, until=until, now=now)
        else:
            used += 1
            answer = long.reserve(claims(fixed, rate), units=units, until=until, now=now)
            assert isinstance(answer, Grant)
            assert answer.units == quick[0]
            assert (answer.started[0] + CLOCK_CAP) / 1000 == quick[1]
        if isinstance(answer, Grant) and settled:
            held = [f + r * answer.units for f, r in zip(fixed, rate, strict=True)]
            totals = long.settle(claims(fixed, rate)[:3], held, actual, until=until, now=now)
            assert short.give(page, held, actual, until, now) == totals
        assert short.read(NAMES, now=now) == long.read(NAMES, now=now)


def test_what_was_bound_is_bound_no_more_when_the_store_drops_an_account() -> None:
    store = MemoryStore()
    store.reserve([Claim("a", 10, 1)], units=(0, 0), until=60, now=0.0)
    page = store.bind([("a", 0, "a", 10, False)])
    assert page is not None
    assert store.take(page, (1,), (0,), (0, 0), 60, 0.0) is not None
    store.forget(["a"])
    assert store.take(page, (1,), (0,), (0, 0), 60, 0.0) is None
    assert store.give(page, (1,), (1,), 60, 0.0) is None
    assert store.bind([("a", 0, "a", 10, False)]) is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), calls), max_size=30))
def test_scopes_that_share_an_account_see_what_the_other_did(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    """Two pages in turn, on one of which each hold is settled after the other page was open, and looked at between."""
    short, long = MemoryStore(), MemoryStore()
    scopes = [("shared", "a"), ("shared", "b")]

    def asked(scope: tuple[str, str], fixed: tuple[int, ...]) -> list[Claim]:
        return [Claim(name, cap, amount, ttl=10_000) for name, cap, amount in zip(scope, CAPS, fixed, strict=False)]

    for store in (short, long):
        for scope in scopes:
            store.reserve(asked(scope, (0, 0)), units=(0, 0), until=60, now=0.0)
    pages = [short.bind([(n, i, n, CAPS[i], False) for i, n in enumerate(scope)]) for scope in scopes]
    now, under_way = 0.0, []
    for which, (fixed, _, _, _, actual, passes, settled) in steps:
        now += passes
        until, scope, page = (int(now) // 10 + 3) * 10, scopes[which], pages[which]
        assert page is not None
        claims = asked(scope, fixed)
        taken = short.take(page, fixed, (0, 0, 0), (0, 0), until, now)
        if taken is None:
            answer = short.reserve(claims, units=(0, 0), until=until, now=now)
            assert answer == long.reserve(claims, units=(0, 0), until=until, now=now)
        else:
            assert isinstance(long.reserve(claims, units=(0, 0), until=until, now=now), Grant)
            under_way.append((page, claims, fixed, actual, until))
        if settled and under_way:
            page, claims, held, spent, until = under_way.pop(0)
            totals = short.give(page, held, spent, until, now)
            assert totals == long.settle(claims, held[:2], spent[:2], until=until, now=now)
        assert dict(short.scan(now=now)) == dict(long.scan(now=now))
