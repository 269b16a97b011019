"""A ledger by its short way, by its long one and on leases: what is held, refused, added and settled is one figure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from math import ceil, inf
from typing import Any

import pytest

from langchain_costguard import Budget, MemoryStore, Scope
from langchain_costguard.metering.budgets.budget import MEASURES
from langchain_costguard.metering.budgets.holds import NONE, Denial, Hold
from langchain_costguard.metering.budgets.ledger import Ledger
from langchain_costguard.metering.stores import Claim
from langchain_costguard.metering.stores.base import MAX_AMOUNT
from langchain_costguard.metering.stores.failover import FailoverStore
from langchain_costguard.metering.stores.leases.leased import LeasedStore
from langchain_costguard.metering.stores.leases.sizes import checked

NOW = 1_000_000.5
UNTIL = 1_000_620
"""600 seconds later, at the end of a minute."""
SCOPE = Scope(user="u", session="s", agent="a", step="st", trace="t")
FIXED = (100, 30, 29, 0, 1, 0, 1, 0)
EACH = (7, 1, 0, 1, 0, 0, 0, 0)
LEAST, MOST = 5, 40
USED = (93, 31, 27, 4, 1, 0, 1, 0)
A_TOOL = (11, 0, 0, 0, 0, 1, 0, 0)
A_STEP = (0, 0, 0, 0, 0, 0, 1, 0)


class Elsewhere:
    """Balances that are not at hand: the verbs alone."""

    shared = True

    def __init__(self) -> None:
        inner = MemoryStore()
        self.reserve, self.settle, self.read, self.scan = inner.reserve, inner.settle, inner.read, inner.scan


class Shared(MemoryStore):
    """What others see, too."""

    shared = True


def leased(hold_seconds: float = 600) -> LeasedStore:
    size = checked("20%")
    assert size is not None
    below = FailoverStore(Shared(), "refuse", print)
    return LeasedStore(below, size, measures=MEASURES, hold_seconds=hold_seconds)


KINDS: dict[str, Any] = {"memory": MemoryStore, "elsewhere": Elsewhere, "leased": leased}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ledger_of(kind: str, *budgets: Budget) -> Ledger:
    return Ledger(budgets, KINDS[kind](), hold_seconds=600)


def money(nano: int) -> str:
    return f"{nano // 10**9}.{nano % 10**9:09}"


def told(answer: Hold | Denial) -> Any:
    """All that is said: of a hold what is held, until when, and what it could have on top; of a denial its figures."""
    if isinstance(answer, Denial):
        account, refusal = answer.account, answer.refusal
        figures = (refusal.needed, refusal.spent, refusal.held, refusal.by_holds)
        return (account.budget.label, MEASURES[account.measure], account.cap, account.base, account.reserve, *figures)
    answer.spare()
    held = {account.name: answer.amounts()[account.measure] for account in answer.accounts}
    room = answer.room if answer.tight is not None else None
    return held, answer.units, answer.until, answer.deadline, room


def standing(ledger: Ledger) -> dict[str, tuple[int, int]]:
    """What is spent on each account, and what calls hold."""
    names = [name for name, _ in ledger.store.scan(now=NOW)]
    found = zip(names, ledger.store.read(names, now=NOW), strict=True)
    return {name: (spent, held) for name, (spent, held, _) in found}


class Ask:
    """A model call, asked for again and again: what it finds is what the first one found."""

    def __init__(self, ledger: Ledger, *, alone: bool = False, last: bool = False) -> None:
        self.ledger, self.alone, self.last = ledger, alone, last

    def __call__(self, *, units: tuple[int, int] = (LEAST, MOST)) -> Hold | Denial:
        return self.ledger.reserve(
            SCOPE, "t/st", FIXED, EACH, units=units, alone=self.alone, last=self.last, now=NOW
        )  # fmt: skip


SCOPES: dict[str, dict[str, Any]] = {
    "session": {}, "step": {}, "trace": {}, "call": {}, "agent": {"only": {"agent": "a"}},
    "user": {"only": {"trace": "t"}},
}  # fmt: skip
BRIEF = ("step", "trace", "user")
NAMES = {"session": "b|s", "step": "b|t/st", "trace": "b|t", "call": "", "agent": "b|a", "user": "b|u"}


def cases() -> Iterator[tuple[str, str, int, bool, str]]:
    """Whose budget, of what, for how many units, whether it keeps some of it back, and of what kind the call is."""
    afforded = (LEAST - 1, LEAST, LEAST + 1, MOST - 1, MOST, MOST + 1, MOST + 100)
    return itertools.product(
        SCOPES, ("usd", "tokens", "output_tokens"), afforded, (False, True), ("alone", "within", "last")
    )


def test_a_call_may_have_what_its_budget_leaves_it_whichever_way_it_is_asked(kind: str) -> None:
    for per, measure, afforded, kept, how in cases():
        case = (per, measure, afforded, kept, how)
        at = MEASURES.index(measure)
        cap, keeps = FIXED[at] + EACH[at] * afforded, 0
        if kept:  # so much more that it comes to the same
            cap = next(more for more in itertools.count(cap) if more - ceil(more * 0.1) >= cap)
            keeps = ceil(cap * 0.1)
        limit = {measure: money(cap) if measure == "usd" else cap}
        budget = Budget(per=per, reserve="10%" if kept else None, name="b", **limit, **SCOPES[per])  # type: ignore[arg-type]
        ledger = ledger_of(kind, budget)
        ask = Ask(ledger, alone=how == "alone", last=how == "last")
        judged = cap if how == "last" else cap - keeps
        most = (judged - FIXED[at]) // EACH[at]
        own = per == "call" or (how == "alone" and per in BRIEF)
        name = f"{NAMES[per]}|{measure}"
        for times in (1, 2, 3):
            found = ask()
            if most < LEAST:
                needed = FIXED[at] + EACH[at] * LEAST
                reserve = 0 if how == "last" else keeps
                assert told(found) == ("b", measure, cap, cap, reserve, needed, 0, 0, False), case
                continue
            assert isinstance(found, Hold), case
            n = min(MOST, most)
            amount = FIXED[at] + EACH[at] * n
            assert told(found) == ({} if own else {name: amount}, n, UNTIL, inf, most - n if own else None), case
            assert standing(ledger).get(name, (0, 0))[1] == (0 if own else amount), case
            assert found.limits, case
            if times == 2 and kind == "memory" and how != "last" and (per != "user"):
                assert found.page is not None, case  # what the first one made is at hand
            spent = ledger.settle(found, NONE if times < 3 else USED, NOW)
            assert spent == ([] if own else [0 if times < 3 else USED[at]]), case
            assert found.amounts() == list(NONE)
        if most >= LEAST and not own:
            assert standing(ledger)[name] == (USED[at], 0), case


def test_what_a_call_has_beyond_its_hold_is_what_its_tightest_budget_has_left(kind: str) -> None:
    for own, shared, afforded in ((50, 20, 20), (30, 50, 30), (40, 40, 40), (41, 90, 40), (500, 500, 40)):
        ledger = ledger_of(kind, Budget(per="call", output_tokens=own), Budget(per="all", output_tokens=shared))
        for _ in (1, 2):
            found = Ask(ledger)()
            assert isinstance(found, Hold)
            assert told(found)[1:] == (afforded, UNTIL, inf, own - afforded)
            left = min(own, shared) - afforded
            denied = ledger.extend(found, left + 1, NOW)
            assert denied is not None
            if own <= shared:
                assert told(denied) == ("call", "output_tokens", own, own, 0, left + 1, afforded, 0, False)
            else:
                assert told(denied) == ("all", "output_tokens", shared, shared, 0, left + 1, 0, afforded, True)
            assert found.units == afforded
            if left:
                assert ledger.extend(found, left, NOW) is None
            assert (found.units, found.room) == (afforded + left, own - afforded - left)
            assert standing(ledger) == {"all|output_tokens": (0, afforded + left)}
            assert ledger.settle(found, USED, NOW) == [4]
            ledger.settle(found, [-amount for amount in USED], NOW)
            assert standing(ledger) == {"all|output_tokens": (0, 0)}


CLOCKS = {"session": "b|s|seconds", "step": "b|t/st|seconds", "trace": "b|t|seconds", "call": ""}


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("per", CLOCKS)
def test_a_clock_runs_from_the_first_call_of_its_scope_and_the_first_to_run_out_counts(
    per: Any, alone: bool, kind: str
) -> None:
    others = Budget(per="all", seconds=90), Budget(per="agent", seconds=5, only={"agent": "b"})
    ledger = ledger_of(kind, Budget(per=per, seconds=20.5, tokens=900, name="b"), *others)
    own = per == "call" or (alone and per != "session")

    def ask(now: float) -> Any:
        return ledger.reserve(SCOPE, "t/st", FIXED, EACH, units=(LEAST, MOST), alone=alone, now=now)

    for now in (NOW, NOW + 20.499):
        for _ in (1, 2, 3):
            found = ask(now)
            assert found.deadline == (now if own else NOW) + 20.5
            assert found.limits
            assert ledger.settles_here(found) == (kind == "leased")
            ledger.settle(found, NONE, now)
    for now, left in ((NOW + 20.5, 69.5), (NOW + 89.999, 0.001)):
        if own:
            assert ask(now).deadline == pytest.approx(now + min(20.5, left))
        else:
            assert told(ask(now)) == ("b", "seconds", 20_500, 20_500, 0, 0, round((now - NOW) * 1000), 0, False)
    label, cap = ("b", 20_500) if per == "session" else ("all", 90_000)  # of two that are over, the first
    assert told(ask(NOW + 90)) == (label, "seconds", cap, cap, 0, 0, 90_000, 0, False)
    shortest = ledger.shortest(SCOPE, "t/st", NOW, alone=alone)
    assert (shortest.name, shortest.cap, shortest.measure) == ("" if own else CLOCKS[per], 20_500, 7)


def test_what_nobody_limits_is_held_on_nothing_and_what_costs_nothing_is_asked_for(kind: str) -> None:
    for budgets, fixed, each, held in (
        ((), FIXED, EACH, {}),
        ((Budget(per="all", tool_calls=3),), FIXED, EACH, {}),
        ((Budget(per="agent", usd=1, only={"agent": "b"}),), FIXED, EACH, {}),
        ((Budget(per="all", usd=1, tokens=9, steps=9),), NONE, NONE, {"all|usd": 0}),
        ((Budget(per="all", usd=1, tokens=9, steps=9),), A_STEP, NONE, {"all|usd": 0, "all|steps": 1}),
        ((Budget(per="trace", usd=1, tokens=9, steps=9),), A_STEP, NONE, {"trace|t|usd": 0, "trace|t|steps": 1}),
        ((Budget(per="all", usd=1, tokens=9, tool_calls=9),), A_TOOL, NONE, {"all|usd": 11, "all|tool_calls": 1}),
        (
            (Budget(per="step", usd=1, tokens=9, tool_calls=9), Budget(per="all", tool_calls=5, model_calls=7)),
            A_TOOL, NONE, {"all|tool_calls": 1, "step|t%2Fst|usd": 11, "step|t%2Fst|tool_calls": 1},
        ),
    ):  # fmt: skip
        ledger = ledger_of(kind, *budgets)
        for _ in (1, 2, 3):
            found = ledger.reserve(SCOPE, "t/st", fixed, each, units=(MOST, MOST) if any(each) else (0, 0), now=NOW)
            assert isinstance(found, Hold)
            if found.page is None:  # on a page stands every account of the scope
                names = {name.replace("t/st", "t%2Fst"): amount for name, amount in told(found)[0].items()}
                assert names == held
            assert found.limits == bool(found.accounts)
            totals = ledger.settle(found, fixed, NOW)
            assert totals == [amount.spent for amount in ledger.store.read([a.name for a in found.accounts], now=NOW)]
            assert all(held == 0 for _, held in standing(ledger).values())
