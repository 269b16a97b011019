"""Answers to questions that are like each other, and to no others."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from langchain_costguard.caching.entry import Entry, Wanted
from langchain_costguard.caching.question import Question
from langchain_costguard.caching.replies import encoded
from langchain_costguard.caching.semantic.cache import SemanticCache
from langchain_costguard.caching.semantic.fit import Fit
from langchain_costguard.caching.semantic.shadow import ShadowLog
from langchain_costguard.caching.semantic.verdict import Verdict
from langchain_costguard.vocabulary.scope import Scope

NOW = 10_000.0
HOUR = 3600.0


class Words(Embeddings):
    """Each word has a place of its own in the vector; the commonest count little."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        vector = [0.0] * 256
        for word in re.findall(r"\w+", text.lower()):
            weight = 0.2 if word in {"a", "the", "of", "is", "to", "how", "what", "do", "i", "my"} else 1.0
            vector[int(hashlib.md5(word.encode()).hexdigest(), 16) % 256] += weight
        return vector


def asked(text: str, *before: Any, user: str = "u1", model: str = "gpt-4o") -> Question:
    said = [SystemMessage("You help."), *before, HumanMessage(text)]
    return Question(messages=said, model=model, parameters=b"", temperature=0, scope=Scope(user=user))


def entry(reply: str, *, created: float = NOW, life: float = 24 * HOUR) -> Entry:
    return Entry(reply=encoded(AIMessage(reply)), model="gpt-4o", created=created, expires=created + life, cost=7)


def keep(cache: SemanticCache, prompt: str, reply: str, *before: Any, **more: Any) -> None:
    vector = cache.embeddings.embed_query(prompt)
    cache.keep(asked(prompt, *before), vector, entry(reply, **more), now=more.get("created", NOW))


def look(cache: SemanticCache, prompt: str, *before: Any, now: float = NOW, **more: Any) -> Verdict:
    return cache.look(asked(prompt, *before, **more), cache.embeddings.embed_query(prompt), now=now)


def said(verdict: Verdict) -> str | None:
    return json.loads(verdict.entry.reply)["content"] if verdict.entry else None


@pytest.fixture
def cache() -> SemanticCache:
    return SemanticCache(Words(), threshold=0.8)


def test_the_same_question_in_other_words_gets_the_remembered_answer(cache: SemanticCache) -> None:
    keep(cache, "How do I cancel my order", "Press cancel.")
    verdict = look(cache, "How to cancel my order?")
    assert said(verdict) == "Press cancel."
    assert verdict.entry is not None
    assert verdict.entry.prompt == "How do I cancel my order"
    assert verdict.score == pytest.approx(verdict.similarity, abs=1e-6)
    assert verdict.reasons[0].startswith("likeness 0.9")


def test_what_is_less_like_than_the_threshold_is_no_hit_and_the_reason_has_both_figures(cache: SemanticCache) -> None:
    keep(cache, "How do I cancel my order", "Press cancel.")
    verdict = look(cache, "How do I cancel a subscription quickly")
    assert verdict.entry is None
    assert verdict.nearest is not None
    assert f"the score {verdict.score:.3f} is below 0.800" in verdict.reasons


def test_nothing_remembered_is_no_hit(cache: SemanticCache) -> None:
    assert look(cache, "anything") == Verdict(reasons=("nothing like it is remembered",))


@pytest.mark.parametrize(
    ("stored", "prompt", "why"),
    [
        (
            "pack a bag for 5 days of hiking in cold weather",
            "pack a bag for 50 days of hiking in cold weather",
            "50 / 5",
        ),
        ("good places to eat fish in Rome at night", "good places to eat fish in Oslo at night", "names differ"),
        ("is this mushroom from the forest safe to eat", "is this mushroom from the forest not safe to eat", "negated"),
    ],
)
def test_a_conflict_is_no_hit_however_near(cache: SemanticCache, stored: str, prompt: str, why: str) -> None:
    keep(cache, stored, "Yes.")
    verdict = look(cache, prompt)
    assert verdict.entry is None
    assert verdict.similarity > 0.8
    assert any(why in reason for reason in verdict.reasons)
    trusting = SemanticCache(Words(), threshold=0.8, vetoes=())
    keep(trusting, stored, "Yes.")
    assert said(look(trusting, prompt)) == "Yes."


