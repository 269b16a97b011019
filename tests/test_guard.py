"""The guard itself: what it is made of, what tools cost, when it alerts, and what it does with odd models."""

from __future__ import annotations

import asyncio
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import Generation, LLMResult
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import ToolException, tool

from langchain_costguard import Budget, BudgetExceededError, CostGuard, MemoryStore, Price, UnpricedModelError
from langchain_costguard.events import Alert, Overrun, ToolSettled, Unpriced
from langchain_costguard.testing import FakeProvider, Recorder, Reply, ScriptedChatModel
from tests.conftest import PRICES, Caller
from tests.loopback import Answering, Listener

QUESTION: Any = {"messages": [("user", "hi")]}

BAD: list[tuple[str, Any]] = [
    *(("store", value) for value in ["redis://host", 5, MemoryStore, object(), {}]),
    *(("prices", value) for value in [{"gpt-4o": "1"}, {"gpt-4o": 1.5}, {"": Price(input="1", output="1")}]),
    *(("tool_prices", value) for value in [{"a": 0.1}, {"a": "-1"}, {"a": "one"}, {"a": True}, {"a": None}, ["a"]]),
    *(("unpriced", value) for value in ["ignore", "", None, True]),
    *(("assume_output_tokens", value) for value in [0, -1, 1.5, "5", True, None]),
    ("session", 5),
    *(("switch", value) for value in ["file.txt", lambda: None, True]),
    *(("sinks", value) for value in [print, [5], 5, "ab", [None]]),
    *(("alerts", value) for value in [(0,), (-0.5,), (float("nan"),), ("0.7",), (True,), 0.7, "0.7", (1000,)]),
    *(("on_store_failure", value) for value in ["allow", "", None]),
    *(("hold_seconds", value) for value in [0, -1, float("nan"), float("inf"), "60", True, None]),
    *(("wait", value) for value in [-1, float("nan"), float("inf"), "60", True, None]),
    ("token_counter", 5),
    ("clock", None),
    ("clock", 5),
]


def shown(value: object) -> str:
    """The same in each process that collects the tests."""
    return type(value).__name__ if " at 0x" in repr(value) else repr(value)


@pytest.mark.parametrize(("field", "value"), BAD, ids=[f"{field}={shown(value)}" for field, value in BAD])
def test_a_bad_argument_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field) as caught:
        CostGuard(**{field: value})
    shown = next(iter(value.values())) if isinstance(value, dict) and value else value
    shown = shown[0] if isinstance(shown, (tuple, list)) and field in ("alerts", "sinks") and shown else shown
    assert repr(shown) in str(caught.value) or repr(value) in str(caught.value) or "" in value


@pytest.mark.parametrize("thing", ["0.50", None, 5, Budget, [Budget(usd="1")], {"usd": "1"}])
def test_what_is_no_budget_is_refused(thing: Any) -> None:
    with pytest.raises(ValueError, match=r"budgets: .* is not a Budget"):
        CostGuard(thing)


def test_a_url_in_place_of_a_store_is_told_how_to_become_one() -> None:
    with pytest.raises(ValueError, match=r"open_store\(url\)"):
        CostGuard(store="sqlite:budgets.db")  # type: ignore[arg-type]


# Tools


@tool
def search(q: str) -> str:
    """Search."""
    return "found " + q


@tool
def failing(q: str) -> str:
    """Search."""
    raise ToolException("no such thing")


def test_a_fixed_fee_is_held_and_charged(call: Caller) -> None:
    recorder = Recorder()
    guard = CostGuard(Budget(per="all", usd="0.025"), tool_prices={"search": "0.01"}, sinks=[recorder])
    for _ in range(2):
        assert call(search, {"q": "x"}, {"callbacks": [guard]}) == "found x"
    with pytest.raises(BudgetExceededError, match="tool search"):
        call(search, {"q": "x"}, {"callbacks": [guard]})
    assert guard.report().total.spent == 20_000_000
    assert [event.charge for event in recorder.of(ToolSettled)] == [10_000_000] * 2


def test_a_tool_that_failed_has_run_and_is_charged(call: Caller) -> None:
    recorder = Recorder()
    guard = CostGuard(Budget(per="all", tool_calls=1), tool_prices={"failing": "0.01"}, sinks=[recorder])
    with pytest.raises(ToolException):
        call(failing, {"q": "x"}, {"callbacks": [guard]})
    total = guard.report().total
    assert (total.tool_calls, total.spent) == (1, 10_000_000)
    assert recorder.of(ToolSettled)[0].failed
    with pytest.raises(BudgetExceededError):
        call(failing, {"q": "x"}, {"callbacks": [guard]})


