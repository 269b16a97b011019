"""Runs on record: what is written, what feedback adds, and that no call fails for it."""

from __future__ import annotations

import json
import multiprocessing
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool

from langchain_costguard import Budget, CostGuard, Price
from langchain_costguard.routing import Agreement, Cascade, ClassifierRouter, Judge, LogProbs, Route, RunLog, Verifier
from langchain_costguard.routing.records import read
from langchain_costguard.steering import SteeredModel, steer
from langchain_costguard.testing import FakeProvider, Reply, Request
from tests.conftest import Caller

PRICES = {
    "gpt-4o": Price(input="2.50", output="10.00"),
    "gpt-4o-mini": Price(input="0.15", output="0.60"),
    "gpt-4.1-nano": Price(input="0.10", output="0.40"),
}
ASKED = {"messages": [HumanMessage("What is it?")]}


@pytest.fixture
def runs(tmp_path: Path) -> RunLog:
    return RunLog(tmp_path / "runs.jsonl")


def lines(runs: RunLog) -> list[dict[str, Any]]:
    return [json.loads(line) for line in runs.path.read_text("ascii").splitlines()]


def brief(runs: RunLog) -> list[tuple[str, bool | None, bool]]:
    """Model, whether it was good, and whether somebody only thinks so."""
    return [(line["model"], line["good"], line.get("assumed", False)) for line in lines(runs)]


def says(**replies: Reply | str) -> Callable[[Request], Reply | str]:
    names = {"gpt-4o-mini": "cheap", "gpt-4o": "strong", "gpt-4.1-nano": "nano"}
    return lambda request: replies[names[request.model]]


def run(call: Caller, provider: FakeProvider, runs: RunLog, confidence: Any, *, nano: bool = False, **more: Any) -> Any:
    guard = CostGuard(*more.pop("budgets", ()), prices=PRICES)
    tiers = [provider.openai(name, max_tokens=50) for name in (*(["gpt-4.1-nano"] * nano), "gpt-4o-mini", "gpt-4o")]
    steering = steer(guard, cascade=Cascade(tiers=tiers, confidence=confidence), runs=runs, **more)
    return call(create_agent(tiers[-1], [], middleware=steering), ASKED)["messages"][-1]


# Cascades


def test_a_cheap_answer_that_sufficed_was_good_and_the_dear_one_is_taken_to_be(call: Caller, runs: RunLog) -> None:
    with FakeProvider(says(cheap="42", strong="43")) as provider:
        reply = run(call, provider, runs, Agreement(samples=2))
        cheap, strong = lines(runs)
        used = reply.usage_metadata
        assert cheap == {
            "id": reply.id,
            "prompt": "What is it?",
            "model": "gpt-4o-mini",
            "good": True,
            "score": 1.0,
            "cost": (used["input_tokens"] * 150 + used["output_tokens"] * 600) / 1e9,
        }
        assert "id" not in strong
        assert (strong["model"], strong["good"], strong["assumed"]) == ("gpt-4o", True, True)
        assert strong["cost"] == (used["input_tokens"] * 2_500 + used["output_tokens"] * 10_000) / 1e9


def test_a_cheap_answer_that_was_escalated_from_was_not_good(call: Caller, runs: RunLog) -> None:
    with FakeProvider(says(cheap="42", strong="43")) as provider:
        reply = run(call, provider, runs, Verifier(lambda message: 0.25))
        assert brief(runs) == [("gpt-4o-mini", False, False), ("gpt-4o", True, True)]
        assert lines(runs)[0]["score"] == 0.25
        assert lines(runs)[1]["id"] == reply.id


def test_of_three_tiers_each_has_its_line(call: Caller, runs: RunLog) -> None:
    with FakeProvider(says(nano="1", cheap="2", strong="3")) as provider:
        run(call, provider, runs, Verifier(lambda message: message.text == "2"), nano=True)
    assert brief(runs) == [("gpt-4.1-nano", False, False), ("gpt-4o-mini", True, False), ("gpt-4o", True, True)]


def test_a_call_that_failed_has_no_line(call: Caller, runs: RunLog) -> None:
    with FakeProvider(says(cheap=Reply(status=503), strong="43")) as provider:
        run(call, provider, runs, Agreement())
        assert brief(runs) == [("gpt-4o", True, True)]
    with FakeProvider(says(cheap="42", strong=Reply(status=401))) as provider:
        run(call, provider, runs, Verifier(lambda message: False))
        assert brief(runs)[1:] == [("gpt-4o-mini", False, False)]


def test_a_call_that_was_refused_has_no_line(call: Caller, runs: RunLog) -> None:
    with FakeProvider(says(cheap="42", strong="43")) as provider:
        reply = run(call, provider, runs, Verifier(lambda message: False), budgets=[Budget(usd="0.0003")])
        assert reply.text == "42"
        assert brief(runs) == [("gpt-4o-mini", False, False)]


