"""``steer(guard, cascade=Cascade(...))``: who is asked, who answers, and that each try is paid once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import JsonOutputParser
from langchain_core.tools import tool
from openai import AuthenticationError
from pydantic import BaseModel

from langchain_costguard import AgentHaltedError, Budget, BudgetExceededError, CostGuard, Price
from langchain_costguard.events import EndedEarly, Escalated, Sufficed
from langchain_costguard.routing.cascade import Agreement, Cascade, Judge, LogProbs, Parses, Verifier
from langchain_costguard.steering import Breaker, ReplyRejectedError, Retry, SteeredModel, Stop, steer, valid_json
from langchain_costguard.testing import FakeProvider, Recorder, Reply, Request
from tests.conftest import Caller

PRICES = {
    "gpt-4o": Price(input="2.50", output="10.00"),
    "gpt-4o-mini": Price(input="0.15", output="0.60"),
    "gpt-4.1-nano": Price(input="0.10", output="0.40"),
}
NANO = {"gpt-4o": (2_500, 10_000), "gpt-4o-mini": (150, 600), "gpt-4.1-nano": (100, 400)}
SEAMS = ("agent", "chain")

Script = dict[str, list[Reply | str]]


def by_model(**scripts: list[Reply | str]) -> Callable[[Request], Reply | str]:
    """Replies in order for the cheap model, the strong one and the judge; the last repeats."""
    names = {"gpt-4o-mini": "cheap", "gpt-4o": "strong", "gpt-4.1-nano": "judge"}
    left = {name: list(replies) for name, replies in scripts.items()}

    def reply(request: Request) -> Reply | str:
        queue = left[names[request.model]]
        return queue.pop(0) if len(queue) > 1 else queue[0]

    return reply


def asked(provider: FakeProvider) -> list[str]:
    return [request.model for request in provider.requests]


def balanced(guard: CostGuard, provider: FakeProvider) -> bool:
    """Whether the ledger says, to the nano-USD, what the provider served."""
    served = 0
    for request in provider.requests:
        if request.usage is not None:
            given, made = NANO[request.model]
            served += request.usage.input_tokens * given + request.usage.output_tokens * made
    return guard.report().total.spent == served


class Setting:
    """A provider, a guard, and the cascade at either seam."""

    def __init__(self, provider: FakeProvider, seam: str, call: Caller, *budgets: Budget, sinks: Any = ()) -> None:
        self.provider, self.seam, self._call = provider, seam, call
        self.guard = CostGuard(*budgets, prices=PRICES, sinks=list(sinks))
        self.cheap, self.strong = provider.openai("gpt-4o-mini", max_tokens=50), provider.openai(max_tokens=50)

    def ask(self, confidence: Any, *, threshold: float | None = None, tools: Any = (), **policies: Any) -> AIMessage:
        cascade = Cascade(tiers=[self.cheap, self.strong], confidence=confidence, threshold=threshold)
        return self.run(cascade, tools, **policies)

    def run(self, cascade: Cascade, tools: Any = (), **policies: Any) -> AIMessage:
        return self.run_with(steer(self.guard, cascade=cascade, **policies), tools)

    def run_with(self, steering: Any, tools: Any = ()) -> AIMessage:
        if self.seam == "agent":
            agent = create_agent(self.strong, list(tools), middleware=steering)
            return self._call(agent, {"messages": [HumanMessage("What is it?")]})["messages"][-1]
        return self._call(SteeredModel(self.strong, steering), [HumanMessage("What is it?")])


@pytest.fixture(params=SEAMS)
def setting(request: pytest.FixtureRequest, call: Caller) -> Callable[..., Setting]:
    return lambda provider, *budgets, sinks=(): Setting(provider, request.param, call, *budgets, sinks=sinks)


# Agreement


def test_samples_that_agree_are_answer_enough(setting: Any, recorder: Recorder) -> None:
    with FakeProvider(by_model(cheap=["42", "42.0"], strong=["43"])) as provider:
        here = setting(provider, sinks=[recorder])
        assert here.ask(Agreement(samples=2)).text == "42"
        assert asked(provider) == ["gpt-4o-mini"] * 2
        assert balanced(here.guard, provider)
        (told,) = recorder.of(Sufficed)
        usage = [request.usage for request in provider.requests]
        dear = usage[0].input_tokens * 2_500 + usage[0].output_tokens * 10_000
        assert told.saved == dear - here.guard.report().total.spent
        assert (told.name, told.score) == ("gpt-4o-mini", 1.0)


def test_samples_that_disagree_lead_to_the_strong_model(setting: Any, recorder: Recorder) -> None:
    with FakeProvider(by_model(cheap=["42", "41"], strong=["43"])) as provider:
        here = setting(provider, sinks=[recorder])
        assert here.ask(Agreement(samples=2)).text == "43"
        assert asked(provider) == ["gpt-4o-mini", "gpt-4o-mini", "gpt-4o"]
        assert balanced(here.guard, provider)
        (told,) = recorder.of(Escalated)
        cheap = [request.usage for request in provider.requests[:2]]
        assert told.saved == -sum(150 * usage.input_tokens + 600 * usage.output_tokens for usage in cheap)
        assert here.guard.report().actions.times("Escalated") == 1


@pytest.mark.parametrize(
    ("replies", "calls"),
    [(["a", "a", "a", "b"], 3), (["a", "b", "c", "c"], 3), (["a", "b", "b", "b"], 4), (["a", "a", "b", "b"], 4)],
)
def test_no_more_samples_are_taken_than_decide(setting: Any, replies: Any, calls: int) -> None:
    with FakeProvider(by_model(cheap=replies, strong=["x"])) as provider:
        setting(provider).ask(Agreement(samples=4), threshold=0.75)
        assert asked(provider).count("gpt-4o-mini") == calls


def test_variants_and_temperature_reach_the_provider(setting: Any) -> None:
    with FakeProvider(by_model(cheap=["7"], strong=["8"])) as provider:
        setting(provider).ask(Agreement(samples=2, variants=["Think.", "Write code."], temperature=0.7))
        last = [request.body["messages"][-1]["content"] for request in provider.requests]
        assert last == ["Think.", "Write code."]
        assert [request.body["temperature"] for request in provider.requests] == [0.7, 0.7]


def test_the_answer_and_what_makes_it_the_same_are_the_users(setting: Any) -> None:
    with FakeProvider(by_model(cheap=["so it is: 10", "hence: 11"], strong=["99"])) as provider:
        pick = Agreement(answer=lambda m: int(m.text.split()[-1]), same=lambda a, b: abs(a - b) < 2)
        assert setting(provider).ask(pick).text == "so it is: 10"


def test_an_answer_that_cannot_be_taken_out_agrees_with_nothing(setting: Any) -> None:
    with FakeProvider(by_model(cheap=["no number"], strong=["99"])) as provider:
        assert setting(provider).ask(Agreement(answer=lambda m: int(m.text))).text == "99"


@tool
def look_up(key: str) -> str:
    """Look a key up."""
    return f"value of {key}"


def test_tool_calls_agree_by_name_and_arguments(call: Caller) -> None:
    one, other = Reply(tool_calls=[("look_up", {"key": "a"})]), Reply(tool_calls=[("look_up", {"key": "b"})])
    with FakeProvider(by_model(cheap=[one, one, one, other], strong=["done"])) as provider:
        here = Setting(provider, "agent", call)
        assert here.ask(Agreement(samples=2), tools=[look_up]).text == "done"
        assert asked(provider) == ["gpt-4o-mini"] * 4 + ["gpt-4o"]
        assert balanced(here.guard, provider)


# The other ways to tell


@pytest.mark.parametrize(("logprob", "text"), [(-0.01, "cheap it is"), (-0.5, "strong"), (None, "strong")])
def test_log_probabilities_of_the_provider_decide(setting: Any, logprob: Any, text: str) -> None:
    with FakeProvider(by_model(cheap=[Reply("cheap it is", logprobs=logprob)], strong=["strong"])) as provider:
        here = setting(provider)
        assert here.ask(LogProbs()).text == text
        assert provider.requests[0].body["logprobs"] is True
        assert "logprobs" not in provider.requests[-1].body or text != "strong"
        assert balanced(here.guard, provider)


@pytest.mark.parametrize(("said", "text"), [(True, "c"), (False, "s"), (0.8, "c"), (0.1, "s"), (None, "s"), ("?", "s")])
def test_a_verifier_decides(setting: Any, said: Any, text: str) -> None:
    with FakeProvider(by_model(cheap=["c"], strong=["s"])) as provider:
        assert setting(provider).ask(Verifier(lambda message: said)).text == text


def test_a_verifier_that_fails_trusts_nothing(setting: Any) -> None:
    def broken(message: AIMessage) -> bool:
        raise RuntimeError("no")

    with FakeProvider(by_model(cheap=["c"], strong=["s"])) as provider:
        assert setting(provider).ask(Verifier(broken)).text == "s"


@pytest.mark.parametrize(("verdict", "text"), [("95", "c"), ("10", "s"), ("it is fine", "s"), ("700", "s")])
def test_a_judge_decides_and_is_paid(setting: Any, verdict: str, text: str) -> None:
    with FakeProvider(by_model(cheap=["c"], strong=["s"], judge=[verdict])) as provider:
        here = setting(provider)
        assert here.ask(Judge(provider.openai("gpt-4.1-nano", max_tokens=5))).text == text
        assert asked(provider)[:2] == ["gpt-4o-mini", "gpt-4.1-nano"]
        assert "What is it?" in provider.requests[1].body["messages"][0]["content"]
        assert balanced(here.guard, provider)


class Invoice(BaseModel):
    total: int


@pytest.mark.parametrize("check", [JsonOutputParser(pydantic_object=Invoice), valid_json(Invoice)])
@pytest.mark.parametrize(("reply", "cheap"), [('{"total": 3}', True), ("it is three", False)])
def test_what_does_not_parse_goes_to_the_strong_model(setting: Any, check: Any, reply: str, cheap: bool) -> None:
    with FakeProvider(by_model(cheap=[reply], strong=['{"total": 4}'])) as provider:
        assert setting(provider).ask(Parses(check)).text == (reply if cheap else '{"total": 4}')


@pytest.mark.parametrize(("cheap", "total"), [('{"total": 3}', 3), ('{"sum": 3}', 4)])
def test_structured_output_of_a_chain_escalates_what_breaks_the_schema(call: Caller, cheap: str, total: int) -> None:
    with FakeProvider(by_model(cheap=[cheap], strong=['{"total": 4}'])) as provider:
        guard, strong = CostGuard(prices=PRICES), provider.openai()
        cascade = Cascade(tiers=[provider.openai("gpt-4o-mini"), strong], confidence=Parses(valid_json(Invoice)))
        chain = SteeredModel(strong, steer(guard, cascade=cascade)).with_structured_output(Invoice)
        assert call(chain, "How much?") == Invoice(total=total)
        # The client keeps the usage of a reply that breaks the schema to itself: that one is settled by estimate.
        assert balanced(guard, provider) == (total == 3)
        assert guard.report().total.estimated == (3 if total == 4 else 0)  # the cheap model may repair it twice


# Budgets and failures


def test_a_budget_without_room_for_the_strong_model_gives_the_cheap_answer(setting: Any, recorder: Recorder) -> None:
    with FakeProvider(by_model(cheap=["41", "42"], strong=["43"])) as provider:
        here = setting(provider, Budget(usd="0.0003"), sinks=[recorder])
        assert here.ask(Agreement(samples=2)).text == "41"
        assert "gpt-4o" not in asked(provider)
        assert balanced(here.guard, provider)
        assert "no room for gpt-4o" in recorder.of(Sufficed)[0].why


def test_a_budget_without_room_for_anything_refuses(setting: Any) -> None:
    with FakeProvider(by_model(cheap=["41"], strong=["43"])) as provider:
        with pytest.raises(BudgetExceededError):
            setting(provider, Budget(usd="0.0000001")).ask(Agreement(), on_exceeded="raise")
        assert not provider.requests


def test_a_halt_stops_a_cascade(setting: Any) -> None:
    with FakeProvider(by_model(cheap=["41"], strong=["43"])) as provider:
        here = setting(provider)

        def check(message: AIMessage) -> bool:
            here.guard.kill()
            return False

        with pytest.raises(AgentHaltedError):
            here.ask(Verifier(check), on_exceeded="raise")
        assert asked(provider) == ["gpt-4o-mini"]


@pytest.mark.parametrize("status", [500, 429, 401])
def test_a_cheap_model_that_fails_is_not_tried_again(setting: Any, recorder: Recorder, status: int) -> None:
    with FakeProvider(by_model(cheap=[Reply(status=status)], strong=["s"])) as provider:
        here = setting(provider, sinks=[recorder])
        assert here.ask(None).text == "s"
        assert asked(provider) == ["gpt-4o-mini", "gpt-4o"]
        assert balanced(here.guard, provider)
        assert recorder.of(Escalated)[0].why.startswith("it failed: ")


def test_a_strong_model_that_fails_is_tried_again_and_the_cheap_one_is_not(setting: Any) -> None:
    with FakeProvider(by_model(cheap=["c"], strong=[Reply(status=500), "s"])) as provider:
        here = setting(provider)
        assert here.ask(Verifier(lambda m: False), retry=Retry(base=0.001)).text == "s"
        assert asked(provider) == ["gpt-4o-mini", "gpt-4o", "gpt-4o"]


def test_where_nothing_listens_the_cloud_answers(setting: Any) -> None:
    with FakeProvider(by_model(strong=["from the cloud"])) as provider:
        here = setting(provider)
        here.cheap = provider.openai("gpt-4o-mini", base_url="http://127.0.0.1:9/v1")
        assert here.ask(None).text == "from the cloud"
        assert balanced(here.guard, provider)


def test_a_local_model_that_answers_spares_the_cloud(setting: Any) -> None:
    with FakeProvider(by_model(cheap=["local"], strong=["cloud"])) as provider:
        assert setting(provider).ask(None).text == "local"
        assert asked(provider) == ["gpt-4o-mini"]


def test_three_tiers_are_asked_in_turn(setting: Any) -> None:
    with FakeProvider(by_model(judge=["1"], cheap=["2"], strong=["3"])) as provider:
        here = setting(provider)
        tiers = [provider.openai("gpt-4.1-nano"), here.cheap, here.strong]
        assert here.run(Cascade(tiers=tiers, confidence=Verifier(lambda m: m.text == "2"))).text == "2"
        assert asked(provider) == ["gpt-4.1-nano", "gpt-4o-mini"]


def test_one_tier_alone_is_asked_at_once(setting: Any) -> None:
    with FakeProvider(by_model(cheap=["c"], strong=["s"])) as provider:
        here = setting(provider)
        assert here.run(Cascade(tiers=[here.strong])).text == "s"
        assert asked(provider) == ["gpt-4o"]


def test_a_cheap_reply_that_a_guardrail_rejects_is_not_the_end(setting: Any) -> None:
    with FakeProvider(by_model(cheap=["bad"], strong=["good"])) as provider:
        reply = setting(provider).ask(
            None, guardrails=[lambda m: "no" if m.text == "bad" else None], retry=Retry(repairs=1)
        )
        assert reply.text == "good"
        assert asked(provider) == ["gpt-4o-mini", "gpt-4o-mini", "gpt-4o"]


@pytest.mark.parametrize("on_exceeded", ["end", "raise"])
def test_a_rejected_cheap_reply_is_not_told_as_the_end(setting: Any, recorder: Recorder, on_exceeded: Any) -> None:
    with FakeProvider(by_model(cheap=["bad"], strong=["good"])) as provider:
        here = setting(provider, sinks=[recorder])
        rules: Any = {"guardrails": [lambda m: Stop("no") if m.text == "bad" else None], "on_exceeded": on_exceeded}
        assert here.ask(None, **rules).text == "good"
        assert recorder.of(EndedEarly) == []
        assert [event.why for event in recorder.of(Escalated)] == ["its reply was rejected"]
        assert here.guard.report().actions.times("EndedEarly") == 0


def test_a_rejected_strong_reply_is_the_end(setting: Any, recorder: Recorder) -> None:
    with FakeProvider(by_model(cheap=["bad"], strong=["bad"])) as provider:
        here = setting(provider, sinks=[recorder])
        assert "did not pass" in here.ask(None, guardrails=[lambda m: Stop("no")]).text
        assert len(recorder.of(EndedEarly)) == 1
        with pytest.raises(ReplyRejectedError):
            here.ask(None, guardrails=[lambda m: Stop("no")], on_exceeded="raise")


def untrusted(message: AIMessage) -> bool:
    return False


@pytest.mark.parametrize("status", [500, 401])
def test_a_strong_model_that_is_down_leaves_the_cheap_answer(setting: Any, recorder: Recorder, status: int) -> None:
    with FakeProvider(by_model(cheap=["41"], strong=[Reply(status=status)])) as provider:
        here = setting(provider, sinks=[recorder])
        assert here.ask(Verifier(untrusted), retry=Retry(attempts=2, base=0.001)).text == "41"
        assert balanced(here.guard, provider)
        (told,) = recorder.of(Sufficed)
        assert told.name == "gpt-4o-mini"
        assert re.fullmatch(r"gpt-4o failed: \w+Error", told.why)


def test_a_strong_model_that_is_down_is_an_error_where_there_is_no_cheap_answer(setting: Any) -> None:
    with FakeProvider(by_model(cheap=[Reply(status=500)], strong=[Reply(status=401)])) as provider:
        here = setting(provider)
        with pytest.raises(AuthenticationError):
            here.ask(Verifier(untrusted))


def test_a_strong_model_that_is_left_alone_leaves_the_cheap_answer(setting: Any, recorder: Recorder) -> None:
    with FakeProvider(by_model(cheap=["41"], strong=[Reply(status=500)])) as provider:
        here = setting(provider, sinks=[recorder])
        cascade = Cascade(tiers=[here.cheap, here.strong], confidence=Verifier(untrusted))
        steering = steer(here.guard, cascade=cascade, model_breaker=Breaker(failures=1), retry=None)
        for _ in range(2):
            assert here.run_with(steering).text == "41"
        assert asked(provider) == ["gpt-4o-mini", "gpt-4o", "gpt-4o-mini"]
        assert recorder.of(Sufficed)[1].why == "gpt-4o failed: CircuitOpenError"


def test_the_cheap_answer_of_a_refused_cascade_is_told_by_the_model_that_gave_it(
    setting: Any, recorder: Recorder
) -> None:
    with FakeProvider(by_model(cheap=["41", "42"], strong=["43"])) as provider:
        setting(provider, Budget(usd="0.0003"), sinks=[recorder]).ask(Agreement(samples=2))
        assert [event.name for event in recorder.of(Sufficed)] == ["gpt-4o-mini"]


def test_a_tier_that_cannot_do_what_is_asked_is_not_paid(call: Caller, recorder: Recorder) -> None:
    with FakeProvider(by_model(cheap=["c"], strong=["s"])) as provider:
        here = Setting(provider, "agent", call, sinks=[recorder])
        here.cheap.profile = {"tool_calling": False}
        assert here.ask(Agreement(), tools=[look_up]).text == "s"
        assert asked(provider) == ["gpt-4o"]
        (told,) = recorder.of(Escalated)
        assert (told.name, told.why, told.saved) == ("gpt-4o-mini", "it cannot call tools", 0)


def test_tiers_made_from_names_leave_trying_again_to_steering(setting: Any, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    with FakeProvider(by_model(cheap=[Reply(status=500)], strong=[Reply(status=500), "s"])) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        cascade = Cascade(tiers=["openai:gpt-4o-mini", "openai:gpt-4o"])
        assert setting(provider).run(cascade, retry=Retry(base=0.001)).text == "s"
        assert asked(provider) == ["gpt-4o-mini", "gpt-4o", "gpt-4o"]
        assert not [record for record in caplog.records if "max_retries" in record.message]


# Streams


def test_a_stream_shows_the_deciding_reply_alone(stream: Caller) -> None:
    for cheap, text in ((["four little words here"], "four little words here"), (["a b", "c d"], "the strong reply")):
        with FakeProvider(by_model(cheap=cheap, strong=["the strong reply"])) as provider:
            guard = CostGuard(prices=PRICES)
            strong = provider.openai()
            cascade = Cascade(tiers=[provider.openai("gpt-4o-mini"), strong])
            pieces = stream(SteeredModel(strong, steer(guard, cascade=cascade)), "What is it?")
            assert "".join(str(piece.content) for piece in pieces) == text
            assert balanced(guard, provider)


def test_messages_of_an_agent_show_the_deciding_reply_alone(stream: Caller) -> None:
    for cheap, text in ((["four little words here"], "four little words here"), (["a b", "c d"], "the strong reply")):
        with FakeProvider(by_model(cheap=cheap, strong=["the strong reply"])) as provider:
            guard = CostGuard(prices=PRICES)
            strong = provider.openai(streaming=True)
            cascade = Cascade(tiers=[provider.openai("gpt-4o-mini", streaming=True), strong])
            agent = create_agent(strong, [], middleware=steer(guard, cascade=cascade))
            pieces = stream(agent, {"messages": [HumanMessage("What is it?")]}, stream_mode="messages")
            assert "".join(str(piece.content) for piece, _ in pieces) == text
            assert balanced(guard, provider)


def test_without_a_doubt_a_local_stream_is_shown_as_it_comes(stream: Caller) -> None:
    with FakeProvider(by_model(cheap=["four little words here"], strong=["s"])) as provider:
        guard, strong = CostGuard(prices=PRICES), provider.openai()
        cascade = Cascade(tiers=[provider.openai("gpt-4o-mini"), strong], confidence=None)
        pieces = stream(SteeredModel(strong, steer(guard, cascade=cascade)), "What is it?", most=2)
        assert "".join(str(piece.content) for piece in pieces) == "four little "


def test_a_local_stream_that_does_not_begin_is_the_clouds(stream: Caller) -> None:
    with FakeProvider(by_model(cheap=[Reply(status=503)], strong=["from the cloud"])) as provider:
        guard, strong = CostGuard(prices=PRICES), provider.openai()
        cascade = Cascade(tiers=[provider.openai("gpt-4o-mini"), strong], confidence=None)
        pieces = stream(SteeredModel(strong, steer(guard, cascade=cascade)), "What is it?")
        assert "".join(str(piece.content) for piece in pieces) == "from the cloud"
        assert balanced(guard, provider)


def test_a_router_and_a_cascade_do_not_go_together(provider: FakeProvider) -> None:
    guard, model = CostGuard(prices=PRICES), provider.openai()
    with pytest.raises(ValueError, match="cascade"):
        steer(guard, cascade=Cascade(tiers=[model]), router=lambda asked: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match="cascade"):
        steer(guard, cascade=model)  # type: ignore[arg-type]