def test_a_computed_fee_sees_the_arguments_before_and_the_output_after(call: Caller) -> None:
    seen: list[Any] = []

    def price(name: str, arguments: Any, output: Any) -> str:
        seen.append((name, arguments, output))
        return "0.01" if output is None else "0.002"

    guard = CostGuard(Budget(per="all", usd="1"), tool_prices={"search": price})
    call(search, {"q": "x"}, {"callbacks": [guard]})
    assert seen == [("search", {"q": "x"}, None), ("search", {"q": "x"}, "found x")]
    assert guard.report().total.spent == 2_000_000


PRICES_THAT_FAIL: dict[str, Any] = {
    "raises": lambda name, arguments, output: 1 / 0,
    "expects an output": lambda name, arguments, output: f"0.0{len(output)}",
    "gives a float": lambda name, arguments, output: 0.1,
    "gives nothing": lambda name, arguments, output: None,
    "is negative": lambda name, arguments, output: "-1",
    "takes other arguments": lambda: "0.1",
}


@pytest.mark.parametrize("price", PRICES_THAT_FAIL)
def test_a_price_that_cannot_be_computed_loses_no_tool_result(price: str, call: Caller, caplog: Any) -> None:
    guard = CostGuard(Budget(per="all", usd="1"), tool_prices={"search": PRICES_THAT_FAIL[price]})
    for _ in range(2):
        assert call(search, {"q": "x"}, {"callbacks": [guard]}) == "found x"
    assert guard.report().total.tool_calls == 2
    assert sum("tool_prices['search']" in record.message for record in caplog.records) == 1
    assert not any(balance.held for _, balance in guard.store.scan(now=0))


@pytest.mark.parametrize("before", ["0", None])
def test_a_fee_that_is_known_only_afterwards_is_charged_to_the_budget(before: Any, call: Caller) -> None:
    fee = {"search": lambda name, arguments, output: before if output is None else "0.02"}
    guard = CostGuard(Budget(per="all", usd="0.03"), tool_prices=fee)
    for _ in range(2):
        call(search, {"q": "x"}, {"callbacks": [guard]})
    with pytest.raises(BudgetExceededError):
        call(search, {"q": "x"}, {"callbacks": [guard]})
    assert guard.store.read(["all|usd"], now=0)[0].spent == 40_000_000


def test_a_tool_is_free_unless_it_has_a_price(call: Caller) -> None:
    guard = CostGuard(Budget(per="all", usd="0.000000001"))
    call(search, {"q": "x"}, {"callbacks": [guard]})
    assert (guard.report().total.tool_calls, guard.report().total.spent) == (1, 0)


def test_the_hold_of_a_computed_fee_keeps_parallel_tools_within_the_budget(call: Caller) -> None:
    guard = CostGuard(Budget(per="all", usd="0.03"), tool_prices={"search": lambda *facts: "0.01"})
    calls = [("search", {"q": str(i)}) for i in range(5)]
    with FakeProvider([Reply(tool_calls=calls), "done"]) as provider:
        free = {"gpt-4o": Price(input="0", output="0")}
        guard = CostGuard(Budget(per="all", usd="0.03"), tool_prices={"search": lambda *facts: "0.01"}, prices=free)
        with pytest.raises(BudgetExceededError):
            call(create_agent(provider.openai(max_tokens=50), [search]), QUESTION, {"callbacks": [guard]})
    assert guard.report().total.spent == 30_000_000


# Alerts


def test_each_threshold_is_told_once_though_fifty_threads_pass_it() -> None:
    recorder = Recorder()
    guard = CostGuard(
        Budget(per="all", model_calls=1000, lockout=1.5), Budget(per="user", tokens=2000, lockout=1.5),
        prices=PRICES, sinks=[recorder],
    )  # fmt: skip
    model = ScriptedChatModel(usage=(1, 1), max_tokens=1)

    def work(_: int) -> None:
        for _ in range(26):
            model.invoke("hi", {"callbacks": [guard]})

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(work, range(50)))
    told = sorted((alert.budget, alert.threshold) for alert in recorder.of(Alert))
    assert told == [("all", 0.7), ("all", 1.0), ("all", 1.2), ("user", 0.7), ("user", 1.0), ("user", 1.2)]
    assert {alert.spent for alert in recorder.of(Alert) if alert.budget == "all"} == {700, 1000, 1200}


def test_one_charge_may_pass_several_thresholds(call: Caller) -> None:
    recorder = Recorder()
    guard = CostGuard(
        Budget(per="all", output_tokens=10, lockout=2), prices=PRICES, sinks=[recorder], alerts=(1.1, 0.5)
    )
    call(ScriptedChatModel(usage=(1, 11), max_tokens=20), "hi", {"callbacks": [guard]})
    assert [alert.threshold for alert in recorder.of(Alert)] == [0.5, 1.1]


