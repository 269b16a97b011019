"""Balances in Redis or Valkey: many machines, one script call per reservation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import sha1
from importlib import resources
from struct import pack
from typing import Any, Self

import redis
from redis.cluster import RedisCluster
from redis.exceptions import MovedError, NoScriptError, RedisClusterException, RedisError

from langchain_costguard.metering.stores.base import (
    Balance,
    Claim,
    Grant,
    Refusal,
    Reservation,
    Settlement,
    StoreError,
    checked_timeout,
)
from langchain_costguard.metering.stores.dial import dial
from langchain_costguard.metering.stores.leases.sizes import checked
from langchain_costguard.metering.stores.repeats import OncePerAccount
from langchain_costguard.metering.stores.unheard import Unheard
from langchain_costguard.metering.stores.wire import Wire
from langchain_costguard.vocabulary.money import Money
from langchain_costguard.vocabulary.urls import worded

ACCOUNTS_AT_ONCE = 500


class RedisStore(OncePerAccount):
    """Shared balances for many machines: ``RedisStore("redis://host:6379/0")``.

    Takes a URL (``redis://``, ``rediss://``, ``unix://``) or a sync redis-py client: ``redis.Redis``, also one from
    ``Sentinel.master_for``, or ``redis.cluster.RedisCluster``. Redis 6.2 and later, Valkey. With a URL, an answer is
    waited for ``timeout`` seconds in all, and a new connection a second; a client keeps the timeouts it was made with.

    A reservation that is not answered in half of that time is asked for once more, on a fresh connection, and is made
    once (the server knows its name for 15 s, as ``{namespace}:once:…``); one whose answer nobody heard is given back
    when the server answers again. A settlement is sent once: it may have been carried out though nobody answered, and
    whoever repeats it may count it twice (never too little).

    The accounts are the fields of one hash, ``{namespace}:accounts``, which expires when all of them are idle; idle
    ones are dropped before that as new ones come. The machines' clocks must agree to well within a hold's lifetime.

    With a ``lease``, each guard takes a slice of every account in one trip and spends it in this process:
    ``"2%"`` of each cap, or USD (``"0.25"``; of other caps 2 %). See ``LeasedStore``.

    Raises:
        ValueError: the URL, client, namespace, timeout or lease cannot be used.
    """

    shared = True

    def __init__(
        self,
        url_or_client: str | redis.Redis | RedisCluster,
        *,
        namespace: str = "costguard",
        timeout: float = 0.25,
        lease: str | Money | None = None,
    ) -> None:
        if not isinstance(namespace, str) or not namespace or set(namespace) & set("{}"):
            raise ValueError(f"namespace must be a name without braces, not {namespace!r}")
        self.namespace = namespace
        self.timeout = checked_timeout(timeout)
        checked(lease)
        self.lease = lease
        self._url = url_or_client if isinstance(url_or_client, str) else None
        client, self._where = dial(url_or_client, who=type(self).__name__, timeout=self.timeout)
        self._wire = client if isinstance(client, RedisCluster) else Wire(client, timeout=self.timeout)
        self._accounts = f"{{{namespace}}}:accounts"
        self._flags = f"{{{namespace}}}:flags"
        self._unheard = Unheard(self._make, self._settle)

    def __repr__(self) -> str:
        return f"<RedisStore: {self._where}, namespace {self.namespace!r}>"

    def __reduce__(self) -> tuple[Callable[[str], Self], tuple[str]]:
        if self._url is None:
            raise TypeError("a RedisStore made from a client cannot be pickled; make it from a URL")
        return partial(type(self), namespace=self.namespace, timeout=self.timeout, lease=self.lease), (self._url,)

    def close(self) -> None:
        """Close the store's own connections; a given client stays as it is."""
        self._unheard.flush(self.timeout)
        if isinstance(self._wire, Wire):
            self._wire.close()

    def read(self, accounts: Sequence[str], *, now: float) -> list[Balance]:
        """The balances of these accounts; an unknown one is all zeros."""
        balances: list[Balance] = []
        for start in range(0, len(accounts), ACCOUNTS_AT_ONCE):
            part = accounts[start : start + ACCOUNTS_AT_ONCE]
            answer = self._run(_READ, pack("<d", now), *part, again=True)
            balances += (Balance(*answer[i : i + 3]) for i in range(0, len(answer), 3))
        return balances

    def scan(self, *, now: float) -> Iterable[tuple[str, Balance]]:
        """Every account there is, fetched as it is iterated over."""
        position: Any = "0"
        seen: set[str] = set()
        while True:
            position, *rows = self._run(_SCAN, pack("<d", now), position, again=True)
            for i in range(0, len(rows), 4):
                account = _text(rows[i])
                if account not in seen:  # a scan may come by twice
                    seen.add(account)
                    yield account, Balance(*rows[i + 1 : i + 4])
            if _text(position) == "0":
                return

    def flags(self) -> Mapping[str, str]:
        """The flags set on this store: name to text."""
        found = self._guarded("HGETALL", self._flags, again=True)
        pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
        return {_text(name): _text(text) for name, text in pairs}

    def flag(self, name: str, text: str | None) -> None:
        """Set a flag, or with None remove it."""
        if text is None:
            self._guarded("HDEL", self._flags, name, again=True)
        else:
            self._guarded("HSET", self._flags, name, text, again=True)

    def turn(
        self, settlement: Settlement, reservation: Reservation, *, now: float
    ) -> tuple[list[int], Grant | Refusal]:
        """Settle, then reserve, in one trip; no account more than once in either."""
        claims, held, actual, until = settlement
        if not isinstance(self._wire, Wire) or not reservation.claims:
            return self._settle(claims, held, actual, until, now), self._reserve(*reservation, now)
        settle = "EVALSHA", _SETTLE.sha, 1, self._accounts, *_settling(claims, held, actual, until, now)
        with self._unheard.named(*reservation, now) as name:
            reserve = "EVALSHA", _RESERVE.sha, 2, self._accounts, self._key(name), *_reserving(*reservation, now)
            try:
                replies = self._wire.execute_all((settle, reserve))
            except (RedisError, OSError, ValueError) as error:
                raise self._failed(error) from error
            # Within: where the settlement fails, what was reserved with it is given back, too.
            if isinstance(replies[0], NoScriptError):
                totals = self._settle(claims, held, actual, until, now)
            elif isinstance(replies[0], RedisError):
                raise self._failed(replies[0])
            else:
                totals = _totals(replies[0], claims, actual)
        return totals, self._reserve(*reservation, now) if isinstance(replies[1], RedisError) else _granted(replies[1])

    def risks(self) -> list[str]:
        """What may make this ledger forget what was spent, a sentence each.

        Raises:
            StoreError: the server did not answer.
        """
        if isinstance(self._wire, RedisCluster):
            return []  # each of its nodes has settings of its own
        said = _text(self._guarded("INFO", again=True))
        facts = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
        found, policy = [], facts.get("maxmemory_policy", "noeviction")
        if facts.get("maxmemory", "0") != "0" and policy != "noeviction":
            found.append(f"maxmemory-policy is {policy}: balances may be evicted; noeviction keeps them")
        if facts.get("aof_enabled") == "0" and not self._saves():
            found.append("nothing is written to disk (no appendonly, no save): a restart forgets what was spent")
        if facts.get("role") == "slave":
            found.append("this is a replica: it cannot be written to")
        return found

    def _saves(self) -> bool:
        """Whether the server takes snapshots; where nobody may ask, it is taken to."""
        try:
            return bool(self._guarded("CONFIG", "GET", "save", again=True)[1])
        except StoreError:
            return True

    def _reserve(self, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float) -> Grant | Refusal:
        if not claims:
            return Grant(units[1])
        with self._unheard.named(claims, units, until, now) as name:
            return self._make(name, claims, units, until, now)

    def _make(
        self, name: str, claims: Sequence[Claim], units: tuple[int, int], until: int, now: float
    ) -> Grant | Refusal:
        return _granted(self._run(_RESERVE, *_reserving(claims, units, until, now), again=True, name=name))

    def _key(self, name: str) -> str:
        return f"{{{self.namespace}}}:once:{name}"

    def _settle(
        self, claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], until: int, now: float
    ) -> list[int]:
        arguments = _settling(claims, held, actual, until, now)
        totals = self._run(_SETTLE, *arguments) if len(arguments) > 1 else []
        return _totals(totals, claims, actual)

    def _run(self, script: _Script, *arguments: Any, again: bool = False, name: str | None = None) -> Any:
        keys = (1, self._accounts) if name is None else (2, self._accounts, self._key(name))
        try:
            return self._execute("EVALSHA", script.sha, *keys, *arguments, again=again)
        except NoScriptError:  # a new server, or one that failed over: it keeps the script from now on
            return self._guarded("EVAL", script.text, *keys, *arguments, again=again)
        except (RedisError, RedisClusterException, OSError, ValueError) as error:
            raise self._failed(error) from error

    def _guarded(self, *command: Any, again: bool) -> Any:
        try:
            return self._execute(*command, again=again)
        except (RedisError, RedisClusterException, OSError, ValueError) as error:
            raise self._failed(error) from error

    def _execute(self, *command: Any, again: bool) -> Any:
        wire: Any = self._wire
        return wire.execute(*command, again=again) if isinstance(wire, Wire) else wire.execute_command(*command)

    def _failed(self, error: Exception) -> StoreError:
        hint = "; this is a Cluster: pass a redis.cluster.RedisCluster" if isinstance(error, MovedError) else ""
        return StoreError(f"{self._where}: {worded(error)}{hint}")


