"""Routers that learn from records: what they learn, what they promise, and what they refuse to learn from."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, HumanMessage

from langchain_costguard.routing.calibration import ALWAYS, NEVER, chosen, curve
from langchain_costguard.routing.choice import ChoiceRouter, choose
from langchain_costguard.routing.classifier import ClassifierRouter
from langchain_costguard.routing.features import BUCKETS, SHAPES, look, sizes
from langchain_costguard.routing.linear import Stack
from langchain_costguard.routing.records import Record, read
from langchain_costguard.routing.route import RouteRequest
from langchain_costguard.routing.training import Table, crossfit, fit
from langchain_costguard.vocabulary.intervals import half_width, wilson

pytest.importorskip("numpy")

HARD = ("prove", "derive", "integral", "theorem", "refactor")
EASY = ("greet", "translate", "list", "spell", "name")
FILL = (
    *("the", "of", "a", "for", "harbour", "orchard", "ledger", "bridge"),
    *("valley", "canal", "parish", "quarry", "kiln", "ferry", "archive"),
)


def prompts(count: int, seed: int = 0) -> list[tuple[str, bool]]:
    """Prompts, and whether they are hard: a hard one says so by one word of a dozen."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        hard = draw.random() < 0.5
        words = [*draw.choices(FILL, k=10), draw.choice(HARD if hard else EASY), f"n{number}"]
        draw.shuffle(words)
        made.append((" ".join(words), hard))
    return made


def records(count: int, *, noise: float = 0.1, seed: int = 0, costs: bool = False) -> list[Record]:
    draw = random.Random(seed + 1)
    cost = {"small": 0.001, "large": 0.01} if costs else {}
    return [
        Record(
            prompt=prompt,
            quality={
                "small": (draw.random() < noise) if hard else (draw.random() > noise),
                "large": draw.random() > 0.05,
            },
            cost=cost,
        )
        for prompt, hard in prompts(count, seed)
    ]


@pytest.fixture(scope="module")
def router() -> ClassifierRouter:
    return ClassifierRouter.train(records(400, costs=True))


def ask(prompt: str, **more: Any) -> RouteRequest:
    return RouteRequest(messages=[HumanMessage(prompt)], **more)


def test_an_obvious_rule_is_learnt(router: ClassifierRouter) -> None:
    unseen = prompts(200, seed=7)
    right = sum((router(ask(prompt)).model == "large") == hard for prompt, hard in unseen)
    assert right >= 170


def test_a_route_carries_why_the_score_and_the_dearest(router: ClassifierRouter) -> None:
    route = router(ask("prove the theorem of the canal"))
    assert route.model == route.dearest == "large"
    assert route.score is not None
    assert route.score >= router.threshold
    assert "expected to be" in route.why
    assert "theorem" not in route.why
    assert router(ask("greet the harbour")).dearest == "large"
    assert router.models == ("small", "large")


def test_the_users_last_message_is_what_is_judged(router: ClassifierRouter) -> None:
    messages = [HumanMessage("prove the theorem"), AIMessage("done"), HumanMessage("greet the harbour")]
    assert router(RouteRequest(messages=messages)) == router(ask("greet the harbour"))


def test_explain_names_the_words_that_mattered(router: ClassifierRouter) -> None:
    told = router.explain("please prove the ferry")
    words = {name: value for name, value in told.parts.items() if not name.startswith("(")}
    assert max(words, key=lambda word: words[word]).find("prove") >= 0
    assert words["prove"] > 0 > router.explain("greet the ferry").parts["greet"]
    assert "prove" in str(told)
    assert told.model == "large"
    assert told.score == pytest.approx(router.score("please prove the ferry"))


def test_what_is_explained_adds_up_to_the_score(router: ClassifierRouter) -> None:
    for prompt in ("", "prove", "prove prove prove the theorem", *ODD.values()):
        told = router.explain(prompt[:5000])
        assert sum(told.parts.values()) == pytest.approx(told.score)
        assert told.score == pytest.approx(router.score(prompt[:5000]))
    assert "(any prompt)" in router.explain("prove").parts
    assert "(the other " in str(router.explain("prove the theorem of the canal"))


def test_a_score_is_the_sum_of_its_parts() -> None:
    table = Table.of(records(100))
    model = fit(table, [[float(i % 2) for i in range(100)]])[0]
    seen = look("prove a theorem, then greet")
    assert sum(model.parts(seen).values()) == pytest.approx(model.score(seen))