@pytest.mark.parametrize("confidence", [LogProbs(), "judge"])
def test_where_nothing_tells_whether_it_was_good_nobody_says_so(call: Caller, runs: RunLog, confidence: Any) -> None:
    with FakeProvider(says(cheap="42", strong="43", nano=Reply(status=401))) as provider:
        judge = Judge(provider.openai("gpt-4.1-nano"))
        run(call, provider, runs, judge if confidence == "judge" else confidence)
    assert brief(runs) == [("gpt-4o-mini", None, False), ("gpt-4o", True, True)]


def test_samples_that_a_budget_cut_short_tell_nothing(call: Caller, runs: RunLog) -> None:
    """Two calls are allowed: one sample of three, and a second that does not agree yet with enough of them."""
    with FakeProvider(says(cheap="42", strong="43")) as provider:
        run(call, provider, runs, Agreement(samples=3), budgets=[Budget(model_calls=2)])
    assert brief(runs) == [("gpt-4o-mini", None, False)]


def test_without_a_doubt_nothing_is_known_to_be_good(call: Caller, runs: RunLog) -> None:
    with FakeProvider(says(cheap="42", strong="43")) as provider:
        run(call, provider, runs, None)
    assert brief(runs) == [("gpt-4o-mini", None, False)]


def test_an_answer_that_a_guardrail_rejected_was_not_good(call: Caller, runs: RunLog) -> None:
    with FakeProvider(says(cheap="42", strong="43")) as provider:
        run(call, provider, runs, Agreement(), guardrails=[lambda m: "no" if m.text == "42" else None], retry=None)
    assert brief(runs) == [("gpt-4o-mini", False, False), ("gpt-4o", True, True)]
    assert "id" not in lines(runs)[0]


# Routers


@tool
def look_up(key: str) -> str:
    """Look a key up."""
    return f"value of {key}"


def test_of_a_routers_choice_only_feedback_tells_whether_it_was_good(call: Caller, runs: RunLog) -> None:
    def script(request: Request) -> Reply:
        text = str(request.body["messages"])
        return Reply("done") if "value of" in text else Reply(tool_calls=[("look_up", {"key": "x"})])

    with FakeProvider(script) as provider:
        mini = provider.openai("gpt-4o-mini")
        steering = steer(CostGuard(prices=PRICES), router=lambda asked: Route(mini, "it will do", 0.75), runs=runs)
        agent = create_agent(provider.openai(), [look_up], middleware=steering)
        reply = call(agent, ASKED)["messages"][-1]
        runs.feedback(reply)
        runs.feedback(reply.id, good=False)
    first, second, *said = lines(runs)
    assert [first["prompt"], second["prompt"]] == ["What is it?"] * 2
    assert (second["model"], second["good"], second["score"]) == ("gpt-4o-mini", None, 0.75)
    assert (second["id"], second["id"] != first["id"]) == (reply.id, True)
    assert said == [{"id": reply.id, "good": True}, {"id": reply.id, "good": False}]


