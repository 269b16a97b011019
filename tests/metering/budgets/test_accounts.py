"""Which accounts a scope counts into: named once, until a window ends or other budgets take the place of these."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_costguard import Budget, MemoryStore, Scope
from langchain_costguard.metering.budgets.holds import Denial, Hold
from langchain_costguard.metering.budgets.ledger import Ledger

HOUR = 3600.0
SCOPE = Scope(user="u", session="s", agent="a", feature="f", task="k", trace="t", model="m")


def ledger_of(*budgets: Budget) -> Ledger:
    return Ledger(budgets, MemoryStore(), hold_seconds=60)


def names(ledger: Ledger, scope: Scope, now: float) -> list[str]:
    return [account.name for account in ledger.known(scope, now).accounts]


PER = ("user", "session", "agent", "feature", "task", "model", ("user", "model"))


def test_a_scope_is_named_once_whatever_its_trace_and_by_all_else_that_it_says() -> None:
    ledger = ledger_of(*(Budget(per=per, steps=9) for per in PER))  # type: ignore[arg-type]
    first = ledger.known(SCOPE, HOUR)
    assert [a.name for a in first.accounts] == [
        "user|u|steps", "session|s|steps", "agent|a|steps", "feature|f|steps", "task|k|steps", "model|m|steps",
        "user+model|u,m|steps",
    ]  # fmt: skip
    assert ledger.known(SCOPE._replace(trace="t2"), HOUR) is first
    for field in ("user", "session", "agent", "feature", "task", "model"):
        other = SCOPE._replace(**{field: "other"})
        assert names(ledger, other, HOUR) == [
            name.replace(f"|{getattr(SCOPE, field)}|", "|other|")
            .replace("|u,m|", {"user": "|other,m|", "model": "|u,other|"}.get(field, "|u,m|"))
            for name in names(ledger, SCOPE, HOUR)
        ]  # fmt: skip
    assert ledger.known(SCOPE, 10**10) is first  # no window ends


def test_names_hold_to_the_end_of_their_window_and_not_a_moment_longer() -> None:
    hourly, daily = Budget(per="user", steps=9, window="hour"), Budget(per="all", steps=9, window="day")
    ledger = ledger_of(daily, hourly)
    first = ledger.known(SCOPE, 22.25 * HOUR)
    assert first.until == 23 * HOUR
    assert ledger.known(SCOPE, 23 * HOUR - 0.001) is first
    for now, hour, day in ((22, 22, 1), (22.999, 22, 1), (23, 23, 1), (23.5, 23, 1), (24, 0, 2), (25, 1, 2)):
        assert names(ledger, SCOPE, now * HOUR) == [
            f"all.day|1970-01-0{day}|steps", f"user.hour|u|1970-01-0{day}T{hour:02}+0000|steps",
        ]  # fmt: skip


def test_what_was_named_is_named_anew_for_whoever_kept_it_once_other_budgets_are_there() -> None:
    ledger = ledger_of(Budget(per="user", steps=9))
    kept = [ledger.known(SCOPE, HOUR), ledger.known(SCOPE._replace(user="v"), HOUR)]
    ledger.load([Budget(per="user", steps=10)])
    assert all(known.until <= HOUR for known in kept)
    assert [account.cap for account in ledger.known(SCOPE, HOUR).accounts] == [10]


TIGHT = Budget(per="call", output_tokens=47, name="tight")
KEEPS = Budget(per="call", output_tokens=50, reserve="10%", name="keeps")
WIDE = Budget(per="call", output_tokens=49, tokens=46, name="wide")


@pytest.mark.parametrize(
    ("budgets", "most", "label"),
    [
        ([TIGHT, KEEPS], 45, "keeps"),
        ([KEEPS, TIGHT], 45, "keeps"),
        ([TIGHT, WIDE], 46, "wide"),
        ([WIDE, TIGHT, KEEPS], 45, "keeps"),
        ([Budget(per="call", output_tokens=48, name="more"), TIGHT], 47, "tight"),
        ([TIGHT, Budget(per="call", output_tokens=48, name="more")], 47, "tight"),
    ],
)
def test_of_budgets_per_call_the_tightest_says_how_long_a_reply_may_be(
    budgets: list[Budget], most: int, label: str
) -> None:
    ledger, each = ledger_of(*budgets), (0, 1, 0, 1, 0, 0, 0, 0)

    def ask(units: tuple[int, int]) -> Any:
        return ledger.reserve(SCOPE, "", (0, 0, 0, 0, 1, 0, 1, 0), each, units=units, now=HOUR)

    for last in (99, most, most + 1):
        found = ask((1, last))
        assert isinstance(found, Hold)
        assert found.units == min(most, last)
        denial = ledger.extend(found, most - found.units + 1, HOUR)
        assert denial is not None
        assert (denial.account.budget.label, found.room) == (label, most - found.units)
    assert ask((most, most)).units == most
    refused = ask((most + 1, 99))
    assert isinstance(refused, Denial)
    assert (refused.account.budget.label, refused.refusal.needed) == (label, most + 1)