def test_a_saved_router_decides_the_same(router: ClassifierRouter, tmp_path: Path) -> None:
    router.save(tmp_path / "router.json")
    loaded = ClassifierRouter.load(tmp_path / "router.json")
    for prompt, _ in prompts(50, seed=3):
        assert loaded(ask(prompt)).model == router(ask(prompt)).model
        assert loaded.score(prompt) == pytest.approx(router.score(prompt), abs=1e-4)
    assert (tmp_path / "router.json").stat().st_size < 100_000
    text = (tmp_path / "router.json").read_text("utf-8")
    assert not any(word in text for word in (*HARD, *EASY, *FILL[3:]))
    assert loaded.calibrate(target_spend=0.4).point.spend <= 0.4


def test_tiers_are_called_what_load_says(router: ClassifierRouter, tmp_path: Path) -> None:
    router.save(tmp_path / "router.json")
    loaded = ClassifierRouter.load(tmp_path / "router.json", models={"weak": "openai:tiny", "strong": "openai:huge"})
    assert loaded.models == ("openai:tiny", "openai:huge")
    assert loaded(ask("prove the theorem")).model == "openai:huge"
    with pytest.raises(ValueError, match="the tiers are 'weak' and 'strong'"):
        ClassifierRouter.load(tmp_path / "router.json", models={"small": "x"})


ODD = {
    "nothing": "",
    "blanks": " \n\t ",
    "another script": "京都の紅葉の見頃はいつですか",
    "emoji and accents": "Où est passé l'été? 🦆🦆",
    "half a surrogate": "broken \ud800 text",
    "a million words": "prove " * 1_000_000,
    "one endless word": "x" * 1_000_000,
    "digits that are no ASCII": "١٢٣ ⅷ ²",
}


@pytest.mark.parametrize("prompt", ODD.values(), ids=list(ODD))
def test_any_prompt_has_a_route(router: ClassifierRouter, prompt: str) -> None:
    route = router(ask(prompt))
    assert route.model in ("small", "large")
    assert route.score is not None
    assert math.isfinite(route.score)
    router.explain(prompt)


def test_no_messages_have_a_route(router: ClassifierRouter) -> None:
    assert router(RouteRequest(messages=[])).model in ("small", "large")


# The promise


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.35])
def test_the_calibrated_quality_holds_on_the_other_half(noise: float) -> None:
    kept = []
    for seed in range(5):
        every = records(800, noise=noise, seed=100 * seed)
        made = ClassifierRouter.train(every[:400], weak="small", strong="large").calibrate(target_quality=0.95)
        got = sum(r.quality[str(made(ask(r.prompt)).model)] for r in every[400:])
        kept.append(got / sum(r.quality["large"] for r in every[400:]))
    assert sum(share >= 0.94 for share in kept) >= 4
    assert min(kept) > 0.91


def test_calibrating_on_fresh_records_holds_too() -> None:
    every = records(1200, noise=0.2)
    made = ClassifierRouter.train(every[:400]).calibrate(every[400:800], target_quality=0.95)
    got = sum(r.quality[str(made(ask(r.prompt)).model)] for r in every[800:])
    assert got / sum(r.quality["large"] for r in every[800:]) >= 0.94


def test_records_of_the_training_are_no_test() -> None:
    every = records(100)
    with pytest.raises(ValueError, match="trained on 100 of these 100; leave those out"):
        ClassifierRouter.train(every).calibrate(every, target_quality=0.9)


def test_noise_alone_goes_to_the_strong_model() -> None:
    draw = random.Random(0)
    every = [
        Record(prompt=p, quality={"small": draw.random() < 0.5, "large": draw.random() < 0.9}) for p, _ in prompts(300)
    ]
    assert ClassifierRouter.train(every).calibrate(target_quality=0.95).point.strong > 0.7


def test_a_weak_model_that_is_better_gets_everything() -> None:
    draw = random.Random(0)
    every = [
        Record(
            prompt=p,
            quality={"cheap": draw.random() < 0.8, "dear": draw.random() < 0.5},
            cost={"cheap": 1.0, "dear": 4.0},
        )
        for p, _ in prompts(200)
    ]
    made = ClassifierRouter.train(every)
    assert made.names == ("cheap", "dear")
    assert made.threshold == NEVER
    assert made(ask("prove it")).model == "cheap"


def test_a_spend_is_kept(router: ClassifierRouter) -> None:
    assert router.calibrate(target_spend=0.4).point.spend <= 0.4
    with pytest.raises(ValueError, match=r"target_spend: 0\.05 is below what the weak model alone costs, 0\.100"):
        router.calibrate(target_spend=0.05)


