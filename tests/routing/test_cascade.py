"""What agrees, what a cascade may be, and what calibration makes of labelled runs."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.messages.tool import invalid_tool_call, tool_call

from langchain_costguard.routing.agreement import Votes, answer_of, normal
from langchain_costguard.routing.cascade import Agreement, Cascade, Judge, LogProbs, Parses, Verifier
from langchain_costguard.routing.cascade_runs import LabelledRun, Try, calibrate, replay
from langchain_costguard.testing import ScriptedChatModel
from langchain_costguard.vocabulary.intervals import wilson

# What is the same answer


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("42", "42.0"),
        ("1,234.50", "$1234.5"),
        ("-5", " -5. "),
        ("1e3", "1000"),
        ("Paris", "  paris. "),
        ("**Yes**", "yes"),
        ("new  york", "New York"),
        ('{"a": 1, "b": [2]}', '```json\n{"b": [2.0], "a": 1}\n```'),
        ("50%", "50 %"),
        ("\uff14\uff12", "42"),
    ],
)
def test_the_same_answer_however_it_is_written(one: str, other: str) -> None:
    assert normal(one) == normal(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("42", "43"),
        ("-5", "5"),
        ("50%", "50"),
        ("05/01/2021", "05/02/2021"),
        ('{"a": 1}', '{"a": "1"}'),
        ('{"a": true}', '{"a": 1}'),
        ("[1, 2]", "[2, 1]"),
        ("yes", "no"),
    ],
)
def test_another_answer(one: str, other: str) -> None:
    assert normal(one) != normal(other)


@given(st.text(max_size=60))
def test_any_text_has_a_normal_form_that_compares_and_hashes(text: str) -> None:
    assert normal(text) == normal(text)
    hash(normal(text))


def calling(*calls: tuple[str, dict[str, Any]]) -> AIMessage:
    return AIMessage("", tool_calls=[tool_call(name=n, args=a, id=str(i)) for i, (n, a) in enumerate(calls)])


def test_tool_calls_are_the_same_by_name_and_arguments_in_any_order() -> None:
    one = calling(("f", {"x": 1, "y": [2]}), ("g", {}))
    assert answer_of(one) == answer_of(calling(("g", {}), ("f", {"y": [2], "x": 1.0})))
    assert answer_of(one) != answer_of(calling(("g", {})))
    assert answer_of(calling(("f", {"x": 1}))) != answer_of(calling(("f", {"x": 2})))


def test_what_says_nothing_agrees_with_nothing() -> None:
    assert answer_of(AIMessage("  ")) is None
    assert (
        answer_of(AIMessage("", invalid_tool_calls=[invalid_tool_call(name="f", args="{", id="1", error="")])) is None
    )
    votes = Votes()
    votes.add(None)
    votes.add(None)
    assert votes.most == 0


@given(st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=1, max_size=8), st.data())
def test_stopping_early_never_changes_the_outcome(answers: list[Any], data: Any) -> None:
    samples = len(answers)
    needed = data.draw(st.integers(samples // 2 + 1, samples))
    votes = Votes()
    for answer in answers:
        votes.add(answer)
        if votes.settled(samples, needed):
            break
    most = max(Counter(a for a in answers if a is not None).values(), default=0)
    assert (votes.most >= needed) == (most >= needed)
    if votes.most >= needed:
        assert answers.count(answers[votes.first]) >= needed


# What a cascade may be


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Cascade(tiers=[]), "tiers"),
        (lambda: Cascade(tiers="gpt-4o"), "tiers"),
        (lambda: Cascade(tiers=["a", 3]), "tiers"),  # type: ignore[list-item]
        (lambda: Cascade(tiers=["a"], confidence="high"), "confidence"),  # type: ignore[arg-type]
        (lambda: Cascade(tiers=["a"], threshold=1.5), "threshold: 1.5"),
        (lambda: Agreement(samples=0), "samples: 0"),
        (lambda: Agreement(samples=True), "samples: True"),
        (lambda: Agreement(variants="Think"), "variants"),
        (lambda: Agreement(temperature=3), "temperature: 3"),
        (lambda: Agreement(answer=3), "answer: 3"),  # type: ignore[arg-type]
        (lambda: Verifier(3), "check: 3"),  # type: ignore[arg-type]
        (lambda: Parses(3), "check: 3"),
        (lambda: Judge(3), "model: 3"),  # type: ignore[arg-type]
        (lambda: Judge("gpt-4o", prompt=""), "prompt: ''"),
    ],
)
def test_what_makes_no_sense_is_told_by_field_and_value(make: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()


def test_models_are_all_that_may_be_called() -> None:
    judge = ScriptedChatModel()
    assert Cascade(tiers=["a", "b"]).models == ("a", "b")
    assert Cascade(tiers=["a", "b"], confidence=Judge(judge)).models == ("a", "b", judge)


def test_thresholds_are_shares_of_the_samples() -> None:
    assert [Agreement(samples=3).needed(share) for share in (0.0, 1 / 3, 0.5, 2 / 3, 1.0)] == [1, 1, 2, 2, 3]
    assert Cascade(tiers=["a"]).least == 1.0
    assert Cascade(tiers=["a"], confidence=None).least == 0.0


def test_log_probabilities_score_by_their_mean() -> None:
    def told(*values: Any) -> AIMessage:
        tokens = [{"token": "x", "logprob": value} for value in values]
        return AIMessage("x", response_metadata={"logprobs": {"content": tokens}})

    assert LogProbs().score(told(math.log(0.5), math.log(0.5))) == pytest.approx(0.5)
    for message in (told(), told(None), AIMessage("x"), AIMessage("x", response_metadata={"logprobs": None})):
        assert LogProbs().score(message) is None


# Calibration


def made(
    count: int, *, weak: float, strong: float, price: float = 0.05, wrong: int = 20, prompts: Any = ("",), seed: int = 0
) -> list[LabelledRun]:
    """Questions a weak model knows or guesses at: a guess is one of ``wrong`` answers, so guesses seldom agree."""
    draw = random.Random(seed)
    runs = []
    for _ in range(count):
        knows = draw.random() < weak
        cheap = {
            prompt: [
                Try("right" if knows else f"wrong {draw.randrange(wrong)}", float(knows), price) for _ in range(12)
            ]
            for prompt in prompts
        }
        runs.append(LabelledRun(cheap, Try(None, float(draw.random() < strong), 1.0)))
    return runs


CASCADE = Cascade(tiers=["cheap", "strong"], confidence=Agreement(samples=2))


def test_a_cascade_that_pays_is_found_and_holds_on_other_runs() -> None:
    found = calibrate(CASCADE, made(400, weak=0.7, strong=0.9))
    assert found.pays
    assert found.cost < 0.6
    assert found.gain.low >= -0.02
    assert found.gain.low <= found.gain.estimate <= found.gain.high
    assert found.quality == pytest.approx(found.target + found.gain.estimate)
    assert found.cascade.tiers == ("cheap", "strong")
    assert "80% confidence" in found.why
    others = made(400, weak=0.7, strong=0.9, seed=1)
    quality, cost = replay(found.cascade, others)
    assert quality > sum(run.strong.quality for run in others) / 400
    assert cost < 0.6 * 400


@pytest.mark.parametrize(
    "runs",
    [
        made(300, weak=0.1, strong=0.95, wrong=1),  # wrong answers agree
        made(300, weak=0.6, strong=0.9, price=0.6),  # two samples cost more than the strong model
        made(8, weak=0.7, strong=0.9),  # who knows
    ],
)
def test_a_cascade_that_does_not_pay_is_no_cascade(runs: list[LabelledRun]) -> None:
    found = calibrate(CASCADE, runs)
    assert not found.pays
    assert found.cascade.tiers == ("strong",)
    assert (found.cost, found.escalated, found.gain.estimate) == (1.0, 1.0, 0.0)
    assert replay(found.cascade, runs) == (pytest.approx(found.target), float(len(runs)))


def test_variants_are_chosen_too() -> None:
    """One prompt leads the model to the same wrong answer each time."""
    runs = made(300, weak=0.6, strong=0.9, prompts=("code", "steps"))
    stuck = [Try("same", 0.0, 0.05)] * 12
    runs = [
        LabelledRun({**r.cheap, "astray": r.cheap["code"] if i % 2 else stuck}, r.strong) for i, r in enumerate(runs)
    ]
    cascade = Cascade(tiers=["a", "b"], confidence=Agreement(variants=["astray", "code", "steps"]))
    found = calibrate(cascade, runs)
    assert found.pays
    assert isinstance(found.cascade.confidence, Agreement)
    assert {"code", "steps"} <= set(found.cascade.confidence.variants)


def test_a_target_of_ones_own() -> None:
    runs = made(400, weak=0.7, strong=0.95)
    easy, hard = calibrate(CASCADE, runs, target=0.6), calibrate(CASCADE, runs, target=0.999)
    assert easy.pays
    assert not hard.pays
    assert easy.cost <= calibrate(CASCADE, runs).cost


def test_a_score_has_its_threshold_found() -> None:
    draw = random.Random(0)
    scores = [draw.random() for _ in range(400)]
    runs = [LabelledRun({"": [Try(None, float(s > 0.6), 0.05, s)]}, Try(None, 0.95, 1.0)) for s in scores]
    found = calibrate(Cascade(tiers=["a", "b"], confidence=LogProbs()), runs)
    assert found.pays
    assert found.cascade.threshold == pytest.approx(0.6, abs=0.05)
    assert found.cost == pytest.approx(0.05 + found.escalated)


def test_runs_the_weak_model_never_made_are_escalated() -> None:
    runs = [LabelledRun({}, run.strong) for run in made(100, weak=0.7, strong=0.9)]
    assert not calibrate(CASCADE, runs).pays


USELESS: list[tuple[dict[str, Any], str]] = [
    ({"runs": []}, "runs"),
    ({"target": 2}, "target: 2"),
    ({"confidence": 1.0}, "confidence: 1.0"),
    ({"most": 1}, "most: 1"),
    ({"margin": -1}, "margin: -1"),
]


@pytest.mark.parametrize(("arguments", "named"), USELESS)
def test_calibration_names_what_it_cannot_use(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        calibrate(CASCADE, **{"runs": made(10, weak=0.5, strong=0.9), **arguments})


def test_wilson_is_wilsons() -> None:
    """Newcombe 1998, table I: 81 of 263 and 0 of 20, at 95 %."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
