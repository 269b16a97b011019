"""A ledger by its short way, by its long one and on leases: what is held, refused, added and settled is one figure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil, inf
from typing import Any

import pytest

from langchain_costguard import Budget, MemoryStore, Scope
from langchain_costguard.metering.budgets.budget import MEASURES
from langchain_costguard.metering.budgets.holds import NONE, Denial, Hold
from langchain_costguard.metering.budgets.ledger import Ledger
from langchain_costguard.metering.stores.base import MAX_AMOUNT, Claim, Refusal
from langchain_costguard.metering.stores.failover import FailoverStore
from langchain_costguard.metering.stores.leases import leased as leases
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


made: list[LeasedStore] = []


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is told or returned of a lease but when a test says so."""
    monkeypatch.setattr(leases, "TELL_AFTER", 1e6)
    yield
    while made:
        made.pop().close()


def leased(below: Any = None, measures: Sequence[str] = MEASURES) -> LeasedStore:
    size = checked("20%")
    assert size is not None
    watched = FailoverStore(below or Shared(), "refuse", print)
    made.append(LeasedStore(watched, size, measures=measures, hold_seconds=600))
    return made[-1]


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
        assert account.name or refusal.index == 0  # it was no claim on a store
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
        other = Budget(per="call", output_tokens=LEAST - 1, only={"agent": "b"}, name="another's")
        ledger = ledger_of(kind, other, Budget(per="call", output_tokens=own), Budget(per="all", output_tokens=shared))
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
            (Budget(per="step", usd=1, tokens=9, tool_calls=9), Budget(per="all", tool_calls=5)),
            A_TOOL, NONE, {"all|tool_calls": 1, "step|t/st|usd": 11, "step|t/st|tool_calls": 1},
        ),
    ):  # fmt: skip
        ledger = ledger_of(kind, *budgets)
        for _ in (1, 2, 3):
            found = ledger.reserve(SCOPE, "t/st", fixed, each, units=(MOST, MOST) if any(each) else (0, 0), now=NOW)
            assert isinstance(found, Hold)
            if found.page is None:  # on a page stands every account of the scope
                assert told(found)[0] == held
            else:
                brief = [name for name in held if "|t|" in name or "|t/" in name]
                assert {a.name for a in found.accounts if a.name.startswith(("trace", "step"))} == {*brief}
            assert found.limits == bool(found.accounts)
            totals = ledger.settle(found, fixed, NOW)
            assert totals == [amount.spent for amount in ledger.store.read([a.name for a in found.accounts], now=NOW)]
            assert all(held == 0 for _, held in standing(ledger).values())


def test_what_is_at_hand_is_found_at_hand(kind: str) -> None:
    """The short way is taken where it can be: it is what makes a call cheap."""
    budgets = Budget(per="all", usd=9, tool_calls=99, seconds=60), Budget(per="call", model_calls=1, input_tokens=29)
    ledger = ledger_of(kind, *budgets, Budget(per="session", output_tokens=999))
    known, found = ledger.known(SCOPE, NOW), None
    for times in range(4):
        found = Ask(ledger)()
        assert isinstance(found, Hold)
        assert (found.page is not None) == (times > 0 and kind != "elsewhere")
        assert told(found)[1:4] == (MOST, UNTIL, NOW + 60)
        ledger.settle(found, USED, NOW)
    page = ledger.page(known)
    assert (page is None) == (kind == "elsewhere")
    assert page is ledger.page(known) is known.page
    for times in range(4):
        found = ledger.reserve(SCOPE, "t/st", A_TOOL, now=NOW)
        assert isinstance(found, Hold)
        assert (found.page is not None) == (times > 0 and kind != "elsewhere")
        if found.page is None:
            assert told(found) == ({"all|usd": 11, "all|tool_calls": 1, "all|seconds": 0}, 0, UNTIL, NOW + 60, None)
        ledger.settle(found, A_TOOL, NOW)
    if page is not None:
        assert [account.name for account in page.accounts] == ["all|usd", "session|s|output_tokens"]
        both = ledger.page(known, tools=True)
        assert both is not None
        assert [account.name for account in both.accounts] == ["all|usd", "all|tool_calls", "session|s|output_tokens"]
        assert both is ledger.page(known, tools=True) is ledger.page(known)
    spent = {name: amount for name, (amount, _) in standing(ledger).items() if not name.endswith(("seconds", "|1"))}
    assert spent == {"all|usd": 4 * 93 + 4 * 11, "all|tool_calls": 4, "session|s|output_tokens": 16}
    none = ledger.reserve(SCOPE, "t/st", NONE, now=NOW)
    assert isinstance(none, Hold)
    assert (none.page, told(none)[0]) == (None, {"all|usd": 0, "all|seconds": 0})