def test_without_costs_the_share_of_calls_is_the_spend() -> None:
    made = ClassifierRouter.train(records(200)).calibrate(target_spend=0.3)
    assert made.point.spend == made.point.strong <= 0.3


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({}, "give one of them"),
        ({"target_quality": 0.9, "target_spend": 0.4}, "give one of them"),
        ({"target_quality": 1.5}, "target_quality: 1.5"),
        ({"target_quality": 0}, "target_quality: 0"),
        ({"target_spend": math.nan}, "target_spend: nan"),
        ({"target_quality": True}, "target_quality: True"),
    ],
)
def test_a_bad_target_is_named(router: ClassifierRouter, targets: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        router.calibrate(**targets)


def test_a_curve_runs_from_always_to_never_strong() -> None:
    points = curve([0.1, 0.2, 0.3, 0.4], [1, 1, 0, 0], [1, 1, 1, 1])
    assert (points[0].threshold, points[0].strong, points[0].quality, points[0].low) == (ALWAYS, 1, 1, 1)
    assert (points[-1].threshold, points[-1].strong, points[-1].quality) == (NEVER, 0, 0.5)
    assert [point.strong for point in points] == sorted((point.strong for point in points), reverse=True)
    assert chosen(points, target_quality=1.0).strong == 1


def test_intervals_of_shares() -> None:
    low, high = wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert wilson(0, 0) == (0, 1)
    assert wilson(0, 20)[0] == pytest.approx(0)
    assert half_width(0, 20) > half_width(0, 2000) > 0
    for wrong in ((3, 2), (-1, 2), (0, -1)):
        with pytest.raises(ValueError, match="is no share"):
            wilson(*wrong)


# What it refuses to learn from


def same(count: int, small: float, large: float) -> list[Record]:
    return [Record(prompt=p, quality={"small": small, "large": large}) for p, _ in prompts(count)]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (list, "records: there are none"),
        (lambda: records(10), "records: 10 are too few"),
        (lambda: same(100, 1, 1), "quality: large is \\+0 better|quality: small is \\+0 better"),
        (lambda: same(100, 0, 1), "quality: large is \\+1 better in every record"),
        (lambda: [*records(60), Record(prompt="x", quality={"small": 1, "other": 1})], "which two of"),
    ],
)
def test_records_that_teach_nothing_are_refused(make: Callable[[], list[Record]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ClassifierRouter.train(make())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"prompt": 7}, "prompt: 7"),
        ({"quality": {"a": 1}}, "quality: .* two models"),
        ({"quality": {"a": 1, "b": 1.5}}, "quality.b: 1.5"),
        ({"quality": {"a": 1, "b": None}}, "quality.b: None"),
        ({"quality": {"a": 1, "b": math.nan}}, "quality.b: nan"),
        ({"cost": {"a": -1}}, "cost.a: -1"),
        ({"cost": [1]}, "cost: "),
        ({"tools": "search"}, "tools: 'search'"),
    ],
)
def test_a_bad_record_names_its_field(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Record(**{"prompt": "x", "quality": {"a": 1, "b": 0}, **given})


@pytest.mark.parametrize(
    ("weak", "strong", "said"),
    [("tiny", None, "weak: 'tiny' is in no record"), ("small", "small", "'small' cannot be both")],
)
def test_tiers_that_are_none_are_named(weak: str | None, strong: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ClassifierRouter.train(records(60), weak=weak, strong=strong)


def test_one_tier_names_the_other() -> None:
    assert ClassifierRouter.train(records(60), weak="large").names == ("large", "small")
    assert ClassifierRouter.train(records(60), strong="small").names == ("large", "small")


def test_a_file_that_is_no_router_is_named(router: ClassifierRouter, tmp_path: Path) -> None:
    path = tmp_path / "router.json"
    router.save(path)
    good = json.loads(path.read_text("utf-8"))
    bad = ["", "[]", "{}", json.dumps({**good, "costguard router": 99}), json.dumps({**good, "points": [[1]]})]
    bad += [json.dumps({**good, "linear": {**good["linear"], "weights": "AAAA"}})]
    bad += [json.dumps({**good, "linear": {**good["linear"], "bias": math.nan}})]
    for text in bad:
        path.write_text(text, "utf-8")
        with pytest.raises(ValueError, match=r"router\.json: no router that can be read"):
            ClassifierRouter.load(path)
    with pytest.raises(ValueError, match="No such file"):
        ClassifierRouter.load(tmp_path / "none.json")


# Reading


def lines(folder: Path, *rows: object) -> Path:
    path = folder / "runs.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), "utf-8")
    return path


def test_both_kinds_of_lines_are_read(tmp_path: Path) -> None:
    reading = read(
        lines(
            tmp_path,
            {"prompt": "one", "quality": {"a": True, "b": 0.5}, "cost": {"a": 0.1, "b": 0.2}},
            "",
            {"prompt": "two", "model": "a", "good": True, "cost": 0.1},
            {"prompt": "two", "model": "b", "good": 0},
            {"prompt": "two", "model": "b", "good": 1},
        )
    )
    assert reading.skipped == []
    one, two = reading.records
    assert (one.quality, one.cost) == ({"a": 1.0, "b": 0.5}, {"a": 0.1, "b": 0.2})
    assert (two.prompt, two.quality, two.cost) == ("two", {"a": 1.0, "b": 0.5}, {"a": 0.1})


def test_what_was_heard_of_an_answer_later_counts(tmp_path: Path) -> None:
    path = lines(
        tmp_path,
        {"id": "1", "prompt": "one", "model": "a", "good": True, "score": 0.9},
        {"id": "1", "good": True},
        {"id": "2", "prompt": "one", "model": "b", "good": None, "score": None},
        {"prompt": "one", "model": "b", "good": True, "score": None, "assumed": True},
        {"id": "1", "good": False},
        {"id": "2", "good": 0.5},
        {"id": "3", "prompt": "two", "model": "a", "good": None},
        {"id": "9", "good": True},
        {"id": "", "good": True},
        {"id": "1"},
        {"id": "1", "good": 7},
    )
    reading = read(path)
    assert [(record.prompt, record.quality) for record in reading.records] == [("one", {"a": 0.0, "b": 0.5})]
    assert reading.unjudged == 1
    wanted = [
        "line 9: id: ''",
        "line 10: good: missing",
        "line 11: quality.good: 7",
        "line 8: id: no answer here is '9'",
    ]
    assert [said.startswith(start) for said, start in zip(reading.skipped, wanted, strict=True)] == [True] * 4


def test_the_models_called_something_for_quality_are_read(tmp_path: Path) -> None:
    assert read(lines(tmp_path, {"prompt": "x", "models": {"a": True, "b": 0}})).records[0].quality == {"a": 1, "b": 0}


def test_a_bad_line_is_told_and_loses_no_other(tmp_path: Path) -> None:
    path = lines(
        tmp_path,
        {"prompt": "one", "quality": {"a": 1, "b": 0}},
        "{oops",
        "[1]",
        {"prompt": "x", "quality": {"a": 1, "b": 3}},
        {"prompt": "x", "good": 1},
        {"prompt": "alone", "model": "a", "good": 1},
        {"prompt": "x", "model": "a", "good": "yes"},
        {"prompt": "two", "quality": {"a": 1, "b": 0}},
    )
    reading = read(path)
    assert [record.prompt for record in reading.records] == ["one", "two"]
    wanted = ["line 2: no JSON", "line 3: '[1]'", "line 4: quality.b: 3", "line 5: model: missing"]
    wanted += ["line 7: quality.a: 'yes'", "line 6: good: "]
    assert [said.startswith(start) for said, start in zip(reading.skipped, wanted, strict=True)] == [True] * 6
    with pytest.raises(ValueError, match=r"runs\.jsonl: line 2: no JSON"):
        read(path, strict=True)


# Learning


def test_both_ways_of_solving_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table.of(records(120))
    target = [[float(i % 3 == 0) for i in range(120)]]
    exact = fit(table, target)[0]
    monkeypatch.setattr("langchain_costguard.routing.training._EXACT", 0)
    iterated = fit(table, target)[0]
    for seen in table.looks[:20]:
        assert exact.score(seen) == pytest.approx(iterated.score(seen), abs=1e-3)


class Sides(Embeddings):
    """What a prompt means, in one number: the first letter's half of the alphabet."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0 if text[-1] in "02468" else -1.0, 0.5] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def test_embeddings_add_what_words_do_not_say(tmp_path: Path) -> None:
    every = [
        Record(prompt=p, quality={"small": p[-1] not in "02468", "large": 1.0})
        for p in (f"{a} {b} {n}" for n, (a, b) in enumerate(random.Random(0).sample(FILL, 2) for _ in range(300)))
    ]
    made = ClassifierRouter.train(every, embeddings=Sides())
    assert made.score("ledger 98764") > made.score("ledger 98763") + 0.5
    made.save(tmp_path / "router.json")
    with pytest.raises(ValueError, match="trained with embeddings"):
        ClassifierRouter.load(tmp_path / "router.json")
    loaded = ClassifierRouter.load(tmp_path / "router.json", embeddings=Sides())
    assert loaded.score("ledger 98764") == pytest.approx(made.score("ledger 98764"), abs=1e-4)


SEARCH = {
    "name": "search_flights",
    "description": "Search flights between two towns",
    "parameters": {"type": "object", "properties": {"origin": {"type": "string"}, "day": {"type": "string"}}},
}


def test_tools_are_looked_at_however_they_are_given() -> None:
    wrapped = {"type": "function", "function": SEARCH}
    assert look("find flights", [SEARCH]) == look("find flights", [wrapped])
    assert sizes([SEARCH, SEARCH])[:2] == (2, 4)
    for odd in ({}, {"function": None}, {"parameters": 3}, object(), "search", None):
        assert len(look("find flights", [odd]).shape) == len(SHAPES)
    assert all(0 <= bucket < BUCKETS for bucket in look("find flights", [SEARCH]).offered.values())


# Any number of models


def three(count: int, seed: int = 0) -> list[Record]:
    draw = random.Random(seed)
    return [
        Record(
            prompt=prompt,
            quality={
                "cheap": draw.random() < (0.1 if hard else 0.95),
                "middle": draw.random() < 0.6,
                "best": draw.random() < 0.95,
            },
            cost={"cheap": 1.0, "middle": 5.0, "best": 10.0},
        )
        for prompt, hard in prompts(count, seed)
    ]


def test_the_cheapest_that_will_do_is_chosen() -> None:
    made = ChoiceRouter.train(three(400), target_quality=0.9)
    went = [(made(ask(prompt)), hard) for prompt, hard in prompts(100, seed=5)]
    cheap = [hard for route, hard in went if route.model == "cheap"]
    assert len(cheap) >= 10
    assert sum(cheap) <= 1
    assert {route.dearest for route, _ in went} == {"best"}
    assert all(0 < len(route.why) < 120 for route, _ in went)


def test_a_model_that_is_better_and_cheaper_is_always_chosen() -> None:
    draw = random.Random(1)
    every = [
        Record(
            prompt=p, quality={"dear": draw.random() < 0.5, "good": draw.random() < 0.7}, cost={"dear": 4, "good": 1}
        )
        for p, _ in prompts(300)
    ]
    made = ChoiceRouter.train(every, target_quality=1.0)
    assert {made(ask(prompt)).model for prompt, _ in prompts(100, seed=9)} == {"good"}


def test_where_no_choice_keeps_the_promise_the_best_is_always_chosen() -> None:
    made = ChoiceRouter.train(three(100)).calibrate(target_quality=1.0)
    assert made.point.strong == 1
    assert made(ask("greet the canal")).model == "best"


def test_a_saved_choice_decides_the_same(tmp_path: Path) -> None:
    made = ChoiceRouter.train(three(200), target_quality=0.9)
    made.save(tmp_path / "choice.json")
    loaded = ChoiceRouter.load(tmp_path / "choice.json", models={"best": "openai:huge"})
    for prompt, _ in prompts(40, seed=3):
        wanted = made(ask(prompt)).model
        assert loaded(ask(prompt)).model == ("openai:huge" if wanted == "best" else wanted)
    with pytest.raises(ValueError, match=r"'x' is none of .*best"):
        ChoiceRouter.load(tmp_path / "choice.json", models={"x": "y"})
    (tmp_path / "choice.json").write_text("{}", "utf-8")
    with pytest.raises(ValueError, match="no router that can be read"):
        ChoiceRouter.load(tmp_path / "choice.json")


@pytest.mark.parametrize(
    ("every", "costs", "said"),
    [
        ([], {}, "there are none"),
        (records(100), {}, "cost: not known of 'large'"),
        (records(100), {"large": -1.0, "small": 1.0}, "costs.large: -1.0"),
        (same(100, 0, 0), {"large": 1.0, "small": 1.0}, "no model was good at anything"),
        (same(100, 1, 1), {"large": 1.0, "small": 1.0}, "equally good"),
    ],
)
def test_a_choice_refuses_what_teaches_nothing(every: Sequence[Record], costs: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ChoiceRouter.train(every, costs=costs)


def test_a_choice_is_explained_in_parts_that_add_up() -> None:
    made = ChoiceRouter.train(three(400), target_quality=0.9)
    hard, easy = made.explain("prove the harbour"), made.explain("greet the harbour")
    assert (hard.model, easy.model) == ("best", "cheap")
    assert hard.score > easy.score
    assert hard.score == pytest.approx(made(ask("prove the harbour")).score)
    assert sum(hard.parts.values()) == pytest.approx(hard.score)


def test_where_only_the_best_is_of_use_that_is_the_explanation(tmp_path: Path) -> None:
    draw = random.Random(1)
    every = [
        Record(prompt=p, quality={"dear": draw.random() < 0.5, "good": True}, cost={"dear": 4, "good": 1})
        for p, _ in prompts(300)
    ]
    ChoiceRouter.train(every).save(tmp_path / "choice.json")
    made = ChoiceRouter.load(tmp_path / "choice.json")
    assert made.models == ("good",)
    assert made.explain("greet the harbour").model == "good"
    assert "no other" in str(made.explain("greet the harbour"))


def test_a_choice_keeps_to_a_spend_and_takes_embeddings(tmp_path: Path) -> None:
    assert ChoiceRouter.train(three(400)).calibrate(target_spend=0.5).point.spend <= 0.5
    every = [
        Record(prompt=p, quality={"a": p[-1] not in "02468", "b": 1.0}, cost={"a": 1.0, "b": 9.0})
        for p in (f"{x} {y} {n}" for n, (x, y) in enumerate(random.Random(0).sample(FILL, 2) for _ in range(300)))
    ]
    made = ChoiceRouter.train(every, embeddings=Sides(), target_quality=0.9)
    assert made(ask("ledger 98764")).model == "b"
    assert made(ask("ledger 98763")).model == "a"
    made.save(tmp_path / "choice.json")
    with pytest.raises(ValueError, match="trained with embeddings"):
        ChoiceRouter.load(tmp_path / "choice.json")
    assert ChoiceRouter.load(tmp_path / "choice.json", embeddings=Sides())(ask("ledger 98764")).model == "b"


class Noise(Sides):
    """Numbers that have nothing to do with the prompt."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[random.Random(text).gauss(0, 1) for _ in range(64)] for text in texts]


class Hardness(Sides):
    """How hard a prompt is for every model alike, which tells no choice between them anything."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(text[-1] in "02468")] for text in texts]


@pytest.mark.parametrize("useless", [Noise(), Hardness()])
def test_a_choice_leaves_embeddings_out_that_tell_it_nothing(useless: Embeddings, tmp_path: Path) -> None:
    every = []
    for prompt, hard in prompts(300):
        asked = f"{prompt} {len(every)}"
        level = 0.0 if asked[-1] in "02468" else 0.5
        quality = {"a": level + (0.0 if hard else 0.5), "b": level + 0.5}
        every.append(Record(prompt=asked, quality=quality, cost={"a": 1.0, "b": 9.0}))
    made, plain = (ChoiceRouter.train(every, embeddings=each, target_quality=0.9) for each in (useless, None))
    assert made.embeddings is None
    assert made.quick
    assert made.points == plain.points
    made.save(tmp_path / "choice.json")
    assert ChoiceRouter.load(tmp_path / "choice.json").point == made.point


def test_many_models_at_once_score_as_one_by_one() -> None:
    every = three(120)
    targets = [[record.quality[name] for record in every] for name in ("cheap", "middle", "best")]
    models = fit(Table.of(every), targets)
    for seen in (look("prove it"), look(""), look("find flights", [SEARCH])):
        assert Stack(models).scores(seen) == pytest.approx([model.score(seen) for model in models])
    with pytest.raises(ValueError, match="not trained together"):
        Stack([models[0], fit(Table.of(every[:60]), [targets[0][:60]])[0]])


def test_of_equally_cheap_models_the_better_is_chosen() -> None:
    assert choose([0.86, 0.88, 0.9], [1, 1, 2]) == 1
    assert choose([0.5, 0.6, 0.9], [1, 1, 2]) == 2


def test_scores_for_a_record_are_not_learnt_from_it() -> None:
    draw = random.Random(0)
    table = Table.of(records(200))
    coins = [[float(draw.random() < 0.5) for _ in range(200)]]
    scores = crossfit(table, coins)[0]
    mean = [
        sum(s for s, c in zip(scores, coins[0], strict=True) if c == side) / coins[0].count(side) for side in (0, 1)
    ]
    assert mean[1] - mean[0] < 0.1
