"""Routing by example utterances, with rejection to the default."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from langchain_costguard.routing.route import RouteRequest
from langchain_costguard.routing.semantic import Examples, SemanticRouter

MINI, MID, BIG = "openai:gpt-4o-mini", "openai:gpt-4.1", "openai:gpt-4o"

BILLING = [
    "where is my invoice for this month",
    "the invoice amount is wrong this month",
    "please send the invoice of last month again",
    "why is my invoice higher than last month",
    "pay the invoice of this month by card",
    "the invoice shows a wrong amount",
]
WEATHER = [
    "will it rain in berlin tomorrow",
    "how warm will it be tomorrow",
    "is it going to rain this weekend in paris",
    "weather forecast for tomorrow in rome",
    "does it rain in london today",
    "how cold will the weather be in oslo",
]
ROUTES = {"billing": Examples(model=MINI, utterances=BILLING), "weather": Examples(model=MID, utterances=WEATHER)}


class Hashed(Embeddings):
    """Each word has a place of its own in the vector."""

    def __init__(self, size: int = 256) -> None:
        self.size = size
        self.asked: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self._vector(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        self.asked.append(text)
        return self._vector(text)

    def _vector(self, text: str) -> list[float]:
        vector = [0.0] * self.size
        for word in re.findall(r"\w+", text.lower()):
            vector[int(hashlib.md5(word.encode()).hexdigest(), 16) % self.size] += 1.0
        return vector


class Broken(Hashed):
    """Utterances can be embedded, prompts cannot."""

    def embed_query(self, text: str) -> list[float]:
        raise ConnectionError("the embedding service is away")


class Short(Hashed):
    """One text gets no vector."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return super().embed_documents(texts)[1:]


def asked(text: str) -> RouteRequest:
    return RouteRequest(messages=[SystemMessage("You help."), HumanMessage(text), AIMessage("One moment.")])


@pytest.fixture(scope="module")
def router() -> SemanticRouter:
    return SemanticRouter(ROUTES, embeddings=Hashed(), default=BIG)


def test_a_prompt_like_a_routes_utterances_goes_to_its_model(router: SemanticRouter) -> None:
    route = router(asked("the invoice of last month is wrong"))
    assert (route.model, route.why) == (MINI, "the prompt is like the utterances of billing")
    assert route.score is not None
    assert route.score >= 0
    assert router(asked("will it rain in rome tomorrow")).model == MID


def test_a_prompt_like_none_goes_to_the_default(router: SemanticRouter) -> None:
    route = router(asked("prove that every bounded sequence has convergent subsequences"))
    assert route.model == BIG
    assert "like no route's utterances" in route.why
    assert route.score is not None
    assert route.score < 0


def test_the_users_last_message_is_what_counts() -> None:
    embeddings = Hashed()
    SemanticRouter(ROUTES, embeddings=embeddings, default=BIG)(asked("where is my invoice"))
    assert embeddings.asked == ["where is my invoice"]


def test_a_prompt_without_text_goes_to_the_default_and_is_not_embedded() -> None:
    embeddings = Hashed()
    route = SemanticRouter(ROUTES, embeddings=embeddings, default=BIG)(asked("  "))
    assert (route.model, route.score, embeddings.asked) == (BIG, None, [])


def test_a_vector_at_hand_can_be_judged_without_embedding(router: SemanticRouter) -> None:
    text = "the invoice amount is wrong"
    assert router.choose(Hashed().embed_query(text)) == router(asked(text))


def test_the_asynchronous_side_says_the_same(router: SemanticRouter) -> None:
    request = asked("will it rain in berlin")
    assert asyncio.run(router.aroute(request)) == router(request)


def test_the_more_may_be_rejected_the_lower_a_prompt_scores() -> None:
    scores = []
    for reject in (0.01, 0.2, 0.5):
        router = SemanticRouter(ROUTES, embeddings=Hashed(), default=BIG, reject=reject)
        scores.append(router(asked("the invoice of last month")).score or 0.0)
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[2]


def test_all_models_and_the_dearest_are_told(router: SemanticRouter) -> None:
    assert router.models == (MINI, MID, BIG)
    assert router(asked("where is my invoice")).dearest == BIG


def test_one_route_alone_either_takes_a_prompt_or_does_not() -> None:
    router = SemanticRouter({"billing": ROUTES["billing"]}, embeddings=Hashed(), default=BIG)
    assert router(asked("the invoice of last month")).model == MINI
    assert router(asked("integrate the cosine over a sphere")).model == BIG


def test_two_utterances_are_enough_and_vectors_may_coincide() -> None:
    routes = {
        "a": Examples(model=MINI, utterances=["red apple", "apple red"]),
        "b": Examples(model=MID, utterances=["blue sea", "sea blue"]),
    }
    router = SemanticRouter(routes, embeddings=Hashed(), default=BIG)
    assert router(asked("red apple")).model == MINI
    assert router(asked("sea blue")).model == MID


# Saved and loaded


