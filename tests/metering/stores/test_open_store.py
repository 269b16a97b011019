"""A store from a URL, and nothing imported that was not asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import langchain_costguard.stores
from langchain_costguard.stores import MemoryStore, RedisStore, SQLiteStore, Store, open_store
from tests.servers import Server


def test_each_form_opens_its_store(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert isinstance(open_store("memory:"), MemoryStore)
    for url, path in [
        ("sqlite:a.db", tmp_path / "a.db"),
        (f"sqlite:{tmp_path}/b.db", tmp_path / "b.db"),
        ("sqlite:///c.db", tmp_path / "c.db"),
        (f"sqlite:///{tmp_path}/d.db", tmp_path / "d.db"),
        ("sqlite:~/e.db", tmp_path / "e.db"),
    ]:
        store = open_store(url)
        assert isinstance(store, SQLiteStore)
        assert store.path == str(path)
        store.close()
    for url in (server.url, server.unix_url, "rediss://localhost"):
        assert isinstance(open_store(url), RedisStore)
    assert open_store(server.url).flags() == open_store(server.unix_url).flags()


@pytest.mark.parametrize(
    "url", ["", "budgets.db", "memory", "memory://", "sqlite:", "sqlite://host/x.db", "mysql://localhost", None, 7]
)
def test_anything_else_is_named_together_with_what_is_accepted(url: str) -> None:
    with pytest.raises(ValueError, match="store must be memory:, sqlite:PATH, redis://") as caught:
        open_store(url)
    assert repr(url) in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite:/no/such/directory/x.db", "redis://localhost:port", "redis:localhost"])
def test_a_url_that_cannot_be_used_is_named(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        open_store(url)
    assert url.removeprefix("sqlite:") in str(caught.value)


def test_a_password_is_not_told() -> None:
    with pytest.raises(ValueError) as caught:
        open_store("mysql://me:secret@localhost")
    assert "secret" not in str(caught.value)


def test_importing_the_stores_imports_neither_redis_nor_sqlite() -> None:
    code = (
        "import sys, langchain_costguard.stores as stores; stores.open_store('memory:');"
        "print({'redis', 'sqlite3'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_every_store_keeps_to_the_protocol() -> None:
    def takes(store: type[Store]) -> str:
        return store.__name__

    assert {takes(store) for store in (MemoryStore, SQLiteStore, RedisStore)} <= set(langchain_costguard.stores.__all__)
    with pytest.raises(AttributeError, match="NoStore"):
        langchain_costguard.stores.NoStore  # noqa: B018


URL = "postgresql://me@127.0.0.1:1/none"
DOORS = (
    "from langchain_costguard.stores import PostgresStore",
    f"from langchain_costguard.stores import open_store; open_store({URL!r})",
    f"from langchain_costguard import CostGuard; CostGuard(log={URL!r})",
    "from langchain_costguard.caching import PostgresCache",
    f"from langchain_costguard.caching import open_cache; open_cache({URL!r})",
    f"from langchain_costguard.observe.log import open_log; open_log({URL!r})",
    f"from langchain_costguard.cli import main; sys.exit(main(['status', '--store', {URL!r}]))",
    f"from langchain_costguard.cli import main; sys.exit(main(['doctor', '--store', {URL!r}]))",
    f"from langchain_costguard.cli import main; sys.exit(main(['report', {URL!r}]))",
)


def test_where_psycopg_is_missing_it_is_said_how_to_get_it() -> None:
    code = """
import sys
sys.modules["psycopg"] = None
for door in sys.argv[1:]:
    print("door:", door, file=sys.stderr)
    try:
        exec(door)
    except Exception as error:
        print(error, file=sys.stderr)
    except SystemExit:
        pass
"""
    out = subprocess.run([sys.executable, "-c", code, *DOORS], check=True, capture_output=True, text=True)
    _, *said = out.stderr.split("door:")
    assert len(said) == len(DOORS)
    for door, text in zip(DOORS, said, strict=True):
        assert "PostgreSQL needs psycopg: pip install 'langchain-costguard[postgres]'" in text, door
        assert "Traceback" not in text, door
