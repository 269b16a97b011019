"""What every index does, in one body of tests; the approximate ones are asked where they are exact."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from langchain_costguard.caching.entry import Entry, Stock, Wanted
from langchain_costguard.caching.index.base import VectorIndex
from langchain_costguard.caching.index.memory import MemoryIndex
from langchain_costguard.caching.index.redis_search import RedisSearchIndex
from langchain_costguard.caching.index.redis_sets import RedisVectorSetIndex
from langchain_costguard.caching.index.sqlite import SQLiteIndex
from tests.caching.index_servers import NO_REDIS8, NO_SEARCH, SEARCH_URL, imitated_search, redis8
from tests.servers import redis_server

NOW = 1_000_000.0
ANSWER = Entry(reply='{"text":"yes"}', created=NOW, expires=NOW + 60)
ODD = ["with spaces", "a:b", "}:{", "Zoë 🦊", "%s*?[x]\\", "two\nlines"]


@pytest.fixture(scope="session")
def urls() -> Iterator[dict[str, str]]:
    """The servers there are for vector sets, for an imitated Redis Search, and for a real one."""
    with ExitStack() as stack:
        found = {"sets": stack.enter_context(redis8()), "search, real": SEARCH_URL}
        found["search, imitated"] = stack.enter_context(imitated_search(stack.enter_context(redis_server())))
        yield {name: url for name, url in found.items() if url}


@pytest.fixture(params=["memory", "sqlite", "sets", "sets, exact", "search, imitated", "search, real"])
def index(request: pytest.FixtureRequest, tmp_path: Path, urls: dict[str, str]) -> Iterator[VectorIndex]:
    """An empty index of each kind."""
    kind, prefix, made = request.param, f"test-{uuid4().hex}", None
    if kind == "memory":
        yield MemoryIndex()
        return
    if kind == "sqlite":
        with closing(SQLiteIndex(tmp_path / "answers.db")) as sqlite:
            yield sqlite
        return
    if kind.startswith("sets"):
        if "sets" not in urls:
            pytest.skip(NO_REDIS8)
        made = RedisVectorSetIndex(urls["sets"], prefix=prefix, exact="exact" in kind, timeout=5)
    else:
        if kind not in urls:
            pytest.skip(NO_SEARCH)
        made = RedisSearchIndex(urls[kind], prefix=prefix, timeout=5)
    with closing(made):
        yield made
        made.forget(Wanted())
        if isinstance(made, RedisSearchIndex):
            made._link.client.delete(f"{prefix}:size")


def entry(**fields: Any) -> Entry:
    return Entry(**{"reply": ANSWER.reply, "created": NOW, "expires": NOW + 60, **fields})


def vectors(count: int, size: int = 16, seed: int = 0) -> list[list[float]]:
    chance = random.Random(seed)
    return [[chance.gauss(0, 1) for _ in range(size)] for _ in range(count)]


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def ids(index: VectorIndex, vector: list[float], k: int = 50, *, setting: str = "a", now: float = NOW) -> list[str]:
    return [near.id for near in index.search(setting, vector, k, now=now)]


def test_the_nearest_are_found_and_the_nearest_comes_first(index: VectorIndex) -> None:
    stored = vectors(300)
    for i, vector in enumerate(stored):
        index.add(str(i), "a", vector, ANSWER, now=NOW)
    for asked in vectors(20, seed=1):
        found = index.search("a", asked, 5, now=NOW)
        wanted = sorted(range(300), key=lambda i: -cosine(stored[i], asked))[:5]
        assert [near.id for near in found] == [str(i) for i in wanted]
        assert [near.score for near in found] == pytest.approx([cosine(stored[i], asked) for i in wanted], abs=1e-5)


def test_the_score_is_the_cosine_whatever_the_lengths(index: VectorIndex) -> None:
    for id, vector in {"same": [0, 3, 4], "across": [5, 0, 0], "against": [0, -30, -40]}.items():
        index.add(id, "a", vector, ANSWER, now=NOW)
    found = index.search("a", [0, 0.003, 0.004], 3, now=NOW)
    assert [near.id for near in found] == ["same", "across", "against"]
    assert [near.score for near in found] == pytest.approx([1, 0, -1], abs=1e-5)


def test_an_answer_comes_back_as_it_was_given(index: VectorIndex) -> None:
    given = entry(
        reply='{"text":"„ja“ 🦊"}', model="m", feature="f", tenant="user:Zoë", tags=("x", "y"), cost=7, prompt="Ob?",
        context="c",
    )  # fmt: skip
    index.add("1", "a", [1, 2], given, now=NOW)
    assert index.search("a", [1, 2], 1, now=NOW)[0].entry == given


def test_of_an_empty_index_nothing_is_found(index: VectorIndex) -> None:
    assert index.search("a", [1, 2], 3, now=NOW) == []
    assert list(index.stock(now=NOW)) == []
    assert index.forget(Wanted()) == 0


def test_a_setting_never_sees_anothers_answers_not_even_under_the_same_id(index: VectorIndex) -> None:
    index.add("1", "a", [1, 0], entry(reply="a's"), now=NOW)
    index.add("1", "b", [1, 0.1], entry(reply="b's"), now=NOW)
    assert [near.entry.reply for near in index.search("a", [1, 0.1], 9, now=NOW)] == ["a's"]
    assert [near.entry.reply for near in index.search("b", [1, 0], 9, now=NOW)] == ["b's"]
    assert index.search("ab", [1, 0], 9, now=NOW) == []


def test_no_more_than_wanted_are_found(index: VectorIndex) -> None:
    for i in range(5):
        index.add(str(i), "a", [1, i], ANSWER, now=NOW)
    assert ids(index, [1, 0], 3) == ["0", "1", "2"]
    assert len(ids(index, [1, 0], 99)) == 5


def test_an_expired_answer_is_not_found_and_hides_none_behind_it(index: VectorIndex) -> None:
    for i in range(40):
        index.add(f"old {i}", "a", [1, i / 1000], entry(expires=NOW + 10), now=NOW)
    index.add("new", "a", [0, 1], entry(expires=NOW + 60), now=NOW)
    assert ids(index, [1, 0], 1) == ["old 0"]
    assert ids(index, [1, 0], 3, now=NOW + 9.9)[0] == "old 0"
    assert ids(index, [1, 0], 3, now=NOW + 10) == ["new"]
    assert ids(index, [1, 0], 3, now=NOW + 60) == []


def test_an_answer_of_the_same_id_is_replaced(index: VectorIndex) -> None:
    index.add("1", "a", [1, 0], entry(reply="first"), now=NOW)
    index.add("2", "a", [1, 1], entry(reply="other"), now=NOW)
    index.add("1", "a", [0, 1], entry(reply="second"), now=NOW)
    found = index.search("a", [0, 1], 9, now=NOW)
    assert [(near.id, near.entry.reply) for near in found] == [("1", "second"), ("2", "other")]
    assert found[0].score == pytest.approx(1, abs=1e-5)


def test_any_text_is_an_id(index: VectorIndex) -> None:
    for i, id in enumerate(ODD):
        index.add(id, "a", [1, i], ANSWER, now=NOW)
    assert ids(index, [1, 0]) == ODD
    assert index.forget(Wanted()) == len(ODD)
    assert ids(index, [1, 0]) == []


FIELDS = {
    "tag": Wanted(tag="x"),
    "feature": Wanted(feature="search"),
    "model": Wanted(model="gpt"),
    "tenant": Wanted(tenant="user:u1"),
    "before": Wanted(before=NOW - 50),
    "all of them": Wanted("x", "search", "gpt", "user:u1", NOW - 50),
}


@pytest.mark.parametrize("wanted", FIELDS.values(), ids=FIELDS)
def test_answers_are_forgotten_by_what_they_are(index: VectorIndex, wanted: Wanted) -> None:
    whole = {"model": "gpt", "feature": "search", "tenant": "user:u1", "tags": ("w", "x")}
    index.add("gone", "a", [1, 0], entry(**whole, created=NOW - 100), now=NOW)
    index.add("gone too", "b", [1, 0], entry(**whole, created=NOW - 60), now=NOW)
    others = {"model": "gpt-5", "feature": "", "tenant": "user:u11", "tags": ("xx",)}
    index.add("stays", "a", [1, 1], entry(**others), now=NOW)
    assert index.forget(wanted) == 2
    assert ids(index, [1, 0]) == ["stays"]
    assert ids(index, [1, 0], setting="b") == []
    assert index.forget(wanted) == 0


def test_what_was_forgotten_can_be_added_again(index: VectorIndex) -> None:
    for _ in range(2):
        index.add("1", "a", [1, 0], ANSWER, now=NOW)
        assert ids(index, [1, 0]) == ["1"]
        assert index.forget(Wanted()) == 1


def test_the_stock_is_told_by_feature_and_model(index: VectorIndex) -> None:
    long = entry(reply="12345", prompt="„ja“", feature="f", model="m", cost=10)
    short, other = entry(reply="1", feature="f", model="m", cost=5), entry(reply="12", model="m")
    for id, setting, given in (("1", "a", long), ("2", "b", short), ("3", "a", other)):
        index.add(id, setting, [1, 0, 0, 0], given, now=NOW)
    index.add("4", "a", [1, 0, 0, 0], entry(reply="12", model="m", expires=NOW + 1), now=NOW)
    sizes = {given: len(given.to_json().encode()) + 16 for given in (long, short, other)}
    assert list(index.stock(now=NOW + 2)) == [
        Stock("", "m", 1, sizes[other], 0), Stock("f", "m", 2, sizes[long] + sizes[short], 15),
    ]  # fmt: skip


def test_a_vector_of_another_size_is_refused_and_both_sizes_are_named(index: VectorIndex) -> None:
    index.add("1", "a", [1, 0, 0], ANSWER, now=NOW)
    with pytest.raises(ValueError, match=r"vector: 2 numbers, but .* have 3"):
        index.add("2", "a", [1, 0], ANSWER, now=NOW)
    with pytest.raises(ValueError, match=r"vector: 4 numbers, but .* have 3"):
        index.search("a", [1, 0, 0, 0], 1, now=NOW)
    assert ids(index, [1, 0, 0]) == ["1"]


@pytest.mark.parametrize("vector", [[], [0, 0], [math.nan, 1], [math.inf, 1], "ab", ["1", "2"]], ids=repr)
def test_a_vector_without_a_direction_is_refused(index: VectorIndex, vector: Any) -> None:
    with pytest.raises(ValueError, match=r"^vector: "):
        index.add("1", "a", vector, ANSWER, now=NOW)
    with pytest.raises(ValueError, match=r"^vector: "):
        index.search("a", vector, 1, now=NOW)


def test_threads_add_and_look_up_at_the_same_time(index: VectorIndex) -> None:
    stored = vectors(160, size=8)

    def work(part: int) -> None:
        for i in range(part, len(stored), 8):
            index.add(str(i), "a", stored[i], ANSWER, now=NOW)
            assert ids(index, stored[i], 1) == [str(i)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert [ids(index, vector, 1) for vector in stored] == [[str(i)] for i in range(len(stored))]