def test_past_the_one_in_conflict_the_next_one_answers(cache: SemanticCache) -> None:
    keep(cache, "what do 50 red apples cost at the market", "A lot.")
    keep(cache, "what do 5 red apples cost at a market", "Little.")
    assert said(look(cache, "what do five red apples cost at the market")) in (None, "Little.")
    assert said(look(cache, "what do 5 red apples cost at the market")) == "Little."


def test_where_the_clearly_nearest_one_is_in_conflict_the_next_one_is_no_answer(cache: SemanticCache) -> None:
    keep(cache, "what do 50 big red juicy apples cost at market stalls", "A lot.")
    keep(cache, "what do apples cost at big market stalls", "It depends.")
    verdict = look(cache, "what do 5 big red juicy apples cost at market stalls")
    assert verdict.entry is None
    assert verdict.reasons == ("numbers differ: 5 / 50",)


def test_other_turns_before_are_another_question(cache: SemanticCache) -> None:
    keep(cache, "And how much is it", "10 euros.", HumanMessage("Do you sell tea?"), AIMessage("Yes."))
    verdict = look(cache, "And how much is it", HumanMessage("Do you sell cars?"), AIMessage("Yes."))
    assert verdict.entry is None
    assert verdict.reasons == ("the turns before differ",)
    same = (HumanMessage("Do you sell tea?"), AIMessage("Yes."))
    assert said(look(cache, "And how much is it?", *same)) == "10 euros."


def test_users_and_models_never_see_each_others_answers(cache: SemanticCache) -> None:
    keep(cache, "What is my balance", "A million.")
    assert look(cache, "What is my balance", user="u2").nearest is None
    assert look(cache, "What is my balance", model="gpt-4o-mini").nearest is None
    assert said(look(cache, "What is my balance", model="gpt-4o-2024-08-06")) == "A million."


def test_a_runner_up_as_near_with_another_answer_makes_it_no_hit(cache: SemanticCache) -> None:
    keep(cache, "reset the password of my account here", "Click reset.")
    keep(cache, "change the password of my account here", "Click change.")
    verdict = look(cache, "the password of my account here")
    assert verdict.entry is None
    assert "the runner-up is as near and has another answer" in verdict.reasons
    trusting = SemanticCache(Words(), threshold=0.8, margin=None)
    keep(trusting, "reset the password of my account here", "Click reset.")
    keep(trusting, "change the password of my account here", "Click change.")
    assert look(trusting, "the password of my account here").entry is not None


@pytest.mark.parametrize("other", ["Click the RESET  button.", "Just click on the reset button."])
def test_a_runner_up_with_the_same_answer_is_no_doubt(cache: SemanticCache, other: str) -> None:
    keep(cache, "reset the password of my account here", "Click the reset button.")
    keep(cache, "change the password of my account here", other)
    assert look(cache, "the password of my account here").entry is not None


def test_replies_that_call_tools_otherwise_are_other_answers(cache: SemanticCache) -> None:
    for verb, city in (("show", "Rome"), ("tell", "Oslo")):
        call = {"name": "weather", "args": {"city": city}, "id": f"id-{city}"}
        prompt = f"{verb} me the weather over there today"
        made = Entry(reply=encoded(AIMessage("", tool_calls=[call])), created=NOW, expires=NOW + HOUR)
        cache.keep(asked(prompt), cache.embeddings.embed_query(prompt), made, now=NOW)
    assert look(cache, "me the weather over there today").entry is None