def test_a_saved_index_decides_as_before_and_embeds_no_utterance(router: SemanticRouter, tmp_path: Path) -> None:
    router.save(tmp_path / "index")
    embeddings = Hashed()
    embeddings.embed_documents = None  # type: ignore[method-assign, assignment]
    loaded = SemanticRouter.load(tmp_path / "index", embeddings=embeddings)
    assert loaded.models == router.models
    for text in [*BILLING, *WEATHER, "something else entirely"]:
        assert loaded(asked(text)) == router(asked(text))


def test_no_utterance_is_saved(router: SemanticRouter, tmp_path: Path) -> None:
    router.save(tmp_path / "index")
    raw = (tmp_path / "index").read_bytes()
    assert b"billing" in raw
    assert b"invoice" not in raw


def test_models_that_were_instances_are_given_anew(tmp_path: Path) -> None:
    model = FakeListChatModel(responses=["hi"])
    routes = {**ROUTES, "billing": Examples(model=model, utterances=BILLING)}
    SemanticRouter(routes, embeddings=Hashed(), default=model).save(tmp_path / "index")
    with pytest.raises(ValueError, match=r"models\['billing'\]: None"):
        SemanticRouter.load(tmp_path / "index", embeddings=Hashed())
    loaded = SemanticRouter.load(tmp_path / "index", embeddings=Hashed(), models={"billing": model}, default=BIG)
    assert loaded(asked("the invoice of last month is wrong")).model is model
    assert loaded.models == (model, MID, BIG)


def test_a_model_for_a_route_there_is_not_is_named(router: SemanticRouter, tmp_path: Path) -> None:
    router.save(tmp_path / "index")
    with pytest.raises(ValueError, match="models: the index has no route 'sales'"):
        SemanticRouter.load(tmp_path / "index", embeddings=Hashed(), models={"sales": MINI})


@pytest.mark.parametrize(
    "spoil",
    [lambda raw: b"", lambda raw: b"nonsense", lambda raw: raw[: len(raw) // 2], lambda raw: raw[100:]],
    ids=["empty", "other", "cut short", "no beginning"],
)
def test_a_file_that_is_no_index_is_named(
    router: SemanticRouter, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "index"
    router.save(path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError, match="is no index of a SemanticRouter"):
        SemanticRouter.load(path, embeddings=Hashed())


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SemanticRouter.load(tmp_path / "none", embeddings=Hashed())


# What goes wrong


def test_an_embedding_that_fails_is_raised() -> None:
    with pytest.raises(ConnectionError):
        SemanticRouter(ROUTES, embeddings=Broken(), default=BIG)(asked("where is my invoice"))


@pytest.mark.parametrize(
    ("vector", "named"),
    [
        ([1.0] * 3, "vector: 3 numbers, but the utterances' embeddings have 256"),
        ([0.0] * 256, "embeddings: the vector of 'the prompt' is zero or not finite"),
        ([float("nan")] * 256, "embeddings: the vector of 'the prompt' is zero or not finite"),
        (["x"] * 256, "embeddings: the vectors are not numbers"),
    ],
)
def test_a_vector_that_cannot_be_judged_is_named(router: SemanticRouter, vector: Any, named: str) -> None:
    with pytest.raises(ValueError) as error:
        router.choose(vector)
    assert str(error.value).startswith(named)


@pytest.mark.parametrize(
    ("utterances", "named"),
    [
        ([], "utterances: [] are too few"),
        (["one"], "utterances: ['one'] are too few"),
        (["one", " One "], "utterances: ['one', ' One '] are too few"),
        (["one", ""], "utterances: ''"),
        (["one", 2], "utterances: 2"),
        ("one", "utterances: 'one'"),
    ],
)
def test_too_few_utterances_are_named(utterances: Any, named: str) -> None:
    with pytest.raises(ValueError) as error:
        Examples(model=MINI, utterances=utterances)
    assert str(error.value).startswith(named)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"routes": {}}, "routes: {}"),
        ({"routes": {"a": ["one", "two"]}}, "routes['a']"),
        ({"routes": {"": ROUTES["billing"]}}, "routes['']"),
        ({"routes": {**ROUTES, "c": Examples(model=MID, utterances=["New", BILLING[0].upper()])}}, "routes: 'WHERE"),
        ({"reject": 0}, "reject: 0"),
        ({"reject": 0.6}, "reject: 0.6"),
        ({"reject": True}, "reject: True"),
        ({"default": ""}, "default: ''"),
        ({"embeddings": None}, "embeddings: None"),
        ({"embeddings": Short()}, "embeddings: 12 texts brought vectors of the shape (11, 256)"),
    ],
)
def test_a_bad_router_is_named(changes: dict[str, Any], named: str) -> None:
    options = {"routes": ROUTES, "embeddings": Hashed(), "default": BIG, **changes}
    with pytest.raises(ValueError) as error:
        SemanticRouter(options.pop("routes"), **options)
    assert str(error.value).startswith(named)