def test_a_model_is_on_record_by_the_name_it_was_given(call: Caller, runs: RunLog, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    with FakeProvider("four little words here") as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        tiers = ["openai:gpt-4o-mini", provider.openai(name="the careful one")]
        steering = steer(CostGuard(prices=PRICES), cascade=Cascade(tiers=tiers), runs=runs)
        call(SteeredModel(provider.openai(), steering), "What is it?")
    assert [line["model"] for line in lines(runs)] == ["openai:gpt-4o-mini", "the careful one"]


def test_two_tiers_of_one_model_are_told_apart_by_the_names_they_were_given(call: Caller, runs: RunLog) -> None:
    with FakeProvider("four little words here") as provider:
        quick, careful = (provider.openai("gpt-4o-mini", name=name) for name in ("quick", "careful"))
        steering = steer(
            CostGuard(prices=PRICES), cascade=Cascade(tiers=[quick, careful], confidence=Verifier(len)), runs=runs
        )
        call(SteeredModel(careful, steering), "What is it?")
    assert {line["model"] for line in lines(runs)} == {"quick", "careful"}


def test_a_streamed_answer_is_on_record_and_one_that_was_left_is_not(stream: Caller, runs: RunLog) -> None:
    with FakeProvider("four little words here") as provider:
        mini = provider.openai("gpt-4o-mini")
        model = SteeredModel(mini, steer(CostGuard(prices=PRICES), router=lambda asked: Route(mini, "so"), runs=runs))
        stream(model, "What is it?", most=2)
        assert not runs.path.exists()
        pieces = stream(model, "What is it?")
    assert [line["id"] for line in lines(runs)] == [pieces[0].id]


def test_what_steering_told_the_model_is_not_taken_for_the_users_words(call: Caller, runs: RunLog) -> None:
    with FakeProvider("done") as provider:
        mini = provider.openai("gpt-4o-mini")
        guard = CostGuard(Budget(steps=1), prices=PRICES)  # so that it is told to answer now
        agent = create_agent(
            mini, [look_up], middleware=steer(guard, router=lambda asked: Route(mini, "so"), runs=runs)
        )
        call(agent, ASKED)
        assert "last of your 1 steps" in str(provider.requests[0].body["messages"])
    assert [line["prompt"] for line in lines(runs)] == ["What is it?"]


def test_a_router_learns_from_the_runs_of_a_cascade_and_from_what_users_said(runs: RunLog) -> None:
    """The cheap model proves nothing; a user found that its answer to the last question was no good either."""
    questions = [f"{asks} in week {week}?" for week in range(40) for asks in ("Prove what follows", "What was decided")]
    with FakeProvider(lambda request: "A proof." if request.model == "gpt-4o" else "An answer.") as provider:
        cheap, strong = provider.openai("gpt-4o-mini", max_tokens=50), provider.openai("gpt-4o", max_tokens=50)
        asked: list[str] = []
        confidence = Verifier(lambda reply: "Prove" not in asked[-1])
        steering = steer(
            CostGuard(prices=PRICES), cascade=Cascade(tiers=[cheap, strong], confidence=confidence), runs=runs
        )
        model = SteeredModel(strong, steering)
        for question in questions:
            asked.append(question)
            reply = model.invoke(question)
        runs.feedback(reply, good=False)
    found = read(runs.path, strict=True)
    assert len(found.records) == len(questions)
    assert found.records[-1].quality == {"gpt-4o-mini": 0.0, "gpt-4o": 1.0}
    assert all(0 < record.cost["gpt-4o-mini"] < record.cost["gpt-4o"] for record in found.records)
    router = ClassifierRouter.train(found.records)
    assert router.names == ("gpt-4o-mini", "gpt-4o")
    proof, plain = (router.score(f"{asks} in week 90?") for asks in ("Prove what follows", "What was decided"))
    assert proof > 0.5 > plain


# The file


def test_a_file_that_cannot_be_written_fails_no_call_and_is_told_once(call: Caller, runs: RunLog, caplog: Any) -> None:
    runs.path.mkdir()
    with FakeProvider("four little words here") as provider:
        mini = provider.openai("gpt-4o-mini")
        model = SteeredModel(mini, steer(CostGuard(prices=PRICES), router=lambda asked: Route(mini, "so"), runs=runs))
        assert [call(model, "hi").text for _ in range(2)] == ["four little words here"] * 2
    assert len([record for record in caplog.records if "put on record" in record.message]) == 1
    with pytest.raises(OSError):
        runs.feedback("chatcmpl-1")


@pytest.mark.parametrize("score", [Decimal("0.75"), "high", object()])
def test_a_score_that_cannot_be_written_costs_no_reply(call: Caller, runs: RunLog, caplog: Any, score: Any) -> None:
    with FakeProvider("four little words here") as provider:
        mini = provider.openai("gpt-4o-mini")
        guard = CostGuard(prices=PRICES)
        model = SteeredModel(mini, steer(guard, router=lambda asked: Route(mini, "so", score), runs=runs))
        assert call(model, "hi").text == "four little words here"
        assert (len(provider.requests), guard.report().total.calls) == (1, 1)
    told = [record for record in caplog.records if "put on record" in record.message]
    assert len(told) + len(lines(runs) if runs.path.exists() else ()) == 1


def write_many(path: str, worker: int) -> None:
    runs = RunLog(path)
    for number in range(60):
        runs.answered("prompt " * 2_000, f"model-{worker}", id=f"{worker}-{number}")


def test_lines_of_threads_and_processes_stay_whole(runs: RunLog) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        done = pool.starmap_async(write_many, [(str(runs.path), 0), (str(runs.path), 1)])
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda number: runs.feedback(f"thread-{number}", number % 2 == 0), range(120)))
        done.get(60)
    assert len({line["id"] for line in lines(runs)}) == len(lines(runs)) == 240


def test_any_text_can_be_on_record_and_only_the_owner_reads_it(runs: RunLog) -> None:
    prompt = 'a "quoted"\nline\u2028 é \ud800'
    runs.answered(prompt, "gpt-4o-mini", good=True)
    assert [line["prompt"] for line in lines(runs)] == [prompt]
    assert stat.S_IMODE(runs.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("path", ["", None, 7, ".", "no-such-folder/runs.jsonl"])
def test_a_path_that_is_none_is_named(path: Any) -> None:
    with pytest.raises(ValueError, match=r"^path: "):
        RunLog(path)


@pytest.mark.parametrize(
    ("reply", "good", "named"), [("", True, "reply"), (None, True, "reply"), (AIMessage("x"), True, "reply"),
                                 ("id", 0.5, "good"), ("id", None, "good")]
)  # fmt: skip
def test_feedback_that_says_nothing_is_named(runs: RunLog, reply: Any, good: Any, named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}: "):
        runs.feedback(reply, good=good)
    assert not runs.path.exists()


@pytest.mark.parametrize("runs", ["runs.jsonl", RunLog("runs.jsonl")])
def test_runs_that_are_no_log_or_have_nothing_to_record_are_named(runs: Any) -> None:
    with pytest.raises(ValueError, match=r"^runs: "):
        steer(CostGuard(), runs=runs)