def test_age_takes_from_the_score_and_a_limit_ends_it() -> None:
    cache = SemanticCache(Words(), threshold=0.5, freshness=0.2, max_age=HOUR)
    keep(cache, "How do I cancel my order", "Press cancel.", life=2 * HOUR)
    young, older = look(cache, "cancel my order"), look(cache, "cancel my order", now=NOW + HOUR)
    assert young.entry is not None
    assert older.score == pytest.approx(0.9 * young.score)
    late = look(cache, "cancel my order", now=NOW + HOUR + 1)
    assert (late.entry, late.reasons) == (None, ("older than 1 h",))


def test_of_equal_answers_the_fresher_counts() -> None:
    cache = SemanticCache(Words(), threshold=0.5, freshness=0.5)
    keep(cache, "cancel my order now", "Press cancel.", created=NOW)
    keep(cache, "cancel my order, now!", "Press cancel.", created=NOW + HOUR)
    verdict = look(cache, "do cancel my order now", now=NOW + 2 * HOUR)
    assert verdict.entry is not None
    assert verdict.entry.created == NOW + HOUR


def test_a_new_answer_to_the_same_words_replaces_the_old_one(cache: SemanticCache) -> None:
    keep(cache, "Is it open?", "Yes.")
    keep(cache, "Is it open?", "No.")
    assert said(look(cache, "Is it open?")) == "No."
    assert [stock.entries for stock in cache.stock(now=NOW)] == [1]
    assert cache.forget(Wanted(model="gpt-4o")) == 1
    assert look(cache, "Is it open?").nearest is None


def test_a_last_message_that_is_no_text_of_the_users_is_never_looked_up(cache: SemanticCache) -> None:
    picture = Question(
        messages=[HumanMessage([{"type": "image_url", "image_url": {"url": "x"}}])], model="m", parameters=b""
    )
    cache.keep(picture, [1.0], entry("A cat."), now=NOW)
    assert cache.look(picture, [1.0], now=NOW).reasons == ("the last message is not the user's text",)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", 1.5),
        ("threshold", 0),
        ("threshold", True),
        ("threshold", math.nan),
        ("margin", 0),
        ("margin", "x"),
        ("max_age", -1),
        ("freshness", 2),
        ("vetoes", "numbers"),
        ("vetoes", ["numbers", "colours"]),
        ("shadow", "log.jsonl"),
        ("ttl", 0),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{field}: "):
        SemanticCache(Words(), **{field: value})


def test_embeddings_must_be_embeddings() -> None:
    with pytest.raises(ValueError, match=r"^embeddings: "):
        SemanticCache(object())  # type: ignore[arg-type]


# Fitting ------------------------------------------------------------------------------------------------------------

DEEDS = ["cancel", "repair", "paint", "clean", "insure", "rent", "store", "wrap", "weigh", "photograph"]
THINGS = ["bicycle", "piano", "garden shed", "wedding dress", "fishing boat", "violin", "carpet", "lamp"]


def labelled() -> list[tuple[str, str, bool]]:
    """The same deed for the same thing is the same question; for another thing, at the same cosine, it is not."""
    found = []
    for i, deed in enumerate(DEEDS):
        for j, thing in enumerate(THINGS):
            other = THINGS[(j + 1 + i % 3) % len(THINGS)]
            found.append((f"how do i {deed} the {thing}", f"what is a way to {deed} my {thing}", True))
            found.append((f"how do i {deed} the {thing}", f"how do i {deed} my {other}", False))
    return found


@pytest.fixture(scope="module")
def fitted() -> tuple[SemanticCache, Fit]:
    cache = SemanticCache(Words(), threshold=0.99)
    return cache, cache.fit(labelled(), precision=0.9)


def test_a_fit_reaches_its_precision_and_says_how_sure_it_is(fitted: tuple[SemanticCache, Fit]) -> None:
    cache, fit = fitted
    assert fit.low <= fit.precision <= fit.high
    assert fit.precision >= 0.9
    assert fit.recall > 0.9
    assert (fit.pairs, fit.target, cache.threshold) == (160, 0.9, fit.threshold)
    assert str(fit).startswith(f"precision {fit.precision:.3f} ({fit.low:.3f} to {fit.high:.3f})")


