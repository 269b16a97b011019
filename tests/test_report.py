"""The report says who spent what, to the nano-USD, and reads well."""

from __future__ import annotations

import builtins
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.tools import tool

from langchain_costguard import Budget, BudgetExceededError, CostGuard, Price, Scope
from langchain_costguard.events import LoopDetected, ShortCircuited, Steered
from langchain_costguard.observe import rows as module
from langchain_costguard.observe.report import DIMENSIONS, Report, Tally
from langchain_costguard.observe.tallies import Tallies
from langchain_costguard.testing import FakeProvider, Recorder, Reply, ScriptedChatModel
from langchain_costguard.vocabulary.money import show_all
from tests.conftest import PRICES, Caller

QUESTION: Any = {"messages": [("user", "hi")]}


def scripted(name: str = "gpt-4o", usage: tuple[int, int] = (1000, 100)) -> ScriptedChatModel:
    return ScriptedChatModel(model=name, usage=usage)


def some_spending(call: Caller) -> CostGuard:
    """Two users, two models, two sessions."""
    prices = {**PRICES, "tiny": Price(input="0.10", output="0.40")}
    guard = CostGuard(prices=prices)
    for user, name, times in [("u1", "gpt-4o", 2), ("u1", "tiny", 1), ("u2", "gpt-4o", 1)]:
        for i in range(times):
            with guard.scope(user=user, session=f"{user}-{i}", feature="search"):
                call(scripted(name), "hi", {"callbacks": [guard]})
    return guard


GPT, TINY = 1000 * 2500 + 100 * 10_000, 1000 * 100 + 100 * 400


def test_rows_by_any_dimension_add_up_to_the_same_money(call: Caller) -> None:
    report = some_spending(call).report()
    assert report.total == Tally(calls=4, input_tokens=4000, output_tokens=400, spent=3 * GPT + TINY)
    for name in DIMENSIONS:
        assert report.by(name).total == report.total
    assert report.by(*DIMENSIONS).total == report.total
    assert report.by().rows == [((), report.total)]
    assert {scope: tally.spent for scope, tally in report.by("user").rows} == {("u1",): 2 * GPT + TINY, ("u2",): GPT}
    assert [scope for scope, _ in report.by("model", "user").rows] == [
        ("gpt-4o", "u1"),
        ("gpt-4o", "u2"),
        ("tiny", "u1"),
    ]
    assert report.by("user", "model").by("user").rows == report.by("user").rows


@pytest.mark.parametrize("name", ["team", "", "users", "usd", None, 5])
def test_a_dimension_there_is_not_is_refused_by_name(name: Any) -> None:
    with pytest.raises(ValueError, match=f"by: {name!r}.*user, session"):
        CostGuard().report().by(name)
    with pytest.raises(ValueError, match="by: 'agent'"):
        CostGuard().report().by("user").by("agent")


def test_dictionaries_and_data_frames_hold_it_all(call: Caller) -> None:
    report = some_spending(call).report().by("user", "model")
    first = report.to_dicts()[0]
    assert first == {
        "user": "u1", "model": "gpt-4o", "calls": 2, "tool_calls": 0, "input_tokens": 2000, "cache_read": 0,
        "cacheable": 0,
        "cache_write": 0, "output_tokens": 200, "reasoning": 0, "refused": 0, "estimated": 0,
        "unpriced": 0, "failed": 0, "billed": 0,
        "usd": Decimal("0.007"), "saved_usd": Decimal(0), "overrun_usd": Decimal(0), "priced_usd": Decimal("0.007"),
    }  # fmt: skip
    frame = report.to_pandas()
    assert list(frame.columns) == list(first)
    assert frame["usd"].tolist() == [0.007, 0.0035, 0.00014]
    assert frame["usd"].dtype == float
    assert frame.groupby("user")["calls"].sum().to_dict() == {"u1": 3, "u2": 1}


def test_an_empty_report_is_empty_in_every_form() -> None:
    report = CostGuard().report()
    assert report.total == Tally()
    assert (report.rows, report.to_dicts(), len(report.to_pandas())) == ([], [], 0)
    assert str(report) == "Nothing was metered."
    assert "Nothing was metered." in report._repr_html_()
    assert str(report.by("user")) == "Nothing was metered."


