"""What every cache of exact answers does, on real servers."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langchain_costguard.caching import Answers, Entry, MemoryCache, Stock, Wanted
from tests.caching.conftest import Kind

NOW = 1_000_000.0
MINUTE, DAY = 60.0, 86_400.0


def key(name: object) -> str:
    return sha256(str(name).encode()).hexdigest()


def entry(reply: str = "four", **changes: object) -> Entry:
    return replace(Entry(reply=reply, created=NOW, expires=NOW + DAY), **changes)  # type: ignore[arg-type]


FULL = entry(
    '{"content":"zwölf € 🎈"}',
    model="gpt-4o",
    feature="search",
    tenant="user:u1",
    tags=("a", "b\tc"),
    cost=12_345_678_901,
    prompt="wie viel?",
    context="00ff",
)


@pytest.fixture
def cache(every_kind: Kind) -> Answers:
    return every_kind.make()


def test_what_was_put_comes_back_whole(cache: Answers) -> None:
    assert cache.get(key("q"), now=NOW) is None
    cache.put(key("q"), FULL, now=NOW)
    assert cache.get(key("q"), now=NOW) == FULL
    assert cache.get(key("other"), now=NOW) is None


def test_a_later_answer_replaces_an_earlier_one(cache: Answers) -> None:
    cache.put(key("q"), FULL, now=NOW)
    cache.put(key("q"), entry("five", feature="chat"), now=NOW + 1)
    assert cache.get(key("q"), now=NOW + 1) == entry("five", feature="chat")
    assert [(stock.feature, stock.entries) for stock in cache.stock(now=NOW)] == [("chat", 1)]


def test_an_answer_is_gone_the_moment_it_expires(cache: Answers) -> None:
    cache.put(key("q"), entry(expires=NOW + 10), now=NOW)
    assert cache.get(key("q"), now=NOW + 9.9) is not None
    assert list(cache.stock(now=NOW + 10)) == []
    assert cache.get(key("q"), now=NOW + 10) is None
    cache.put(key("late"), entry(expires=NOW + 10), now=NOW + 11)
    assert cache.get(key("late"), now=NOW + 11) is None


def test_expired_answers_make_room_as_new_ones_come(every_kind: Kind) -> None:
    cache = every_kind.make()
    for number in range(20):
        cache.put(key(number), entry(expires=NOW + 10), now=NOW)
    for number in range(20, 40):
        cache.put(key(number), entry(expires=NOW + 1000), now=NOW + 10)
    held = sum(stock.entries for stock in cache.stock(now=NOW))
    # A server drops them by its own clock, and these were put ten seconds of a made-up one ago.
    assert held == 20 or (every_kind.name == "redis" and held == 40)
    assert sum(stock.entries for stock in cache.stock(now=NOW + 10)) == 20


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(max_size=40), min_size=5, max_size=5),
    tags=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1), max_size=3, unique=True
    ),
    cost=st.integers(0, 2**62),
)
def test_any_text_comes_back_as_it_was(kind: Kind, texts: list[str], tags: list[str], cost: int) -> None:
    cache = kind.made[0] if kind.made else kind.make()
    reply, model, feature, prompt, context = texts
    model, feature = (text.encode("utf-8", "ignore").decode() for text in (model, feature))
    whole = entry(
        reply, model=model, feature=feature, tags=tuple(tags), cost=cost, prompt=prompt, context=context
    )  # fmt: skip
    cache.put(key("q"), whole, now=NOW)
    assert cache.get(key("q"), now=NOW) == whole
    for tag in tags:
        assert cache.forget(Wanted(tag=tag)) == (tag == tags[0])


def test_the_answer_asked_for_last_is_forgotten_last(kind: Kind) -> None:
    if kind.name == "redis":
        return  # the server's own eviction
    cache = kind.make(max_entries=3)
    for number in range(3):
        cache.put(key(number), entry(), now=NOW + number)
    assert cache.get(key(0), now=NOW + 2 * MINUTE) is not None
    cache.put(key(3), entry(), now=NOW + 3 * MINUTE)
    assert [cache.get(key(number), now=NOW + 3 * MINUTE) is not None for number in range(4)] == [1, 0, 1, 1]


def test_it_never_holds_more_than_it_may_for_long(kind: Kind) -> None:
    if kind.name == "redis":
        return
    cache = kind.make(max_entries=130)
    for number in range(400):
        cache.put(key(number), entry(), now=NOW + number)
    assert 128 <= sum(stock.entries for stock in cache.stock(now=NOW)) <= 132
    assert cache.get(key(399), now=NOW + 400) is not None


def test_only_one_holds_a_claim_and_may_renew_it(cache: Answers) -> None:
    assert cache.claim(key("q"), "one", until=NOW + 30, now=NOW)
    assert not cache.claim(key("q"), "other", until=NOW + 30, now=NOW)
    assert cache.claim(key("elsewhere"), "other", until=NOW + 30, now=NOW)
    assert cache.claim(key("q"), "one", until=NOW + 40, now=NOW + 5)
    assert not cache.claim(key("q"), "other", until=NOW + 90, now=NOW + 39)
    assert cache.claim(key("q"), "other", until=NOW + 90, now=NOW + 40)


def test_a_claim_is_released_by_its_holder_alone(cache: Answers) -> None:
    assert cache.claim(key("q"), "one", until=NOW + 30, now=NOW)
    cache.release(key("q"), "other")
    assert not cache.claim(key("q"), "other", until=NOW + 30, now=NOW)
    cache.release(key("q"), "one")
    assert cache.claim(key("q"), "other", until=NOW + 30, now=NOW)
    cache.release(key("q"), "one")
    assert not cache.claim(key("q"), "one", until=NOW + 30, now=NOW)
    cache.release(key("never claimed"), "one")


def test_a_hundred_threads_make_one_claim(kind: Kind) -> None:
    cache = kind.make()
    got: list[bool] = []
    threads = [
        threading.Thread(target=lambda name=str(n): got.append(cache.claim(key("q"), name, until=NOW + 9, now=NOW)))
        for n in range(100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 99 + [True]


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (Wanted(), ""),
        (Wanted(tag="x"), "bd"),
        (Wanted(tag="y"), "bcd"),
        (Wanted(tag="xy"), "abcd"),
        (Wanted(feature="search"), "cd"),
        (Wanted(feature=""), "abc"),
        (Wanted(model="small"), "ac"),
        (Wanted(tenant="user:u1"), "bcd"),
        (Wanted(before=NOW + 20), "bcd"),
        (Wanted(before=NOW + 20, feature="chat"), "abcd"),
        (Wanted(model="small", feature="search"), "acd"),
    ],
)
def test_answers_are_forgotten_by_what_is_given_of_them(cache: Answers, wanted: Wanted, left: str) -> None:
    kept = {
        "a": entry(tags=("x", "y"), feature="search", model="big", tenant="user:u1", created=NOW),
        "b": entry(feature="search", model="small", tenant="user:u2", created=NOW + 20),
        "c": entry(tags=("x",), feature="chat", model="big", created=NOW + 30),
        "d": entry(model="small", created=NOW + 40),
    }
    for name, each in kept.items():
        cache.put(key(name), each, now=NOW)
    cache.claim(key("a"), "one", until=NOW + 30, now=NOW)
    assert cache.forget(wanted) == 4 - len(left)
    assert "".join(name for name in kept if cache.get(key(name), now=NOW)) == left
    assert not cache.claim(key("a"), "other", until=NOW + 30, now=NOW)


def test_the_stock_is_told_by_feature_and_model_alike_by_every_cache(cache: Answers) -> None:
    told = MemoryCache()
    for at, (feature, model) in enumerate([("search", "big"), ("", "big"), ("search", "big"), ("search", "small")]):
        for each in (cache, told):
            each.put(key(at), entry("é" * at, feature=feature, model=model, cost=10 + at), now=NOW)
    rows = [Stock(*row) for row in cache.stock(now=NOW)]
    assert [row[:3] for row in rows] == [("", "big", 1), ("search", "big", 2), ("search", "small", 1)]
    assert [row.cost for row in rows] == [11, 22, 13]
    assert rows == list(told.stock(now=NOW))


def test_other_keys_of_the_server_are_left_alone(every_kind: Kind) -> None:
    if every_kind.name != "redis":
        return
    one, other = every_kind.make(prefix="a*"), every_kind.make(prefix="ab")
    for cache in (one, other):
        cache.put(key("q"), entry(cache.prefix), now=NOW)  # type: ignore[attr-defined]
    assert one.forget(Wanted()) == 1
    assert one.get(key("q"), now=NOW) is None
    assert other.get(key("q"), now=NOW) == entry("ab")


def test_many_answers_are_all_found_and_forgotten(kind: Kind) -> None:
    cache = kind.make()
    for number in range(450):
        cache.put(key(number), entry(tags=("even",) if number % 2 == 0 else ()), now=NOW)
    assert sum(stock.entries for stock in cache.stock(now=NOW)) == 450
    assert cache.forget(Wanted(tag="even")) == 225
    assert cache.forget(Wanted()) == 225
    assert list(cache.stock(now=NOW)) == []


def test_the_stock_of_an_answer_with_half_a_surrogate_pair_is_told(cache: Answers) -> None:
    cache.put(key("q"), entry("\ud83d"), now=NOW)
    assert [stock.entries for stock in cache.stock(now=NOW)] == [1]


JUNK = {
    "no JSON": b"{broken",
    "a list": b"[]",
    "nested for ever": b'{"a":' * 50_000,
    "no bytes of text": b"\xff\xfe\x00",
    "other fields": b'{"answer": 1}',
    "a time that is none": b'{"reply": "{}", "created": "soon", "expires": "late"}',
    "a reply that is none": b'{"reply": 5, "created": 0, "expires": 9e12}',
}


@pytest.mark.parametrize("junk", JUNK)
def test_an_entry_that_cannot_be_read_is_passed_over_said_once_and_replaced(
    junk: str, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    cache: Any = kind.make()
    cache.put(key("q"), entry("a"), now=NOW)
    if kind.name == "memory":
        return  # nobody else writes there
    if kind.name == "sqlite":
        with closing(sqlite3.connect(cache.path)) as file, file:
            file.execute("UPDATE costguard_answer SET entry = ?", (JUNK[junk],))
    elif kind.name == "postgres":
        cache._pool.ask("UPDATE costguard_answer SET entry = $1", f"\\x{JUNK[junk].hex()}", again=False)
    else:
        cache.server.ask("SET", f"{cache.prefix}:answer:{key('q')}", JUNK[junk])
    assert [cache.get(key("q"), now=NOW) for _ in range(3)] == [None] * 3
    assert len([r for r in caplog.records if "cannot be read, and is passed over" in r.message]) == 1
    assert list(cache.stock(now=NOW)) is not None
    cache.put(key("q"), entry("b"), now=NOW)
    assert cache.get(key("q"), now=NOW) == entry("b")
