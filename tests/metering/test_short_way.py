"""The short way to the last unit: which calls go it, what they are held and charged at, and where it ends."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables.config import var_child_runnable_config

from langchain_costguard import Budget, BudgetExceededError, CostGuard, Price
from langchain_costguard.metering.budgets.budget import MEASURES
from langchain_costguard.metering.calls import Call
from langchain_costguard.metering.pricing.catalog import Priced
from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.metering.pricing.rates import Rates
from langchain_costguard.vocabulary.usage import Usage
from tests.metering.stories import PRICES, START, Told


class Short(Told):
    """Nobody listens, and the accounts are at hand; notes which calls were settled the short way."""

    def __init__(self, *budgets: Budget, **arguments: Any) -> None:
        super().__init__(*budgets, **{"listening": False, "token_counter": None, **arguments})
        self.end(self.model(1, 1, "other"), 1, 1)
        self.ends: list[bool] = []
        quick = self.guard.quick
        settle = quick.end

        def end(call: Call, given: int, made: int, reported: str | None) -> bool:
            self.ends.append(settle(call, given, made, reported))
            return self.ends[-1]

        quick.end = end  # type: ignore[method-assign]

    def under_way(self, run_id: Any) -> Call:
        return self.guard.meter.open_calls[run_id.int]

    def stands(self) -> tuple[int, int]:
        """What is spent and held of money, but for the first call."""
        spent, held, _ = self.guard.store.read(["all|usd"], now=self.clock())[0]
        return spent - self.first, held

    first = 1_500  # 300.3 and 1,200.1 nano-USD


@pytest.mark.parametrize(
    ("price", "given", "made", "charge"),
    [  # so many pico-USD a token
        (("0.0005", "0"), 1, 1, 0),
        (("0.0005", "0"), 2, 1, 1),
        (("0.0005", "0"), 3, 1, 2),
        (("0.0005", "0"), 5, 1, 2),
        (("0.0005", "0"), 7, 1, 4),
        (("0.000499", "0"), 1, 1, 0),
        (("0.000501", "0"), 1, 1, 1),
        (("0.000499", "0.001002"), 1, 1, 2),
        (("0.000498", "0.001001"), 1, 1, 1),
        (("0.001", "0"), 1, 1, 1),
        (("0.0003", "0.0011"), 5, 7, 9),
    ],
)
@pytest.mark.parametrize("most", [None, 53])
def test_a_charge_is_rounded_half_to_even(price: Any, given: int, made: int, charge: int, most: Any) -> None:
    told = Short(prices={"mine": Price(*price), "other": Price("0.3003", "1.2001")}, session="s")
    told.guard.meter.dearest.clear()
    told.end(told.model(20, most), given, made)
    rates = Price(*price).rates("mine", "")
    rest = (53 - made) * rates.output // 1_000 if most else 0
    assert told.ends == [True]
    assert told.stands() == (charge, 0)
    assert rates.charge(Usage(given, made)) == charge
    assert told.guard.meter.dearest == ({"s": charge + rest} if charge + rest else {})
    told.end(told.model(20, 1), 1, 1)
    assert set(told.guard.meter.dearest) <= {"s"}
    assert told.guard.meter.dearest.get("s", 0) >= charge + rest


@pytest.mark.parametrize(("over", "short"), [(0, True), (1, False)])
def test_what_takes_more_than_half_its_bound_by_length_is_counted_exactly(over: int, short: bool) -> None:
    told = Short(prices={"gpt-4o": PRICES["mine"], "other": PRICES["other"]})
    run_id = next(
        run_id for n in range(9) if told.under_way(run_id := told.model(101 + n, 53, "gpt-4o")).upper % 2 == 0
    )
    told.end(run_id, told.under_way(run_id).upper // 2 + over, 41)
    assert told.ends == [short]


@pytest.mark.parametrize(("given", "made"), [(0, 0), (0, 1), (1, 0)])
def test_what_takes_more_than_was_held_is_an_overrun(given: int, made: int) -> None:
    told = Short(prices={"other": Price("3", "7")})
    call = told.under_way(run_id := told.model(101, 53, "other"))
    told.guard.meter.refine()
    held, usage = call.held, Usage(call.upper + given, 53 + made)
    told.end(run_id, *usage[:2])
    assert told.ends == [given == made == 0]
    assert told.guard.report().total.overrun == max(0, call.rates.charge(usage) - held)
    assert bool(told.guard.report().total.overrun) != told.ends[0]


REQUEST, LONG = 777, Rates(input=9_000_000, output=70_000_000)
TIERED = Rates(
    input=2_503_100, output=10_001_700, cache_read=1_250_000, request=REQUEST, tiers=((1_000, LONG),), source="a table"
)


@pytest.fixture
def tiered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices with a fee for each request, and others beyond a thousand tokens."""
    monkeypatch.setattr(Price, "rates", lambda self, model, source: TIERED)