def test_the_cache_uses_what_it_learnt(fitted: tuple[SemanticCache, Fit]) -> None:
    cache, _ = fitted
    keep(cache, "how do i ship the telescope", "In a crate.")
    assert said(look(cache, "what is a way to ship my telescope")) == "In a crate."
    assert look(cache, "how do i ship my cupboard").entry is None


def test_a_fit_is_saved_without_a_word_of_the_prompts(fitted: tuple[SemanticCache, Fit], tmp_path: Path) -> None:
    _, fit = fitted
    path = tmp_path / "fit.json"
    fit.save(path)
    text = path.read_text("utf-8")
    assert not [word for word in (*DEEDS, *THINGS) if word in text]
    again = Fit.load(path)
    assert again.likeness.rarity == fit.likeness.rarity
    assert (again.threshold, again.vetoes) == (fit.threshold, fit.vetoes)
    other = SemanticCache(Words())
    other.use(again)
    keep(other, "how do i ship the telescope", "In a crate.")
    assert said(look(other, "what is a way to ship my telescope")) == "In a crate."


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"costguard semantic fit": 9}', '{"costguard semantic fit": 1, "features": {}}']
)
def test_a_file_that_is_no_fit_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fit.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="is no fit of a SemanticCache"):
        Fit.load(path)