def test_pandas_is_asked_for_by_name_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def importing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(ImportError, match=r"langchain-costguard\[pandas\]"):
        CostGuard().report().to_pandas()


# As a table


def test_a_table_is_aligned_and_ends_with_the_total(call: Caller) -> None:
    report = some_spending(call).report()
    assert str(report.by("user", "model")) == (
        "user   model   calls  input  output     spent\n"
        "-----  ------  -----  -----  ------  --------\n"
        "u1     gpt-4o      2  2,000     200  $0.00700\n"
        "u2     gpt-4o      1  1,000     100  $0.00350\n"
        "u1     tiny        1  1,000     100  $0.00014\n"
        "total              4  4,000     400  $0.01064"
    )
    assert str(report) == (
        "model   calls  input  output     spent\n"
        "------  -----  -----  ------  --------\n"
        "gpt-4o      3  3,000     300  $0.01050\n"
        "tiny        1  1,000     100  $0.00014\n"
        "total       4  4,000     400  $0.01064"
    )
    assert str(report.by()).splitlines()[-1].split() == ["4", "4,000", "400", "$0.011"]


def test_columns_of_what_did_not_happen_are_left_out() -> None:
    def columns(**counts: int) -> str:
        return str(Report([(("m",), Tally(calls=1, **counts))], ["model"])).splitlines()[0]

    assert columns().split() == ["model", "calls", "input", "output", "spent"]
    everything = {
        "tool_calls": "tools",
        "cache_read": "cached",
        "cache_write": "written",
        "reasoning": "reasoning",
        "saved": "saved",
        "refused": "refused",
        "estimated": "estimated",
        "overrun": "overrun",
    }
    for name, title in everything.items():
        assert title in columns(**{name: 1}).split()
    whole = columns(**dict.fromkeys(everything, 1)).split()
    assert whole == [
        "model", "calls", "tools", "input", "cached", "written", "output", "reasoning", "spent", "saved", "refused",
        "estimated", "overrun",
    ]  # fmt: skip


def test_one_row_needs_no_total_and_what_is_unknown_is_a_dash() -> None:
    lines = str(Report([(("",), Tally(calls=1))], ["user"])).splitlines()
    assert len(lines) == 3
    assert lines[-1].startswith("-")


def test_large_counts_are_short() -> None:
    text = str(Report([(("m",), Tally(calls=9_999_999, input_tokens=1_234_567_890))], ["model"]))
    assert "9,999,999" in text
    assert "1,234.6M" in text


@pytest.mark.parametrize(
    ("amounts", "wanted"),
    [
        ([], []),
        ([0], ["$0.00"]),
        ([1_230_000_000, 500_000_000], ["$1.23", "$0.50"]),
        ([1_230_000_000, 4_200_000], ["$1.2300", "$0.0042"]),
        ([1], ["$0.000000001"]),
        ([1_234_567_000_000_000], ["$1,234,567.00"]),
        ([-20_000_000, 10_000_000], ["-$0.020", "$0.010"]),
    ],
)
def test_a_column_of_money_has_the_digits_its_smallest_amount_needs(amounts: list[int], wanted: list[str]) -> None:
    assert show_all(amounts) == wanted


def test_jupyter_shows_the_same_cells_and_runs_none_of_them(call: Caller) -> None:
    guard = CostGuard(prices=PRICES)
    with guard.scope(user="<script>alert('x')</script>"):
        call(scripted(), "hi", {"callbacks": [guard]})
    shown = guard.report().by("user", "model")._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert shown.count("<tr>") == 2
    assert "$0.0035" in shown


# What is counted


def test_refused_calls_are_counted_where_they_were_refused(call: Caller) -> None:
    guard = CostGuard(Budget(per="user", model_calls=1), prices=PRICES)
    for user, times in (("u1", 3), ("u2", 1)):
        for _ in range(times):
            try:
                with guard.scope(user=user):
                    call(scripted(), "hi", {"callbacks": [guard]})
            except BudgetExceededError:
                continue
    refused = {scope: (tally.calls, tally.refused) for scope, tally in guard.report().by("user").rows}
    assert refused == {("u1",): (1, 2), ("u2",): (1, 0)}


