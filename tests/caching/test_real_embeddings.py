"""What a real model of embeddings takes for one question, and what it does not: run by .ci/extended embeddings."""

from __future__ import annotations

import pytest
from langchain_core.messages import HumanMessage

from langchain_costguard.caching import SemanticCache
from langchain_costguard.caching.entry import Entry
from langchain_costguard.caching.question import Question
from langchain_costguard.routing import Examples, RouteRequest, SemanticRouter
from langchain_costguard.testing.minilm import MISSING, MiniLM

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
NOW = 1_000.0
SAME = [
    ("How do I reset my password?", "How can I reset my password?"),
    ("What is the refund policy?", "What's your refund policy?"),
    ("How do I turn the lights on?", "How can I turn on the lights?"),
]
DIFFERENT = [
    ("How do I turn the alarm on?", "How do I turn the alarm off?"),
    ("Is the pool open on holidays?", "Is the pool closed on holidays?"),
    ("Is it safe to eat raw oysters?", "Is it unsafe to eat raw oysters?"),
    ("Is this syrup for a child?", "Is this syrup for an adult?"),
    ("Did the tenant sue the landlord?", "Did the landlord sue the tenant?"),
    ("Show the sales of last week", "Show the sales of this week"),
]
BILLING = ["Where is my invoice?", "I was charged twice", "Send me the receipt", "When is the payment due?"]
SUPPORT = ["The app crashes when it starts", "I cannot log in", "The screen stays black", "It shows an error"]


@pytest.fixture(scope="module")
def embeddings() -> MiniLM:
    return MiniLM()


def asked(text: str) -> Question:
    return Question(messages=[HumanMessage(text)], model="gpt-4o", parameters=b"", temperature=0)


def is_hit(embeddings: MiniLM, stored: str, text: str, threshold: float) -> bool:
    cache = SemanticCache(embeddings, threshold=threshold)
    entry = Entry(reply='{"content": "yes"}', created=NOW, expires=NOW + 60)
    cache.keep(asked(stored), embeddings.embed_query(stored), entry, now=NOW)
    return cache.look(asked(text), embeddings.embed_query(text), now=NOW).entry is not None


@pytest.mark.parametrize(("stored", "text"), SAME)
def test_the_same_question_in_other_words_is_a_hit(embeddings: MiniLM, stored: str, text: str) -> None:
    assert is_hit(embeddings, stored, text, 0.8)


@pytest.mark.parametrize(("stored", "text"), DIFFERENT)
def test_the_opposite_is_no_hit_however_near(embeddings: MiniLM, stored: str, text: str) -> None:
    one, other = embeddings.embed_documents([stored, text])
    assert sum(x * y for x, y in zip(one, other, strict=True)) > 0.8
    assert not is_hit(embeddings, stored, text, 0.8)


def test_a_prompt_goes_to_the_route_that_it_is_like(embeddings: MiniLM) -> None:
    routes = {"billing": Examples(model="a", utterances=BILLING), "support": Examples(model="b", utterances=SUPPORT)}
    router = SemanticRouter(routes, embeddings=embeddings, default="c")
    for text, model in (("Why was I charged two times?", "a"), ("The app crashes at once", "b")):
        assert router(RouteRequest(messages=[HumanMessage(text)])).model == model
