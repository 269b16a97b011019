"""PostgreSQL as people run it: behind a pooler, with a schema of their own, with a password that nobody is to see."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from langchain_costguard import Budget, CostGuard
from langchain_costguard.stores import PostgresStore, StoreError
from langchain_costguard.testing import ScriptedChatModel
from tests.proxy import Proxy
from tests.servers import postgres_program

pytestmark = pytest.mark.skipif(not postgres_program(), reason="no PostgreSQL here")
REFUSAL = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0"


class Pooler(Proxy):
    """Knows no options, and nothing that was prepared: as PgBouncer does it for a statement at a time."""

    refused = 0

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        first = client.recv(65_536, socket.MSG_PEEK)
        if b"options\0" in first:
            self.refused += 1
            client.recv(65_536)
            with client, server, suppress(OSError):
                client.sendall(b"E" + struct.pack("!I", len(REFUSAL) + 4) + REFUSAL)
            return
        super()._pass(client, server)


@contextmanager
def pooled(url: str) -> Iterator[tuple[str, Pooler]]:
    parts = urlsplit(url)
    pooler = Pooler(parts.port or 5432)
    try:
        yield f"postgresql://costguard@127.0.0.1:{pooler.port}/postgres?sslmode=disable&gssencmode=disable", pooler
    finally:
        pooler.close()


def test_a_pooler_that_passes_no_options_on_will_do(postgres: str, tmp_path: Path) -> None:
    import psycopg

    with pooled(postgres) as (url, pooler), closing(PostgresStore(url, namespace=tmp_path.name, timeout=5)) as store:
        guard = CostGuard(Budget(per="all", usd="1"), store=store)
        ScriptedChatModel(usage=(10, 5)).invoke("hi", {"callbacks": [guard]})
        assert pooler.refused
        assert store._pool.ask("SELECT name FROM pg_prepared_statements", again=True) == []
        with psycopg.connect(postgres) as direct:
            found = direct.execute("SELECT count(*) FROM costguard_account WHERE ledger = %s", [tmp_path.name])
            assert found.fetchone() != (0,)


def test_what_the_url_says_of_the_session_counts(postgres: str) -> None:
    import psycopg

    with psycopg.connect(postgres, autocommit=True) as direct:
        direct.execute("CREATE SCHEMA mine")
        url = f"{postgres}?options=-csearch_path%3Dmine%20-csynchronous_commit%3Don&application_name=my%20agent"
        with closing(PostgresStore(url)) as store:
            store.flag("halt:a", "why")
            assert direct.execute("SELECT name FROM mine.costguard_flag").fetchall() == [("halt:a",)]
            names = "SELECT current_setting('application_name'), current_setting('synchronous_commit')"
            assert store._pool.ask(names, again=True) == [("my agent", "on")]


@pytest.mark.parametrize("url", ["postgresql://u:s3c@ret5:w@127.0.0.1:1/db", "postgresql://u:s3c/ret5@127.0.0.1:1/db"])
def test_a_connection_that_fails_shows_nothing_of_a_password(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        PostgresStore(url).flags()
    assert "ret5" not in str(caught.value)
    assert "s3c" not in str(caught.value)
