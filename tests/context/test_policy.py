"""The arithmetic of a compaction, what is cut at birth, what is kept, and what a replay makes of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_costguard import CostGuard, ModelRef
from langchain_costguard.context import Context
from langchain_costguard.context.balance import Prompted, balance
from langchain_costguard.context.birth import cut, part_of
from langchain_costguard.context.counting import scale
from langchain_costguard.context.pieces import Rank, pieces_of
from langchain_costguard.context.plan import SONNET, advice, compare, table
from langchain_costguard.context.replay import Measure
from langchain_costguard.context.rivals import clearing
from langchain_costguard.context.shares import allocate
from langchain_costguard.context.timing import Edit, Prices, break_even, due, gain, lot
from langchain_costguard.metering.pricing.shapes import count_by_shape

EDIT = Edit(before=20_000, after=5_000, rewritten=4_000, new=500)
UNCACHED = Prices(2_500_000, 2_500_000, 10_000_000, 0.0)


@pytest.mark.parametrize(
    ("prices", "calls", "pays"),
    [(SONNET, 1, False), (SONNET, 10, True), (UNCACHED, 1, True), (Prices(3_750_000, 300_000, 0, 0.0), 1, True)],
)
def test_an_edit_pays_by_the_prices_of_the_model_and_by_whether_its_cache_is_warm(
    prices: Prices, calls: float, pays: bool
) -> None:
    assert (gain(EDIT, prices, calls) > 0) is pays
    assert (break_even(EDIT, prices) < calls) is pays


def test_the_example_of_two_thousand_tokens_pays_after_some_thirteen_calls() -> None:
    edit = Edit(before=4_000, after=2_080, rewritten=2_080, new=80)
    assert break_even(edit, SONNET) == pytest.approx(12.5, abs=0.6)


def test_the_lot_is_where_holding_has_cost_as_much_as_the_outlay() -> None:
    growth = EDIT.gone / 20
    calls = lot(EDIT, SONNET, growth)
    costs = {n: (break_even(EDIT, SONNET) * EDIT.gone / n + growth * n / 2) for n in (calls / 2, calls, calls * 2)}
    assert min(costs, key=lambda n: costs[n]) == calls
    assert due(EDIT, SONNET, growth, math.ceil(calls))
    assert not due(EDIT, SONNET, growth, math.floor(calls) - 1)
    assert not due(Edit(1_000, 950, 10), UNCACHED, 50.0, 1_000)  # no progress
    assert lot(EDIT, Prices(0, 0), growth) == math.inf


@pytest.mark.parametrize(
    ("reported", "estimated", "expected"), [(1_200, 1_000, 1.2), (0, 1_000, 1.0), (9_000, 10, 1.0), (5, 0, 1.0)]
)
def test_an_estimate_is_scaled_by_what_was_reported_unless_that_explodes(
    reported: int, estimated: int, expected: float
) -> None:
    assert scale(reported, estimated) == expected


def test_a_balance_is_what_the_call_took_less_with_the_rewriting_apart() -> None:
    kept = balance(Prompted(10_000, 9_000), Prompted(6_000, 5_000), 5_000, SONNET, 1_024)
    assert kept == (4_000 * 300, 0)
    broke = balance(Prompted(10_000, 9_000), Prompted(4_000, 2_000), 5_500, SONNET, 1_024)
    assert broke.paid > 0
    assert broke.saved + broke.paid > broke.saved


def test_a_long_text_keeps_its_ends_and_the_names_that_were_between_them() -> None:
    text = "first line\n" + "filler words here\n" * 500 + "see src/app/main.py and order-4711\n" + "more words\n" * 500
    short = cut(text + "last line", 200, count_by_shape, "r1")
    assert short is not None
    assert short.startswith("first line")
    assert short.endswith("last line")
    assert "src/app/main.py" in short
    assert 'fetch_result(id="r1", part=1)' in short
    assert count_by_shape(short) < 330
    assert cut("short", 200, count_by_shape) is None


@pytest.mark.parametrize("text", ["", "x", "word " * 3_000, "日本語" * 2_000])
def test_the_parts_of_a_text_make_up_the_whole(text: str) -> None:
    _, parts = part_of(text, 1, 500, count_by_shape)
    assert "".join(part_of(text, n, 500, count_by_shape)[0] for n in range(1, parts + 1)) == text
    assert part_of(text, 99, 500, count_by_shape) == part_of(text, parts, 500, count_by_shape)


def thread() -> list[BaseMessage]:
    def step(n: int, **more: Any) -> list[BaseMessage]:
        calls: Any = [{"name": "look", "args": {}, "id": f"{n}a"}, {"name": "look", "args": {}, "id": f"{n}b"}]
        return [
            AIMessage(f"step {n}", tool_calls=calls),
            ToolMessage(f"one {n}", tool_call_id=f"{n}a", **more),
            ToolMessage(f"two {n}", tool_call_id=f"{n}b"),
        ]

    old = [m for n in range(7) for m in (HumanMessage(f"ask {n}"), AIMessage(f"answer {n}"))]
    found = step(10, artifact=[Document("a page")])
    return [SystemMessage("rules"), *found[:0], *old, *found, HumanMessage("now"), *step(11), *step(12)]


def test_what_matters_is_told_by_its_place_in_the_thread() -> None:
    pieces = pieces_of(thread(), [lambda message: message.text == "answer 0"])
    ranks = {thread()[piece.first].text: piece.rank for piece in pieces}
    protected = {"rules", "ask 0", "now", "step 12", "answer 0"}
    assert {text for text, rank in ranks.items() if rank is Rank.PROTECTED} == protected
    assert ranks["step 10"] is ranks["step 11"] is Rank.HIGH
    assert ranks["ask 6"] is Rank.MEDIUM
    assert ranks["ask 1"] is Rank.LOW
    assert [piece.end - piece.first for piece in pieces if thread()[piece.first].text == "step 11"] == [3]


def test_a_share_that_is_not_used_flows_down() -> None:
    pieces = pieces_of(thread())
    tokens = [10] * len(pieces)
    low = {at for at, piece in enumerate(pieces) if piece.rank is Rank.LOW}
    assert len(low & allocate(pieces, tokens, 200)) > len(low & allocate(pieces, tokens, 60))
    assert allocate(pieces, tokens, 0) == {at for at, p in enumerate(pieces) if p.rank is Rank.PROTECTED}
    assert allocate(pieces, tokens, 1e9) == set(range(len(pieces)))


def recorded(steps: int) -> list[BaseMessage]:
    run: list[BaseMessage] = [HumanMessage("Find the berth of Daisy-77.")]
    for n in range(steps):
        call: Any = [{"name": "look", "args": {"berth": f"b-{n}"}, "id": str(n)}]
        run.append(AIMessage(f"I look at b-{n}; before, b-{max(0, n - 3)} had {n}{n}1 bells.", tool_calls=call))
        run.append(
            ToolMessage(f"b-{n} has {n + 1}{n + 1}1 bells. " + f"line {n} of the book\n" * 150, tool_call_id=str(n))
        )
    return [*run, AIMessage("done")]


def test_a_replay_says_what_each_policy_would_have_come_to() -> None:
    size = lambda message: count_by_shape(message.text) + 5  # noqa: E731
    rows = compare(Measure([recorded(30), recorded(20)], size), SONNET, trigger=6_000)
    by = {row.name: row for row in rows}
    assert by["none"].money == by["none"].breaks == 0
    assert by["ClearToolUsesEdit"].breaks > 0.3
    assert by["Context(cap=400)"].money < by["Context(cap=400) alone"].money < 0
    assert by["Context(cap=400)"].without_task == 0
    assert by["SummarizationMiddleware"].without_task > 0
    assert all(row.stated == pytest.approx(1.0, abs=0.1) for row in rows if row.stated is not None)
    assert "Context(cap=400)" in advice(rows)
    assert len({len(line) for line in table(rows).splitlines()}) == 1


def test_langchain_s_clearing_is_replayed_as_it_is() -> None:
    from langchain.agents.middleware import ClearToolUsesEdit

    run = recorded(12)
    size = lambda message: count_by_shape(message.text)  # noqa: E731
    ours = clearing(3_000, size)(run)
    for at in range(1, len(run)):
        theirs = [message.model_copy() for message in run[:at]]
        ClearToolUsesEdit(trigger=3_000, keep=3).apply(theirs, count_tokens=lambda m: sum(map(size, m)))
        assert [m.text for m in ours(at).messages] == [m.text for m in theirs]


def test_each_model_has_the_counter_that_fits_its_name() -> None:
    guard = CostGuard(counters={"claude-*": lambda messages: 7, "*": lambda messages: 9})
    asked: list[BaseMessage] = [HumanMessage("hello")]
    counted = {name: guard.estimator.estimate(ModelRef("", name), asked).tokens for name in ("claude-x", "gpt-4o")}
    assert counted == {"claude-x": 7, "gpt-4o": 9}
    with pytest.raises(ValueError, match=r"^counters\['x'\]: "):
        CostGuard(counters={"x": 7})  # type: ignore[dict-item]


def test_a_choice_of_context_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Context().cap = 7  # type: ignore[misc]
