"""Grants: what a person gives a budget on top of its caps, for one scope.

A grant lowers what its account says is spent, so every process sees the room at its next call, at no cost to any. What
was granted is counted in an account beside it, in the same atomic step: the two together say what was really spent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote

from langchain_costguard.metering.budgets.accounts import GRANTED, Account, Plan
from langchain_costguard.metering.budgets.budget import MEASURES, cap_of
from langchain_costguard.metering.budgets.ledger import Ledger
from langchain_costguard.metering.stores.base import MAX_AMOUNT, Claim, Refusal, Store, StoreError
from langchain_costguard.vocabulary.calendar import window_at
from langchain_costguard.vocabulary.scope import Scope

KEYS = "grant-key:|"
"""With a grant's key after it: the account that says it was applied."""
RECORDED = 400 * 86_400
"""Seconds a grant, and its key, are remembered."""
_APPLYING = 30
"""Seconds after which a grant that somebody began to apply, and did not, may be begun again."""
_LOOKS, _PAUSE = 10, 0.02


def amounts_of(given: Mapping[str, Any]) -> dict[str, int]:
    """The amounts that are given, by measure, as whole numbers of their accounts' unit.

    Raises:
        ValueError: names the measure and the value; or there is none.
    """
    amounts = {m: cap_of(m, _number(m, value)) for m, value in given.items() if value is not None}
    if not amounts:
        raise ValueError(f"grant: give an amount of at least one of {', '.join(MEASURES)}")
    for measure, amount in amounts.items():
        if amount > MAX_AMOUNT:
            raise ValueError(f"{measure}: {given[measure]!r} is more than an account can hold")
    return amounts


def _number(measure: str, value: Any) -> Any:
    """Counts and seconds may be written as text, or be Decimals, as in an answer that came as JSON."""
    if measure == "usd" or not isinstance(value, (str, Decimal)):
        return value
    try:
        number = Decimal(value)
    except InvalidOperation:
        return value
    if measure == "seconds":
        return number if number.is_finite() else value
    return int(number) if number.is_finite() and number.adjusted() < 20 and number == int(number) else value


def accounts_of(ledger: Ledger, label: str, scope: Scope, now: float) -> list[Account]:
    """The accounts of a budget, by measure, for a scope.

    Raises:
        ValueError: there is no such budget, it starts afresh with every run, or it is not for this scope.
    """
    plans = _plans(ledger, label)
    accounts = [account for plan in plans for account in plan.accounts(scope, "", now)[1]]
    if not accounts:
        raise ValueError(f"grant: budget {label!r} is only for {dict(plans[0].budget.only)!r}")
    return accounts


def accounts_beside(ledger: Ledger, label: str, name: str, now: float) -> list[Account]:
    """The accounts of a budget for the scope of one of its accounts, in the window that ``now`` lies in.

    Raises:
        ValueError: there is no such budget, or it starts afresh with every run.
    """
    accounts = []
    for plan in _plans(ledger, label):
        budget, where = plan.budget, name.rpartition("|")[0]
        if budget.window:
            where = f"{where.rpartition('|')[0]}|{window_at(budget.window, budget.tz, now)[0]}"
        accounts += [
            Account(measure, where + suffix, cap, idle, base, budget, reserve)
            for measure, suffix, cap, base, idle, reserve in plan.caps
        ]
    return accounts


def gifts(
    ledger: Ledger, label: str, account: str | None, scope: Scope, amounts: Mapping[str, int], now: float
) -> list[tuple[Claim, int]]:
    """What each account of a budget is given: of those beside ``account``, or with None of the scope's.

    Raises:
        ValueError: as ``accounts_of``; or the budget does not cap a measure that is given.
    """
    if account is None:
        accounts = accounts_of(ledger, label, scope, now)
    else:
        accounts = accounts_beside(ledger, label, account, now)
    found = {MEASURES[account.measure]: account for account in accounts}
    for measure in amounts:
        if measure not in found:
            raise ValueError(f"grant: budget {label!r} has no cap on {measure}, but on {', '.join(found)}")
    given = [(found[measure], measure, amount) for measure, amount in amounts.items()]
    return [(Claim(a.name, a.cap, 0, clock=m == "seconds", ttl=a.ttl), amount) for a, m, amount in given]


def give(store: Store, gifts: Sequence[tuple[Claim, int]], *, key: str | None, now: float) -> bool:
    """Record a grant and what it was for, in one step; false where one with this key had been.

    A key is taken first, by a hold, and becomes spent with the grant: a process that dies in between leaves it free.

    Raises:
        ValueError: a clock has not started, or the key is no text.
        StoreError: the store did not answer, or somebody began to apply the same key and does not finish.
    """
    if key is not None and (not isinstance(key, str) or not key):
        raise ValueError(f"key: {key!r} must be a non-empty text")
    clocks = [claim.account for claim, _ in gifts if claim.clock]
    if clocks and not all(balance.spent for balance in store.read(clocks, now=now)):
        raise ValueError(f"seconds: those of {clocks[0]!r} have not begun to run: all of them are left")
    claims = [claim for claim, _ in gifts]
    claims += [Claim(GRANTED + claim.account, MAX_AMOUNT, 0, ttl=RECORDED) for claim, _ in gifts]
    actual = [-amount for _, amount in gifts] + [amount for _, amount in gifts]
    held, until = [0] * len(claims), int(now) + _APPLYING
    if key is not None:
        once = Claim(KEYS + quote(key, safe="", errors="surrogatepass"), 1, 1, ttl=RECORDED)
        if not _taken(store, once, until, now):
            return False
        claims, held, actual = [*claims, once], [*held, 1], [*actual, 1]
    store.settle(claims, held, actual, until=until, now=now)
    return True


def _taken(store: Store, once: Claim, until: int, now: float) -> bool:
    """Whether the key was free."""
    for _ in range(_LOOKS):
        answer = store.reserve([once], units=(0, 0), until=until, now=now)
        if not isinstance(answer, Refusal):
            return True
        if not answer.by_holds:
            return False
        time.sleep(_PAUSE)  # somebody is between the two steps, or died there
    raise StoreError(f"the same grant was begun elsewhere, and not finished: try again in {_APPLYING} s")


def _plans(ledger: Ledger, label: str) -> list[Plan]:
    plans = [plan for plan in ledger.plans if plan.budget.label == label]
    if not plans:
        known = ", ".join(map(repr, dict.fromkeys(plan.budget.label for plan in ledger.plans))) or "none"
        raise ValueError(f"grant: there is no budget {label!r}; known: {known}")
    if any(plan.fleeting or plan.budget.per == "call" for plan in plans):
        raise ValueError(f"grant: budget {label!r} starts afresh with every run: nothing it is given would last")
    return plans