def shuffled_labels() -> Sequence[tuple[str, str, bool]]:
    return [(a, b, i % 2 == 0) for i, (a, b, _) in enumerate(labelled()[::2])]


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        ([], "0 are too few"),
        (labelled()[:20], "20 are too few"),
        ([(a, b, True) for a, b, _ in labelled()], "160 of 160 are labelled True"),
        ([*labelled(), ("a", "b")], r"pairs\[160\]"),
        ([*labelled(), ("a", "", True)], r"pairs\[160\].*two prompts with text"),
        ([*labelled(), ("a", "b", "yes")], r"pairs\[160\]: 'yes' must be True or False"),
        ([*labelled(), (*labelled()[0][:2], False)], "labelled both True and False"),
        (
            shuffled_labels(),
            r"precision: 0.95 is not reached on these pairs; the most that is sure is 0\.\d+, at a recall",
        ),
    ],
)
def test_pairs_nothing_can_be_learnt_from_are_refused_with_what_is_wrong(pairs: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        SemanticCache(Words()).fit(pairs)


@pytest.mark.parametrize("precision", [0, 1, 1.5, True])
def test_a_precision_is_a_share(precision: Any) -> None:
    with pytest.raises(ValueError, match=r"^precision: "):
        SemanticCache(Words()).fit(labelled(), precision=precision)


# Shadow -------------------------------------------------------------------------------------------------------------


def compare(cache: SemanticCache, prompt: str, reply: str) -> Verdict:
    verdict = look(cache, prompt)
    cache.compare(asked(prompt), verdict, entry(reply))
    return verdict


def test_in_shadow_what_would_have_been_served_is_recorded_beside_the_models_own_reply() -> None:
    cache = SemanticCache(Words(), threshold=0.8, shadow=True)
    keep(cache, "How do I cancel my order", "Press cancel.")
    compare(cache, "How to cancel my order?", "Press the cancel button.")
    assert cache.shadow
    assert cache.log is not None
    (row,) = cache.log.rows
    assert (row.prompt, row.stored) == ("How to cancel my order?", "How do I cancel my order")
    assert row.served
    assert [json.loads(text)["content"] for text in (row.remembered, row.reply)] == [
        "Press cancel.",
        "Press the cancel button.",
    ]
    assert row.same is None
    assert cache.log.pairs() == []


def test_near_misses_are_recorded_too_and_the_same_words_and_far_ones_are_not() -> None:
    log = ShadowLog(least=0.3)
    cache = SemanticCache(Words(), threshold=0.95, shadow=log)
    keep(cache, "How do I cancel my order", "Press cancel.")
    for prompt in ("cancel my order", "cancel a subscription", "How do I cancel my order", "boil an egg"):
        compare(cache, prompt, "Press it.")
    assert [(row.prompt, row.served) for row in log.rows] == [
        ("cancel my order", True),
        ("cancel a subscription", False),
    ]


def test_out_of_shadow_nothing_is_recorded(cache: SemanticCache) -> None:
    keep(cache, "How do I cancel my order", "Press cancel.")
    compare(cache, "How to cancel my order?", "Press it.")
    assert (cache.shadow, cache.log) == (False, None)


def test_a_log_on_disk_is_labelled_read_again_and_learnt_from(tmp_path: Path) -> None:
    path = tmp_path / "shadow.jsonl"
    log = ShadowLog(path, least=0.1)
    cache = SemanticCache(Words(), threshold=0.8, shadow=log)
    for i, (one, other, same) in enumerate(labelled()):
        keep(cache, one, f"Answer {i}.")
        compare(cache, other, "Something.")
        cache.forget(Wanted())
        log.label(i, same)
    with path.open("a") as file:
        file.write('{"id": "cut sho')
    again = ShadowLog(path)
    assert len(again) == 160
    assert again[0].same is True
    assert {(a, b, same) for b, a, same in again.pairs()} == set(labelled())
    assert SemanticCache(Words()).fit(again.pairs(), precision=0.9).pairs == 160


def test_a_log_forgets_the_oldest_and_takes_only_labels(tmp_path: Path) -> None:
    log = ShadowLog(most=2)
    for i in range(3):
        log.add(prompt=f"p{i}", stored="s", served=True, score=1.0, similarity=1.0)
    assert [row.prompt for row in log.rows] == ["p1", "p2"]
    with pytest.raises(IndexError):
        log.label(2, True)
    with pytest.raises(ValueError, match="same: 'yes' must be True or False"):
        log.label(0, "yes")  # type: ignore[arg-type]
    path = tmp_path / "other.txt"
    path.write_text("Dear diary\n")
    with pytest.raises(ValueError, match="is no shadow log"):
        ShadowLog(path)
    with pytest.raises(ValueError, match=r"path: .* cannot be read: Is a directory"):
        ShadowLog(tmp_path)
    for wrong in ({"least": 2}, {"most": 0}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: "):
            ShadowLog(**wrong)  # type: ignore[arg-type]


def test_pairs_that_hang_together_by_their_prompts_are_learnt_from_all_the_same() -> None:
    """As a cache in shadow records them: each new prompt beside the nearest of those before."""
    things = ["chair", "coat", "lamp", "tent", "desk", "bike", "shoe", "ring", "vase", "sofa", "drum", "kite"]
    things += ["bowl", "clock", "mug", "rug", "saw", "wok"]
    forms = ["How do I return the {}?", "How can I give the {} back?", "Where is the bill for the {}?"]
    asked = [(form.format(thing), (form is forms[2], thing)) for thing in things for form in forms]
    pairs = [(one, other, a == b) for (one, a), (other, b) in pairwise(asked)]
    pairs += [(one, other, a == b) for (one, a), (other, b) in zip(asked, asked[2:], strict=False)]
    fit = SemanticCache(Words()).fit(pairs, precision=0.3)
    assert fit.pairs == len(pairs)


def test_pairs_that_leave_none_to_check_on_are_refused() -> None:
    prompts = [f"What is item {chr(97 + i // 26)}{chr(97 + i % 26)}?" for i in range(200)]
    hub = [("What is it?", prompt, i % 2 == 0) for i, prompt in enumerate(prompts)]
    with pytest.raises(ValueError, match="share their prompts"):
        SemanticCache(Words()).fit(hub, precision=0.5)