@pytest.mark.parametrize(("seconds", "now", "until"), [
    (600, 1_000_000.5, 1_000_620), (600, 1_000_019.9, 1_000_620), (600, 1_000_020.0, 1_000_680), (5, 1000.9, 1006),
    (9.9, 1000.9, 1011), (19.9, 1000.0, 1020), (25, 1000.0, 1026), (25, 1001.0, 1028), (990, 999.0, 2079),
    (0.25, 1000.0, 1001), (109, 1000.0, 1110), (99, 1000.0, 1107), (95, 1000.0, 1098),
])  # fmt: skip
def test_a_hold_lasts_for_its_seconds_and_to_the_end_of_a_tenth_of_them(seconds: float, now: float, until: int) -> None:
    ledger = Ledger([Budget(usd=1)], MemoryStore(), hold_seconds=seconds)
    for _ in (1, 2):
        found = ledger.reserve(SCOPE, "", FIXED, now=now)
        assert isinstance(found, Hold)
        assert found.until == ledger.until(now) == until
    coarse = ledger.hold_coarsely(ledger.known(SCOPE, now), SCOPE, "", FIXED, NONE, now, alone=True)
    assert coarse is not None
    assert coarse.until == until


WHOLE = (640, 70, 29, 40, 1, 0, 1, 0)
"""A call with all its output."""
COARSE: list[tuple[tuple[Budget, ...], bool]] = [
    ((Budget(usd=money(640 * 64), tokens=70 * 64, input_tokens=29 * 64, output_tokens=40, model_calls=1),), True),
    ((Budget(usd=money(640 * 64 - 1)),), False),
    ((Budget(tokens=70 * 64 - 1),), False),
    ((Budget(input_tokens=29 * 64 - 1),), False),
    ((Budget(output_tokens=39),), False),
    ((Budget(per="call", usd=money(640), tokens=70, input_tokens=29, output_tokens=40, model_calls=1),), True),
    ((Budget(per="call", usd=money(639)),), False),
    ((Budget(per="call", output_tokens=39),), False),
    ((Budget(per="trace", usd=money(640 * 64), tokens=70 * 64, output_tokens=40, tool_calls=1),), True),
    ((Budget(per="trace", usd=money(640 * 64 - 1)),), False),
    ((Budget(per="trace", output_tokens=39),), False),
    ((Budget(per="trace", usd=1, seconds=60),), False),
    ((Budget(per="step", tool_calls=1),), True),
    ((Budget(per="all", usd=1, seconds=60), Budget(per="call", seconds=59.5)), True),
    ((Budget(per="all", usd=1, seconds=59.5), Budget(per="call", seconds=60)), True),
]


