"""One connection to a PostgreSQL, and each statement answered within its time or not at all.

psycopg waits for a statement as long as the server takes; libpq underneath it can be asked without waiting.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_costguard.vocabulary.driver import conninfo_to_dict, pq, psycopg

CONNECTING = 2
"""Seconds a new connection may take: libpq takes whole ones, and no fewer."""


# As in SQLite's mode NORMAL, a power cut may lose the last moments: a disk's flush a call is what that buys.
# The plan of a statement over arrays looks dearer when it is made for all of them than for these, and would be
# made anew at each call, which takes longer than to carry it out.
OURS = "current_setting('plan_cache_mode') = 'force_generic_plan'"
_OPTIONS = "-c synchronous_commit=off -c plan_cache_mode=force_generic_plan"


class Session:
    """An open connection.

    Raises:
        psycopg.Error: it could not be made.
    """

    def __init__(self, url: str) -> None:
        try:
            self._connection = _connected(url, _OPTIONS)
        except psycopg.OperationalError as error:
            if "startup parameter" not in str(error):
                raise
            self._connection = _connected(url, "")  # a pooler, which knows no options
        self.prepares = False
        """Whether a statement that is prepared stays so. A pooler lends a server for one statement, and the next may go
        to one that never heard of it: it is the one that passes no options on."""
        self._raw = self._connection.pgconn
        self._raw.nonblocking = 1
        self._raw.enter_pipeline_mode()
        self._prepared: dict[str, bytes] = {}

    def ask(self, statements: Sequence[tuple[str, Sequence[str]]], until: float) -> Iterator[pq.abc.PGresult]:
        """The results of statements with ``$1`` and so on in them, each a transaction of its own; all in one trip.

        Raises:
            psycopg.Error: there was no answer in time.
        """
        known = self._prepared
        new = list(dict.fromkeys(text for text, _ in statements if text not in known)) if self.prepares else []
        for text in new:
            self._prepared[text] = b"s%d" % len(self._prepared)
            self._raw.send_prepare(self._prepared[text], text.encode())
            self._raw.pipeline_sync()
        for text, values in statements:
            given = [value.encode() for value in values]
            if self.prepares:
                self._raw.send_query_prepared(self._prepared[text], given)
            else:
                self._raw.send_query_params(text.encode(), given)
            self._raw.pipeline_sync()
        while self._raw.flush():
            self._patiently(select.POLLOUT, until)
        for _ in new:
            self._result(until)
        for _ in statements:
            yield self._result(until)

    def run(self, script: str, seconds: float) -> None:
        """Run several statements in one transaction."""
        self._raw.exit_pipeline_mode()
        self._raw.send_query(script.encode())
        until = time.monotonic() + seconds
        while self._raw.flush():
            self._patiently(select.POLLOUT, until)
        while (result := self._next(until)) is not None:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise failure(result)
        self._raw.enter_pipeline_mode()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def stale(self) -> bool:
        """Whether the server has hung up, or said something nobody asked for."""
        if self._raw.status != pq.ConnStatus.OK:
            return True
        return self._wait(select.POLLIN, 0.0)

    def _result(self, until: float) -> pq.abc.PGresult:
        """What one statement has brought."""
        last: pq.abc.PGresult | None = None
        while True:
            result = self._next(until)
            if result is not None and result.status == pq.ExecStatus.PIPELINE_SYNC:
                break
            last = result or last
        if last is None:
            raise psycopg.OperationalError("no answer")
        return last

    def _next(self, until: float) -> pq.abc.PGresult | None:
        while self._raw.is_busy():
            self._patiently(select.POLLIN, until)
            self._raw.consume_input()
        return self._raw.get_result()

    def _patiently(self, what: int, until: float) -> None:
        left = until - time.monotonic()
        if left <= 0 or not self._wait(what, left):
            raise psycopg.OperationalError("no answer in time")

    def _wait(self, what: int, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._raw.socket, what)
        return bool(poll.poll(seconds * 1000))


def _connected(url: str, options: str) -> psycopg.Connection:
    """A connection as the URL says; of the options, those in it win."""
    own: dict[str, Any] = {"options": f"{options} {conninfo_to_dict(url).get('options') or ''}".strip()}
    return psycopg.connect(
        url,
        autocommit=True,
        connect_timeout=CONNECTING,
        client_encoding="utf8",
        fallback_application_name="costguard",
        **(own if own["options"] else {}),
    )


def rows(result: pq.abc.PGresult) -> list[tuple[Any, ...]]:
    """The rows of a result, as text.

    Raises:
        psycopg.Error: it is an error.
    """
    if result.status == pq.ExecStatus.FATAL_ERROR:
        raise failure(result)
    columns = range(result.nfields)
    values = [[result.get_value(row, column) for column in columns] for row in range(result.ntuples)]
    return [tuple(value.decode() if value is not None else None for value in row) for row in values]


def failure(result: pq.abc.PGresult) -> psycopg.Error:
    """What the server says is wrong."""
    said = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    return psycopg.DatabaseError(said.decode("utf-8", "replace").strip())


def array(values: Sequence[Any]) -> str:
    """Numbers or texts as PostgreSQL writes an array."""
    parts = []
    for value in values:
        if isinstance(value, str):
            escaped = kept(value).replace("\\", "\\\\").replace('"', '\\"')
            parts.append(f'"{escaped}"')
        else:
            parts.append(str(value))
    return "{" + ",".join(parts) + "}"


def numbers(text: str) -> list[int]:
    """The numbers of an array."""
    return [int(part) for part in text[1:-1].split(",") if part]


def kept(text: str) -> str:
    """A text as PostgreSQL can keep it: it knows no zero byte."""
    if "\0" in text or "\1" in text:
        return text.replace("\1", "\x011").replace("\0", "\x010")
    return text


def given(text: str) -> str:
    """The text that was kept."""
    return text.replace("\x010", "\0").replace("\x011", "\1") if "\1" in text else text
