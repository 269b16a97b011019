"""What becomes of a call: by what it ended with, and by what of it had come until then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_openai import OpenAI

from langchain_costguard import (
    AgentHaltedError,
    Budget,
    BudgetExceededError,
    CostGuard,
    KillSwitch,
    MemoryStore,
    StoreUnavailableError,
    UnpricedModelError,
)
from langchain_costguard.events import CallFailed, CallSettled, CallStarted, CallVoided, Refused
from langchain_costguard.metering.calls import Stream
from langchain_costguard.metering.settlement import noting
from langchain_costguard.metering.stores import Claim, StoreError
from langchain_costguard.testing import FakeProvider, ManualClock, Recorder, ScriptedChatModel
from tests.conftest import PRICES, Caller

IN, OUT = 2_500, 10_000
"""What a token costs, in nano-USD."""
MEASURES = ("usd", "tokens", "input_tokens", "output_tokens", "model_calls", "tool_calls", "steps")


@tool
def look(what: str) -> str:
    """Look."""
    return what


def replied(usage: tuple[int, int] | None) -> LLMResult:
    said: Any = usage and {"input_tokens": usage[0], "output_tokens": usage[1], "total_tokens": sum(usage)}
    return LLMResult(generations=[[ChatGeneration(message=AIMessage("one two three", usage_metadata=said))]])


def start(guard: CostGuard, most: int | None = 50) -> UUID:
    """A call of gpt-4o under way."""
    run_id = uuid4()
    said = {"ls_provider": "openai", "ls_model_name": "gpt-4o", "ls_max_tokens": most}
    guard.on_chat_model_start({}, [[HumanMessage("hello there")]], run_id=run_id, metadata=said)
    return run_id


class Answered(Exception):
    """An error status of a provider."""

    status_code = 429


def own_error() -> Exception:
    error = RuntimeError("a tool of ours")
    error.__cause__ = UnpricedModelError("no price", model="m")
    return error


@pytest.mark.parametrize(
    ("error", "chunks", "response", "output", "made", "kind"),
    [
        (TimeoutError("slow"), 0, None, 50, 1, "unknown"),
        (TimeoutError("slow"), 3, None, 3, 1, "unknown"),
        (ConnectionResetError("gone"), 0, None, 0, 1, "partly"),
        (ConnectionResetError("gone"), 3, None, 3, 1, "partly"),
        (Answered("no"), 0, None, None, 1, "unbilled"),
        (ConnectionRefusedError("no"), 0, None, None, 1, "unbilled"),
        (own_error(), 0, None, None, 0, "unsent"),
        (ConnectionResetError("gone"), 3, replied((7, 5)), 5, 1, "partly"),
        (ConnectionResetError("gone"), 0, replied((7, 5)), 5, 1, "partly"),
        (GeneratorExit(), 2, None, 2, 1, ""),
        (UnpricedModelError("no price", model="m"), 2, None, 2, 1, ""),
    ],
)
def test_a_call_that_failed_costs_what_came_of_it(
    error: BaseException, chunks: int, response: Any, output: int | None, made: int, kind: str, recorder: Recorder
) -> None:
    clock = ManualClock()
    budget = Budget(per="all", usd="1", model_calls=9)
    guard = CostGuard(budget, prices=PRICES, sinks=[recorder], clock=clock)
    run_id = start(guard)
    for _ in range(chunks):
        guard.on_llm_new_token("word ", run_id=run_id)
    clock.advance(3)
    guard.on_llm_error(error, run_id=run_id, **({"response": response} if response else {}))
    charge = 0
    if output is None:
        assert [(event.held, event.seconds) for event in recorder.of(CallVoided)] == [
            (recorder.of(CallStarted)[0].held, 3)
        ]
        assert recorder.of(CallSettled) == []
    else:
        (settled,) = recorder.of(CallSettled)
        charge = settled.usage.input_tokens * IN + output * OUT
        assert settled.usage.input_tokens == 7 if response else settled.usage.input_tokens >= 2
        assert (settled.usage.output_tokens, settled.charge, settled.status) == (output, charge, "failed")
        assert (settled.estimated, settled.seconds) == (True, 3)
        assert output < 50 or charge == settled.held
    told = [(event.kind, event.error, event.status, event.seconds) for event in recorder.of(CallFailed)]
    assert told == [(kind, type(error).__name__, getattr(error, "status_code", None), 3)] * bool(kind)
    assert guard.report().total.failed == bool(kind)
    balances = guard.store.read(["all|usd", "all|model_calls"], now=clock())
    assert [balance[:2] for balance in balances] == [(charge, 0), (made, 0)]


@pytest.mark.parametrize("what", ["the switch", "the clock"])
def test_a_stream_is_looked_after_every_quarter_of_a_second(what: str, recorder: Recorder) -> None:
    clock = ManualClock(1_000_000.0)
    seconds = 0.25 if what == "the clock" else 60
    guard = CostGuard(Budget(per="all", usd="1", seconds=seconds), prices=PRICES, sinks=[recorder], clock=clock)
    run_id = start(guard)
    guard.on_llm_new_token("one ", run_id=run_id)
    if what == "the switch":
        guard.kill(reason="enough")
    clock.advance(0.125)
    guard.on_llm_new_token("two ", run_id=run_id)
    clock.advance(0.125)
    with pytest.raises((AgentHaltedError, BudgetExceededError)) as stopped:
        guard.on_llm_new_token("three ", run_id=run_id)
    guard.on_llm_error(stopped.value, run_id=run_id)
    assert [event.midway for event in recorder.of(Refused)] == [True]
    (settled,) = recorder.of(CallSettled)
    assert (settled.usage.output_tokens, settled.estimated) == (3, True)
    assert settled.status == ("stopped" if what == "the clock" else "failed")
    guard.revive()


def test_what_a_stopped_stream_says_of_its_usage_is_no_estimate(recorder: Recorder) -> None:
    clock = ManualClock()
    guard = CostGuard(Budget(per="all", seconds=1), prices=PRICES, sinks=[recorder], clock=clock)
    run_id = start(guard)
    clock.advance(1)
    with pytest.raises(BudgetExceededError) as stopped:
        guard.on_llm_new_token("one ", run_id=run_id)
    guard.on_llm_error(stopped.value, run_id=run_id, response=replied((7, 5)))
    assert [(e.charge, e.status, e.estimated) for e in recorder.of(CallSettled)] == [
        (7 * IN + 5 * OUT, "stopped", False)
    ]


class Leaving(MemoryStore):
    """A store that may be away."""

    shared, away = True, False

    def reserve(self, *args: Any, **kwargs: Any) -> Any:
        if self.away:
            raise StoreError("away")
        return super().reserve(*args, **kwargs)


@pytest.mark.parametrize("away", [False, True])
def test_a_stream_that_gets_no_more_is_stopped_midway(away: bool, recorder: Recorder) -> None:
    store = Leaving()
    guard = CostGuard(Budget(per="all", output_tokens=60), prices=PRICES, sinks=[recorder], store=store)
    run_id, error = start(guard), StoreUnavailableError if away else BudgetExceededError
    store.away = away
    for _ in range(50):
        guard.on_llm_new_token("word ", run_id=run_id)

    def go_on() -> None:
        for _ in range(30):
            guard.on_llm_new_token("word ", run_id=run_id)

    with pytest.raises(error, match="away" if away else "more of a reply") as stopped:
        go_on()
    store.away = False
    guard.on_llm_error(stopped.value, run_id=run_id)
    assert [event.midway for event in recorder.of(Refused)] == [not away]
    (settled,) = recorder.of(CallSettled)
    assert settled.status == "stopped"
    assert 50 < settled.usage.output_tokens <= (60 if away else 69)


@pytest.mark.parametrize(("how", "status"), [({}, "cancelled"), ({"stopped": True}, "stopped")])
@pytest.mark.parametrize("chunks", [0, 3])
def test_a_call_that_is_cut_short_costs_what_was_seen_of_it_or_all_that_was_held(
    how: Any, status: str, chunks: int, recorder: Recorder
) -> None:
    guard = CostGuard(Budget(per="all", usd="1"), prices=PRICES, sinks=[recorder])
    run_id = start(guard)
    for _ in range(chunks):
        guard.on_llm_new_token("word ", run_id=run_id)
    call = guard.meter.books.take(run_id)
    assert call is not None
    guard.settlement.cut_short(call, **how)
    assert [(e.status, e.usage.output_tokens) for e in recorder.of(CallSettled)] == [(status, chunks or 50)]


@pytest.mark.parametrize(("given", "made", "output"), [(7, 5, 5), (7, None, 50), (None, 5, 50)])
def test_a_router_models_answer_says_what_it_used_or_costs_what_was_held(
    given: Any, made: Any, output: int, recorder: Recorder
) -> None:
    guard = CostGuard(Budget(per="all", usd="1"), prices=PRICES, sinks=[recorder])
    run_id = start(guard)
    usage = SimpleNamespace(input_tokens=given, output_tokens=made)
    guard.settlement.end_decision(run_id, SimpleNamespace(usage=usage))
    (settled,) = recorder.of(CallSettled)
    assert (settled.usage.output_tokens, settled.estimated) == (output, output == 50)


def test_of_prompts_sent_in_one_request_the_first_answer_has_the_hold_of_them_all(
    call: Caller, recorder: Recorder
) -> None:
    guard = CostGuard(Budget(per="all", usd="1"), prices={"davinci": PRICES["gpt-4o"]}, sinks=[recorder])
    with FakeProvider("fine") as provider:
        model = OpenAI(model="davinci", base_url=provider.url, api_key="x", max_tokens=50, max_retries=0)
        model.batch(["one", "two"], {"callbacks": [guard]})
    held = [event.held for event in recorder.of(CallStarted)]
    assert [event.held for event in recorder.of(CallSettled)] == [sum(held), 0]


def test_a_switch_that_may_have_to_wait_is_known_beforehand(recorder: Recorder) -> None:
    clock = ManualClock()
    for switch, waits in ((None, False), (KillSwitch(lambda: None, clock=clock), True)):
        guard = CostGuard(Budget(per="all", usd="1"), prices=PRICES, clock=clock, switch=switch)
        start(guard)
        stream = Stream(clock(), 20)
        clock.advance(60)  # the answer is of old
        stream.next_check = clock() + 0.25
        assert not guard.settlement.looks(stream, 1)
        clock.advance(0.25)
        assert guard.settlement.looks(stream, 1) == waits


def test_a_trace_that_is_over_leaves_no_account() -> None:
    guard = CostGuard(Budget(per="trace", usd="1", tool_calls=9), prices=PRICES)
    seen = []

    def several(_: Any) -> None:
        for _ in range(2):
            ScriptedChatModel(usage=(1, 1), max_tokens=5).invoke("hi")
            look.invoke({"what": "x"})
        seen.append([balance.spent for _, balance in guard.store.scan(now=guard.now())])

    RunnableLambda(several).invoke("", {"callbacks": [guard]})
    assert sorted(seen[0]) == [2, 2 * (IN + OUT)]
    assert list(guard.store.scan(now=guard.now())) == []


def test_a_reply_that_names_its_provider_is_priced_as_of_that_one(recorder: Recorder) -> None:
    spent = []
    for sinks in ([], [recorder]):
        guard = CostGuard(Budget(per="all", usd="1"), sinks=sinks)
        run_id = uuid4()
        said = {"ls_provider": "a-gateway", "ls_model_name": "its-router", "ls_max_tokens": 50}
        guard.on_chat_model_start({}, [[HumanMessage("hello there")]], run_id=run_id, metadata=said)
        reply = replied((12, 3))
        facts = {"model_name": "claude-sonnet-4-6", "model_provider": "anthropic"}
        reply.generations[0][0].message.response_metadata = facts  # type: ignore[union-attr]
        guard.on_llm_end(reply, run_id=run_id)
        spent.append(guard.report().total.spent)
    assert spent == [12 * 3_000 + 3 * 15_000] * 2


def test_a_call_has_as_many_seconds_left_as_its_tightest_budget() -> None:
    clock = ManualClock()
    guard = CostGuard(Budget(per="all", seconds=10), Budget(per="session", seconds=7.5), clock=clock)
    call = guard.meter.open_calls[start(guard).int]
    clock.advance(3)
    assert guard.settlement.seconds_left(call) == 4.5
    clock.advance(5)
    assert guard.settlement.seconds_left(call) == 0
    free = CostGuard(Budget(per="all", usd="1"), clock=clock)
    assert free.settlement.seconds_left(free.meter.open_calls[start(free).int]) is None


@pytest.mark.parametrize(
    ("before", "text", "looks"),
    [([], "x" * 19, False), ([], "x" * 20, True), (["x" * 10], "x" * 9, False), (["x" * 10], "x" * 10, True),
     ([""] * 18, "", False), ([""] * 19, "", True), (["x"] * 10, "x" * 9, False), (["x"] * 10, "x" * 10, True)],
)  # fmt: skip
def test_it_is_known_beforehand_which_piece_of_a_stream_is_the_one_to_look_at(
    before: list[str], text: str, looks: bool
) -> None:
    guard = CostGuard(Budget(per="all", usd="1"), prices=PRICES)
    call = guard.meter.open_calls[start(guard).int]
    stream = Stream(guard.now(), 20)
    stream.next_check = guard.now() + 60
    for piece in before:
        guard.settlement.feed(call, stream, piece)
    assert stream.check_at == 20
    assert guard.settlement.looks(stream, len(text)) == looks
    guard.settlement.feed(call, stream, text)
    assert (stream.check_at != 20) == looks  # after a look, it is the next time to look at
    assert (stream.text(), stream.chunks) == ("".join([*before, text]), len(before) + 1)
    assert guard.settlement.looks(None, 0)


class Around(ScriptedChatModel):
    """A model that asks another one, so many times, and tells a usage of its own, or none."""

    inner: Any
    times: int = 1
    child: bool = False
    says: bool = True

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        for _ in range(self.times):
            below = CallbackManager(run_manager.handlers, parent_run_id=run_manager.run_id) if self.child else None
            self.inner.invoke("hi", {"callbacks": below} if below else None)
        if self.says:
            return super()._generate(messages, stop, run_manager, **kwargs)
        return ChatResult(generations=[ChatGeneration(message=AIMessage("one two three"))])


@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize("child", [False, True])
@pytest.mark.parametrize(
    ("outer", "made", "spent"),
    [
        ({"usage": (12, 3)}, 1, 12 * IN + 3 * OUT),
        ({"usage": (12, 3), "times": 2}, 2, 24 * IN + 6 * OUT),
        ({"usage": (24, 6), "times": 2}, 2, 24 * IN + 6 * OUT),
        ({"usage": (20, 7)}, 2, 32 * IN + 10 * OUT),
        ({"usage": (12, 4)}, 2, 24 * IN + 7 * OUT),
        ({"usage": (20, 7), "model": "unheard-of"}, 2, None),
        ({"usage": (12, 3), "model": "unheard-of"}, 1, 12 * IN + 3 * OUT),
        ({"says": False}, 2, None),
        ({"says": False, "model": "unheard-of"}, 1, 12 * IN + 3 * OUT),
    ],
)
def test_a_model_around_another_one_is_paid_for_what_it_says_it_used_itself(
    outer: dict[str, Any], made: int, spent: int | None, child: bool, listening: bool
) -> None:
    guard = CostGuard(
        Budget(per="all", usd="1", model_calls=9), prices=PRICES, sinks=[lambda event: None] if listening else []
    )
    inner = ScriptedChatModel(usage=(12, 3), max_tokens=5)
    with guard.watch():
        Around(inner=inner, child=child, max_tokens=50, **outer).invoke("hi")
    total = guard.report().total
    assert total.calls == made
    assert total.spent == spent if spent else total.spent > 12 * IN + 3 * OUT
    assert guard.store.read(["all|usd"], now=guard.now())[0][:2] == (total.spent, 0)


def test_a_tool_that_asks_a_model_keeps_its_own_hold_meanwhile(call: Caller) -> None:
    guard = CostGuard(Budget(per="all", usd="1", tool_calls=9), prices=PRICES, tool_prices={"asking": "0.25"})
    held: list[tuple[int, int]] = []

    class Looking(BaseCallbackHandler):
        def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
            found = guard.store.read(["all|usd", "all|tool_calls"], now=guard.now())
            held.append((found[0].held, found[1].held))

    @tool
    def asking(what: str) -> str:
        """Ask."""
        return str(ScriptedChatModel(usage=(12, 3), max_tokens=5).invoke(what).content)

    call(asking, {"what": "x"}, {"callbacks": [guard, Looking()]})
    assert held
    assert all(usd >= 250_000_000 and calls == 1 for usd, calls in held)
    assert guard.report().total.spent == 250_000_000 + 12 * IN + 3 * OUT


def test_what_would_be_paid_again_is_noted_and_nothing_else(call: Caller) -> None:
    guard, paid = CostGuard(Budget(per="all", usd="1"), prices=PRICES), ["from before"]
    config, model = {"callbacks": [guard]}, ScriptedChatModel(usage=(12, 3), max_tokens=5)
    with noting(paid):
        assert paid == []
        call(model, "hi", config)
        call(look, {"what": "x"}, config)
    call(model, "hi", config)
    call(look, {"what": "x"}, config)
    assert paid == ["gpt-4o", "look"]


# Whose call it is, and whether it would fit


@pytest.mark.parametrize("listening", [False, True])
def test_what_is_asked_with_callbacks_of_its_own_counts_into_the_trace_it_is_asked_in(listening: bool) -> None:
    sinks = [lambda event: None] if listening else []
    guard = CostGuard(Budget(per="trace", tool_calls=2, model_calls=2), prices=PRICES, sinks=sinks)
    model, asked = ScriptedChatModel(usage=(1, 1), max_tokens=5), []

    def ask(thing: Any, given: Any) -> Any:
        def several(_: Any) -> None:
            for _ in range(3):
                thing.invoke(given, {"callbacks": [guard]})
                asked.append(thing)

        return RunnableLambda(several)

    for thing, given in ((look, {"what": "x"}), (model, "hi")):
        with pytest.raises(BudgetExceededError):
            ask(thing, given).invoke("", {"callbacks": [guard]})
        for _ in range(3):  # each is a trace of its own
            thing.invoke(given, {"callbacks": [guard]})
    assert asked == [look] * 2 + [model] * 2


@pytest.mark.parametrize("measure", MEASURES)
def test_it_is_said_whether_one_more_call_would_fit_and_nothing_is_held_for_it(measure: str) -> None:
    cap: Any = "0.000001" if measure == "usd" else 1
    guard, full = CostGuard(Budget(per="all", **{measure: cap}), prices=PRICES), 1000 if measure == "usd" else 1
    assert guard.would_refuse() is None
    guard.store.settle([Claim(f"all|{measure}", full, 0)], [0], [full], until=0, now=guard.now())
    error = guard.would_refuse()
    assert error is None if measure == "tool_calls" else error is not None
    assert error is None or (error.measure, error.asked, error.left) == (measure, 1, 0)
    assert guard.store.read([f"all|{measure}"], now=guard.now())[0][:2] == (full, 0)


@pytest.mark.parametrize(
    ("said", "params", "name"),
    [
        ({"ls_model_name": "a"}, {"model": "b", "model_name": "c"}, "a"),
        ({}, {"model": "b", "model_name": "c"}, "b"),
        ({}, {"model": "b"}, "b"),
        ({}, {"model_name": "c"}, "c"),
        ({}, {}, "unknown"),
    ],
)
def test_a_model_is_called_what_the_request_calls_it(said: Any, params: Any, name: str, recorder: Recorder) -> None:
    guard = CostGuard(sinks=[recorder])
    guard.on_chat_model_start({}, [[HumanMessage("hi")]], run_id=uuid4(), metadata=said, invocation_params=params)
    assert [event.name for event in recorder.of(CallStarted)] == [name]


@pytest.mark.parametrize("seconds", [5, 60, 95, 600])
def test_a_hold_stands_for_its_seconds_and_a_tenth_more_at_most_in_few_buckets(seconds: int) -> None:
    clock = ManualClock(1_000_003.5)
    guard = CostGuard(Budget(per="all", usd="1"), prices=PRICES, clock=clock, hold_seconds=seconds)
    guard.on_llm_end(replied((1, 1)), run_id=start(guard))  # from the second call on by the short way
    ends = set()
    for _ in range(seconds):
        clock.advance(1)
        run_id = start(guard)
        hold = guard.meter.open_calls[run_id.int].hold
        assert hold is not None
        assert hold.page is not None
        assert hold.until == guard.meter.ledger.until(clock())
        assert clock() + seconds < hold.until <= clock() + seconds + max(1, seconds / 10)
        guard.on_llm_end(replied((1, 1)), run_id=run_id)
        ends.add(hold.until)
    assert len(ends) <= 11