@pytest.mark.parametrize(("budgets", "fits"), COARSE, ids=str)
def test_a_bound_is_held_where_there_is_room_for_many_times_as_much(budgets: tuple[Budget, ...], fits: bool) -> None:
    ledger = ledger_of("memory", *budgets)
    known = ledger.known(SCOPE, NOW)
    first = ledger.reserve(SCOPE, "t/st", (1, 1, 1, 1, 1, 0, 1, 0), now=NOW)  # makes what the others find at hand
    assert isinstance(first, Hold)
    ledger.settle(first, NONE, NOW)
    before = standing(ledger)
    found = ledger.hold_coarsely(known, SCOPE, "t/st", WHOLE, EACH, NOW, alone=False)
    assert (found is not None) == fits
    if found is None:
        assert standing(ledger) == before
        return
    held = {a.name: WHOLE[a.measure] for a in ledger.accounts(SCOPE, "t/st", NOW) if WHOLE[a.measure]}
    clocks = [budget.seconds for budget in budgets if budget.seconds is not None]
    assert found.amounts() == list(WHOLE)
    assert (found.per_unit, found.until, found.deadline) == (EACH, UNTIL, NOW + min(clocks, default=inf))
    assert {a.name: WHOLE[a.measure] for a in found.accounts} == held
    assert {name: held for name, (_, held) in standing(ledger).items() if held} == held
    # What was held too much is released; what was really used is settled, once.
    exact = (301, 51, 21, 30, 1, 0, 1, 0)
    ledger.lower(found, exact, NOW)
    after = {name: exact[MEASURES.index(name.rpartition("|")[2])] for name in held}
    assert {name: held for name, (_, held) in standing(ledger).items() if held} == after
    assert ledger.settle_plainly(found, USED, NOW)
    ledger.lower(found, exact, NOW)
    assert {name: at for name, at in standing(ledger).items() if name in held} == {
        name: (USED[MEASURES.index(name.rpartition("|")[2])], 0) for name in held
    }


@pytest.mark.parametrize(
    ("others", "alone", "held"),
    [
        ((), False, ("memory", "leased")),
        ((), True, ("memory", "leased")),
        ((Budget(per="trace", usd=9),), False, ("memory",)),
        ((Budget(per="trace", usd=9),), True, ("memory", "leased")),
        ((Budget(per="call", usd=9, only={"trace": "t"}),), False, ()),  # whose call it is has to be asked
        ((Budget(per="user", usd=9, only={"trace": "t"}),), True, ()),
    ],
    ids=str,
)
def test_a_bound_is_held_on_what_is_at_hand(
    others: tuple[Budget, ...], alone: bool, held: tuple[str, ...], kind: str
) -> None:
    ledger = ledger_of(kind, Budget(per="all", usd=9), *others)
    known = ledger.known(SCOPE, NOW)
    for times in range(3):
        # What costs nothing is asked for, too: what is billed in the end may cost something.
        found = ledger.hold_coarsely(known, SCOPE, "t", (0, *WHOLE[1:]), EACH, NOW, alone=alone)
        assert (found is not None) == (times > 0 and kind in held)
        if found is not None:
            named = [account.name for account in ledger.accounts(SCOPE, "t", NOW, alone=alone)]
            assert [account.name for account in found.accounts] == named
        first = ledger.reserve(SCOPE, "t", WHOLE, alone=alone, now=NOW)
        assert isinstance(first, Hold)
        for hold in (found, first):
            if hold is not None:
                ledger.settle(hold, USED, NOW)


def test_what_is_settled_plainly_is_what_its_page_knows_and_all_else_stands(kind: str) -> None:
    ledger = ledger_of(kind, Budget(per="session", usd=1), Budget(per="user", output_tokens=9000))
    other = SCOPE._replace(session="other")

    def ask(scope: Scope) -> Hold:
        found = ledger.reserve(scope, "", WHOLE, now=NOW)
        assert isinstance(found, Hold)
        return found

    first = ask(SCOPE)
    assert not ledger.settle_plainly(first, USED, NOW)  # it is on no page
    assert first.amounts() == list(WHOLE)
    assert ledger.settle(first, USED, NOW) == [93, 4]
    if kind == "elsewhere":
        assert not ledger.settle_plainly(ask(SCOPE), USED, NOW)
        return
    ledger.settle(ask(other), USED, NOW)
    one, two, three = ask(SCOPE), ask(other), ask(SCOPE)
    assert one.page is three.page is not two.page is not None
    for hold in (two, three):
        assert ledger.settle_plainly(hold, USED, NOW)
        assert hold.amounts() == list(NONE)
    found = standing(ledger)
    assert found["session|s|usd"] == (186, 640)
    assert (found["session|other|usd"], found["user|u|output_tokens"]) == ((186, 0), (16, 40))
    if kind == "memory":
        ledger.store.forget(["session|s|usd"])  # type: ignore[attr-defined]
        assert not ledger.settle_plainly(one, USED, NOW)
        assert one.amounts() == list(WHOLE)
    assert ledger.settle(one, USED, NOW) == ([93, 20] if kind == "memory" else [279, 20])


