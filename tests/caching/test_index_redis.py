"""The indexes in Redis: which is taken, what expires, and what happens when the server does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest
import redis

from langchain_costguard.caching import outage
from langchain_costguard.caching.base import CacheError
from langchain_costguard.caching.entry import Entry, Wanted
from langchain_costguard.caching.index.redis import RedisIndex
from langchain_costguard.caching.index.redis_search import RedisSearchIndex
from langchain_costguard.caching.index.redis_sets import RedisVectorSetIndex
from tests.caching.index_servers import NO_REDIS8, imitated_search, redis8, redis8_program
from tests.servers import Server, redis_cluster, redis_server, server_programs

NOW = 1_000_000.0


def entry(**fields: Any) -> Entry:
    return Entry(**{"reply": "{}", "created": NOW, "expires": NOW + 60, **fields})


def ids(index: Any, k: int = 99) -> list[str]:
    return [near.id for near in index.search("a", [1, 0], k, now=NOW)]


@pytest.fixture(scope="module")
def plain() -> Iterator[Server]:
    """A server that can look up no vectors."""
    with redis_server(server_programs()["valkey"]) as server:
        yield server


@pytest.fixture(scope="module")
def search_url(plain: Server) -> Iterator[str]:
    with imitated_search(plain) as url:
        yield url


@pytest.fixture(scope="module")
def sets_url() -> Iterator[str]:
    with redis8() as url:
        if url is None:
            pytest.skip(NO_REDIS8)
        yield url


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid4().hex}"


# Which one


def test_vector_sets_are_taken_where_the_server_has_them(sets_url: str, prefix: str) -> None:
    with closing(RedisIndex(sets_url, prefix=prefix)) as index:
        assert "RedisVectorSetIndex" in repr(index)
        index.add("1", "a", [1, 0], entry(), now=NOW)
        assert ids(index) == ["1"]
        assert [stock.entries for stock in index.stock(now=NOW)] == [1]
        assert index.forget(Wanted()) == 1


def test_redis_search_is_taken_where_the_server_has_that_only(plain: Server, search_url: str, prefix: str) -> None:
    with closing(RedisIndex(search_url, prefix=prefix, timeout=5)) as index:
        assert "RedisSearchIndex" in repr(index)
        index.add("1", "a", [1, 0], entry(), now=NOW)
        assert ids(index) == ["1"]
        assert index.forget(Wanted()) == 1


def test_a_server_with_neither_is_refused_and_what_would_do_is_named(plain: Server) -> None:
    with pytest.raises(ValueError, match=r"Redis at redis://.*Redis 8 or later.*Redis Search.*SQLiteIndex"):
        RedisIndex(plain.url)


@pytest.mark.parametrize(
    ("kind", "missing"), [(RedisVectorSetIndex, "vector sets"), (RedisSearchIndex, "Redis Search")]
)
def test_an_index_the_server_cannot_keep_is_a_cache_error(plain: Server, kind: Any, missing: str) -> None:
    with closing(kind(plain.url)) as index, pytest.raises(CacheError, match=f"this server has no {missing}"):
        index.add("1", "a", [1, 0], entry(), now=NOW)


def test_a_server_that_is_down_at_first_is_asked_later(monkeypatch: pytest.MonkeyPatch) -> None:
    program = redis8_program()
    if program is None:
        pytest.skip(NO_REDIS8)
    monkeypatch.setattr(outage, "REST", 0)
    with redis_server(program) as server:
        with server.stopped():
            index = RedisIndex(server.url, timeout=0.05)
            with pytest.raises(CacheError, match="Redis at redis://"):
                ids(index)
        index.add("1", "a", [1, 0], entry(), now=NOW)
        assert ids(index) == ["1"]
        index.close()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("http://host",), "url"),
        ((7,), "7"),
        (("redis://localhost", {"prefix": "a*"}), "prefix"),
        (("redis://localhost", {"prefix": ""}), "prefix"),
        (("redis://localhost", {"timeout": 0}), "timeout"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(arguments: Any, named: str) -> None:
    where, *options = arguments
    for kind in (RedisVectorSetIndex, RedisSearchIndex, RedisIndex):
        with pytest.raises(ValueError, match=named):
            kind(where, **(options[0] if options else {}))


# Servers that fail


@pytest.mark.parametrize("kind", [RedisVectorSetIndex, RedisSearchIndex])
def test_a_server_that_does_not_answer_is_a_cache_error_and_is_left_alone_for_a_while(kind: Any) -> None:
    with redis_server() as server, closing(kind(server.url, timeout=0.05)) as index:
        with server.stopped(), pytest.raises(CacheError, match="Redis at redis://"):
            ids(index)
        for ask in (
            lambda: ids(index),
            lambda: index.add("1", "a", [1, 0], entry(), now=NOW),
            lambda: index.forget(Wanted()),
            lambda: list(index.stock(now=NOW)),
        ):
            with pytest.raises(CacheError, match="Redis at redis://"):  # though by now it would answer
                ask()


def test_no_error_tells_the_password() -> None:
    with closing(RedisSearchIndex("redis://me:secret@127.0.0.1:1/0", timeout=0.2)) as index:
        with pytest.raises(CacheError) as told:
            ids(index)
        assert "secret" not in str(told.value) + repr(index)


# Vector sets


@pytest.fixture
def sets(sets_url: str, prefix: str) -> Iterator[RedisVectorSetIndex]:
    with closing(RedisVectorSetIndex(sets_url, prefix=prefix, timeout=5)) as index:
        yield index
        index.forget(Wanted())


@pytest.mark.parametrize("options", [{}, {"protocol": 3}, {"decode_responses": True}], ids=repr)
def test_any_client_will_do(sets_url: str, prefix: str, options: Any) -> None:
    with redis.Redis.from_url(sets_url, **options) as client:
        client.vset()
        index = RedisVectorSetIndex(client, prefix=prefix)
        assert ids(index) == []
        index.add("Zoë", "a", [1, 0], entry(reply="„ja“"), now=NOW)
        assert [near.entry.reply for near in index.search("a", [1, 1], 1, now=NOW)] == ["„ja“"]
        stored = len(entry(reply="„ja“").to_json().encode())
        assert [stock.bytes for stock in index.stock(now=NOW)] == [stored + 8]
        assert index.forget(Wanted()) == 1


def test_the_vectors_of_expired_answers_leave_the_set_when_they_are_come_upon(
    sets: RedisVectorSetIndex, sets_url: str, prefix: str
) -> None:
    with redis.Redis.from_url(sets_url) as client:
        for i in range(60):
            sets.add(str(i), "a", [1, i / 100], entry(), now=NOW)
        for i in range(50):
            client.delete(f"{prefix}:{{a}}:{i}")  # as their expiry does
        assert ids(sets, 3) == ["50", "51", "52"]
        assert client.execute_command("VCARD", f"{prefix}:{{a}}") == 10
        for i in range(50, 60):
            client.delete(f"{prefix}:{{a}}:{i}")
        for i in range(40):
            sets.add("new", "a", [0, 1 + i], entry(), now=NOW)
        assert client.execute_command("VCARD", f"{prefix}:{{a}}") < 10


def test_a_set_lives_as_long_as_its_last_answer(sets: RedisVectorSetIndex, sets_url: str, prefix: str) -> None:
    with redis.Redis.from_url(sets_url) as client:
        for seconds, longest in ((50, 50), (500, 500), (5, 500)):
            sets.add(str(seconds), "a", [1, 0], entry(expires=NOW + seconds), now=NOW)
            assert longest - 5 < client.ttl(f"{prefix}:{{a}}") <= longest
            assert seconds - 5 < client.ttl(f"{prefix}:{{a}}:{seconds}") <= seconds


def test_a_quantized_set_scores_nearly_the_same(sets_url: str, prefix: str) -> None:
    with closing(RedisVectorSetIndex(sets_url, prefix=prefix, quantized=True)) as index:
        index.add("1", "a", [1, 2, 3, 4], entry(), now=NOW)
        assert index.search("a", [4, 3, 2, 1], 1, now=NOW)[0].score == pytest.approx(20 / 30, abs=0.01)
        index.forget(Wanted())


def test_a_cluster_will_do() -> None:
    program = redis8_program()
    if program is None:
        pytest.skip(NO_REDIS8)
    with redis_cluster(program) as cluster, cluster.client() as client:
        index = RedisVectorSetIndex(client)
        for i in range(30):
            index.add(str(i), f"setting {i % 5}", [1, i], entry(), now=NOW)
        assert [near.id for near in index.search("setting 2", [1, 0], 9, now=NOW)] == ["2", "7", "12", "17", "22", "27"]
        assert [stock.entries for stock in index.stock(now=NOW)] == [30]
        assert index.forget(Wanted()) == 30


# Redis Search


def test_the_index_is_created_again_when_somebody_emptied_the_database(search_url: str, prefix: str) -> None:
    with closing(RedisSearchIndex(search_url, prefix=prefix, timeout=5)) as index:
        index.add("1", "a", [1, 0], entry(), now=NOW)
        with redis.Redis.from_url(search_url, protocol=2) as client:
            client.flushall()
        assert ids(index) == []
        index.add("2", "a", [1, 0, 0], entry(), now=NOW)
        assert [near.id for near in index.search("a", [1, 0, 0], 9, now=NOW)] == ["2"]
        index.forget(Wanted())


def test_two_clients_create_one_index(search_url: str, prefix: str) -> None:
    with (
        closing(RedisSearchIndex(search_url, prefix=prefix, timeout=5)) as one,
        closing(RedisSearchIndex(search_url, prefix=prefix, timeout=5)) as two,
    ):
        assert ids(one) == ids(two) == []
        one.add("1", "a", [1, 0], entry(), now=NOW)
        two.add("2", "a", [1, 1], entry(), now=NOW)
        assert ids(one) == ids(two) == ["1", "2"]
        with pytest.raises(ValueError, match=r"3 numbers, but .* have 2"):
            two.add("3", "a", [1, 1, 1], entry(), now=NOW)
        one.forget(Wanted())
