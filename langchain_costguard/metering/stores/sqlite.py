"""Balances in a SQLite file: several processes on one machine."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from langchain_costguard.metering.stores import account as rules
from langchain_costguard.metering.stores.account import Account
from langchain_costguard.metering.stores.base import Balance, Claim, Grant, Refusal, StoreError, checked_timeout
from langchain_costguard.metering.stores.database import Database
from langchain_costguard.metering.stores.repeats import OncePerAccount
from langchain_costguard.vocabulary.checks import filed

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS costguard_account (name TEXT PRIMARY KEY, spent INTEGER NOT NULL,"
    " cap INTEGER NOT NULL, idle REAL NOT NULL, holds TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS costguard_flag (name TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS costguard_sweep (position TEXT NOT NULL)",
)
"""``holds`` is "second=amount …", ``idle`` when the account may be forgotten, ``position`` where the last look for idle
accounts ended."""

SWEEP = 16
"""Accounts looked at, at least, when new ones are added: processes that live for one call sweep their share too."""

_HOLDS = re.compile(r"\d{1,15}=-?\d{1,19}(?: \d{1,15}=-?\d{1,19})*+")
_HALF = 2**62
"""Beyond it a sum of two is no SQLite integer any more."""
ROWS_AT_ONCE = 500
UPSERT = (
    "INSERT INTO costguard_account VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
    " spent = excluded.spent, cap = excluded.cap, idle = excluded.idle, holds = excluded.holds"
)


class SQLiteStore(OncePerAccount):
    """Shared balances for the processes of one machine: ``SQLiteStore("budgets.db")``.

    Write-ahead mode with ``synchronous=NORMAL``: a power cut may lose the last moments, never the file. A call waits
    ``timeout`` seconds while nobody commits, and a second while others do, then raises `StoreError`. A new file has the
    permissions ``mode``, for its owner alone; one that is there keeps its own. Not for network drives: SQLite's locks
    do not hold there. Idle accounts are dropped as new ones come.

    Raises:
        ValueError: the path cannot be opened as a database, or the timeout is not a positive number.
    """

    shared = True

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 0.25, mode: int = 0o600) -> None:
        self.timeout = checked_timeout(timeout)
        self.path = _checked_path(path)
        self._database = Database(self.path, SCHEMA, timeout=self.timeout, mode=_checked_mode(mode))

    def __repr__(self) -> str:
        return f"SQLiteStore({self.path!r})"

    def __reduce__(self) -> tuple[partial[SQLiteStore], tuple[str]]:
        return partial(SQLiteStore, timeout=self.timeout), (self.path,)

    def close(self) -> None:
        """Close the file in this process."""
        self._database.close()

    def read(self, accounts: Sequence[str], *, now: float) -> list[Balance]:
        """The balances of these accounts; an unknown one is all zeros."""
        rows = self._database.run(lambda connection: _rows(connection, accounts), write=False)
        return [_balance(*rows[name], now=now) if name in rows else Balance(0, 0) for name in accounts]

    def scan(self, *, now: float) -> Iterable[tuple[str, Balance]]:
        """Every account there is."""
        query = "SELECT name, spent, cap, holds FROM costguard_account"
        rows = self._database.run(lambda connection: connection.execute(query).fetchall(), write=False)
        return [(name, _balance(*_sound(name, *row), now=now)) for name, *row in rows]

    def flags(self) -> Mapping[str, str]:
        """The flags set on this store: name to text."""
        query = "SELECT name, text FROM costguard_flag"
        rows = self._database.run(lambda connection: connection.execute(query).fetchall(), write=False)
        return {str(name): text if isinstance(text, str) else repr(text) for name, text in rows}

    def flag(self, name: str, text: str | None) -> None:
        """Set a flag, or with None remove it."""
        if text is None:
            change = partial(_execute, "DELETE FROM costguard_flag WHERE name = ?", (name,))
        else:
            change = partial(_execute, "INSERT OR REPLACE INTO costguard_flag VALUES (?, ?)", (name, text))
        self._database.run(change)

    def risks(self) -> list[str]:
        """What may make this ledger forget what was spent, a sentence each."""
        return ["the file was deleted or replaced while in use"] if self._database.gone() else []

    def _reserve(self, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        def work(connection: sqlite3.Connection) -> Grant | Refusal:
            accounts = _load(connection, claims)
            granted = rules.fit(accounts, claims, units, now)
            if isinstance(granted, Refusal):
                return granted
            new = sum(account.claim is None for account in accounts)
            grant = rules.hold(accounts, claims, granted, until, now)
            _save(connection, accounts, new, now)
            return grant

        return self._database.run(work)

    def _settle(
        self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], until: int, now: float
    ) -> list[int]:
        def work(connection: sqlite3.Connection) -> list[int]:
            accounts = _load(connection, claims)
            new = sum(account.claim is None for account in accounts)
            totals = rules.settle(accounts, claims, held, actual, until, now)
            rows = zip(accounts, claims, actual, strict=True)
            changed = [a for a, claim, amount in rows if not claim.clock or (amount and a.claim is not None)]
            _save(connection, changed, new, now)
            return totals

        return self._database.run(work)


def _checked_path(path: str | os.PathLike[str]) -> str:
    full = os.path.abspath(filed("path", path, "in memory, use MemoryStore()"))
    if os.path.isdir(full):
        raise ValueError(f"path: {path!r} is a directory; name a file in it")
    if not os.path.isdir(os.path.dirname(full)):
        raise ValueError(f"path: {path!r} is in a directory that does not exist")
    return full


def _checked_mode(mode: int) -> int:
    if isinstance(mode, bool) or not isinstance(mode, int) or not 0o600 <= mode <= 0o777:
        raise ValueError(f"mode: {mode!r} must be a file's permissions, such as 0o600 or 0o660")
    return mode


def _execute(statement: str, values: tuple[str, ...], connection: sqlite3.Connection) -> None:
    connection.execute(statement, values)


def _rows(connection: sqlite3.Connection, names: Sequence[str]) -> dict[str, tuple[int, int, str]]:
    found: dict[str, tuple[int, int, str]] = {}
    for start in range(0, len(names), ROWS_AT_ONCE):
        part = names[start : start + ROWS_AT_ONCE]
        places = ",".join("?" * len(part))
        query = f"SELECT name, spent, cap, holds FROM costguard_account WHERE name IN ({places})"
        for name, spent, cap, holds in connection.execute(query, part):
            found[name] = _sound(name, spent, cap, holds)
    return found


def _sound(name: str, spent: Any, cap: Any, holds: Any) -> tuple[int, int, str]:
    """A row, if it is one of an account: columns of SQLite hold whatever is written to them.

    Raises:
        StoreError: it is none.
    """
    whole = all(isinstance(figure, int) and abs(figure) < _HALF for figure in (spent, cap))
    if not whole or not isinstance(holds, str) or not (holds == "" or _HOLDS.fullmatch(holds)):
        row = f"spent {spent!r}, cap {cap!r}, holds {holds!r}"[:200]
        raise StoreError(f"the account {name!r} cannot be read ({row}): mend the file, or delete that row")
    return spent, cap, holds


def _balance(spent: int, cap: int, holds: str, *, now: float) -> Balance:
    held = sum(amount for second, amount in _buckets(holds).items() if second > now)
    return Balance(spent, held, cap)


def _buckets(holds: str) -> dict[float, int]:
    pairs = (hold.split("=") for hold in holds.split())
    return {int(second): int(amount) for second, amount in pairs}


def _load(connection: sqlite3.Connection, claims: Sequence[Claim]) -> list[Account]:
    rows = _rows(connection, [claim.account for claim in claims])
    accounts = []
    for claim in claims:
        account = Account(claim.account)
        if row := rows.get(claim.account):
            account.spent, _, holds = row
            account.claim = claim
            if holds:
                account.buckets = _buckets(holds)
                account.held = sum(account.buckets.values())
                account.earliest = min(account.buckets)
        accounts.append(account)
    return accounts


def _save(connection: sqlite3.Connection, accounts: Sequence[Account], new: int, now: float) -> None:
    rows = []
    for account in accounts:
        cap = account.claim.cap if account.claim else 0
        holds = " ".join(f"{second}={amount}" for second, amount in account.buckets.items())
        rows.append((account.name, account.spent, cap, account.idle, holds))
    connection.executemany(UPSERT, rows)
    if new:
        _sweep(connection, max(SWEEP, 2 * new), now)


def _sweep(connection: sqlite3.Connection, count: int, now: float) -> None:
    """Drop the idle ones among the next ``count`` accounts by name; every process moves the same position on."""
    (position,) = connection.execute("SELECT max(position) FROM costguard_sweep").fetchone()
    query = "SELECT name, idle FROM costguard_account WHERE name > ? ORDER BY name LIMIT ?"
    seen = connection.execute(query, (position or "", count)).fetchall()
    idle = [(name,) for name, until in seen if until <= now]
    connection.executemany("DELETE FROM costguard_account WHERE name = ?", idle)
    connection.execute("DELETE FROM costguard_sweep")
    connection.execute("INSERT INTO costguard_sweep VALUES (?)", (seen[-1][0] if len(seen) == count else "",))
