"""The short way of a model call comes to the same figures as the long way, or stands aside."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
import time
from decimal import Decimal
from math import ceil
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.tools import tool

from langchain_costguard import Budget, BudgetExceededError, CostGuard, Price
from langchain_costguard.metering.pricing.estimate import Estimator
from langchain_costguard.metering.pricing.plain import plain_usage
from langchain_costguard.metering.pricing.reading import is_cache_hit, reported_model, usage_of
from langchain_costguard.metering.terms import Terms
from langchain_costguard.testing import FakeProvider, ManualClock, ScriptedChatModel
from langchain_costguard.vocabulary.usage import ModelRef, Usage
from tests.bytecodes import bytecodes
from tests.conftest import PRICES

ROOT = Path(__file__).parents[2]
SCRIPTED = ScriptedChatModel(replies=["fine"], usage=(12, 3), provider="openai", model="gpt-4o")
GPT_4O = {"ls_provider": "openai", "ls_model_name": "gpt-4o"}


@tool
def look(what: str) -> str:
    """Look."""
    return what


# A bound by length


texts = st.text(max_size=400) | st.text("abc{}[]\n 0", max_size=2_000) | st.sampled_from(["日本語" * 50, "🤷🏽" * 40])
called = st.lists(st.fixed_dictionaries({"name": texts, "args": st.dictionaries(texts, texts)}), max_size=3)
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


@pytest.mark.parametrize(
    "name", ["gpt-4o", "o3-mini", "claude-sonnet-4-6", "claude-opus-4-8", "gemini-2.5-pro", "mistral-large", "unheard"]
)
@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=1, max_size=6), called)
def test_no_estimate_is_above_the_bound_by_length(name: str, said: list[str], made: list[dict[str, Any]]) -> None:
    estimator, terms = Estimator(), Terms(ModelRef("some", name))
    asked = [{**call, "id": str(number), "type": "tool_call"} for number, call in enumerate(made)]
    messages = [SystemMessage(said[0]), *map(HumanMessage, said[1:])]
    messages += [AIMessage("", tool_calls=asked), ToolMessage("x", tool_call_id="0")]
    for tools in (None, TOOLS):
        bound = estimator.at_most(terms, messages, tools)
        assert bound is not None
        assert bound >= estimator.estimate(terms.ref, messages, tools=tools).upper


# Reading


def replies() -> dict[str, LLMResult]:
    """What each client makes of a plain reply, as callbacks are given it."""

    class Keep(BaseCallbackHandler):
        replies: ClassVar[list[LLMResult]] = []

        def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
            self.replies.append(response)

    with FakeProvider("fine") as provider:
        for model in (provider.openai(), provider.anthropic(), SCRIPTED):
            model.invoke("hello", config={"callbacks": [Keep()]})
    return dict(zip(("openai", "anthropic", "scripted"), Keep.replies, strict=True))


REPLIES = replies()
COUNTS = [0, 1, 7, 500, -1, None, "3", 2.5, True]
KEYS = [
    "cache_read", "cache_creation", "ephemeral_1h_input_tokens", "audio", "reasoning", "flex_cache_read", "total_cost",
    "service_tier", "speed", "inference_geo", "server_tool_use", "cached_tokens", "prompt_cache_hit_tokens", "usage",
    "token_usage", "usage_metadata", "token_count", "prompt_eval_count", "model_name", "model", "input_tokens",
    "output_tokens", "total_tokens", "prompt_tokens", "completion_tokens_details", "prompt_tokens_details", "container",
]  # fmt: skip
VALUES: list[Any] = [
    *COUNTS,
    "flex",
    "priority",
    "standard",
    "us",
    "gpt-4o-2024-08-06",
    {},
    {"web_search_requests": 2},
    {"cached_tokens": 5},
]


def blocks(value: Any) -> list[dict[str, Any]]:
    """Every mapping in a reply's facts."""
    found = [value] if isinstance(value, dict) else []
    return found + [inner for part in (value.values() if isinstance(value, dict) else ()) for inner in blocks(part)]


@pytest.mark.parametrize("client", REPLIES)
@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from(KEYS), st.sampled_from(VALUES), st.booleans()), max_size=3)
)
def test_what_is_read_quickly_is_what_a_closer_look_finds(
    client: str, changes: list[tuple[int, str, Any, bool]]
) -> None:
    reply = copy.deepcopy(REPLIES[client])
    generation: Any = reply.generations[0][0]
    message = generation.message
    for where, key, value, drop in changes:
        places = [*blocks(message.usage_metadata), *blocks(message.response_metadata), *blocks(reply.llm_output)]
        place = places[where % len(places)]
        if drop:
            place.pop(key, None)
        else:
            place[key] = copy.deepcopy(value)
    plain = plain_usage(reply)
    if plain is not None:
        assert not is_cache_hit(reply)
        assert (Usage(*plain[:2]), plain[2]) == (usage_of(reply), reported_model(reply))