def test_reads_of_the_providers_cache_are_money_saved(call: Caller) -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 10,
        "total_tokens": 1010,
        "prompt_tokens_details": {"cached_tokens": 800},
        "completion_tokens_details": {"reasoning_tokens": 6},
    }
    prices = {"gpt-4o": Price(input="2.50", cache_read="1.25", output="10.00")}
    with FakeProvider(Reply("fine", usage=usage)) as provider:
        guard = CostGuard(prices=prices)
        call(provider.openai(), "hi", {"callbacks": [guard]})
    total = guard.report().total
    assert (total.cache_read, total.reasoning, total.saved) == (800, 6, 800 * 1250)
    assert total.spent == 200 * 2500 + 800 * 1250 + 10 * 10_000
    assert "cached" in str(guard.report())


def test_hits_of_langchains_cache_are_money_saved_and_no_calls(call: Caller, provider: FakeProvider) -> None:
    set_llm_cache(InMemoryCache())
    guard = CostGuard(prices=PRICES)
    for _ in range(3):
        call(provider.openai(), "hello there", {"callbacks": [guard]})
    total = guard.report().total
    assert (total.calls, total.saved) == (1, 2 * total.spent)


def test_an_overrun_is_said(call: Caller) -> None:
    guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES)
    bill = {"prompt_tokens": 1, "completion_tokens": 500, "total_tokens": 501}
    with FakeProvider(Reply("fine", usage=bill)) as provider:
        call(provider.openai(max_tokens=1), "hi", {"callbacks": [guard]})
    total = guard.report().total
    assert total.estimated == 0
    assert 400 * 10_000 < total.overrun < total.spent
    assert str(guard.report()).splitlines()[0].split()[-1] == "overrun"