class _Script:
    def __init__(self, *files: str) -> None:
        folder = resources.files("langchain_costguard.metering.stores") / "lua"
        self.text = "\n".join((folder / f"{name}.lua").read_text("utf-8") for name in files)
        self.sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_RESERVE = _Script("account", "keep", "reserve")
_SETTLE = _Script("account", "keep", "settle")
_READ = _Script("account", "read")
_SCAN = _Script("account", "scan")


def _reserving(claims: Sequence[Claim], units: tuple[int, int], until: int, now: float) -> list[Any]:
    numbers: list[float] = [units[0], units[1], until, now]
    names = []
    for account, cap, fixed, per_unit, clock, ttl, reserve in claims:
        numbers += (cap, fixed, -1 if clock else per_unit, ttl, reserve)
        names.append(account)
    return [pack(f"<{len(numbers)}d", *numbers), *names]


def _granted(answer: Any) -> Grant | Refusal:
    if isinstance(answer, int):
        return Grant(answer)
    if answer[0] < 0:
        _, index, needed, spent, held, by_holds = answer
        return Refusal(index, needed, spent, held, bool(by_holds))
    return Grant(answer[0], tuple(answer[1:]))


def _settling(claims: Sequence[Claim], held: Sequence[int], actual: Sequence[int], until: int, now: float) -> list[Any]:
    numbers: list[float] = [until, now]
    names = []
    for (account, cap, _, _, clock, ttl, _), hold, amount in zip(claims, held, actual, strict=True):
        if not clock or amount:
            numbers += (cap, ttl, -1 if clock else hold, amount)
            names.append(account)
    return [pack(f"<{len(numbers)}d", *numbers), *names]


def _totals(totals: list[int], claims: Sequence[Claim], actual: Sequence[int]) -> list[int]:
    if len(totals) == len(claims):
        return totals
    settled = iter(totals)
    skipped = [claim.clock and not amount for claim, amount in zip(claims, actual, strict=True)]
    return [0 if skip else next(settled) for skip in skipped]


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
