"""What may be done to a log's rows: old ones dropped, and a name taken out of all of them."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from langchain_costguard.observe.log import schema
from langchain_costguard.observe.log.entry import NAMES, Entry
from langchain_costguard.observe.log.names import Cursor, named
from langchain_costguard.observe.log.schema import DIMENSIONS, SHIFT, SLOT, SLOT_KEY, SUMS, columns
from langchain_costguard.vocabulary.scope import TAGS


def drop(cursor: Cursor, before: float) -> int:
    """Drop what is older, by whole slots; returns how many rows."""
    slot = int(before // SLOT)
    cursor.execute("DELETE FROM spend_slots WHERE slot < ?", (slot,))
    cursor.execute("DELETE FROM spend_accounts WHERE at < ?", (slot * SLOT,))
    gone: int = cursor.execute("DELETE FROM spend_entries WHERE id < ?", ((slot * SLOT * 1_000_000) << SHIFT,)).rowcount
    used = " UNION ".join(f"SELECT {columns([name])} FROM spend_entries" for name in NAMES)
    cursor.execute(f"DELETE FROM spend_names WHERE id NOT IN ({used} UNION SELECT action FROM spend_slots)")
    _new_epoch(cursor)
    return gone


def forget(cursor: Cursor, dim: str, name: str, key: bytes) -> int:
    """Put a keyed hash in the place of a name, in every row that has it; returns how many.

    Raises:
        ValueError: there is no such dimension.
    """
    after = alias(dim, name, key)
    found = named(cursor, dim, [name])
    if not found:
        return 0
    number = found[0][0]
    _forget_said(cursor, dim, number, name, after)
    known = named(cursor, dim, [after])
    if known:
        cursor.execute(
            f"UPDATE spend_entries SET {columns([dim])} = ? WHERE {columns([dim])} = ?", (known[0][0], number)
        )
        if dim in DIMENSIONS:
            _join_slots(cursor, dim, number, known[0][0])
        cursor.execute("DELETE FROM spend_names WHERE id = ?", (number,))
        number = known[0][0]
    else:
        cursor.execute("UPDATE spend_names SET text = ? WHERE id = ?", (after, number))
    _new_epoch(cursor)
    cursor.execute(f"SELECT COUNT(*) FROM spend_entries WHERE {columns([dim])} = ?", (number,))
    return int(cursor.fetchall()[0][0])


def _forget_said(cursor: Cursor, dim: str, number: int, name: str, after: str) -> None:
    """A name is in the accounts of budgets, too, and in what refusals and alerts say."""
    cursor.execute("SELECT account FROM spend_accounts")
    for (account,) in cursor.fetchall():
        if (renamed := _renamed(account, name, after)) != account:
            cursor.execute("DELETE FROM spend_accounts WHERE account = ?", (renamed,))
            cursor.execute("UPDATE spend_accounts SET account = ? WHERE account = ?", (renamed, account))
    cursor.execute(f"SELECT id, extra FROM spend_entries WHERE {columns([dim])} = ? AND extra IS NOT NULL", (number,))
    for row, extra in cursor.fetchall():
        said = _said(json.loads(extra), name, after)
        cursor.execute("UPDATE spend_entries SET extra = ? WHERE id = ?", (json.dumps(said), row))


def _join_slots(cursor: Cursor, dim: str, old: int, new: int) -> None:
    number = DIMENSIONS.index(dim)
    cursor.execute(f"SELECT {columns((*SLOT_KEY, *SUMS))} FROM spend_slots WHERE dim = ? AND name = ?", (number, old))
    rows = [(dim, new, *row) for dim, _, *row in cursor.fetchall()]
    cursor.execute("DELETE FROM spend_slots WHERE dim = ? AND name = ?", (number, old))
    cursor.executemany(schema.ADD, rows)


def _new_epoch(cursor: Cursor) -> None:
    cursor.execute("UPDATE spend_meta SET value = value + 1 WHERE key = 'epoch'")


def alias(dim: str, name: str, key: bytes) -> str:
    """What stands in the place of a name.

    Raises:
        ValueError: there is no such dimension.
    """
    if dim not in TAGS:
        raise ValueError(f"forget: {dim!r} is not one of {', '.join(TAGS)}")
    digest = hmac.new(key, f"{dim}={name}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    return f"forgotten-{digest[:16]}"


def forgotten(entry: Entry, dim: str, name: str, key: bytes) -> Entry:
    """A row without the name; the same row where it has it not."""
    after, at = alias(dim, name, key), NAMES.index(dim)
    standings = tuple((_renamed(account, name, after), spent, cap) for account, spent, cap in entry.balances)
    if entry.names[at] != name:
        return entry if standings == entry.balances else entry._replace(balances=standings)
    names = (*entry.names[:at], after, *entry.names[at + 1 :])
    return entry._replace(names=names, extra=_said(entry.extra, name, after), balances=standings)


def new_key() -> bytes:
    """The key by which names are forgotten: ``COSTGUARD_LOG_KEY``, or one that nobody keeps."""
    given = os.environ.get("COSTGUARD_LOG_KEY")
    return given.encode() if given else os.urandom(32)


def _said(extra: Mapping[str, Any], name: str, after: str) -> dict[str, Any]:
    return {what: _renamed(value, name, after) if isinstance(value, str) else value for what, value in extra.items()}


def _renamed(text: str, name: str, after: str) -> str:
    """A text with ``after`` where ``name`` stands by itself, as it is or as accounts' names write it."""
    said = {name, quote(name, safe="-_.~: /", errors="surrogatepass")}
    pattern = "|".join(map(re.escape, sorted(said, key=len, reverse=True)))
    return re.sub(rf"(?<![\w-])(?:{pattern})(?![\w-])", after, text)