def test_an_estimate_is_said(stream: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(prices=PRICES)
    stream(provider.openai(stream_usage=False), "hi", {"callbacks": [guard]}, most=2)
    assert guard.report().total.estimated == 1
    assert "estimated" in str(guard.report())


def test_tools_are_counted_by_agent_with_their_fees(call: Caller) -> None:
    @tool
    def search(q: str) -> str:
        """Search."""
        return "found"

    with FakeProvider([Reply(tool_calls=[("search", {"q": "x"})]), "done"]) as provider:
        guard = CostGuard(prices={"gpt-4o": Price(input="0", output="0")}, tool_prices={"search": "0.01"})
        call(create_agent(provider.openai(), [search], name="research"), QUESTION, {"callbacks": [guard]})
    rows = guard.report().by("agent").rows
    assert [(scope, tally.tool_calls, tally.spent) for scope, tally in rows] == [(("research",), 1, 10_000_000)]


def test_a_report_is_a_copy_of_its_moment(call: Caller) -> None:
    guard = CostGuard(prices=PRICES)
    call(scripted(), "hi", {"callbacks": [guard]})
    before = guard.report()
    call(scripted(), "hi", {"callbacks": [guard]})
    assert (before.total.calls, guard.report().total.calls) == (1, 2)


# Rows do not grow without bound


ONE = (1, 0, 10, 0, 0, 5, 0, 100, 0, 0, 0, 0)


@pytest.mark.parametrize("name", ["trace", "session", "task", "user", "feature", "agent", "step"])
def test_rows_beyond_the_limit_are_folded_and_the_total_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TRACES", 200)
    monkeypatch.setattr(module, "MAX_ROWS", 300)
    tallies = Tallies()
    for _ in range(5000):
        tallies.count(Scope(model="gpt-4o", **{name: str(uuid4())}), ONE)
    report = tallies.report()
    assert report.total == Tally(calls=5000, input_tokens=50_000, output_tokens=25_000, spent=500_000)
    assert len(report.rows) <= 600
    assert len(report.by("model").rows) == 1


def test_who_spent_it_is_kept_while_traces_are_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TRACES", 50)
    tallies = Tallies()
    for i in range(1000):
        tallies.count(Scope(user=f"u{i % 3}", session=f"s{i % 7}", trace=str(i)), ONE)
    calls = {scope: tally.calls for scope, tally in tallies.report().by("user", "session").rows}
    assert len(calls) == 21
    assert sum(calls.values()) == 1000


# What steering did


def steered(guard: CostGuard, event: type[Steered], name: str, saved: int = 0, **scope: str) -> None:
    guard.tell(event(guard.now(), Scope(**scope), name, "because", saved))


def some_steering() -> tuple[CostGuard, Recorder]:
    recorder = Recorder()
    guard = CostGuard(sinks=[recorder])
    for user, trace in (("u1", "a"), ("u1", "b"), ("u2", "c")):
        steered(guard, ShortCircuited, "search", 10_000_000, user=user, trace=trace)
    steered(guard, LoopDetected, "search", user="u2")
    return guard, recorder


def test_what_steering_did_is_told_and_counted_by_scope_action_and_name() -> None:
    guard, recorder = some_steering()
    assert [event.name for event in recorder.of(ShortCircuited)] == ["search"] * 3
    actions = guard.report().actions
    assert len(actions.rows) == 4
    assert (actions.times("ShortCircuited"), actions.times("LoopDetected"), actions.times("Throttled")) == (3, 1, 0)
    assert actions.saved == 30_000_000
    assert actions.by("user").rows == [
        (("u1", "ShortCircuited", "search"), 2, 20_000_000),
        (("u2", "ShortCircuited", "search"), 1, 10_000_000),
        (("u2", "LoopDetected", "search"), 1, 0),
    ]
    assert guard.report().by("user").actions.rows == actions.by("user").rows
    assert guard.report().total == Tally()
    with pytest.raises(ValueError, match="by: 'team'"):
        actions.by("team")


def test_actions_are_a_short_table_below_the_report(call: Caller) -> None:
    guard, _ = some_steering()
    short = (
        "action          name    times   saved\n"
        "--------------  ------  -----  ------\n"
        "ShortCircuited  search      3  $0.030\n"
        "LoopDetected    search      1       -"
    )
    assert str(guard.report().actions) == short
    assert str(guard.report()) == f"Nothing was metered.\n\n{guard.report().actions}"
    before = str(some_spending(call).report())
    assert "action" not in before
    guard = some_spending(call)
    steered(guard, ShortCircuited, "<search>", 10_000_000)
    report = guard.report()
    assert str(report) == f"{before}\n\n{report.actions}"
    assert str(report.by("user")).split("\n\n")[1].split()[:5] == ["user", "action", "name", "times", "saved"]
    shown = report._repr_html_()
    assert shown.count("<table>") == 2
    assert "&lt;search&gt;" in shown
    assert "saved" not in before
    assert report.total.saved == 0


def test_actions_are_dictionaries_and_data_frames() -> None:
    guard, _ = some_steering()
    actions = guard.report().actions.by("user")
    assert actions.to_dicts()[0] == {
        "user": "u1", "action": "ShortCircuited", "name": "search", "times": 2, "saved_usd": Decimal("0.02"),
    }  # fmt: skip
    frame = actions.to_pandas()
    assert frame["saved_usd"].tolist() == [0.02, 0.01, 0.0]
    empty = CostGuard().report().actions
    assert (bool(empty), str(empty), empty._repr_html_()) == (
        False,
        "Nothing was steered.",
        "<p>Nothing was steered.</p>",
    )
    assert len(empty.to_pandas()) == 0


@pytest.mark.parametrize("name", ["trace", "session", "task", "user", "feature", "agent", "step", ""])
def test_rows_of_actions_do_not_grow_without_bound(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TRACES", 200)
    monkeypatch.setattr(module, "MAX_ROWS", 300)
    guard = CostGuard()
    for i in range(3000):
        scope = {name: str(i)} if name else {}
        steered(guard, ShortCircuited, "search" if name else f"tool {i}", 1, **scope)
    actions = guard.report().actions
    assert (actions.times("ShortCircuited"), actions.saved) == (3000, 3000)
    assert len(actions.rows) <= 600
