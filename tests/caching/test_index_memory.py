"""The index in memory: many answers, the bound, and what numpy it needs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from langchain_costguard.caching.entry import Entry, Wanted
from langchain_costguard.caching.index.base import Neighbour
from langchain_costguard.caching.index.memory import MemoryIndex
from langchain_costguard.caching.index.rows import MANY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

NOW = 1_000_000.0
ANSWER = Entry(reply="{}", created=NOW, expires=NOW + 60)
COUNT = MANY + 2_000


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Groups of likenesses with a common mean, and a few components that tell most: as embeddings are."""
    chance = np.random.default_rng(0)
    middles = chance.normal(size=(500, 96))
    made = middles[chance.integers(0, 500, COUNT)] + 0.7 * chance.normal(size=(COUNT, 96))
    made = made * np.exp(chance.normal(0, 0.5, 96)) + 3
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def filled(rows: Rows) -> MemoryIndex:
    index = MemoryIndex()
    for i, row in enumerate(rows.tolist()):
        index.add(str(i), "a", row, ANSWER, now=NOW)
    return index


@pytest.fixture(scope="module")
def many(rows: Rows) -> MemoryIndex:
    """An index of so many that their signs are looked at first."""
    return filled(rows)


def asked(rows: Rows, count: int) -> Rows:
    chance = np.random.default_rng(1)
    return rows[chance.integers(0, len(rows), count)] + chance.normal(0, 0.02, (count, rows.shape[1])).astype(
        np.float32
    )


@pytest.mark.parametrize("version", [1, 2])
def test_of_many_the_nearest_is_found_in_more_than_99_of_100_lookups(
    many: MemoryIndex, rows: Rows, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if version == 1:  # which cannot count bits
        monkeypatch.delattr(np, "bitwise_count", raising=False)
    queries = asked(rows, 200)
    found = [many.search("a", query.tolist(), 1, now=NOW)[0] for query in queries]
    right = sum(near.id == str((rows @ query).argmax()) for near, query in zip(found, queries, strict=True))
    assert right >= 0.99 * len(queries)
    nearest = [(rows @ query).max() / np.linalg.norm(query) for query in queries]
    assert sorted(near.score for near in found)[100:] == pytest.approx(sorted(nearest)[100:], abs=1e-3)


def test_many_stay_found_while_others_are_added_replaced_and_forgotten(rows: Rows) -> None:
    index = filled(rows)

    def best(row: Rows) -> Neighbour:
        return index.search("a", row.tolist(), 1, now=NOW)[0]

    best(rows[0])
    fresh = np.random.default_rng(2).normal(size=(300, rows.shape[1])).astype(np.float32)
    names = [str(7 * i) if i % 2 else f"new {i}" for i in range(len(fresh))]
    for name, row in zip(names, fresh.tolist(), strict=True):
        index.add(name, "a", row, Entry(reply="{}", created=NOW, expires=NOW + 60, feature="new"), now=NOW)
    assert [best(row).id for row in fresh] == names
    assert index.forget(Wanted(feature="new")) == 300
    assert all(best(row).score < 0.9 for row in fresh)
    assert sum(best(rows[i]).id == str(i) for i in range(0, COUNT, 50) if str(i) not in names) >= 0.99 * COUNT / 50 - 10


def test_many_alike_are_looked_up_as_others_are() -> None:
    index = MemoryIndex()
    for i in range(MANY + 1):
        index.add(str(i), "a", [1.0, 2.0, 3.0], ANSWER, now=NOW)
    found = index.search("a", [1, 2, 3], 5, now=NOW)
    assert len(found) == 5
    assert [near.score for near in found] == pytest.approx([1] * 5)


def test_the_answers_added_first_make_room() -> None:
    index = MemoryIndex(max_entries=3)
    for i in range(3):
        index.add(str(i), "ab"[i % 2], [1, i], ANSWER, now=NOW)
    index.add("0", "a", [1, 0], ANSWER, now=NOW)  # replaced: it is the newest now
    index.add("3", "c", [1, 3], ANSWER, now=NOW)
    assert len(index) == 3
    assert [near.id for near in index.search("a", [1, 0], 9, now=NOW)] == ["0", "2"]
    assert index.search("b", [1, 0], 9, now=NOW) == []


def test_what_has_expired_makes_room_by_itself() -> None:
    index = MemoryIndex()
    for i in range(10):
        index.add(str(i), f"user {i}", [1, i], Entry(reply="{}", created=NOW, expires=NOW + 1), now=NOW)
    for i in range(5):
        index.add(f"new {i}", "a", [1, i], Entry(reply="{}", created=NOW, expires=NOW + 9), now=NOW + 2)
    assert len(index) == 5


def test_an_emptied_index_takes_vectors_of_another_size() -> None:
    index = MemoryIndex()
    index.add("1", "a", [1, 0], ANSWER, now=NOW)
    index.forget(Wanted())
    index.add("1", "a", [1, 0, 0], ANSWER, now=NOW)
    assert [near.id for near in index.search("a", [1, 0, 0], 1, now=NOW)] == ["1"]


@pytest.mark.parametrize("most", [0, -1, 1.5, True, "9"])
def test_a_bound_that_is_none_is_refused(most: int) -> None:
    with pytest.raises(ValueError, match=rf"^max_entries: {most!r} must be"):
        MemoryIndex(max_entries=most)


def test_numpy_is_loaded_when_the_first_answer_is_added() -> None:
    script = """
import sys
from langchain_costguard.caching.index.base import Neighbour
from langchain_costguard.caching.index.memory import MemoryIndex
from langchain_costguard.caching.entry import Entry
index = MemoryIndex()
assert index.search("a", [1, 2], 3, now=1) == [] and "numpy" not in sys.modules
index.add("1", "a", [1, 2], Entry(reply="", created=1, expires=2), now=1)
assert "numpy" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_without_numpy_the_index_says_so_at_once() -> None:
    script = """
import sys
sys.modules["numpy"] = None
from langchain_costguard.caching.index.memory import MemoryIndex
try:
    MemoryIndex()
except ImportError as error:
    assert "pip install" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
