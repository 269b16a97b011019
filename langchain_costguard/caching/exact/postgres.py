"""Answers in PostgreSQL: for the machines that share a database already."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import cache, partial
from importlib import resources
from typing import Any, Unpack

from langchain_costguard.caching.base import CacheError, checked_most
from langchain_costguard.caching.entry import Entry, Stock, Wanted
from langchain_costguard.caching.exact.cache import ExactCache
from langchain_costguard.caching.outage import Outage
from langchain_costguard.caching.rules import Options
from langchain_costguard.metering.stores.base import StoreError, checked_timeout
from langchain_costguard.metering.stores.pool import Pool
from langchain_costguard.metering.stores.session import array, given, kept
from langchain_costguard.vocabulary.checks import is_text

TOUCH = 60.0
"""Seconds. When an answer was asked for last is written down no more often, so that most reads stay reads."""
COUNTS = 64
"""Answers are counted each time a process has added a 64th of ``max_entries``."""

_MADE = "SELECT to_regclass('costguard_claim') IS NOT NULL"
_GET = "SELECT entry, used FROM costguard_answer WHERE prefix = $1 AND key = $2 AND expires > $3"
_USED = "UPDATE costguard_answer SET used = $3 WHERE prefix = $1 AND key = $2"
_PUT = (
    "WITH gone AS (DELETE FROM costguard_answer WHERE prefix = $1 AND key IN (SELECT key FROM costguard_answer"
    " WHERE prefix = $1 AND expires <= $11 AND key <> $2 ORDER BY expires LIMIT 16 FOR UPDATE SKIP LOCKED))"
    " INSERT INTO costguard_answer VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
    " ON CONFLICT (prefix, key) DO UPDATE SET entry = excluded.entry, feature = excluded.feature,"
    " model = excluded.model, tenant = excluded.tenant, tags = excluded.tags, cost = excluded.cost,"
    " created = excluded.created, expires = excluded.expires, used = excluded.used"
)
_OLDEST = (
    "DELETE FROM costguard_answer WHERE prefix = $1 AND key IN (SELECT key FROM costguard_answer WHERE prefix = $1"
    " ORDER BY used DESC, key DESC OFFSET $2)"
)
_CLAIM = (
    "WITH gone AS (DELETE FROM costguard_claim WHERE prefix = $1 AND until <= $5 AND key <> $2)"
    " INSERT INTO costguard_claim VALUES ($1, $2, $3, $4) ON CONFLICT (prefix, key) DO UPDATE"
    " SET holder = excluded.holder, until = excluded.until"
    " WHERE costguard_claim.until <= $5 OR costguard_claim.holder = excluded.holder RETURNING key"
)
_RELEASE = "DELETE FROM costguard_claim WHERE prefix = $1 AND key = $2 AND holder = $3"
_STOCK = (
    "SELECT feature, model, count(*), sum(octet_length(entry)), sum(cost) FROM costguard_answer"
    ' WHERE prefix = $1 AND expires > $2 GROUP BY feature, model ORDER BY feature COLLATE "C", model COLLATE "C"'
)


class PostgresCache(ExactCache):
    """Answers for many machines: ``PostgresCache("postgresql://host/database")``.

    Needs the extra ``postgres``. Makes two tables, named ``costguard_answer`` and ``costguard_claim``, where they are
    missing; the database may be that of a ``PostgresStore``, and its kill switch, too. Caches of different ``prefix``
    know nothing of each other. It holds about ``max_entries`` answers; beyond them, those not asked for longest go (to
    the minute, and a 64th more for each process that adds). A call waits at most ``timeout`` seconds, and not at all
    for 5 s after the server did not answer. The other arguments are those of ``Rules``: ``ttl``, ``share``,
    ``deterministic``, ``tool_calls``, ``cache_if``, ``no_cache``.

    Raises:
        ValueError: the URL or an argument cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "costguard",
        max_entries: int = 100_000,
        timeout: float = 0.5,
        clock: Callable[[], float] = time.time,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(clock=clock, **options)
        if not is_text(prefix) or "\0" in prefix:
            raise ValueError(f"prefix: {prefix!r} must be a name")
        self.prefix = prefix
        self.max_entries = checked_most(max_entries)
        self.timeout = checked_timeout(timeout)
        self._url = url
        self._options = options
        self._added = 0
        self._outage = Outage(clock)
        self._pool = Pool(url, who=type(self).__name__, timeout=self.timeout, made=_MADE, schema=_schema)

    def __repr__(self) -> str:
        return f"<PostgresCache: {self._pool.where}, prefix {self.prefix!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        own, options = self.max_entries, self._options
        made = partial(PostgresCache, prefix=self.prefix, max_entries=own, timeout=self.timeout, **options)
        return made, (self._url,)

    def close(self) -> None:
        """Close the connections that are not in use; a later call makes new ones."""
        self._pool.close()

    def get(self, key: str, *, now: float) -> Entry | None:
        """The answer, if there is one and it has not expired."""
        rows = self._query(_GET, key, repr(now))
        if not rows:
            return None
        ((entry, used),) = rows
        if now - float(used) > TOUCH:
            self._query(_USED, key, repr(now))
        return self._read_entry(bytes.fromhex(entry.removeprefix("\\x")))

    def put(self, key: str, entry: Entry, *, now: float) -> None:
        """Remember an answer."""
        text = "\\x" + entry.to_json().encode("utf-8", "surrogatepass").hex()
        told = map(kept, (entry.feature, entry.model, entry.tenant))
        figures = str(entry.cost), repr(entry.created), repr(entry.expires), repr(now)
        self._query(_PUT, key, text, *told, array(entry.tags), *figures)
        if self._added % max(1, self.max_entries // COUNTS) == 0:
            self._query(_OLDEST, str(self.max_entries))
        self._added += 1

    def claim(self, key: str, holder: str, *, until: float, now: float) -> bool:
        """Take it upon oneself to get the answer, until then at the longest; false while another has."""
        return bool(self._query(_CLAIM, key, holder, repr(until), repr(now)))

    def release(self, key: str, holder: str) -> None:
        """Let others have a try."""
        self._query(_RELEASE, key, holder)

    def forget(self, wanted: Wanted) -> int:
        """Forget these answers; returns how many."""
        tests = {
            "{} = ANY (tags)": wanted.tag,
            "feature = {}": wanted.feature,
            "model = {}": wanted.model,
            "tenant = {}": wanted.tenant,
            "created < {}::double precision": wanted.before,
        }
        asked = {test: value for test, value in tests.items() if value is not None}
        where = "".join(f" AND {test.format(f'${n}')}" for n, test in enumerate(asked, 2))
        values = [kept(value) if isinstance(value, str) else repr(value) for value in asked.values()]
        gone = f"WITH gone AS (DELETE FROM costguard_answer WHERE prefix = $1{where} RETURNING 1)"
        ((count,),) = self._query(f"{gone} SELECT count(*) FROM gone", *values)
        return int(count)

    def stock(self, *, now: float) -> Iterable[Stock]:
        """What is held, by feature and model."""
        rows = self._query(_STOCK, repr(now))
        return [Stock(given(feature), given(model), *map(int, sums)) for feature, model, *sums in rows]

    def _query(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        try:
            "".join(values).encode()
        except UnicodeError as error:
            raise CacheError(f"{self!r}: {error}") from error
        return self._outage.ask(
            lambda: self._pool.ask(statement, self.prefix, *values, again=True),
            self._pool.where,
            failing=(StoreError, OSError),
            objecting=CacheError,
        )


@cache
def _schema() -> str:
    return (resources.files("langchain_costguard.metering.stores") / "sql" / "answers.sql").read_text("utf-8")