@pytest.mark.parametrize("client", REPLIES)
def test_a_plain_reply_of_a_real_client_is_read_quickly(client: str) -> None:
    plain = plain_usage(REPLIES[client])
    assert plain is not None
    assert Usage(*plain[:2]) == usage_of(REPLIES[client])


# The two ways


BUDGETS = (
    Budget(per="session", usd="0.02", tokens=4_000, model_calls=30, seconds=600),
    Budget(per="call", usd="0.01"),
    Budget(per="step", usd="0.02"),
    Budget(per="user", usd="0.03", window="hour", reserve="10%"),
    Budget(per="all", output_tokens=2_500),
)
acts = st.lists(
    st.tuples(
        st.sampled_from(["start", "end", "end", "fail"]),
        st.integers(0, 5),  # which of the open calls
        st.sampled_from(["u1", "u2"]),
        st.integers(0, 1_500),  # characters of the prompt
        st.sampled_from([None, 20, 300]),  # most output tokens
        st.integers(1, 400),  # tokens billed, in and out
        st.integers(1, 320),
        st.integers(0, 90),  # seconds that pass
    ),
    max_size=30,
)


@settings(max_examples=120, deadline=None)
@given(acts)
def test_a_call_comes_to_the_same_by_the_short_way_and_by_the_long_way(steps: list[tuple[Any, ...]]) -> None:
    clock = ManualClock(1_000_000.0)
    quick, slow = (CostGuard(*BUDGETS, prices=PRICES, session="s", clock=clock) for _ in range(2))
    slow.add_sink(lambda event: None)  # where somebody listens, every call goes the long way
    under_way: list[Any] = []
    for verb, which, user, length, most, given_tokens, made, passes in steps:
        clock.advance(passes)
        if verb == "start":
            run_id, prompt = uuid4(), [[HumanMessage("word " * (length // 5))]]
            said = {**GPT_4O, "ls_max_tokens": most, "costguard_user": user}
            answers = []
            for guard in (quick, slow):
                try:
                    guard.on_chat_model_start({}, prompt, run_id=run_id, metadata=said)
                    answers.append("")
                except BudgetExceededError as refusal:
                    answers.append(str(refusal))
            assert answers[0] == answers[1]
            if not answers[0]:
                under_way.append(run_id)
        elif under_way:
            run_id = under_way.pop(which % len(under_way))
            usage = {"input_tokens": given_tokens, "output_tokens": made, "total_tokens": given_tokens + made}
            facts = {"model_name": "gpt-4o"}
            message = AIMessage("four little words here", usage_metadata=usage, response_metadata=facts)
            for guard in (quick, slow):
                if verb == "end":
                    guard.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=run_id)
                else:
                    guard.on_llm_error(ConnectionResetError("gone"), run_id=run_id)
        quick.meter.refine()
        found = [dict(guard.store.scan(now=clock())) for guard in (quick, slow)]
        assert {name: at[:2] for name, at in found[0].items()} == {name: at[:2] for name, at in found[1].items()}
    mine, theirs = (guard.report().by("user", "model").to_dicts() for guard in (quick, slow))
    for row in [*mine, *theirs]:
        row.pop("overrun_usd")  # of what was held by its length, a small one is not seen
    assert mine == theirs


@pytest.mark.parametrize("most", [None, 1, 300])
def test_what_is_held_by_its_length_is_at_the_price_of_so_many_tokens_and_no_less_than_an_exact_hold(most: Any) -> None:
    measures = ("usd", "tokens", "input_tokens", "output_tokens", "model_calls", "tool_calls", "steps")
    budget = Budget(per="all", usd="1000", **dict.fromkeys(measures[1:], 10**8))
    price = Price(input="2.5001", output="10.0003")  # a token: 2,500.1 and 10,000.3 nano-USD
    run_id, held = uuid4(), []
    for sinks in ([], [lambda event: None]):
        guard = CostGuard(budget, prices={"gpt-4o": price}, sinks=sinks)
        look.invoke({"what": "x"}, {"callbacks": [guard]})
        for _ in range(2):  # from the second on the accounts are at hand
            SCRIPTED.invoke("hello", {"callbacks": [guard]})
        said = {**GPT_4O, "ls_max_tokens": most}
        guard.on_chat_model_start({}, [[HumanMessage("hello " * 50)]], run_id=run_id, metadata=said)
        held.append([balance.held for balance in guard.store.read([f"all|{m}" for m in measures], now=guard.now())])
    for usd, tokens, given_tokens, made, *counts in held:
        if most is None:
            assert usd == ceil(given_tokens * Decimal("2500.1")) + made * 10_001
        else:
            assert usd == ceil(given_tokens * Decimal("2500.1") + made * Decimal("10000.3"))
        assert (tokens, counts) == (given_tokens + made, [1, 0, 1])
    assert held[0][3] == held[1][3] == (most or 16_384)
    assert held[0][2] > held[1][2] > 50


@pytest.mark.parametrize(
    ("said", "params", "asked", "short"),
    [
        (None, {}, None, True),
        (20, {}, 20, True),
        (20, {"max_tokens": 30}, 30, True),
        (20, {"max_tokens": 10}, 20, True),
        (None, {"max_completion_tokens": 30, "max_tokens": 10}, 30, True),
        (20, {"max_tokens": None}, 20, True),
        (20, {"max_tokens": 1}, 20, True),
        (None, {"max_tokens": 1}, 1, True),
        (20, {"tools": TOOLS}, 20, True),
        (20, {"tools": []}, 20, True),
        (20, {"temperature": 1}, 20, True),
        (0, {}, None, False),
        ("20", {}, None, False),
        (20, {"tools": [{"type": "web_search"}]}, 20, False),
        (20, {"tools": [*TOOLS, {"type": "web_search"}]}, 20, False),
        (20, {"n": 2}, 20, False),
        (20, {"service_tier": "flex"}, 20, False),
    ],
)
def test_a_plain_request_goes_the_short_way_and_holds_what_it_would_by_the_long_one(
    said: Any, params: dict[str, Any], asked: Any, short: bool
) -> None:
    held, calls = [], []
    for sinks in ([], [lambda event: None]):
        guard, run_id = CostGuard(Budget(per="all", usd="1000", tokens=10**8), prices=PRICES, sinks=sinks), uuid4()
        SCRIPTED.invoke("hello", {"callbacks": [guard]})
        guard.on_chat_model_start(
            {}, [[HumanMessage("hello there")]], run_id=run_id, metadata={**GPT_4O, "ls_max_tokens": said},
            invocation_params=params,
        )  # fmt: skip
        calls.append(guard.meter.open_calls[run_id.int])
        guard.meter.refine()
        held.append([balance.held for balance in guard.store.read(["all|usd", "all|tokens"], now=guard.now())])
    assert [call.asked for call in calls] == [asked, asked]
    assert [call.terms is not None for call in calls] == [short, False]
    assert held[0] == held[1]
    assert min(held[0]) > 0


@pytest.mark.parametrize(("name", "plain"), [("gpt-4o", True), ("unheard-of", False)])
def test_a_model_without_a_price_goes_the_long_way_each_time(name: str, plain: bool) -> None:
    guard = CostGuard(prices=PRICES)
    for _ in range(2):
        run_id, said = uuid4(), {**GPT_4O, "ls_model_name": name, "ls_max_tokens": 20}
        guard.on_chat_model_start({}, [[HumanMessage("hello there")]], run_id=run_id, metadata=said)
        assert (guard.meter.open_calls[run_id.int].terms is not None) == plain


def test_what_is_counted_elsewhere_or_by_others_never_goes_the_short_way() -> None:
    for plain, guard in (
        (True, CostGuard(prices=PRICES)),
        (False, CostGuard(prices=PRICES, token_counter=lambda messages: 5)),
    ):
        run_id = uuid4()
        guard.on_chat_model_start({}, [[HumanMessage("hello there")]], run_id=run_id, metadata=GPT_4O)
        assert (guard.meter.open_calls[run_id.int].terms is not None) == plain
        run_id = uuid4()
        guard.on_llm_start({}, ["hello there"], run_id=run_id, metadata=GPT_4O)
        assert guard.meter.open_calls[run_id.int].terms is None


def test_a_thousand_coarse_holds_at_once_refuse_nobody_whom_exact_ones_would_let_in() -> None:
    callers, each = 2_000, 260
    # 90 % of the budget is what exact holds of all callers take; coarse ones take several times as much.
    probe = CostGuard(Budget(usd="1000"), prices=PRICES, sinks=[lambda event: None])
    said = {**GPT_4O, "ls_max_tokens": each}
    prompt = [[HumanMessage("What was decided in the meeting of the harbour board, and who was against it? " * 20)]]
    probe.on_chat_model_start({}, prompt, run_id=uuid4(), metadata=said)
    held = probe.headroom().rows[0].held
    guard = CostGuard(Budget(per="all", usd=f"{held * callers / 0.9 / 1e9:.9f}"), prices=PRICES)
    refused: list[BaseException] = []
    ids = [uuid4() for _ in range(callers)]

    def start(mine: list[Any]) -> None:
        for run_id in mine:
            try:
                guard.on_chat_model_start({}, prompt, run_id=run_id, metadata=said)
            except BudgetExceededError as refusal:
                refused.append(refusal)

    threads = [threading.Thread(target=start, args=(ids[n::8],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == []
    assert guard.headroom().rows[0].held == held * callers
    usage = {"input_tokens": 300, "output_tokens": 200, "total_tokens": 500}
    reply = LLMResult(generations=[[ChatGeneration(message=AIMessage("x", usage_metadata=usage))]])
    for run_id in ids:
        guard.on_llm_end(reply, run_id=run_id)
    row = guard.headroom().rows[0]
    assert (row.held, row.spent) == (0, callers * (300 * 2_500 + 200 * 10_000))


def test_a_refusal_is_told_in_exact_figures_whatever_was_held_by_length() -> None:
    said = {**GPT_4O, "ls_max_tokens": 100}
    told = []
    for sinks in ([], [lambda event: None]):
        guard = CostGuard(Budget(per="all", usd="0.2"), prices=PRICES, sinks=sinks)
        refusal = None
        while refusal is None:
            try:
                guard.on_chat_model_start({}, [[HumanMessage("hello " * 40)]], run_id=uuid4(), metadata=said)
            except BudgetExceededError as error:
                refusal = error
        told.append(str(refusal))
    assert told[0] == told[1]


def test_budgets_can_be_replaced_while_calls_are_under_way() -> None:
    guard = CostGuard(Budget(per="session", usd="1"), prices=PRICES, session="s")
    on: Any = {"callbacks": [guard]}
    model = SCRIPTED
    model.invoke("hello", on)
    run_id = uuid4()
    guard.on_chat_model_start(
        {},
        [[HumanMessage("hello")]],
        run_id=run_id,
        metadata={"ls_provider": "openai", "ls_model_name": "gpt-4o", "ls_max_tokens": 9},
    )
    guard.meter.ledger.load([Budget(per="user", model_calls=2)])
    assert [row.budget for row in guard.headroom().rows] == ["user"]
    usage = {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15}
    guard.on_llm_end(
        LLMResult(generations=[[ChatGeneration(message=AIMessage("x", usage_metadata=usage))]]), run_id=run_id
    )
    held = guard.store.read(["session|s|usd"], now=guard.now())[0]
    assert held[:2] == (2 * 60_000, 0)
    model.invoke("hello", on)
    model.invoke("hello", on)
    with pytest.raises(BudgetExceededError, match="'user'"):
        model.invoke("hello", on)
    with pytest.raises(ValueError, match="count every call twice"):
        guard.meter.ledger.load([Budget(per="user", model_calls=2), Budget(per="user", model_calls=3)])
    assert [budget.label for budget in guard.budgets] == ["user"]


# How much is done


def five_budgets() -> CostGuard:
    """As the benchmark has them."""
    return CostGuard(
        Budget(per="session", usd="1000"),
        Budget(per="step", usd="500"),
        Budget(per="agent", usd="2000"),
        Budget(per="user", usd="1000", window="day"),
        Budget(per="all", usd="100000", window="month"),
    )


def counted() -> dict[str, int]:
    """The bytecodes of a plain call of each client; for a process in which nothing else has been done."""
    with FakeProvider("fine") as provider:
        models = {"scripted": SCRIPTED, "openai": provider.openai(), "anthropic": provider.anthropic()}
        guard = five_budgets()
        config: Any = {"callbacks": [guard]}
        while guard.aside.waits:  # for what is read from files before the first call
            time.sleep(0.01)
        return {
            client: bytecodes(lambda model=model: model.invoke([HumanMessage("hello there")], config=config))  # type: ignore[misc]
            for client, model in models.items()
        }


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="each Python has bytecodes of its own; these are 3.11's")
def test_a_plain_call_takes_few_steps() -> None:
    code = "import json; from tests.metering.test_quick import counted; print(json.dumps(counted()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    steps = json.loads(done.stdout)
    assert steps["scripted"] <= 1_500
    assert steps["openai"] <= 1_700
    assert steps["anthropic"] <= 2_000