def test_alerts_can_be_switched_off(call: Caller) -> None:
    recorder = Recorder()
    guard = CostGuard(Budget(per="all", model_calls=1), prices=PRICES, sinks=[recorder], alerts=())
    call(ScriptedChatModel(), "hi", {"callbacks": [guard]})
    assert recorder.of(Alert) == []


# End events


class Broken(MemoryStore):
    """A store with a bug in its settlement."""

    def settle(self, *args: Any, **kwargs: Any) -> list[int]:
        raise TypeError("a bug")

    _settle = settle


def test_no_end_event_ever_raises(call: Caller, caplog: Any, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="all", usd="1"), store=Broken(), prices=PRICES, tool_prices={"search": "0.01"})
    for _ in range(2):
        chain = RunnableLambda(lambda text: text) | provider.openai(max_tokens=9)
        assert call(chain, "hi", {"callbacks": [guard]}).content == "four little words here"
        assert call(search, {"q": "x"}, {"callbacks": [guard]}) == "found x"
    caught = {record.message for record in caplog.records if record.levelno >= logging.WARNING}
    assert any("a bug" in message for message in caught)


def test_ends_of_runs_nobody_heard_of_are_no_concern() -> None:
    guard = CostGuard(Budget(per="all", usd="1"))
    guard.on_chain_end({}, run_id=uuid4())
    guard.on_chain_error(ValueError(), run_id=uuid4())
    guard.on_llm_end(LLMResult(generations=[]), run_id=uuid4())
    guard.on_llm_error(ValueError(), run_id=uuid4())
    guard.on_llm_new_token("x", run_id=uuid4())
    guard.on_stream_event({"delta": {"text": "x"}}, run_id=uuid4())
    guard.on_tool_end("x", run_id=uuid4())
    guard.on_tool_error(ValueError(), run_id=uuid4())
    assert guard.report().rows == []


# Text models


class TextModel(BaseLLM):
    """A text model that tells what it used, the old way."""

    model_name: str = "gpt-3.5-turbo-instruct"
    max_tokens: int = 20

    @property
    def _llm_type(self) -> str:
        return "text"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name, "max_tokens": self.max_tokens}

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": self.model_name, "ls_max_tokens": self.max_tokens}

    def _generate(self, prompts: list[str], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> LLMResult:
        used = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
        return LLMResult(generations=[[Generation(text="fine")] for _ in prompts], llm_output={"token_usage": used})


TEXT = {"gpt-3.5-turbo-instruct": Price(input="1", output="2")}


def test_a_text_model_is_metered_and_refused_like_any_other(call: Caller) -> None:
    guard = CostGuard(Budget(per="all", model_calls=2), prices=TEXT)
    for _ in range(2):
        assert call(TextModel(), "hello", {"callbacks": [guard]}) == "fine"
    with pytest.raises(BudgetExceededError):
        call(TextModel(), "hello", {"callbacks": [guard]})
    total = guard.report().total
    assert (total.calls, total.input_tokens, total.output_tokens) == (2, 6, 10)
    assert total.spent == 2 * (3 * 1000 + 5 * 2000)


def test_a_text_model_that_tells_nothing_is_estimated(call: Caller) -> None:
    guard = CostGuard(Budget(per="all", tokens=100_000))
    call(FakeListLLM(responses=["fine words"]), "hello", {"callbacks": [guard]})
    total = guard.report().total
    assert (total.calls, total.estimated) == (1, 1)
    assert total.output_tokens < 50


# Prices


def test_a_model_without_a_price_may_be_free_but_its_tokens_count(call: Caller) -> None:
    guard = CostGuard(Budget(per="all", usd="0.000001", tokens=300), unpriced="free")
    call(ScriptedChatModel(model="mystery", usage=(10, 5), max_tokens=5), "hi", {"callbacks": [guard]})
    total = guard.report().total
    assert (total.calls, total.spent, total.input_tokens) == (1, 0, 10)
    with pytest.raises(BudgetExceededError, match="tokens"):
        call(ScriptedChatModel(model="mystery", max_tokens=300), "hi", {"callbacks": [guard]})


def test_a_model_without_a_price_is_estimated_and_said(call: Caller) -> None:
    recorder = Recorder()
    guard = CostGuard(sinks=[recorder])
    call(ScriptedChatModel(model="mystery"), "hi", {"callbacks": [guard]})
    assert guard.report().total.spent > 0
    assert [event.model.name for event in recorder.of(Unpriced)] == ["mystery"]


def test_a_model_without_a_price_is_refused_before_it_is_called(call: Caller) -> None:
    guard = CostGuard(unpriced="refuse")
    model = ScriptedChatModel(model="mystery")
    with pytest.raises(UnpricedModelError, match="mystery"):
        call(model, "hi", {"callbacks": [guard]})
    assert model.calls == 0
    call(ScriptedChatModel(model="gpt-4o"), "hi", {"callbacks": [guard]})


# Bounds


def test_several_replies_are_held_for_several_times_the_ceiling(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="all", output_tokens=149), prices=PRICES)
    with pytest.raises(BudgetExceededError) as caught:
        call(provider.openai(max_tokens=50, n=3), "hi", {"callbacks": [guard]})
    assert caught.value.needed == 150
    call(provider.openai(max_tokens=49, n=3), "hi", {"callbacks": [guard]})
    assert len(provider.requests) == 1