@pytest.mark.usefixtures("tiered")
@pytest.mark.parametrize("most", [None, 9_000])
def test_a_fee_for_the_request_and_a_price_for_long_prompts_are_heeded(most: Any) -> None:
    told = Short()
    for given, short in ((1_000, True), (1_001, False)):
        before = told.stands()[0]
        call = told.under_way(run_id := told.model(20, most))
        assert call.terms is not None
        each, plain = 10_002 * 32_768, call.upper * 2_503_100
        assert call.held == REQUEST + (-(-(plain + 9_000 * 10_001_700) // 1_000) if most else -(-plain // 1_000) + each)
        told.guard.meter.refine()
        assert told.stands()[1] == call.held
        told.end(run_id, given, 7)
        assert told.ends.pop() == short
        assert told.stands() == (before + TIERED.charge(Usage(given, 7)), 0)
    assert told.under_way(told.model(900)).terms is None  # its length would allow more than a thousand


@pytest.mark.parametrize(("given", "made", "cacheable"), [(1_023, 41, 0), (1_024, 41, 1_024), (1_025, 53, 1_025)])
@pytest.mark.parametrize("said", [{}, {"agent": "a"}, {"langgraph_node": "ask", "langgraph_checkpoint_ns": "ask:1"}])
def test_a_call_is_counted_in_every_column(given: int, made: int, cacheable: int, said: Any) -> None:
    sums = []
    for told in (Short(), Short(listening=True)):
        told.lines.clear()
        run_id = told.model(1_501, 53, **said)
        held = told.guard.store.read([f"all|{name}" for name in MEASURES[4:7]], now=told.clock())
        assert [each.held for each in held] == [1, 0, 0 if "langgraph_node" in said else 1]
        told.clock.advance(2)
        told.piece(run_id, *"abc")
        told.clock.advance(3)
        told.end(run_id, given, made, model_name="mine")
        sums.append([line for line in told.sums() if not line.startswith("dearest")])
    assert told.ends == [False]
    assert sums[0] == sums[1]
    assert f"cacheable={cacheable}" in sums[0][1] or not cacheable
    assert "mine=5/5/2" in sums[0][2]


def test_whoever_waits_may_try_again_once_a_call_is_settled() -> None:
    for listening in (False, True):
        told = Short(listening=listening)
        run_id = told.model()
        line, ticket = told.guard.lines.join("all|usd")
        line.wait_again(ticket)
        told.end(run_id, 1_487, 41)
        assert told.ends == [not listening]
        assert ticket.turn.done()


def test_what_is_extended_replaced_or_listened_to_meanwhile_is_settled_the_long_way() -> None:
    told = Short()
    told.piece(run_id := told.model(101, 5), *"abcdefghij" * 4)
    told.end(run_id, 101, 9)
    run_id = told.model()
    told.guard.add_sink(told._hear)
    told.end(run_id, 1_487, 41)
    assert told.ends == [False, False]
    assert told.stands() == (101 * 2_503 + 10 + 90_015 + 4_132_179, 0)
    assert [line.split()[0] for line in told.lines] == ["CallSettled"]


def test_no_reply_is_lost_whatever_becomes_of_the_accounts_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Short()
    run_id = told.model()
    monkeypatch.setattr(told.guard.meter.ledger, "settle_plainly", lambda *_: False)
    told.end(run_id, 1_487, 41)
    assert told.ends == [False]
    assert told.stands() == (4_132_179, 0)
    assert told.guard.report().total.calls == 2


@pytest.mark.parametrize(
    ("client", "content", "short"),
    [
        (None, "hello", True),
        ({"kwargs": {"temperature": 1}}, "hello", True),
        ({"kwargs": {"service_tier": "priority"}}, "hello", False),
        (None, [{"type": "text", "text": "hello"}], False),
    ],
)
def test_a_client_or_a_prompt_that_decides_the_price_is_looked_at(client: Any, content: Any, short: bool) -> None:
    told = Short()
    run_id, said = told._run(), {"ls_provider": "openai", "ls_model_name": "mine", "ls_max_tokens": 53}
    told.guard.on_chat_model_start(client or {}, [[HumanMessage(content)]], run_id=run_id, metadata=said)
    assert (told.under_way(run_id).terms is not None) == short
    told.end(run_id, 7, 1)
    assert told.ends != [not short]
    assert told.stands() == (27_523, 0)  # 7 * 2,503.1 + 10,001.7


def test_a_price_holds_until_its_last_second(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(self: Any, model: Any, at: float, *_: Any) -> Priced:
        since = START + (at - START) // 100 * 100
        return Priced(since, since + 100, Rates(input=int(since - START + 1) * 1_000, source="of the day"))

    monkeypatch.setattr(PriceBook, "entry", entry)
    monkeypatch.setattr(Short, "first", 1)
    told, spent = Short(), []
    for seconds in (0, 99.75, 0.25, 99.75, 0.25):
        told.clock.advance(seconds)
        before = told.stands()[0]
        told.end(told.model(101), 11, 1)
        spent.append((told.stands()[0] - before) // 11)
    assert told.ends == [True] * 5
    assert spent == [1, 1, 101, 101, 201]


def test_a_window_ends_with_its_last_second() -> None:
    told = Short(Budget(per="all", usd="1", window="hour"))
    told.clock.advance(3600 - START % 3600 - 0.25)
    found = []
    for seconds in (0, 0.25, 3599.75, 0.25):
        told.clock.advance(seconds)
        for _ in range(2):  # the second one the short way
            told.end(told.model(101), 11, 1)
            found.append(len(list(told.guard.store.scan(now=told.clock()))))
    assert found == [1, 1, 2, 2, 2, 2, 3, 3]
    assert told.ends[1::2] == [True] * 4


def test_a_step_and_a_trace_are_told_by_where_the_call_is_made() -> None:
    told = Short(Budget(per="step", model_calls=1), Budget(per="trace", model_calls=3, output_tokens=900))
    parent = told.chain()
    for path, fits in (("ask:1", True), ("ask:2", True), ("ask:1", False), ("", True), ("", False)):
        where: dict[str, Any] = {"langgraph_node": "ask", "langgraph_checkpoint_ns": path} if path else {}
        try:
            told.end(told.model(11, 7, parent=parent, **where), 11, 7)
            fitted = True
        except BudgetExceededError:
            fitted = False
        assert fitted == fits
    told.guard.on_chain_end({}, run_id=parent)
    assert list(told.guard.store.scan(now=told.clock())) == []


@pytest.mark.parametrize("config", [None, {}, {"configurable": {"thread_id": "another"}}])
def test_a_call_is_of_the_session_that_the_code_around_it_is_in(config: Any) -> None:
    told = Short(Budget(per="session", usd="1"), Budget(per="trace", usd="1"))
    token = var_child_runnable_config.set(config)
    for _ in range(3):
        told.end(told.model(101), 11, 1)
    var_child_runnable_config.reset(token)
    names = [name for name, _ in told.guard.store.scan(now=told.clock())]
    assert names == ["session|s|usd", *(["session|another|usd"] if config else [])]
    assert told.ends[-1]


def test_a_tag_says_who_spends() -> None:
    told = Short(Budget(per="user", usd="1"))
    for tags in (["user:u"], ["user:u", "seq:step:1"], None, ["seq:step:1"]):
        for _ in range(2):
            told.end(told.model(101, tags=tags), 11, 1)
    spent = {name: balance.spent for name, balance in told.guard.store.scan(now=told.clock())}
    assert spent == {"user|u|usd": 4 * 37_536, "user|-|usd": 1_500 + 4 * 37_536}
    assert told.ends[-1]


def test_two_models_of_one_name_have_a_price_each() -> None:
    prices = {"openai:m": Price("1"), "mistralai:m": Price("3")}
    told = Short(prices={**prices, "other": Price("0.3003", "1.2001")})
    for provider, each in (("openai", 1_000), ("mistralai", 3_000), ("openai", 1_000)):
        before = told.stands()[0]
        told.end(told.model(101, 53, "m", ls_provider=provider), 11, 1)
        assert told.stands() == (before + 11 * each, 0)
    assert told.ends == [True] * 3
    assert CostGuard().quick is not told.guard.quick
