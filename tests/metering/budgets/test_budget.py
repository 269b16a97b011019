"""A budget says what it means when it is made, and counts what it says."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, replace
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_costguard import Budget, BudgetExceededError, CostGuard, RedisStore, SQLiteStore
from langchain_costguard.events import Alert
from langchain_costguard.metering.budgets.budget import MEASURES, quoted
from langchain_costguard.metering.stores import MAX_AMOUNT, open_store
from langchain_costguard.testing import FakeProvider, ManualClock, Recorder, ScriptedChatModel
from langchain_costguard.vocabulary.calendar import window_at
from tests.conftest import PRICES, Caller

COUNTS = [measure for measure in MEASURES if measure not in ("usd", "seconds")]

BAD: list[tuple[dict[str, Any], str]] = [
    *(
        ({"usd": value}, "usd")
        for value in ["-0.50", -1, 0, "0", "NaN", "sNaN", "Infinity", "", "$1", "one", True, b"1"]
    ),
    ({"usd": Decimal("NaN")}, "usd"),
    ({"usd": Decimal("1e999999")}, "usd"),
    ({"usd": "10000000"}, "usd"),
    ({"usd": [1]}, "usd"),
    *(({name: value}, name) for name in COUNTS for value in [-1, 0, True, 1.5, "10", float("nan"), Decimal(3), 2**60]),
    *(({"seconds": value}, "seconds") for value in [-1, 0, True, "60", float("nan"), float("inf"), Decimal("NaN")]),
    *(({"usd": "1", "per": value}, "per") for value in ["team", "", (), ("user", "team"), 5, None, ("user", None)]),
    *(({"usd": "1", "per": value}, "per") for value in [("user", "user"), ("call", "user"), ("all", "user")]),
    *(({"usd": "1", "window": value}, "window") for value in ["year", "", 60, "Day"]),
    ({"usd": "1", "per": "call", "window": "day"}, "window"),
    *(({"usd": "1", "tz": value}, "tz") for value in ["Mars/Olympus", "", None, 5, "../etc/passwd", "Europe"]),
    *(({"usd": "1", "lockout": value}, "lockout") for value in [0.9, 0, -1, float("nan"), True, "1.2", None, 1000]),
    ({"usd": "1", "lockout": Decimal("NaN")}, "lockout"),
    *(
        ({"usd": "1", "only": value}, "only")
        for value in ["research", None, {"team": "x"}, {"agent": []}, {"call": "x"}]
    ),
    *(({"usd": "1", "only": {"agent": value}}, "only") for value in [5, None, True, [1], ["a", None]]),
    *(
        ({"usd": "1", "tokens": 9, "reserve": value}, "reserve")
        for value in [
            "1",
            "1.00",
            2,
            "0",
            0,
            "-0.1",
            "NaN",
            "",
            "five",
            "0%",
            "100%",
            "-5%",
            "%",
            "x%",
            True,
            b"5%",
            [1],
        ]
    ),
    *(
        ({"usd": "1", "reserve": value}, "reserve")
        for value in [0.0, 1.0, 1.5, -0.05, float("nan"), float("inf"), Decimal("NaN"), Decimal(1)]
    ),
    ({"tokens": 9, "reserve": "0.02"}, "reserve"),
    ({"steps": 9, "reserve": "5%"}, "reserve"),
    ({"tokens": 1, "reserve": "5%"}, "reserve"),
    ({"usd": "1", "name": 5}, "name"),
    ({"usd": "1", "name": None}, "name"),
]


def shown(value: Any) -> str:
    """What a message says of a value: of a mapping, its values."""
    return repr(next(iter(value.values()))) if isinstance(value, dict) and value else repr(value)


@pytest.mark.parametrize(("fields", "named"), BAD, ids=[f"{named}: {fields}" for fields, named in BAD])
def test_a_bad_value_is_refused_by_the_name_of_its_field(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        Budget(**fields)
    assert shown(fields[named]) in str(caught.value)


PER = "is not one of call, step, session, agent, user, feature, task, trace, model, all, or a tuple of them"
SHARE = 'must be a share such as 0.05 or "5%", or an amount of USD as text'
SECONDS = "must be a number of seconds above zero, and at most 1e9"
WHOLE: list[tuple[dict[str, Any], str]] = [
    ({"per": "day"}, f"per: 'day' {PER}; write window='day'"),
    ({"per": ("user", "weekly")}, f"per: ('user', 'weekly') {PER}; write window='week'"),
    ({"per": "sesion"}, f"per: 'sesion' {PER}; did you mean 'session'?"),
    ({"per": "team"}, f"per: 'team' {PER}"),
    ({"window": "dayly"}, "window: 'dayly' is not one of hour, day, week, month or None; did you mean 'day'?"),
    ({"lockout": 100.5}, "lockout: 100.5 must be between 1.0 and 100"),
    ({"lockout": 0.99}, "lockout: 0.99 must be between 1.0 and 100"),
    ({"tokens": MAX_AMOUNT + 1}, f"tokens: {MAX_AMOUNT + 1} is more than an account can hold"),
    ({"tokens": 9, "usd": None, "reserve": "0.02"}, "reserve: '0.02' has no cap to be a part of: give usd"),
    (
        {"steps": 9, "usd": None, "reserve": "5%"},
        "reserve: '5%' has no cap to be a part of: give one of usd, tokens, input_tokens, output_tokens",
    ),
    ({"tokens": 1, "reserve": "5%"}, "reserve: '5%' is all of tokens=1"),
    ({"reserve": "1"}, "reserve: '1' is all of usd='1'"),
    *(({"reserve": share}, f"reserve: {share!r} {SHARE}") for share in ("100%", 1.0, 1.5, 0.0, "0%", "150%")),
    *(({"seconds": value}, f"seconds: {value!r} {SECONDS}") for value in (10**9 + 1, 1e9 + 0.5, 0, -0.5)),
]


@pytest.mark.parametrize(("fields", "said"), WHOLE, ids=[said for _, said in WHOLE])
def test_a_bad_value_is_told_with_what_to_write(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        Budget(**{"usd": "1", **fields})
    assert str(caught.value) == said


def test_the_largest_and_the_smallest_that_can_be_are_taken() -> None:
    assert Budget(tokens=MAX_AMOUNT).caps() == {"tokens": MAX_AMOUNT}
    assert Budget(tokens=9, lockout=100).ceiling(9) == 900
    assert Budget(tokens=9, lockout=1).ceiling(9) == 9
    smallest = {1e9: 10**12, 10**9: 10**12, 0.0004: 1, 0.001: 1, 0.0016: 2, 0.0025: 2}
    assert {value: Budget(seconds=value).caps()["seconds"] for value in smallest} == smallest
    assert Budget(usd="1", reserve=0.999999).reserves() == {"usd": 999_999_000}


@pytest.mark.parametrize(
    ("budget", "key", "said"),
    [
        (Budget(usd="1"), "session", "per='session', usd='1'"),
        (Budget(per="user", usd="1", tz="Europe/Berlin"), "user", "per='user', usd='1', tz='Europe/Berlin'"),
        (Budget(per="user", usd=1, window="day"), "user.day", "per='user', usd=1, window='day'"),
        (
            Budget(per=("user", "agent"), usd="1", window="day", tz="Europe/Berlin", only={"agent": {"b", "a|c"}}),
            "user+agent.day@Europe/Berlin.[agent=a%7Cc+b]", None,
        ),
        (
            Budget(per="all", tokens=9, only={"user": "u", "agent": "a"}, lockout=1.2, name="my team"),
            "my%20team", "per='all', tokens=9, only={'user': {'u'}, 'agent': {'a'}}, lockout=1.2, name='my team'",
        ),
        (
            Budget.development(on_exceeded="downgrade", reserve="5%"), "session",
            "per='session', usd='5.00', tokens=200000, tool_calls=150, seconds=1200, lockout=10, reserve='5%', "
            "on_exceeded='downgrade'",
        ),
        (Budget.production(), "session", "per='session', usd='0.50', tokens=20000, tool_calls=15, seconds=120"),
    ],
)  # fmt: skip
def test_a_budget_is_called_by_what_was_given(budget: Budget, key: str, said: str | None) -> None:
    assert budget.key() == key
    assert budget.label == (budget.name or key)
    assert repr(budget) == f"Budget({said})" or said is None


def test_a_budget_is_given_by_name_and_stays_what_it_is() -> None:
    with pytest.raises(TypeError):
        Budget("user", usd="1")  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        Budget(usd="1").usd = "2"  # type: ignore[misc]


@pytest.mark.parametrize("amount", [0.5, 1.0, float("nan"), float("inf"), -0.1])
def test_money_is_never_a_float_and_the_message_says_what_to_write(amount: float) -> None:
    with pytest.raises(ValueError, match=f'write "{amount}"'):
        Budget(usd=amount)  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [{}, {"per": "user"}, {"window": "day"}, {"only": {"agent": "x"}}])
def test_a_budget_without_a_limit_is_no_budget(fields: Any) -> None:
    with pytest.raises(ValueError, match=r"no limit.*usd, tokens"):
        Budget(**fields)


@pytest.mark.parametrize(
    ("name", "hint"), [("usdd", "mean usd"), ("toolcalls", "mean tool_calls"), ("pages", "seconds")]
)
def test_an_unknown_measure_is_a_value_error_that_helps(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"{name}='1'.*{hint}"):
        Budget(**{name: "1"})


def test_the_fields_are_what_editors_and_notebooks_show() -> None:
    assert list(inspect.signature(Budget).parameters)[:3] == ["per", "usd", "tokens"]


@pytest.mark.parametrize(
    "url", ["", "budgets.db", "sqlite:", "mysql://host/db", "redis:/host", "redis://host/db", "redis://host:port/0", 5]
)
def test_a_bad_store_url_is_refused_with_the_url(url: Any) -> None:
    with pytest.raises(ValueError) as caught:
        open_store(url)
    assert repr(url) in str(caught.value)


def test_a_store_that_cannot_be_is_refused_when_it_is_made(tmp_path: Any) -> None:
    for path in ("", ":memory:", str(tmp_path), str(tmp_path / "no" / "such" / "folder.db")):
        with pytest.raises(ValueError, match="path"):
            SQLiteStore(path)
    with pytest.raises(ValueError, match="http"):
        RedisStore("http://host")


def test_every_way_to_write_an_amount_is_the_same_amount() -> None:
    budgets = [Budget(usd=amount) for amount in ("0.50", ".5", Decimal("0.5"), "5e-1", " 0.5 ")]
    assert {budget.caps()["usd"] for budget in budgets} == {500_000_000}
    assert Budget(usd=2).caps() == {"usd": 2_000_000_000}
    assert Budget(seconds=0.25).caps() == {"seconds": 250}


def test_the_field_default_is_one_word_away_and_can_be_changed() -> None:
    caps = {"usd": 500_000_000, "tokens": 20_000, "tool_calls": 15, "seconds": 120_000}
    assert Budget.production().caps() == caps
    changed = Budget.production(per="user", usd="2", window="day", seconds=None)
    assert changed.caps() == {"usd": 2_000_000_000, "tokens": 20_000, "tool_calls": 15}
    assert (changed.per, changed.window) == ("user", "day")
    with pytest.raises(ValueError, match="usd"):
        Budget.production(usd=0)
    roomy = {"usd": 5_000_000_000, "tokens": 200_000, "tool_calls": 150, "seconds": 1_200_000}
    assert (Budget.development().caps(), Budget.development().lockout) == (roomy, 10)
    assert repr(Budget.development(tokens=7, lockout=3)) == (
        "Budget(per='session', usd='5.00', tokens=7, tool_calls=150, seconds=1200, lockout=3)"
    )


def test_a_budget_is_a_value() -> None:
    budget = Budget(per=("user", "agent"), usd="1", only={"agent": {"a", "b"}}, lockout=1.2)
    for twin in (pickle.loads(pickle.dumps(budget)), copy.deepcopy(budget), replace(budget)):
        assert twin == budget
        assert hash(twin) == hash(budget)
    assert replace(budget, usd="2").caps() == {"usd": 2_000_000_000}
    given = {"agent": "a"}
    kept = Budget(usd="1", only=given)
    given["agent"] = "b"
    assert kept.only == {"agent": {"a"}}


def test_a_reserve_is_money_or_a_share_of_what_is_amounts() -> None:
    caps: Any = {"usd": "1", "tokens": 1000, "input_tokens": 10, "output_tokens": 300, "steps": 9, "seconds": 9}
    for share in ("5%", " 5 % ", 0.05):
        kept = {"usd": 50_000_000, "tokens": 50, "input_tokens": 1, "output_tokens": 15}
        assert Budget(**caps, reserve=share).reserves() == kept
    assert Budget(**caps, reserve="0.02").reserves() == {"usd": 20_000_000}
    assert Budget(usd=2, reserve=1).reserves() == {"usd": 1_000_000_000}
    assert Budget(**caps).reserves() == {}
    assert "reserve='5%'" in repr(Budget(usd="1", reserve="5%"))


def test_a_tuple_of_one_scope_is_that_scope(call: Caller) -> None:
    assert Budget(per=("user",), usd="1") == Budget(per="user", usd="1")
    assert Budget(per=("call",), usd="1").per == "call"  # type: ignore[arg-type]


# Windows


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


WINDOWS = [
    ("day", "Europe/Berlin", "2025-03-30T12:00", "2025-03-30", 23),
    ("day", "Europe/Berlin", "2025-10-26T12:00", "2025-10-26", 25),
    ("day", "UTC", "2025-10-26T12:00", "2025-10-26", 24),
    ("day", "America/Santiago", "2025-09-06T23:30", "2025-09-06", 24),  # the next midnight does not exist
    ("day", "America/Santiago", "2025-09-07T12:00", "2025-09-07", 23),
    ("day", "America/Havana", "2025-11-02T12:00", "2025-11-02", 25),  # midnight comes twice
    ("week", "UTC", "2025-01-01T00:00", "2025-W01", 7 * 24),
    ("week", "UTC", "2024-12-30T00:00", "2025-W01", 7 * 24),
    ("week", "Europe/Berlin", "2025-10-26T23:00", "2025-W43", 7 * 24 + 1),
    ("month", "UTC", "2024-02-29T23:59", "2024-02", 29 * 24),
    ("month", "UTC", "2025-02-01T00:00", "2025-02", 28 * 24),
    ("month", "UTC", "2025-12-31T23:59", "2025-12", 31 * 24),
    ("month", "Europe/Berlin", "2025-10-31T00:00", "2025-10", 31 * 24 + 1),
]


@pytest.mark.parametrize(("window", "tz", "moment", "label", "hours"), WINDOWS)
def test_a_window_is_what_the_calendar_of_its_zone_says(
    window: Any, tz: str, moment: str, label: str, hours: int
) -> None:
    now = at(moment, tz)
    found, ends = window_at(window, tz, now)
    assert found == label
    # The first second of the window is `hours` before its end, and neither neighbour belongs to it.
    assert window_at(window, tz, ends - hours * 3600) == (label, ends)
    assert window_at(window, tz, ends - hours * 3600 - 1)[0] != label
    assert window_at(window, tz, ends)[0] != label


def test_the_hour_that_comes_twice_is_two_hours() -> None:
    first, second = (at("2025-10-26T02:30", "Europe/Berlin", fold) for fold in (0, 1))
    assert second - first == 3600
    (early, ends), (late, _) = window_at("hour", "Europe/Berlin", first), window_at("hour", "Europe/Berlin", second)
    assert early != late
    assert ends == first + 1800


@pytest.mark.parametrize("tz", ["Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana", "Europe/Berlin"])
@pytest.mark.parametrize("window", ["hour", "day"])
def test_a_window_never_ends_before_now_and_never_comes_back(tz: str, window: Any) -> None:
    # Half an hour is put in and taken out on Lord Howe Island; Kathmandu is 5:45 ahead.
    start, labels = int(at("2025-01-01T00:00")), []
    for now in range(start, start + 366 * 86_400, 1800 if window == "hour" else 6 * 3600):
        label, ends = window_at(window, tz, now)
        assert now < ends <= now + 26 * 3600
        labels.append(label)
    changes = [old for old, new in pairwise(labels) if old != new]
    assert len(set(changes)) == len(changes)


def test_a_day_starts_afresh_in_its_own_time_zone(call: Caller) -> None:
    clock = ManualClock(at("2025-07-01T23:30", "Europe/Berlin"))
    model = ScriptedChatModel(usage=(1, 1), max_tokens=1)
    berlin = CostGuard(Budget(per="all", model_calls=1, window="day", tz="Europe/Berlin"), clock=clock, prices=PRICES)
    utc = CostGuard(Budget(per="all", model_calls=1, window="day"), clock=clock, prices=PRICES)
    for guard in (berlin, utc):
        call(model, "hi", {"callbacks": [guard]})
    clock.advance(3600)
    call(model, "hi", {"callbacks": [berlin]})
    with pytest.raises(BudgetExceededError):
        call(model, "hi", {"callbacks": [utc]})
    clock.advance(2 * 3600)
    call(model, "hi", {"callbacks": [utc]})


def test_days_of_two_time_zones_are_two_accounts_of_one_store() -> None:
    berlin = Budget(per="user", usd="1", window="day", tz="Europe/Berlin")
    assert berlin.key() != Budget(per="user", usd="1", window="day").key()
    CostGuard(berlin, Budget(per="user", usd="1", window="day"))


# What a budget applies to


def asked(guard: CostGuard, call: Caller, model: Any = None, **tags: str) -> bool:
    """Whether a call of this scope was let through."""
    with guard.scope(**tags):
        try:
            call(model or ScriptedChatModel(usage=(1, 1), max_tokens=1), "hi", {"callbacks": [guard]})
        except BudgetExceededError:
            return False
    return True


@pytest.mark.parametrize("chosen", ["research", {"research"}, ["research", "writer"], frozenset({"research"})])
def test_only_those_named_are_counted(chosen: Any, call: Caller) -> None:
    guard = CostGuard(Budget(per="agent", model_calls=1, only={"agent": chosen}), prices=PRICES)
    assert asked(guard, call, agent="research")
    assert not asked(guard, call, agent="research")
    assert all(asked(guard, call, agent="summarizer") for _ in range(3))
    assert asked(guard, call)


def test_only_wants_every_dimension_to_match(call: Caller) -> None:
    only = {"agent": {"a", "b"}, "user": "u1"}
    guard = CostGuard(Budget(per="all", model_calls=1, only=only), prices=PRICES)
    assert asked(guard, call, agent="a", user="u1")
    assert not asked(guard, call, agent="b", user="u1")
    assert asked(guard, call, agent="a", user="u2")
    assert asked(guard, call, user="u1")


def test_a_tuple_counts_each_combination_by_itself(call: Caller) -> None:
    guard = CostGuard(Budget(per=("user", "agent"), model_calls=1), prices=PRICES)
    pairs = [{"user": user, "agent": agent} for user in ("u1", "u2") for agent in ("a", "b")]
    assert all(asked(guard, call, **pair) for pair in pairs)
    assert not any(asked(guard, call, **pair) for pair in pairs)


def test_a_lockout_alerts_at_the_cap_and_refuses_beyond_it(call: Caller) -> None:
    recorder = Recorder()
    guard = CostGuard(Budget(per="all", model_calls=10, lockout=1.2), prices=PRICES, sinks=[recorder])
    assert [asked(guard, call) for _ in range(14)] == [True] * 12 + [False] * 2
    assert [(alert.threshold, alert.spent, alert.cap) for alert in recorder.of(Alert)] == [
        (0.7, 7, 10),
        (1.0, 10, 10),
        (1.2, 12, 10),
    ]


@pytest.mark.parametrize(
    ("cap", "lockout", "allowed"), [(100, 1.15, 115), (100, 1.1, 110), (10, 1.25, 12), (3, 1.4, 4)]
)
def test_a_lockout_is_exact(cap: int, lockout: float, allowed: int) -> None:
    assert Budget(tokens=cap, lockout=lockout).ceiling(cap) == allowed


def test_a_budget_per_call_forgets_from_call_to_call(call: Caller) -> None:
    with FakeProvider("four little words here") as provider:
        guard = CostGuard(Budget(per="call", usd="0.001", output_tokens=50), prices=PRICES)
        for _ in range(3):
            assert asked(guard, call, provider.openai(max_tokens=50))
        assert not asked(guard, call, provider.openai(max_tokens=51))
        assert not asked(guard, call, provider.openai(model="gpt-4o", max_tokens=50, n=3))
        assert len(provider.requests) == 3


@pytest.mark.parametrize("per", ["call", ("call",)])
def test_a_budget_per_call_keeps_no_account(per: Any, call: Caller) -> None:
    guard = CostGuard(Budget(per=per, tokens=100), prices=PRICES)
    assert all(asked(guard, call) for _ in range(60))
    assert list(guard.store.scan(now=0)) == []


# Accounts


def test_two_budgets_that_would_count_into_one_account_need_a_name() -> None:
    with pytest.raises(ValueError, match=r"user\.day.*name="):
        CostGuard(Budget(per="user", usd="1", window="day"), Budget(per="user", usd="2", window="day"))
    with pytest.raises(ValueError, match="team"):
        CostGuard(Budget(per="user", usd="1", name="team"), Budget(per="agent", usd="2", name="team"))
    with pytest.raises(ValueError, match="session"):
        CostGuard(Budget(per="session", usd="1"), Budget(per="user", usd="2", name="session"))
    CostGuard(
        Budget(per="user", usd="1"),
        Budget(per="user", tokens=5),
        Budget(per="user", usd="1", window="day"),
        Budget(per="user", usd="1", only={"agent": "a"}),
        Budget(per="user", usd="2", only={"agent": "b"}),
        Budget(per="user", usd="3", name="again"),
    )


ODD = [
    "",
    "-",
    "|",
    ",",
    "=",
    "+",
    "%",
    "a|b",
    "a,b",
    "a%2Cb",
    "%2D",
    " ",
    "\x1f",
    "a\x1fb",
    "é",
    "\u202e",
    "\ud800",
    "💸",
]


def test_odd_values_never_share_an_account(call: Caller) -> None:
    guard = CostGuard(Budget(per=("user", "feature"), model_calls=1), prices=PRICES)
    pairs = [(user, feature) for user in ODD for feature in ODD]
    for user, feature in pairs:
        tags = {name: value for name, value in (("user", user), ("feature", feature)) if value}
        assert asked(guard, lambda model, *rest: model.invoke(*rest), **tags), (user, feature)
    assert len(list(guard.store.scan(now=0))) == len(pairs)


def test_a_value_stands_in_a_name_as_it_is_but_for_separators_and_letters_that_are_not_ascii() -> None:
    names = {"": "-", "-": "%2D", "a1": "a1", "é": "%C3%A9", "²": "%C2%B2", "a b": "a b", "a|b": "a%7Cb", "%": "%25"}
    names |= {"a,b": "a%2Cb", "a-b": "a-b", "\ud800": "%ED%A0%80", "a:b/c~d.e_f": "a:b/c~d.e_f", "+": "%2B"}
    assert {value: quoted(value) for value in names} == names


@given(st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_two_values_never_become_one_name(values: list[str]) -> None:
    names = [quoted(value) for value in values]
    assert names[0] != names[1]
    assert not any(set(name) & set("|,=+[]\x1f") for name in names)


def test_an_account_outlives_its_window_and_whoever_spends_from_it() -> None:
    hour, day = 3_600, 86_400
    windows: Any = {"hour": 2 * hour, "day": 2 * day, "week": 8 * day, "month": 32 * day}
    assert {window: Budget(usd=1, per="step", window=window).idle() for window in windows} == windows
    scopes: Any = {"step": hour, "call": hour, "trace": day, "session": 30 * day, "task": 30 * day, "user": 400 * day}
    scopes |= {"all": 400 * day, ("user", "session"): 30 * day, ("session", "step"): hour}
    assert {per: Budget(usd=1, per=per).idle() for per in scopes} == scopes