def test_a_lease_is_used_to_its_last_unit_told_in_all_and_settled_where_it_is_held() -> None:
    ledger = ledger_of("leased", Budget(per="all", output_tokens=1000, usd=9))
    store, ask = ledger.leases, Ask(ledger)
    made = []
    for total in range(4, 8 * 4, 4):  # the slice is of 125, and 40 of the first call
        found = ask()
        assert isinstance(found, Hold)
        made.append(found.page is not None)
        assert ledger.settles_here(found)
        assert ledger.settle(found, USED, NOW) == [93 * total // 4, total]
        if total == 12:
            store.tell()
    assert made == [False] + [True] * 6
    few = ledger_of("leased", Budget(per="all", output_tokens=90))
    found = Ask(few)()
    assert isinstance(found, Hold)
    assert not few.settles_here(found)  # no slice is taken of so little
    more = few.extend(found, 1, NOW)
    assert more is None
    assert not few.settles_here(found)
    # What is told to the shared store says what there is of the lease.
    kept = ledger.with_budgets([Budget(per="all", output_tokens=900)])
    assert all(lease.over for lease in store.book.leases.values())
    assert kept.hold_seconds == 600


@pytest.mark.parametrize("free", [0, 1, 40])
def test_of_a_lease_the_short_way_uses_every_unit(free: int) -> None:
    """Whatever the budgets afford, on a lease a call has all it asks for, or the shared store is asked."""
    ledger = ledger_of("leased", Budget(per="all", output_tokens=100_000))
    first = Ask(ledger)()
    assert isinstance(first, Hold)
    lease = ledger.leases.book.leases["all|output_tokens"]
    rest = lease.taken - 40 - free
    whole = ledger.reserve(SCOPE, "", (0, 0, 0, rest, 1, 0, 1, 0), now=NOW)
    assert isinstance(whole, Hold)
    found = ledger.reserve(SCOPE, "", (0, 0, 0, 0, 1, 0, 1, 0), EACH, units=(0, 40), now=NOW)
    assert isinstance(found, Hold)
    assert (found.page is not None, found.units) == (free == 40, 40)


def test_a_trace_that_is_over_leaves_no_account(kind: str) -> None:
    budgets = Budget(per="trace", usd=1, steps=9), Budget(per="step", usd=1), Budget(per="all", usd=1)
    ledger = ledger_of(kind, *budgets)
    both = [SCOPE, SCOPE._replace(trace="t2")]
    assert ledger.by_trace
    assert ledger.counts_steps
    for scope in both:
        for step in ("", "/a"):
            found = ledger.reserve(scope, scope.trace + step, FIXED, now=NOW)
            assert isinstance(found, Hold)
            ledger.settle(found, USED, NOW)
    assert standing(ledger)["all|usd"] == (4 * 93, 0)
    ledger.forget("nobody's")
    after = ledger.with_budgets([Budget(per="all", usd=2)])
    assert (after.by_trace, after.counts_steps) == (False, False)
    assert [budget.usd for budget in after.budgets] == [2]
    if kind == "leased":
        assert {lease.over for lease in ledger.leases.book.leases.values()} == {True}
    after.forget("t")
    names = {"trace|t|usd", "trace|t|steps", "step|t|usd", "step|t/a|usd"}
    others = {name.replace("|t", "|t2", 1) for name in names} | {"all|usd"}
    if kind == "memory":
        assert set(standing(after)) == others
    elif kind == "elsewhere":
        assert set(standing(after)) == others | names


def test_the_leases_of_a_trace_that_is_over_are_given_back_and_no_others() -> None:
    ledger = ledger_of("leased", Budget(per="trace", usd=1), Budget(per="all", usd=1))
    for scope in (SCOPE, SCOPE._replace(trace="t2")):
        found = ledger.reserve(scope, "", FIXED, now=NOW)
        assert isinstance(found, Hold)
        ledger.settle(found, USED, NOW)
    taken = ledger.leases.book.leases

    def over() -> list[str]:
        return [name for name, lease in taken.items() if lease.over]

    assert set(taken) == {"trace|t|usd", "trace|t2|usd", "all|usd"}
    ledger.forget("nobody's")
    assert over() == []
    ledger.forget("t")
    assert over() == ["trace|t|usd"]


def test_what_is_watched_outlives_a_call_and_a_step(kind: str) -> None:
    ledger = ledger_of(
        kind, Budget(per="trace", steps=9), Budget(per="step", usd=1), Budget(per="all", usd=1), Budget(usd=1),
        Budget(per="call", usd=1), Budget(per="agent", usd=1, only={"agent": "b"}),
    )  # fmt: skip
    names = ["all|usd", "session|s|usd"]

    def watched(scope: Scope) -> list[str]:
        found = ledger.watch(scope, NOW).names
        assert found[len(found) // 2 :] == ["granted:" + name for name in found[: len(found) // 2]]
        return found[: len(found) // 2]

    assert watched(SCOPE) == [*names, "trace|t|steps"]
    unsaid = SCOPE._replace(trace="")
    assert watched(unsaid) == names
    assert ledger.watch(unsaid, NOW) is ledger.watch(unsaid, NOW)
    assert [a.name for a in ledger.accounts(SCOPE, "t/st", NOW)] == [*names, "trace|t|steps", "step|t/st|usd"]
    assert [a.name for a in ledger.accounts(SCOPE, "t/st", NOW, alone=True)] == names


@pytest.mark.parametrize(
    ("measure", "granted", "spent", "cap"),
    [("tokens", 0, 7, 9), ("tokens", 1, 8, 10), ("tokens", 5, 12, 14), ("seconds", 5, 7, 9)],
)
def test_a_denial_in_full_has_what_was_granted_in_it(
    measure: str, granted: int, spent: int, cap: int, kind: str
) -> None:
    limit: Any = {measure: 9 if measure == "tokens" else 0.009}
    ledger = ledger_of(kind, Budget(per="all", **limit))
    (account,) = ledger.accounts(SCOPE, "", NOW)
    denial = Denial(account, Refusal(3, 4, 7, 1, by_holds=True))
    claims = [Claim("granted:" + account.name, MAX_AMOUNT, 0), Claim("granted:other", MAX_AMOUNT, 0)]
    ledger.store.settle(claims, [0, 0], [granted, 100], until=UNTIL, now=NOW)
    found = ledger.in_full(denial, NOW)
    assert found == Denial(account._replace(cap=cap), Refusal(3, 4, spent, 1, by_holds=True))


class Locked(MemoryStore):
    """Notes whether anybody else could have the lock of ``of`` while it settles."""

    shared = True
    of: Any = None

    def settle(self, *args: Any, **kwargs: Any) -> list[int]:
        with ThreadPoolExecutor(1) as thread:
            self.free = thread.submit(self._take).result()
        return super().settle(*args, **kwargs)

    def _take(self) -> bool:
        taken: bool = self.of.acquire(blocking=False)
        if taken:
            self.of.release()
        return taken


def test_a_settlement_here_is_made_under_the_lock_and_nobody_waits_for_one_elsewhere() -> None:
    here, there = Locked(), Locked()
    lent = leased(there, measures=("usd",))
    here.of, there.of = here.lock, lent.memory.lock
    for store, used, free in ((here, here, False), (lent, there, True)):
        ledger = Ledger([Budget(output_tokens=90)], store, hold_seconds=600)
        found = Ask(ledger)()
        assert isinstance(found, Hold)
        ledger.settle(found, USED, NOW)
        assert used.free == free
