"""Connections to one PostgreSQL: a few for all threads of a process, anew in a forked child, and no answer late."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any

from langchain_costguard.metering.stores.base import StoreError
from langchain_costguard.metering.stores.session import OURS, Session, rows
from langchain_costguard.metering.stores.together import Job, Together
from langchain_costguard.vocabulary.driver import conninfo_to_dict, psycopg
from langchain_costguard.vocabulary.urls import told, without_password, worded

Statements = tuple[tuple[str, ...], ...]
CONNECTIONS = 4
"""At most, per process: what more threads ask for goes together, over these. More would only wait for each other's
locks in the server."""
MAKING = 5.0
"""Seconds to make the tables and functions, once."""
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtextextended('costguard schema', 0));"
# What nobody waits for any more is given up by the server, too, where the user has not said otherwise.
_GREETING = f"""SELECT made, {OURS}, CASE WHEN made AND {OURS} AND current_setting('statement_timeout') = '0'
  THEN set_config('statement_timeout', '{{milliseconds}}', false) END FROM ({{made}}) AS schema(made)"""


class Pool:
    """Sessions at the server of a URL. A new one makes what is missing there.

    Args:
        url: ``postgresql://``.
        who: Who is named as the one that wanted it.
        timeout: Seconds to wait for an answer.
        made: Asks whether everything is there.
        schema: What makes it.

    Raises:
        ValueError: the URL cannot be used.
    """

    def __init__(self, url: str, *, who: str, timeout: float, made: str, schema: Callable[[], str]) -> None:
        self._url = _checked(url, who)
        self._timeout = timeout
        self._made = made
        self._schema = schema
        self.where = f"PostgreSQL at {without_password(url)}"
        self._inherited: list[Session] = []
        self._idle: list[Session] = []
        self._start()

    def close(self) -> None:
        """Close the connections that are not in use; a later call makes new ones."""
        idle, self._idle = self._idle, []
        if self._pid == os.getpid():
            for session in idle:
                session.close()

    def _start(self) -> None:
        self._inherited += self._idle  # a parent's: closing them here would end its sessions
        self._idle = []
        self._together: Together[Statements] = Together(
            self._exchange, leaders=CONNECTIONS, patience=self._timeout, where=self.where
        )
        self._pid = os.getpid()

    def ask(self, *statement: str, again: bool) -> list[tuple[Any, ...]]:
        """The rows that a statement with ``$1`` and so on in it brings, all as text; one that may be carried out
        ``again`` is asked for once more, on a fresh connection, when half of the time is over.

        Raises:
            StoreError: the server did not answer in time, or refused.
        """
        (found,) = self.ask_all((statement,), again=again)
        return found

    def ask_all(self, statements: Statements, *, again: bool) -> list[list[tuple[Any, ...]]]:
        """The same of several statements, in one trip."""
        if self._pid != os.getpid():
            self._start()
        try:
            answer: Any = self._together.do(Job(statements, again))
        except (psycopg.Error, OSError) as error:
            why = worded(error)
            if isinstance(error, psycopg.OperationalError):  # that of a connection speaks of what is in the URL
                why = told(why, self._url)
            raise StoreError(f"{self.where}: {why}") from error
        return answer  # type: ignore[no-any-return]

    def _exchange(self, jobs: list[Job[Statements]]) -> None:
        again = bool(jobs[0].kind)
        try:
            self._attempt(self._take, jobs, self._timeout / 2 if again else self._timeout)
        except (psycopg.Error, OSError) as error:
            self.close()
            left = [job for job in jobs if not job.over]
            try:
                if not again:
                    raise
                self._attempt(self._new, left, self._timeout / 2)
            except (psycopg.Error, OSError) as last:
                for job in left:
                    if not job.over:
                        job.error = last if again else error

    def _attempt(self, take: Callable[[], Session], jobs: list[Job[Statements]], seconds: float) -> None:
        session = take()
        try:
            wanted = [(text, values) for job in jobs for text, *values in job.wanted]
            results = session.ask(wanted, time.monotonic() + seconds)
            for job in jobs:
                found = [next(results) for _ in job.wanted]
                try:
                    job.value = list(map(rows, found))
                except (psycopg.Error, ValueError) as error:
                    job.error = error
                job.over = True
        except BaseException:
            session.close()
            raise
        self._idle.append(session)

    def _take(self) -> Session:
        while self._idle:
            try:
                session = self._idle.pop()
            except IndexError:
                break
            if not session.stale():
                return session
            session.close()
        return self._new()

    def _new(self) -> Session:
        session, until = Session(self._url), time.monotonic() + MAKING
        try:
            query = _GREETING.format(made=self._made, milliseconds=max(1, int(self._timeout * 900)))
            ((made, ours, _),) = [row for result in session.ask([(query, ())], until) for row in rows(result)]
            session.prepares = ours == "t"
            if made != "t":
                session.run(_ONE_AT_A_TIME + self._schema(), MAKING)
        except BaseException:
            session.close()
            raise
        return session


def _checked(url: Any, who: str) -> str:
    if not isinstance(url, str) or not re.match(r"postgres(ql)?://", url):
        raise ValueError(f"{who} needs a url that begins with postgresql://, not {without_password(url)!r}")
    try:
        conninfo_to_dict(url)
    except psycopg.Error as error:
        raise ValueError(f"{who} cannot use url {without_password(url)!r}: {type(error).__name__}") from None
    return url