def counted(messages: list[Any]) -> int:
    """The rule OpenAI gives for its chat models, by tiktoken's shape of things: a little over a token for four letters
    of English, one for a Chinese character, one for each digit group and mark."""
    total = 3
    for message in messages:
        text = str(message.content)
        ascii_part = sum(character.isascii() for character in text)
        total += 3 + 1 + -(-ascii_part // 4) + (len(text) - ascii_part)
    return total


PROMPTS: dict[str, list[Any]] = {
    "short": [HumanMessage("Hi!")],
    "long": [SystemMessage("You are helpful."), HumanMessage("The quick brown fox jumps over the lazy dog. " * 400)],
    "json": [HumanMessage(json.dumps([{"id": i, "name": f"user-{i}", "ok": i % 2 == 0} for i in range(200)]))],
    "chinese": [HumanMessage("今天天气很好我们一起去公园散步吧" * 50)],
    "tools": [
        HumanMessage("look it up"),
        AIMessage("", tool_calls=[{"name": "search", "args": {"q": "weather"}, "id": "1"}]),
        ToolMessage("It rains in Bergen. " * 30, tool_call_id="1"),
    ],
    "many": [message for i in range(60) for message in (HumanMessage(f"question {i}"), AIMessage(f"answer {i}"))],
}


@pytest.mark.parametrize("kind", PROMPTS)
def test_what_is_held_covers_what_the_provider_counts(kind: str, call: Caller) -> None:
    recorder = Recorder()
    billed = counted(PROMPTS[kind])
    with FakeProvider(Reply("fine " * 20, input_tokens=billed)) as provider:
        guard = CostGuard(Budget(per="all", usd="10"), prices=PRICES, sinks=[recorder])
        call(provider.openai(max_tokens=20), PROMPTS[kind], {"callbacks": [guard]})
    assert recorder.of(Overrun) == []
    assert guard.report().total.overrun == 0


# Routers


class Decider(Listener):
    """The decisions endpoint."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        decider = self

        class Handler(Answering):
            def do_POST(self) -> None:
                decider.asked.append(self.path)
                self.body()
                self.answer(
                    {
                        "model": "gpt-4o",
                        "answers": [{"name": "urgent", "type": "predicate", "probability": 0.9}],
                        "usage": {"input_tokens": 40, "output_tokens": 3},
                    }
                )

        super().__init__(Handler)


def test_a_router_model_that_reports_itself_as_a_chain_is_metered_and_refused(call: Caller) -> None:
    decisions = pytest.importorskip("langchain_openai.decisions")
    with Decider() as server:
        router = decisions.OpenAIDecisions(model="gpt-4o", api_key="x", base_url=f"{server.url}/v1", max_retries=0)
        question = {"input": "It burns!", "questions": {"urgent": decisions.Predicate(instructions="Is it urgent?")}}
        guard = CostGuard(Budget(per="all", model_calls=1, usd="1"), prices=PRICES)
        call(router, question, {"callbacks": [guard]})
        with pytest.raises(BudgetExceededError):
            call(router, question, {"callbacks": [guard]})
        assert len(server.asked) == 1
    total = guard.report().total
    assert (total.calls, total.input_tokens, total.output_tokens) == (1, 40, 3)
    assert (total.spent, total.estimated) == (40 * 2500 + 3 * 10_000, 0)
    assert guard.meter.open_calls == {}


def test_a_guard_serves_many_event_loops_at_once(provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="all", model_calls=40), prices=PRICES)

    async def calls() -> int:
        model = provider.openai(max_tokens=9)
        said = await asyncio.gather(
            *(model.ainvoke("hi", {"callbacks": [guard]}) for _ in range(15)), return_exceptions=True
        )
        return sum(isinstance(one, BudgetExceededError) for one in said)

    with ThreadPoolExecutor(4) as pool:
        refused = sum(pool.map(lambda _: asyncio.run(calls()), range(4)))
    assert refused == 20
    assert len(provider.requests) == 40
