"""Balances in PostgreSQL: for those who run one already, one statement a reservation and one a settlement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from importlib import resources
from typing import Any

from langchain_costguard.metering.stores.base import (
    Balance,
    Claim,
    Grant,
    Refusal,
    Reservation,
    Settlement,
    checked_timeout,
)
from langchain_costguard.metering.stores.leases.sizes import checked
from langchain_costguard.metering.stores.pool import Pool
from langchain_costguard.metering.stores.repeats import OncePerAccount
from langchain_costguard.metering.stores.session import array, given, kept, numbers
from langchain_costguard.metering.stores.unheard import Unheard
from langchain_costguard.vocabulary.money import Money

ROWS_AT_ONCE = 500

_RESERVE = "SELECT costguard_reserve_3($1, $2, $3, $4, $5, $6, $7, $8)"
_SETTLE = "SELECT costguard_settle_2($1, $2, $3, $4, $5)"
_HELD = "costguard_held_1(costguard_live_1(holds, $2))"
_READ = f"SELECT name, spent, {_HELD}, cap FROM costguard_account WHERE ledger = $1 AND name = ANY ($3::text[])"
_SCAN = (
    f'SELECT name, spent, {_HELD}, cap FROM costguard_account WHERE ledger = $1 AND name COLLATE "C" > $3'
    f' ORDER BY name COLLATE "C" LIMIT {ROWS_AT_ONCE}'
)
_FLAG = "INSERT INTO costguard_flag VALUES ($1, $2, $3) ON CONFLICT (ledger, name) DO UPDATE SET text = excluded.text"
_MADE = (
    "SELECT to_regprocedure('costguard_reserve_3(text,text[],bigint[],bigint,bigint,bigint,double precision,text)')"
    " IS NOT NULL"
)


class PostgresStore(OncePerAccount):
    """Shared balances for many machines: ``PostgresStore("postgresql://host/database")``.

    Needs the extra ``postgres``. Makes three tables and a few functions, named ``costguard_…``, where they are missing,
    in the schema that comes first on the user's search path. An answer is waited for ``timeout`` seconds in all, a new
    connection two. As with `RedisStore`, a reservation is asked for once more in half of that time, and made once; a
    settlement is sent once. The server may lose the last moments in a power cut (``synchronous_commit=off``), never the
    ledger. A ``lease`` is that of `RedisStore`. What the URL says of the session (``options``, ``application_name``)
    counts, and a pooler that lends a server for one statement will do.

    Raises:
        ValueError: the URL, namespace, timeout or lease cannot be used.
    """

    shared = True

    def __init__(
        self, url: str, *, namespace: str = "costguard", timeout: float = 0.25, lease: str | Money | None = None
    ) -> None:
        if not isinstance(namespace, str) or not namespace or "\0" in namespace:
            raise ValueError(f"namespace must be a name, not {namespace!r}")
        self.namespace = namespace
        self.timeout = checked_timeout(timeout)
        checked(lease)
        self.lease = lease
        self._url = url
        self._pool = Pool(url, who=type(self).__name__, timeout=self.timeout, made=_MADE, schema=_schema)
        self._unheard = Unheard(self._make, self._settle)

    def __repr__(self) -> str:
        return f"<PostgresStore: {self._pool.where}, namespace {self.namespace!r}>"

    def __reduce__(self) -> tuple[Callable[[str], PostgresStore], tuple[str]]:
        return partial(type(self), namespace=self.namespace, timeout=self.timeout, lease=self.lease), (self._url,)

    def close(self) -> None:
        """Close the connections that are not in use; a later call makes new ones."""
        self._unheard.flush(self.timeout)
        self._pool.close()

    def read(self, accounts: Sequence[str], *, now: float) -> list[Balance]:
        """The balances of these accounts; an unknown one is all zeros."""
        found: dict[str, Balance] = {}
        for start in range(0, len(accounts), ROWS_AT_ONCE):
            names = array(accounts[start : start + ROWS_AT_ONCE])
            answer = self._ask(_READ, self.namespace, repr(now), names, again=True)
            found |= {given(name): Balance(int(spent), int(held), int(cap)) for name, spent, held, cap in answer}
        return [found.get(name, Balance(0, 0)) for name in accounts]

    def scan(self, *, now: float) -> Iterable[tuple[str, Balance]]:
        """Every account there is, fetched as it is iterated over."""
        last = ""
        while True:
            answer = self._ask(_SCAN, self.namespace, repr(now), last, again=True)
            for name, spent, held, cap in answer:
                yield given(name), Balance(int(spent), int(held), int(cap))
                last = name
            if len(answer) < ROWS_AT_ONCE:
                return

    def flags(self) -> Mapping[str, str]:
        """The flags set on this store: name to text."""
        query = "SELECT name, text FROM costguard_flag WHERE ledger = $1"
        return {given(name): given(text) for name, text in self._ask(query, self.namespace, again=True)}

    def flag(self, name: str, text: str | None) -> None:
        """Set a flag, or with None remove it."""
        if text is None:
            query = "DELETE FROM costguard_flag WHERE ledger = $1 AND name = $2"
            self._ask(query, self.namespace, kept(name), again=True)
        else:
            self._ask(_FLAG, self.namespace, kept(name), kept(text), again=True)

    def turn(
        self, settlement: Settlement, reservation: Reservation, *, now: float
    ) -> tuple[list[int], Grant | Refusal]:
        """Settle, then reserve, in one trip; no account more than once in either."""
        with self._unheard.named(*reservation, now) as name:
            statements = self._settling(*settlement, now), self._reserving(name, *reservation, now)
            settled, reserved = self._pool.ask_all(statements, again=False)
        return numbers(settled[0][0]), _granted(reserved)

    def _reserve(self, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        if not claims:
            return Grant(units[1])
        with self._unheard.named(claims, units, until, now) as name:
            return self._make(name, claims, units, until, now)

    def _make(
        self, name: str, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float
    ) -> Grant | Refusal:
        return _granted(self._ask(*self._reserving(name, claims, units, until, now), again=True))

    def _settle(
        self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], until: int, now: float
    ) -> list[int]:
        if not claims:
            return []
        ((text,),) = self._ask(*self._settling(claims, held, actual, until, now), again=False)
        return numbers(text)

    def _reserving(
        self, name: str, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float
    ) -> tuple[str, ...]:
        figures: list[int] = []
        for _, cap, fixed, per_unit, clock, ttl, reserve in claims:
            figures += (cap, fixed, -1 if clock else per_unit, ttl, reserve)
        bounds = (str(units[0]), str(units[1]), str(until), repr(now), name)
        return _RESERVE, self.namespace, array([claim.account for claim in claims]), array(figures), *bounds

    def _settling(
        self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], until: int, now: float
    ) -> tuple[str, ...]:
        figures: list[int] = []
        for (_, cap, _, _, clock, ttl, _), hold, amount in zip(claims, held, actual, strict=True):
            figures += (cap, ttl, -1 if clock else hold, amount)
        names = array([claim.account for claim in claims])
        return _SETTLE, self.namespace, names, array(figures), str(until), repr(now)

    def _ask(self, *statement: str, again: bool) -> list[tuple[Any, ...]]:
        return self._pool.ask(*statement, again=again)


def _granted(answer: Any) -> Grant | Refusal:
    ((text,),) = answer
    granted, *rest = numbers(text)
    if granted:
        return Grant(rest[0], tuple(rest[1:]))
    index, needed, spent, held, by_holds = rest
    return Refusal(index, needed, spent, held, bool(by_holds))


@cache
def _schema() -> str:
    return (resources.files("langchain_costguard.metering.stores") / "sql" / "ledger.sql").read_text("utf-8")
