"""Semantic caching at each seam: another wording gets the remembered answer, another question does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_costguard import Budget, BudgetExceededError, CostGuard, Price
from langchain_costguard.caching import MemoryCache, MemoryIndex, RedisIndex, SemanticCache, ShadowLog, SQLiteIndex
from langchain_costguard.caching.entry import Wanted
from langchain_costguard.events import Recalled, WouldRecall
from langchain_costguard.steering import SteeredModel, steer
from langchain_costguard.testing import FakeProvider, ManualClock, Recorder, Reply, Request, ScriptedChatModel
from tests.caching.index_servers import NO_REDIS8, redis8
from tests.caching.test_semantic import Words, labelled
from tests.conftest import Caller
from tests.steering.test_caching import SEAMS, built, last

PRICES = {
    "gpt-4o": Price(input="2.50", output="10.00"),
    "gpt-4o-mini": Price(input="0.15", output="0.60"),
    "text-embedding-3-small": Price(input="0.02", output="0"),
}
ASKED, REWORDED = "how do i cancel my big order", "how can i cancel my big order"


def go(text: str) -> Any:
    return {"messages": [HumanMessage(text)]}


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def guard(recorder: Recorder) -> CostGuard:
    return CostGuard(Budget(usd="1.00"), prices=PRICES, sinks=[recorder])


@pytest.fixture
def counting() -> Iterator[FakeProvider]:
    """Numbers its answers: one that was bought twice has another number."""
    count = iter(range(1, 10_000))
    with FakeProvider(lambda request: f"answer {next(count)} of many") as provider:
        yield provider


def split(provider: FakeProvider) -> tuple[int, int]:
    """Calls of chat models, and of embeddings."""
    embedded = sum("embeddings" in request.path for request in provider.requests)
    return len(provider.requests) - embedded, embedded


def near(provider: FakeProvider, guard: CostGuard, **options: Any) -> SemanticCache:
    return SemanticCache(guard.wrap(provider.embeddings()), **{"threshold": 0.7, **options})


def steered(provider: FakeProvider, guard: CostGuard, cache: Any, **model: Any) -> Any:
    return SteeredModel(provider.openai(**{"temperature": 0, **model}), steer(guard, cache=cache, on_exceeded="raise"))


@pytest.mark.parametrize("seam", SEAMS)
def test_another_wording_is_answered_from_memory_and_told_with_score_and_reasons(
    seam: str, call: Caller, counting: FakeProvider, guard: CostGuard, recorder: Recorder
) -> None:
    agent = built(seam, guard, counting.openai(temperature=0), near(counting, guard))
    first = last(call(agent, go(ASKED)))
    again = last(call(agent, go(REWORDED)))
    assert (first.text, again.text) == ("answer 1 of many", "answer 1 of many")
    assert split(counting) == (1, 2)
    told = again.response_metadata["costguard"]
    assert told["cache"] == "semantic"
    assert 0.7 < told["score"] < 1
    assert told["reasons"][0].startswith("likeness 0.8")
    (hit,) = recorder.of(Recalled)
    assert (hit.kind, hit.score, list(hit.reasons)) == ("semantic", told["score"], told["reasons"])
    assert hit.saved > 0
    assert guard.report().total.calls == 3


def test_a_hit_streams_word_by_word(stream: Caller, counting: FakeProvider, guard: CostGuard) -> None:
    model = steered(counting, guard, near(counting, guard))
    stream(model, ASKED)
    assert [piece.text for piece in stream(model, REWORDED) if piece.text] == ["answer", " 1", " of", " many"]
    assert split(counting) == (1, 2)


@pytest.mark.parametrize(
    ("asked", "other"),
    [
        ("what do 5 big red apples cost", "what do 50 big red apples cost"),
        ("are these big red berries safe to eat", "are these big red berries not safe to eat"),
        ("how do i convert EUR to USD today please", "how do i convert USD to EUR today please"),
    ],
)
def test_what_is_in_conflict_is_asked_of_the_model(
    asked: str, other: str, call: Caller, counting: FakeProvider, guard: CostGuard
) -> None:
    model = steered(counting, guard, near(counting, guard))
    assert [call(model, text).text for text in (asked, other)] == ["answer 1 of many", "answer 2 of many"]


def test_answers_are_given_within_one_setting_only(call: Caller, counting: FakeProvider, guard: CostGuard) -> None:
    @tool
    def look_up(key: str) -> str:
        """Look a key up."""
        return key

    index = MemoryIndex()
    model = steered(counting, guard, near(counting, guard, index=index))
    by_feature = steered(counting, guard, near(counting, guard, index=index, share="feature"))
    declared = steered(counting, guard, near(counting, guard, index=index, deterministic=True), temperature=None)
    ann = {"metadata": {"user": "ann"}}
    call(model, ASKED, ann)
    others = [
        call(model, REWORDED, {"metadata": {"user": "bob"}}),
        call(model, REWORDED),
        call(by_feature, REWORDED, {"metadata": {"user": "ann", "feature": "search"}}),
        call(by_feature, REWORDED, {"metadata": {"user": "ann", "feature": "help"}}),
        call(model, [SystemMessage("Be brief."), HumanMessage(REWORDED)], ann),
        call(model, [HumanMessage(REWORDED, name="ann")], ann),
        call(model, [HumanMessage(REWORDED, additional_kwargs={"name": "eve"})], ann),
        call(model.bind_tools([look_up]), REWORDED, ann),
        call(model.bind(stop=["x"]), REWORDED, ann),
        call(steered(counting, guard, near(counting, guard, index=index), model="gpt-4o-mini"), REWORDED, ann),
        call(declared, REWORDED, ann),
    ]
    assert [reply.text for reply in others] == [f"answer {i} of many" for i in range(2, 13)]
    dated = steered(counting, guard, near(counting, guard, index=index), model="gpt-4o-2024-08-06")
    assert call(dated, REWORDED, ann).text == "answer 1 of many"


def test_two_models_of_embeddings_that_share_an_index_give_no_answers_of_each_other_s(
    call: Caller, counting: FakeProvider, guard: CostGuard, caplog: pytest.LogCaptureFixture
) -> None:
    index = MemoryIndex()

    def ask(text: str, name: str, wrapped: bool = True, **options: Any) -> str:
        embeddings: Any = counting.embeddings(name, **options)
        embeddings = guard.wrap(embeddings) if wrapped else embeddings
        cache = SemanticCache(embeddings, threshold=0.7, index=index)
        return str(call(steered(counting, guard, cache), text).text)

    assert ask(ASKED, "text-embedding-3-small") == "answer 1 of many"
    assert ask(REWORDED, "text-embedding-ada-002", wrapped=False) == "answer 2 of many"
    assert ask(REWORDED, "text-embedding-3-small", dimensions=128) == "answer 3 of many"
    assert ask(REWORDED, "text-embedding-3-small", wrapped=False) == "answer 1 of many"
    assert "failed" not in caplog.text


def test_the_turns_before_must_be_the_same(call: Caller, counting: FakeProvider, guard: CostGuard) -> None:
    model = steered(counting, guard, near(counting, guard))

    def ask(text: str, about: str) -> str:
        turns = [HumanMessage(f"Do you sell {about}?"), AIMessage("Yes."), HumanMessage(text)]
        return str(call(model, turns).text)

    assert ask("and how much is it then", "tea") == "answer 1 of many"
    assert ask("and how much is that then", "cars") == "answer 2 of many"
    assert ask("and how much is that then", "tea") == "answer 1 of many"


def tools_of(request: Request) -> Reply:
    if "value of" in str(request.body["messages"]):
        return Reply("done")
    return Reply(tool_calls=[("look_up", {"key": "x"})])


@pytest.mark.parametrize(("asked_for", "calls", "embedded"), [(False, 4, 2), (True, 3, 2)])
def test_turns_that_call_tools_are_remembered_on_request_and_their_results_never_looked_up(
    asked_for: bool, calls: int, embedded: int, call: Caller, guard: CostGuard
) -> None:
    @tool
    def look_up(key: str) -> str:
        """Look a key up."""
        return f"value of {key}"

    with FakeProvider(tools_of) as provider:
        cache = near(provider, guard, tool_calls=asked_for)
        agent = create_agent(provider.openai(temperature=0), [look_up], middleware=steer(guard, cache=cache))
        runs = [call(agent, go(text))["messages"] for text in (ASKED, REWORDED)]
        assert [message.text for message in runs[1][1:]] == ["", "value of x", "done"]
        assert runs[1][1].tool_calls[0]["args"] == {"key": "x"}
        assert split(provider) == (calls, embedded)


def test_answers_grow_old(call: Caller, counting: FakeProvider) -> None:
    clock = ManualClock()
    guard = CostGuard(prices=PRICES, clock=clock)
    model = steered(counting, guard, near(counting, guard, max_age=60, ttl=600))
    call(model, ASKED)
    clock.advance(60)
    assert call(model, REWORDED).text == "answer 1 of many"
    clock.advance(1)
    assert call(model, REWORDED).text == "answer 2 of many"
    mortal = steered(counting, guard, near(counting, guard, ttl=600))
    call(mortal, ASKED)
    clock.advance(599)
    assert call(mortal, REWORDED).text == "answer 3 of many"
    clock.advance(1)
    assert call(mortal, REWORDED).text == "answer 4 of many"


def test_the_same_words_are_answered_by_the_exact_cache_and_embedded_once(
    call: Caller, counting: FakeProvider, guard: CostGuard, recorder: Recorder
) -> None:
    model = steered(counting, guard, [MemoryCache(), near(counting, guard)])
    assert {call(model, text).text for text in (ASKED, ASKED, REWORDED, ASKED)} == {"answer 1 of many"}
    assert split(counting) == (1, 2)
    assert [hit.kind for hit in recorder.of(Recalled)] == ["exact", "semantic", "exact"]


def test_in_shadow_the_model_answers_and_both_replies_are_put_on_record(
    call: Caller, counting: FakeProvider, guard: CostGuard, recorder: Recorder
) -> None:
    cache = near(counting, guard, shadow=True)
    model = steered(counting, guard, cache)
    assert [call(model, text).text for text in (ASKED, REWORDED)] == ["answer 1 of many", "answer 2 of many"]
    (would,) = recorder.of(WouldRecall)
    assert would.score is not None
    assert would.score > 0.7
    assert would.saved == 0
    assert not recorder.of(Recalled)
    assert cache.log is not None
    (row,) = cache.log.rows
    assert (row.prompt, row.stored, row.served) == (REWORDED, ASKED, True)
    assert [json.loads(said)["content"] for said in (row.remembered, row.reply)] == [
        "answer 1 of many",
        "answer 2 of many",
    ]


def test_what_was_labelled_in_shadow_is_learnt_and_answers(call: Caller, guard: CostGuard, tmp_path: Path) -> None:
    model = ScriptedChatModel(replies=["It depends."])
    log = ShadowLog(tmp_path / "shadow.jsonl", least=0)
    cache = SemanticCache(Words(), threshold=0.7, shadow=log, deterministic=True)
    watched = SteeredModel(model, steer(guard, cache=cache))
    for i, (one, other, same) in enumerate(labelled()):
        for text in (one, other):
            watched.invoke(text, {"metadata": {"user": f"u{i}"}})
        log.label(i, same)
    live = SemanticCache(Words(), deterministic=True)
    live.fit(log.pairs(), precision=0.9)
    asking = SteeredModel(model, steer(guard, cache=live))
    before = model.calls
    told = [call(asking, f"{text} telescope").response_metadata for text in ("how do i ship the", "way to ship my")]
    assert model.calls == before + 1
    assert told[1]["costguard"]["cache"] == "semantic"
    call(asking, "how do i ship the cupboard")
    assert model.calls == before + 2


def test_embeddings_that_fail_are_skipped_and_said_once_to_do_so(
    call: Caller, guard: CostGuard, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = iter(range(10))
    with FakeProvider("fine", embedding=lambda request: Reply(f"no {next(numbers)}", status=500)) as provider:
        model = steered(provider, guard, near(provider, guard))
        assert [call(model, text).text for text in (ASKED, REWORDED, ASKED)] == ["fine"] * 3
    assert caplog.text.count("SemanticCache failed") == 1


def test_embeddings_that_change_their_size_are_skipped_and_said_once_to_do_so(
    call: Caller, counting: FakeProvider, guard: CostGuard, caplog: pytest.LogCaptureFixture
) -> None:
    class Growing(Words):
        size = 256

        def embed_query(self, text: str) -> list[float]:
            return [*super().embed_query(text), *([0.0] * (self.size - 256))]

    embeddings = Growing()
    model = steered(counting, guard, SemanticCache(embeddings, threshold=0.7))
    call(model, ASKED)
    embeddings.size = 512
    assert [call(model, REWORDED).text for _ in range(2)] == ["answer 2 of many", "answer 3 of many"]
    assert caplog.text.count("512 numbers") == 1


def test_an_embedding_that_is_refused_leads_to_the_ordinary_refusal(
    call: Caller, counting: FakeProvider, recorder: Recorder
) -> None:
    guard = CostGuard(Budget(per="user", usd="0.0000001"), prices=PRICES, sinks=[recorder])
    model = steered(counting, guard, near(counting, guard))
    with pytest.raises(BudgetExceededError):
        call(model, ASKED * 10, {"metadata": {"user": "ann"}})
    assert counting.requests == []


@pytest.mark.parametrize("seam", [*SEAMS, "model alone"])
def test_an_embedding_is_paid_by_who_asks(seam: str, call: Caller, counting: FakeProvider, guard: CostGuard) -> None:
    cache, config = near(counting, guard), {"metadata": {"user": "ann"}}
    if seam == "model alone":
        call(steered(counting, guard, cache), ASKED, config)
    else:
        call(built(seam, guard, counting.openai(temperature=0), cache), go(ASKED), config)
    rows = {row["user"]: row["calls"] for row in guard.report().by("user").to_dicts()}
    assert rows == {"ann": 2}


def test_a_guardrail_of_today_is_applied_and_the_new_answer_remembered(
    call: Caller, counting: FakeProvider, guard: CostGuard
) -> None:
    cache = near(counting, guard, margin=None)
    call(steered(counting, guard, cache), ASKED)
    strict = steer(guard, cache=cache, guardrails=[lambda message: "no 1, please" if " 1 " in message.text else None])
    model = SteeredModel(counting.openai(temperature=0), strict)
    assert [call(model, REWORDED).text for _ in range(2)] == ["answer 2 of many", "answer 2 of many"]


@pytest.mark.parametrize(
    "wanted", [Wanted(tag="prices"), Wanted(feature="shop"), Wanted(model="gpt-4o"), Wanted(tenant="user:ann")]
)
def test_what_is_forgotten_is_asked_again(
    wanted: Wanted, call: Caller, counting: FakeProvider, guard: CostGuard
) -> None:
    cache = near(counting, guard)
    model = steered(counting, guard, cache)
    config = {"tags": ["prices"], "metadata": {"user": "ann", "feature": "shop"}}
    call(model, ASKED, config)
    assert cache.forget(Wanted(feature="other")) == 0
    assert cache.forget(wanted) == 1
    assert call(model, REWORDED, config).text == "answer 2 of many"


def test_answers_in_a_file_are_known_to_the_next_guard(call: Caller, counting: FakeProvider, tmp_path: Path) -> None:
    texts = []
    for text in (ASKED, REWORDED):
        guard = CostGuard(prices=PRICES)
        cache = near(counting, guard, index=SQLiteIndex(tmp_path / "answers.db"))
        texts.append(call(steered(counting, guard, cache), text).text)
    assert texts == ["answer 1 of many"] * 2


@pytest.fixture(scope="module")
def sets_url() -> Iterator[str]:
    with redis8() as url:
        if url is None:
            pytest.skip(NO_REDIS8)
        yield url


def test_answers_on_a_server_are_known_to_the_next_guard(call: Caller, counting: FakeProvider, sets_url: str) -> None:
    texts, prefix = [], f"test-{uuid4().hex}"
    for text in (ASKED, REWORDED, "what do 5 big red apples cost"):
        guard = CostGuard(prices=PRICES)
        index = RedisIndex(sets_url, prefix=prefix, timeout=5.0)
        texts.append(call(steered(counting, guard, near(counting, guard, index=index)), text).text)
        index.close()
    assert texts == ["answer 1 of many", "answer 1 of many", "answer 2 of many"]


def test_structured_answers_are_parsed_from_memory(call: Caller, guard: CostGuard) -> None:
    class Verdict(BaseModel):
        """A verdict."""

        good: bool

    with FakeProvider('{"good": true}') as provider:
        policies = steer(guard, cache=near(provider, guard))
        model = provider.openai(temperature=0)
        agent = create_agent(model, [], middleware=policies, response_format=Verdict)
        chain = SteeredModel(model, policies).with_structured_output(Verdict, method="json_schema")
        for text in (ASKED, REWORDED):
            assert call(agent, go(text))["structured_response"] == Verdict(good=True)
            assert call(chain, text) == Verdict(good=True)
        assert split(provider) == (2, 4)


def test_a_coroutine_embeds_where_one_is_awaited(call: Caller, counting: FakeProvider, world: str) -> None:
    class Both(Words):
        asked: tuple[str, ...] = ()

        def embed_query(self, text: str) -> list[float]:
            self.asked += ("sync",)
            return super().embed_query(text)

        async def aembed_query(self, text: str) -> list[float]:
            self.asked += ("async",)
            return Words.embed_query(self, text)

    embeddings: Embeddings = Both()
    call(steered(counting, CostGuard(prices=PRICES), SemanticCache(embeddings)), ASKED)
    assert embeddings.asked == (world,)  # type: ignore[attr-defined]


def test_fifty_threads_are_each_given_an_answer_to_their_own_question() -> None:
    with FakeProvider(lambda request: f"about {request.body['messages'][-1]['content'].split()[-1]}") as provider:
        guard = CostGuard(prices=PRICES)
        model = steered(provider, guard, [MemoryCache(), near(provider, guard, threshold=0.8)])
        for i in range(10):
            model.invoke(f"how do i send back order {100 + i}")
        asked = [f"how can i send back order {100 + i % 10}" for i in range(50)]
        with ThreadPoolExecutor(50) as pool:
            texts = list(pool.map(lambda text: model.invoke(text).text, asked))
        assert texts == [f"about {text.split()[-1]}" for text in asked]
        assert split(provider)[0] == 10
